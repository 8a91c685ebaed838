//! Choosing an adapter: the one that the user asked for, or else discrete before integrated before software.

use std::path::PathBuf;

use super::caps::{Caps, Tiers};
use super::disk::Caches;
use super::dx12;
use crate::error::{Error, Result};

/// Workgroup memory in bytes that a device must have for the cooperative-matrix kernels: none of them uses more.
const COOP_MEMORY: u32 = 32 << 10;

/// AMD's number in PCI. Its drivers compile every kernel on cooperative matrices for one subgroup size
/// (benches/static), although its adapters have two.
const AMD: u32 = 0x1002;

/// Which adapter to open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum AdapterChoice {
    /// The best hardware adapter, or a software adapter if there is no other.
    #[default]
    Auto,
    /// Of the adapters of the best kind, the one at this position, counted again from the first behind the last: what
    /// the processes of one machine take in turn.
    Turn(usize),
    /// The first software adapter.
    Cpu,
    /// The adapter at this position in the list that `rowscan info` prints, from 0.
    Index(usize),
    /// The first adapter whose name contains this text, in upper or lower case.
    Name(String),
}

impl std::str::FromStr for AdapterChoice {
    type Err = std::convert::Infallible;
    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Ok(match (text, text.parse()) {
            ("auto", _) => Self::Auto,
            ("cpu", _) => Self::Cpu,
            (_, Ok(index)) => Self::Index(index),
            _ => Self::Name(text.to_owned()),
        })
    }
}

impl std::fmt::Display for AdapterChoice {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Turn(turn) => write!(f, "the best, number {turn}"),
            Self::Cpu => f.write_str("cpu"),
            Self::Index(index) => write!(f, "{index}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// How to open a device.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Which adapter.
    pub adapter: AdapterChoice,
    /// Use no tier, only the WebGPU baseline, even if the adapter offers more.
    pub portable: bool,
    /// Choose kernel variants as for a GPU, even on a CPU adapter. They are slower there, but can be tested without a
    /// GPU.
    pub as_hardware: bool,
    /// Choose kernel variants as for a CPU. A browser does not report that its adapter is a CPU, but the page may know.
    pub as_software: bool,
    /// Folder for compiled pipelines (if the backend can export them) and for the variants that were measured as
    /// fastest. `None`: every process compiles and measures again.
    pub cache: Option<PathBuf>,
}

/// An adapter and its capabilities.
pub(super) struct Candidate {
    pub adapter: wgpu::Adapter,
    pub caps: Caps,
    /// Whether compiled pipelines can be exported, to keep them on disk.
    pub pipeline_cache: bool,
    /// What to tell whoever opens it.
    pub warning: Option<&'static str>,
    rank: u32,
}

fn describe(adapter: wgpu::Adapter) -> Candidate {
    let (info, limits, features) = (adapter.get_info(), adapter.limits(), adapter.features());
    let software = info.device_type == wgpu::DeviceType::Cpu;
    let rank = match info.device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::Cpu => 3,
        _ => 2,
    };
    let fragment = fragment(&adapter, &info, &limits);
    let caps = Caps {
        name: info.name,
        backend: format!("{:?}", info.backend),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_string(),
        software,
        tiers: Tiers { subgroup: features.contains(wgpu::Features::SUBGROUP), coop: fragment > 0 },
        nearest: false, // `Gpu::open` sets it after the self-test
        fragment,
        coop_lanes: 0, // `Gpu::open` sets it after the self-test
        subgroup_sizes: (info.subgroup_min_size, info.subgroup_max_size),
        timestamps: features.contains(wgpu::Features::TIMESTAMP_QUERY),
        max_binding: limits.max_storage_buffer_binding_size,
        max_buffer: limits.max_buffer_size,
        workgroup_size: limits.max_compute_invocations_per_workgroup,
        // in a browser, `open::limits` requests WebGPU's default
        workgroup_memory: if cfg!(target_arch = "wasm32") {
            16 << 10
        } else {
            limits.max_compute_workgroup_storage_size
        },
        memory: if software { host_memory() } else { memory(&adapter) },
    };
    let pipeline_cache = Caches::KEEP_PIPELINES && features.contains(wgpu::Features::PIPELINE_CACHE);
    Candidate { adapter, caps, pipeline_cache, warning: None, rank }
}

