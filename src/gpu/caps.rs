//! What an adapter can do: its identity, its limits, and the tiers that passed their self-test.

use std::fmt;

use super::llvmpipe;

/// Optional instruction sets, like CUDA's compute capabilities. Every operator also has kernels that need none of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tiers {
    /// Subgroup operations (CUDA's warp reductions and shuffles), for any subgroup size.
    pub subgroup: bool,
    /// Cooperative matrices (tensor cores) with f16 operands and f32 sums.
    pub coop: bool,
}

impl fmt::Display for Tiers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = [(self.subgroup, "subgroup"), (self.coop, "coop")];
        let names: Vec<_> = on.iter().filter(|(on, _)| *on).map(|(_, name)| *name).collect();
        f.write_str(&if names.is_empty() { "portable".into() } else { format!("portable, {}", names.join(", ")) })
    }
}

/// Identity and limits of an adapter.
#[derive(Debug, Clone, PartialEq)]
pub struct Caps {
    /// Name as the driver gives it (empty in browsers).
    pub name: String,
    /// `Vulkan`, `Metal`, `Dx12` or `BrowserWebGpu`.
    pub backend: String,
    /// Driver and version.
    pub driver: String,
    /// Whether kernel variants are chosen as for a CPU: true for software adapters (llvmpipe, SwiftShader), unless
    /// [`Options`](super::Options) says otherwise.
    pub software: bool,
    /// Tiers that passed their self-test, once the device is open. In a list of adapters: those that are offered.
    pub tiers: Tiers,
    /// Whether the driver's `pack2x16float` rounds to the nearest f16, ties to even. If not, `shaders/lib/half.wgsl`
    /// rounds with integer operations.
    pub nearest: bool,
    /// Side of the square cooperative matrices: 16 or 8, or 0 if there are none.
    pub fragment: u32,
    /// Lanes of a subgroup that holds a cooperative matrix, which the self-test finds; 0 without the tier.
    pub coop_lanes: u32,
    /// Smallest and largest subgroup size of the adapter, in invocations; (0, 0) if unknown.
    pub subgroup_sizes: (u32, u32),
    /// Whether the GPU time of a pass can be measured.
    pub timestamps: bool,
    /// Largest storage binding in bytes.
    pub max_binding: u64,
    /// Largest buffer in bytes.
    pub max_buffer: u64,
    /// Most invocations of a workgroup.
    pub workgroup_size: u32,
    /// Largest workgroup memory of a kernel in bytes (CUDA's shared memory).
    pub workgroup_memory: u32,
    /// Device memory in bytes, if the backend reports it.
    pub memory: Option<u64>,
}

impl Caps {
    /// WebGPU's default limits and no tiers, for planning without an adapter.
    pub fn portable() -> Self {
        Self {
            name: "none (WebGPU defaults)".into(),
            backend: "none".into(),
            driver: String::new(),
            software: false,
            tiers: Tiers::default(),
            nearest: false,
            fragment: 0,
            coop_lanes: 0,
            subgroup_sizes: (0, 0),
            timestamps: false,
            max_binding: 128 << 20,
            max_buffer: 256 << 20,
            workgroup_size: 256,
            workgroup_memory: 16 << 10,
            memory: None,
        }
    }

    /// Whether a load whose address is the same for all invocations of a workgroup is executed once for all of them.
    /// llvmpipe of Mesa 26.1 does, that of 22.3 and 25.0 does not.
    pub(crate) fn shares_loads(&self) -> bool {
        llvmpipe::major(&self.driver).is_some_and(|major| major >= llvmpipe::FAST)
    }

    /// Whether this is a CPU in a browser: SwiftShader, whose compiler takes most of a first step. It takes its time
    /// over long code, and writes a store for each number of workgroup memory, which has to be filled with zeros.
    pub(crate) fn browser_cpu(&self) -> bool {
        self.software && self.backend == "BrowserWebGpu"
    }

    /// The largest range in bytes that one binding can cover, rounded down to a multiple of 256.
    pub fn max_range(&self) -> u64 {
        self.max_binding.min(self.max_buffer) / 256 * 256
    }
}

impl fmt::Display for Caps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.software { " (software)" } else { "" };
        write!(f, "{}{kind}, {}, driver {}, tiers: {}", self.name, self.backend, self.driver, self.tiers)
    }
}
