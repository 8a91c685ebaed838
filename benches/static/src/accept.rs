//! `accept FOLDER`: is every kernel accepted by DX12's compiler? Its HLSL goes through DXC here; its WGSL is written to
//! FOLDER for Chrome's compiler, which benches/static/tint.mjs calls. `cargo xtask wgsl-check` runs both.

mod dxc;
mod hlsl;
mod sums;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Mutex;

use clap::Parser;
use rowscan::gpu::{Kernel, Tiers};

use dxc::Dxc;

/// Writes the WGSL of every kernel and compiles its HLSL with DXC.
#[derive(Parser)]
struct Args {
    /// Where the WGSL goes: `KERNEL CONSTANTS TIER.wgsl`
    folder: PathBuf,
    /// DXC's library
    #[arg(long)]
    dxc: OsString,
    /// Versions of the compilers
    #[arg(long)]
    versions: String,
    /// Of the kernels whose sources both have accepted, take the variants that this number draws
    #[arg(long, value_name = "SEED")]
    sample: Option<u64>,
}

/// A kernel with values for its constants, on the portable tier or on that of subgroups.
struct Variant {
    kernel: &'static Kernel,
    values: Vec<u32>,
    subgroup: bool,
}

impl Variant {
    fn name(&self) -> String {
        let pairs = self.kernel.consts.iter().zip(&self.values);
        let constants: Vec<_> = pairs.map(|(known, value)| format!("{}={value}", known.name)).collect();
        let constants = if constants.is_empty() { "-".into() } else { constants.join(",") };
        format!("{} {constants} {}", self.kernel.name, if self.subgroup { "subgroup" } else { "portable" })
    }
    fn wgsl(&self) -> String {
        self.kernel.wgsl(Tiers { subgroup: self.subgroup, coop: false }, self.subgroup, &self.values)
    }
    /// Whether browsers promise the workgroup memory and the types that it takes.
    fn is_for_browsers(&self) -> bool {
        !self.kernel.is_large(&self.values) && !self.kernel.needs.f16
    }
}

/// Variants of a kernel that the compilers see; of a kernel with more, evenly spaced ones.
const MOST: usize = 64;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<bool, String> {
    let (mut variants, left_out) = variants();
    let accepted = accepted(&args.versions, &variants);
    if args.folder.exists() {
        std::fs::remove_dir_all(&args.folder).map_err(|e| format!("{}: {e}", args.folder.display()))?;
    }
    std::fs::create_dir_all(&args.folder).map_err(|e| format!("{}: {e}", args.folder.display()))?;
    std::fs::write(args.folder.join(ACCEPTED), &accepted).map_err(|e| format!("{}: {e}", args.folder.display()))?;
    if let Some(seed) = args.sample {
        let known = Path::new(env!("CARGO_MANIFEST_DIR")).join(ACCEPTED);
        let known = std::fs::read_to_string(&known).map_err(|e| format!("{}: {e}", known.display()))?;
        let all = variants.len();
        variants = sampled(variants, (&known, &accepted), seed);
        println!("{} of {all} variants: most whose sources were accepted before are left out", variants.len());
    }
    let browsers: Vec<_> = variants.iter().filter(|variant| variant.is_for_browsers()).collect();
    browsers.iter().try_for_each(|variant| write(&args.folder, variant))?;
    println!("{} variants in WGSL for Chrome's compiler, in {}", browsers.len(), args.folder.display());

    let refused = compiled(&variants, &args.dxc)?;
    refused.iter().for_each(|line| println!("REFUSED by DXC: {line}"));
    println!("{} variants through DXC, {} refused", variants.len(), refused.len());
    println!("left out: {left_out} kernels on cooperative matrices, which neither DX12 nor browsers have");
    Ok(refused.is_empty())
}

/// A file with the versions of the compilers and then, for each kernel, the sum of all of its sources: beside the
/// others, what the compilers would accept if they accept everything; in the repository, what they have accepted.
const ACCEPTED: &str = "accepted.txt";

