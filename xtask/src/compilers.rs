//! `cargo xtask static`: what the compilers of real GPUs make of the kernels, on a machine without one.

use std::process::Command;
use std::sync::Mutex;

use crate::cuda;
use crate::mesa::Mesa;
use crate::workshop::{Result, cargo, command, run, seed, target};

/// A device: its name, the manifest of its driver, its null hardware and the settings that say which GPU that is.
type Device = (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);

/// The slow ones first, beside each other.
const DEVICES: [Device; 5] = [
    ("turing", "nouveau_icd.json", "nouveau", &[("NOUVEAU_CHIPSET", "164")]),
    ("ampere", "nouveau_icd.json", "nouveau", &[("NOUVEAU_CHIPSET", "172")]),
    ("rdna3", "radeon_icd.json", "amdgpu", &[("AMDGPU_GPU_ID", "navi31")]),
    ("rdna4", "radeon_icd.json", "amdgpu", &[("AMDGPU_GPU_ID", "gfx1201")]),
    ("m1", "asahi_icd.json", "asahi", &[]),
];

/// The device whose compiler is NVIDIA's own.
const HOPPER: &str = "hopper";

/// One device of each maker, from day to day another.
fn sample(seed: u64) -> Vec<&'static str> {
    let chosen =
        if u64::is_multiple_of(seed, 2) { vec!["turing", "rdna4", "m1"] } else { vec!["ampere", "rdna3", "m1"] };
    println!("{}, by ROWSCAN_TEST_SEED={seed}", chosen.join(", "));
    chosen
}

/// Compiles every kernel for the devices that `args` names, or for all, and fails if one costs more than
/// `benches/static/budget.toml` allows. `--sample` takes one device of each maker by Mesa's compilers, and a few of the
/// variants that are as they were when the budget was accepted. Other arguments go to the program.
pub fn compare(args: &[&str]) -> Result {
    let known = |name: &str| name == HOPPER || DEVICES.iter().any(|(device, ..)| *device == name);
    let (sampled, args): (Vec<&str>, Vec<&str>) = args.iter().partition(|arg| **arg == "--sample");
    let (mut named, mut others): (Vec<&str>, Vec<&str>) = args.iter().partition(|arg| known(arg));
    let seed = seed().to_string();
    if !sampled.is_empty() {
        named = sample(seed.parse().unwrap_or_default());
        others.extend(["--sample", &seed]);
    }
    let chosen: Vec<&Device> = DEVICES.iter().filter(|(name, ..)| named.is_empty() || named.contains(name)).collect();
    let mesa = if chosen.is_empty() { None } else { Some(Mesa::unpacked()?) };
    let toolkit = match cuda::unpacked_if(named.is_empty() || named.contains(&HOPPER)) {
        Err(e) if named.is_empty() => {
            println!("{HOPPER} is left out: {e}");
            None
        }
        toolkit => toolkit?,
    };
    run(command(cargo(), &["build", "--release", "--quiet", "--package", "rowscan-static"]))?;
    let program = target().join("release").join("static");
    // NVIDIA's compiler takes longest, so it begins
    let mut compilers = Vec::new();
    if let Some(folder) = toolkit {
        let mut compiler = command(&program, &[HOPPER, "--cuda"]);
        compiler.arg(folder);
        compilers.push((HOPPER, compiler));
    }
    for (device, manifest, shim, settings) in chosen {
        let Some(mesa) = &mesa else { continue };
        let mut compiler = mesa.command(&program, manifest, Some((shim, settings)))?;
        compiler.arg(device);
        compilers.push((device, compiler));
    }
    let compile = |(device, mut compiler): (&'static str, Command)| {
        let output = compiler.args(&others).output().map_err(|e| format!("{}: {e}", program.display()))?;
        print!("{}", String::from_utf8_lossy(&output.stdout));
        eprint!("{}", String::from_utf8_lossy(&output.stderr));
        Ok((!output.status.success()).then_some(device))
    };
    // each compiler takes one core; with --accept they write one file
    let at_once =
        if others.contains(&"--accept") { 1 } else { std::thread::available_parallelism().map_or(1, usize::from) };
    let waiting = Mutex::new(compilers.into_iter());
    let next = || waiting.lock().ok().and_then(|mut waiting| waiting.next());
    let work = || std::iter::from_fn(next).map(compile).collect::<Result<Vec<_>>>();
    let outcomes: Vec<Result<Vec<_>>> = std::thread::scope(|scope| {
        let started: Vec<_> = (0..at_once).map(|_| scope.spawn(work)).collect();
        started.into_iter().map(|one| one.join().unwrap_or_else(|_| Err("a thread ended".into()))).collect()
    });
    let failed: Vec<_> = outcomes.into_iter().collect::<Result<Vec<_>>>()?.into_iter().flatten().flatten().collect();
    match failed.as_slice() {
        [] => Ok(()),
        _ => Err(format!("past the budget, or refused, on {}: see the lines above", failed.join(", "))),
    }
}
