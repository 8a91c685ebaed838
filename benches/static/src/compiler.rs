//! A compiler of one of the devices: a Vulkan driver of Mesa, or NVIDIA's own programs.

use std::path::Path;

use rowscan::gpu::{Caps, Kernel, Tiers};

use crate::cooperative;
use crate::cuda::{self, Toolkit};
use crate::device::{Device, Family};
use crate::driver::{Compiled, Driver, Result};
use crate::spirv;

/// What compiles kernels.
pub enum Compiler {
    Driver(Box<Driver>),
    Cuda(Toolkit),
}

impl Compiler {
    /// That of a device. `toolkit` is the folder of NVIDIA's programs.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(device: Device, toolkit: Option<&Path>) -> Result<Self> {
        match (device.family(), toolkit) {
            (Family::Cuda, None) => Err(format!("{} needs --cuda: `cargo xtask static` gives it", device.name())),
            (Family::Cuda, Some(folder)) => Ok(Self::Cuda(Toolkit::open(folder)?)),
            _ => Ok(Self::Driver(Box::new(Driver::open()?))),
        }
    }

    /// Adapter, and compiler with its version.
    pub fn about(&self) -> (&str, &str) {
        match self {
            Self::Driver(driver) => (&driver.name, &driver.version),
            Self::Cuda(toolkit) => ("NVIDIA H100 and H200", &toolkit.version),
        }
    }

    /// The sources of what stands between naga and the compiler.
    pub fn writers(&self) -> &'static str {
        match self {
            Self::Driver(_) => include_str!("spirv.rs"),
            Self::Cuda(_) => concat!(include_str!("hlsl.rs"), include_str!("cuda.rs"), include_str!("cooperative.rs")),
        }
    }

    /// The capabilities that rowscan would find on the device.
    ///
    /// # Errors
    /// If the self-test of cooperative matrices is refused.
    pub fn caps(&self) -> Result<Caps> {
        match self {
            Self::Driver(driver) => caps_of(driver),
            Self::Cuda(toolkit) => Ok(Caps {
                name: "NVIDIA H100 and H200".into(),
                backend: "Vulkan".into(),
                driver: toolkit.version.clone(),
                tiers: Tiers { subgroup: true, coop: true },
                nearest: true,
                fragment: cooperative::FRAGMENT,
                coop_lanes: cuda::LANES,
                subgroup_sizes: (cuda::LANES, cuda::LANES),
                max_binding: 2 << 30,
                max_buffer: 2 << 30,
                workgroup_memory: cuda::WORKGROUP_MEMORY,
                ..Caps::portable()
            }),
        }
    }

    /// Whether the device has what a kernel needs: NVIDIA has no cooperative matrices of 8×8, which are Metal's.
    pub fn takes(&self, kernel: &Kernel) -> bool {
        matches!(self, Self::Driver(_)) || !kernel.needs.coop || cooperative::are_known(kernel.source)
    }

    /// Compiles a kernel of this source; also the bytes of workgroup memory that it uses.
    ///
    /// # Errors
    /// If naga or the compiler refuses it.
    pub fn compile(&self, kernel: &Kernel, source: &str, subgroups: bool) -> Result<(Compiled, u32)> {
        let (words, shared) = spirv::spirv(kernel.entry(), source)?;
        let compiled = match self {
            Self::Driver(driver) => {
                let binds: Vec<u32> = kernel.binds.iter().map(|bind| bind.number).collect();
                driver.compile(&words, kernel.entry(), &binds, subgroups)?
            }
            Self::Cuda(toolkit) => toolkit.compile(kernel.entry(), source)?,
        };
        Ok((compiled, shared))
    }
}

/// The capabilities that rowscan would find on the device, where its self-test finds the lanes of a subgroup that holds
/// a cooperative matrix. Nothing runs here, so they are those for which the driver compiles that test.
fn caps_of(driver: &Driver) -> Result<Caps> {
    let fragment = [16, 8].into_iter().find(|side| driver.fragments.contains(side)).unwrap_or(0);
    let name = format!("selftest_coop.product{fragment}");
    let test = rowscan::gpu::SELFTEST_KERNELS.iter().find(|kernel| kernel.name == name);
    let coop_lanes = match test {
        Some(kernel) => {
            let least = driver.subgroups.0;
            let source = kernel.wgsl(Tiers::default(), true, &[least]);
            let binds: Vec<u32> = kernel.binds.iter().map(|bind| bind.number).collect();
            let compiled = driver.compile(&spirv::spirv(kernel.entry(), &source)?.0, kernel.entry(), &binds, true)?;
            if compiled.subgroup > 0 { compiled.subgroup } else { least }
        }
        None => 0,
    };
    Ok(Caps {
        name: driver.name.clone(),
        backend: "Vulkan".into(),
        driver: driver.version.clone(),
        tiers: Tiers { subgroup: true, coop: fragment > 0 },
        nearest: true,
        fragment,
        coop_lanes,
        subgroup_sizes: driver.subgroups,
        max_binding: 2 << 30,
        max_buffer: 2 << 30,
        workgroup_memory: driver.workgroup_memory,
        ..Caps::portable()
    })
}