fn accepted(versions: &str, variants: &[Variant]) -> String {
    let mut sources = BTreeMap::<_, Vec<String>>::new();
    for variant in variants {
        sources.entry(variant.kernel.name).or_default().extend([variant.name(), variant.wgsl()]);
    }
    let between = sums::between(include_str!("hlsl.rs"));
    let line = |(name, texts): (&&str, &Vec<String>)| {
        format!("{name} {}\n", sums::sum(texts.iter().chain([&between]).map(String::as_str)))
    };
    format!("{versions}\n{}", sources.iter().map(line).collect::<String>())
}

/// All variants of kernels that changed, and of the others those that the seed draws.
fn sampled(variants: Vec<Variant>, (known, now): (&str, &str), seed: u64) -> Vec<Variant> {
    let same_compilers = known.lines().next() == now.lines().next();
    let unchanged: Vec<_> =
        known.lines().filter(|line| same_compilers && now.lines().any(|other| other == *line)).collect();
    let is_unchanged = |kernel: &Kernel| unchanged.iter().any(|line| line.split(' ').next() == Some(kernel.name));
    let kept = |variant: &Variant| !is_unchanged(variant.kernel) || sums::is_drawn(seed, &variant.name());
    variants.into_iter().filter(kept).collect()
}

fn write(folder: &Path, variant: &Variant) -> Result<(), String> {
    let path = folder.join(format!("{}.wgsl", variant.name()));
    // Chrome wants to be told; naga does not know the directive yet.
    let enable = if variant.subgroup { "enable subgroups; " } else { "" };
    std::fs::write(&path, format!("{enable}{}", variant.wgsl())).map_err(|e| format!("{}: {e}", path.display()))
}

/// All variants, and the number of kernels that have none.
fn variants() -> (Vec<Variant>, usize) {
    let mut kernels = rowscan::ops::all();
    kernels.extend(rowscan::tensor::KERNELS);
    kernels.extend(rowscan::gpu::SELFTEST_KERNELS);
    kernels.extend(rowscan::bench::runner::roof::KERNELS);
    let before = kernels.len();
    kernels.retain(|kernel| !kernel.needs.coop);
    let mut all = Vec::new();
    for kernel in &kernels {
        let combinations: Vec<_> = kernel.combinations().collect();
        let step = combinations.len().div_ceil(MOST).max(1);
        let chosen: Vec<_> = combinations.into_iter().step_by(step).collect();
        let tiers: &[bool] = if kernel.needs.subgroup {
            &[true]
        } else if kernel.subgroup.is_some() {
            &[false, true]
        } else {
            &[false]
        };
        for values in &chosen {
            let of = |&subgroup| Variant { kernel, values: values.clone(), subgroup };
            all.extend(tiers.iter().map(of));
        }
    }
    (all, before - kernels.len())
}

/// The variants that DXC refuses, with its messages. Each core compiles with its own compiler.
fn compiled(variants: &[Variant], library: &OsString) -> Result<Vec<String>, String> {
    let (next, refused) = (Mutex::new(variants.iter()), Mutex::new(Vec::new()));
    let work = || -> Result<(), String> {
        let dxc = Dxc::open(library)?;
        if dxc.compile("main", "[numthreads(1, 1, 1)] void main() { not HLSL }").is_ok() {
            return Err("DXC accepts what is not HLSL".into());
        }
        loop {
            let Some(variant) = next.lock().map_err(|e| e.to_string())?.next() else { return Ok(()) };
            let source = hlsl::hlsl(variant.kernel.entry(), &variant.wgsl());
            let outcome = source.and_then(|(text, entry)| dxc.compile(&entry, &text));
            if let Err(message) = outcome {
                let line = message.lines().find(|line| line.contains("error")).unwrap_or(&message).to_owned();
                refused.lock().map_err(|e| e.to_string())?.push(format!("{}: {line}", variant.name()));
            }
        }
    };
    std::thread::scope(|scope| {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let started: Vec<_> = (0..cores).map(|_| scope.spawn(work)).collect();
        started.into_iter().try_for_each(|one| one.join().unwrap_or_else(|_| Err("a thread ended".into())))
    })?;
    let mut refused = refused.into_inner().map_err(|e| e.to_string())?;
    refused.sort();
    Ok(refused)
}
