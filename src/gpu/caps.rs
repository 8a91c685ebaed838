//! What an adapter can do: its identity, its limits, and the tiers that passed their self-test.

use std::fmt;

/// Optional instruction sets. Every kernel is right without them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tiers {
    /// Subgroup reductions, of whatever size.
    pub subgroup: bool,
    /// Cooperative matrices, f16 in and f32 out.
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
    /// True for a CPU that poses as a GPU.
    pub software: bool,
    /// Tiers in use.
    pub tiers: Tiers,
    /// `pack2x16float` rounds to the nearest f16, ties to even, which `shaders/lib/half.wgsl` otherwise does in
    /// integers.
    pub nearest: bool,
    /// Side of the square cooperative matrices: 16 or 8; 0 where there are none.
    pub fragment: u32,
    /// Smallest and largest subgroup of the adapter; (0, 0) when unknown.
    pub subgroup_sizes: (u32, u32),
    /// Whether passes can be timed.
    pub timestamps: bool,
    /// Largest storage binding in bytes.
    pub max_binding: u64,
    /// Largest buffer in bytes.
    pub max_buffer: u64,
    /// Workgroup memory in bytes.
    pub workgroup_memory: u32,
    /// Device memory in bytes where the backend tells.
    pub memory: Option<u64>,
}

impl Caps {
    /// The WebGPU defaults: what a plan without an adapter is made for.
    pub fn portable() -> Self {
        Self {
            name: "none (WebGPU defaults)".into(),
            backend: "none".into(),
            driver: String::new(),
            software: false,
            tiers: Tiers::default(),
            nearest: false,
            fragment: 0,
            subgroup_sizes: (0, 0),
            timestamps: false,
            max_binding: 128 << 20,
            max_buffer: 256 << 20,
            workgroup_memory: 16 << 10,
            memory: None,
        }
    }

    /// The largest range that one binding of one buffer can cover, in bytes, multiple of 256.
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
