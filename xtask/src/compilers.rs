//! `cargo xtask static`: what the compilers of real GPUs make of the kernels, on a machine without one.

use crate::mesa::Mesa;
use crate::workshop::{Result, cargo, command, run, target};

/// A device: its name, the manifest of its driver, its null hardware and the settings that say which GPU that is.
type Device = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

const DEVICES: [Device; 5] = [
    ("rdna3", "radeon_icd.json", "amdgpu", &[("AMDGPU_GPU_ID", "navi31")]),
    ("rdna4", "radeon_icd.json", "amdgpu", &[("AMDGPU_GPU_ID", "gfx1201")]),
    ("turing", "nouveau_icd.json", "nouveau", &[("NOUVEAU_CHIPSET", "164")]),
    ("ampere", "nouveau_icd.json", "nouveau", &[("NOUVEAU_CHIPSET", "172")]),
    ("m1", "asahi_icd.json", "asahi", &[]),
];

/// Compiles every kernel for the devices that `args` names, or for all, and fails if one costs more than
/// `benches/static/budget.toml` allows. Other arguments go to the program.
pub fn compare(args: &[&str]) -> Result {
    let known = |name: &str| DEVICES.iter().any(|(device, ..)| *device == name);
    let (named, others): (Vec<&str>, Vec<&str>) = args.iter().partition(|arg| known(arg));
    let mesa = Mesa::unpacked()?;
    run(command(cargo(), &["build", "--release", "--quiet", "--package", "rowscan-static"]))?;
    let mut failed = Vec::new();
    for (device, manifest, shim, settings) in
        DEVICES.iter().filter(|(name, ..)| named.is_empty() || named.contains(name))
    {
        let mut program = mesa.command(&target().join("release").join("static"), manifest, Some((shim, settings)))?;
        program.arg(device).args(&others);
        if run(program).is_err() {
            failed.push(*device);
        }
    }
    match failed.as_slice() {
        [] => Ok(()),
        _ => Err(format!("past the budget, or refused, on {}: see the lines above", failed.join(", "))),
    }
}