/// Side of the square cooperative matrices (tensor-core fragments, f16 operands and f32 sums) to use: 16, or 8 if the
/// adapter lists 8×8×8 only. It is 0, which turns the `coop` tier off, if the adapter lists neither size; if its
/// subgroup size may differ from kernel to kernel, as on Intel's, so that a self-test says nothing about other kernels;
/// if a workgroup cannot have four subgroups and [`COOP_MEMORY`] bytes; or if the adapter is a CPU whose subgroups are
/// not 8 wide.
fn fragment(adapter: &wgpu::Adapter, info: &wgpu::AdapterInfo, limits: &wgpu::Limits) -> u32 {
    use wgpu::CooperativeScalarType::{F16, F32};
    let lanes = info.subgroup_min_size;
    let one_size = lanes == info.subgroup_max_size || info.vendor == AMD;
    let threads = 4 * lanes.max(1);
    // llvmpipe (Mesa 26.1) lists cooperative matrices with subgroups of 4, where it cannot open a device with them, and
    // of 16, where it crashes as it compiles them
    let untrusted = info.device_type == wgpu::DeviceType::Cpu && lanes != 8;
    let room = threads <= limits.max_compute_invocations_per_workgroup
        && limits.max_compute_workgroup_storage_size >= COOP_MEMORY;
    let offered = adapter.features().contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX);
    if !offered || untrusted || !one_size || !room {
        return 0;
    }
    let listed = adapter.cooperative_matrix_properties();
    let fits = |side: u32, p: &wgpu::CooperativeMatrixProperties| {
        (p.m_size, p.n_size, p.k_size) == (side, side, side) && p.ab_type == F16 && p.cr_type == F32
    };
    [16, 8].into_iter().find(|&side| listed.iter().any(|p| fits(side, p))).unwrap_or(0)
}

/// Main memory in bytes. A software adapter has this much, whatever it reports. `None` where there is no
/// `/proc/meminfo`.
fn host_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok());
    kib.map(|kib| kib * 1024)
}

/// Size in bytes of the largest device-local heap. `None` for a backend other than Vulkan.
#[cfg(all(not(target_arch = "wasm32"), not(target_vendor = "apple")))]
fn memory(adapter: &wgpu::Adapter) -> Option<u64> {
    // SAFETY: the handles are used for one query while the adapter is borrowed; nothing is destroyed.
    unsafe {
        let hal = adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
        let instance = hal.shared_instance().raw_instance();
        let properties = instance.get_physical_device_memory_properties(hal.raw_physical_device());
        // VK_MEMORY_HEAP_DEVICE_LOCAL_BIT is bit 0
        properties.memory_heaps_as_slice().iter().filter(|h| h.flags.as_raw() & 1 != 0).map(|h| h.size).max()
    }
}

#[cfg(any(target_arch = "wasm32", target_vendor = "apple"))]
fn memory(_: &wgpu::Adapter) -> Option<u64> {
    None
}

/// All adapters that can run compute shaders, best first. A browser offers one.
pub(super) async fn candidates() -> Vec<Candidate> {
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends =
        wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12 | wgpu::Backends::BROWSER_WEBGPU;
    let wanted = wgpu::Dx12Compiler::from_env();
    let compiler = dx12::compiler(wanted.clone(), dx12::library().as_deref());
    descriptor.backend_options.dx12.shader_compiler = compiler.clone();
    let instance = wgpu::Instance::new(descriptor);
    #[cfg(target_arch = "wasm32")]
    let adapters: Vec<_> =
        instance.request_adapter(&wgpu::RequestAdapterOptions::default()).await.into_iter().collect();
    #[cfg(not(target_arch = "wasm32"))]
    let adapters = instance.enumerate_adapters(wgpu::Backends::all()).await;
    let warned = |mut candidate: Candidate| {
        candidate.warning = dx12::warning(candidate.adapter.get_info().backend, wanted.as_ref(), &compiler);
        candidate
    };
    let mut found: Vec<_> = adapters.into_iter().map(describe).map(warned).collect();
    found.sort_by_key(|c| c.rank);
    found
}

/// Positions of the adapters of the best kind. A GPU that several backends offer counts once.
fn best_kind(found: &[Candidate]) -> Vec<usize> {
    let alike = |c: &Candidate| c.rank == found[0].rank && c.caps.backend == found[0].caps.backend;
    found.iter().enumerate().filter(|(_, c)| alike(c)).map(|(at, _)| at).collect()
}

/// Number of adapters of the best kind: those that [`AdapterChoice::Turn`] goes round.
pub(super) async fn count_best() -> usize {
    best_kind(&candidates().await).len()
}

/// The adapters to try, in order: all of them if the choice is left to us, else the one that was asked for.
pub(super) fn choose(mut found: Vec<Candidate>, choice: &AdapterChoice) -> Result<Vec<Candidate>> {
    let names: Vec<_> = found.iter().enumerate().map(|(i, c)| format!("{i}: {}", c.caps.name)).collect();
    if found.is_empty() {
        let hint =
            "install a Vulkan, Metal or DX12 driver (on Debian and Ubuntu the software one is `mesa-vulkan-drivers`)";
        return Err(Error::NoAdapter(hint.into()));
    }
    let at = match choice {
        AdapterChoice::Auto => return Ok(found),
        AdapterChoice::Turn(turn) => {
            let best = best_kind(&found);
            best.get(turn % best.len().max(1)).copied()
        }
        AdapterChoice::Cpu => found.iter().position(|c| c.caps.software),
        AdapterChoice::Index(index) => (*index < found.len()).then_some(*index),
        AdapterChoice::Name(name) => {
            found.iter().position(|c| c.caps.name.to_lowercase().contains(&name.to_lowercase()))
        }
    };
    let missing = || Error::NoAdapter(format!("`{choice}` is none of [{}]", names.join(", ")));
    at.map(|at| vec![found.swap_remove(at)]).ok_or_else(missing)
}
