//! `static DEVICE`: what the compiler of a GPU makes of every kernel, compared with what the repository allows. The GPU
//! is not needed: `cargo xtask static` starts this program on Mesa's null hardware, or beside NVIDIA's compiler.

mod budget;
mod compiler;
mod cooperative;
mod cuda;
mod device;
mod driver;
mod hlsl;
mod listing;
mod row;
mod spirv;
mod sums;
mod variants;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use rowscan::gpu::Caps;

use budget::Budget;
use compiler::Compiler;
use device::Device;
use row::Row;
use variants::Variant;

/// Compiles every kernel for a device and compares registers, spills and instructions with `budget.toml`.
#[derive(Parser)]
struct Args {
    /// The device that the driver stands in for
    device: Device,
    /// Write the numbers of this run into the table and the budget, instead of failing
    #[arg(long)]
    accept: bool,
    /// Models whose steps are compiled
    #[arg(long, value_delimiter = ',', default_value = "tiny,base")]
    models: Vec<String>,
    /// Keep assembly and WGSL of the variants whose kernel's name contains this, under `target/static/DEVICE`
    #[arg(long, value_name = "NAME")]
    keep: Option<String>,
    /// Compile the kernels whose name contains this, and no others: with --accept these keep the rows that they have
    #[arg(long, value_name = "NAME")]
    only: Option<String>,
    /// Of the variants whose source and driver are those of the table, take those that this number draws
    #[arg(long, value_name = "SEED", conflicts_with = "accept")]
    sample: Option<u64>,
    /// Folder with NVIDIA's compiler and Slang, for the devices that need them
    #[arg(long, value_name = "DIR")]
    cuda: Option<PathBuf>,
}

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

/// Compiles, prints, compares. False if something is past the budget or refused.
fn run(args: &Args) -> Result<bool, String> {
    let device = args.device;
    let compiler = Compiler::open(device, args.cuda.as_deref())?;
    let (name, version) = compiler.about();
    let about = format!("{name}, {version}");
    let caps = compiler.caps()?;
    println!("{}: {about}, tiers: {}", device.name(), caps.tiers);
    let mut all = variants::all(&caps, &args.models).map_err(|e| e.to_string())?;
    all.retain(|variant| compiler.takes(variant.kernel));
    let is_wanted =
        |variant: &&Variant| args.only.as_ref().is_none_or(|part| variant.kernel.name.contains(part.as_str()));
    let variants: Vec<&Variant> = all.iter().filter(is_wanted).collect();
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (table, budget) = (folder.join("tables").join(format!("{}.txt", device.name())), folder.join("budget.toml"));
    let before = row::parse(&std::fs::read_to_string(&table).unwrap_or_default());
    let between = sums::between(compiler.writers());
    let (mut rows, mut refused, mut skipped) = (Vec::new(), Vec::new(), 0);
    for variant in variants {
        let (name, source) = (variant.name(), variant.kernel.wgsl(caps.tiers, caps.nearest, &variant.values));
        let sum = sums::sum([source.as_str(), &between]);
        let same = |row: &Row| row.source == sum && row.name() == name;
        let left_out = |seed| {
            before.0 == about
                && before.1.iter().any(same)
                && !sums::is_drawn(seed, &format!("{} {name}", device.name()))
        };
        if args.sample.is_some_and(left_out) {
            skipped += 1;
            continue;
        }
        match compile(&compiler, &caps, variant, (&source, sum), args) {
            Ok(row) => rows.push(row),
            Err(e) => refused.push(format!("{name}: refused: {e}")),
        }
    }
    differences(&before.1, &rows);
    let names: Vec<_> = all.iter().map(Variant::name).collect();
    before.1.iter().map(Row::name).filter(|name| !names.contains(name)).for_each(|name| println!("gone     {name}"));
    let text = std::fs::read_to_string(&budget).unwrap_or_default();
    let known: Budget = toml::from_str(&text).map_err(|e| format!("{}: {e}", budget.display()))?;
    let write = |path: &Path, text: &str| std::fs::write(path, text).map_err(|e| format!("{}: {e}", path.display()));
    if args.accept {
        if args.only.is_some() {
            let of = |rows: &[Row], name: &String| rows.iter().find(|row| row.name() == *name).cloned();
            rows = names.iter().filter_map(|name| of(&rows, name).or_else(|| of(&before.1, name))).collect();
        }
        write(&table, &row::table(&about, &rows))?;
        write(&budget, &replaced(&text, device.name(), &budget::section(device.name(), version, &rows)))?;
        println!("accepted: {} and the budget", table.display());
    } else {
        let none = budget::DeviceBudget::default();
        refused.extend(budget::past(known.get(device.name()).unwrap_or(&none), version, &rows));
    }
    refused.iter().for_each(|line| println!("FAILED {line}"));
    println!("{} variants of {} kernels, {} failed", rows.len(), kernels(&rows), refused.len());
    if skipped > 0 {
        println!("left out: {skipped} variants whose source and driver are those of {}", table.display());
    }
    Ok(refused.is_empty())
}

fn kernels(rows: &[Row]) -> usize {
    let mut names: Vec<_> = rows.iter().map(|row| &row.kernel).collect();
    names.dedup();
    names.len()
}

/// Compiles the source of a variant, which has this sum.
fn compile(
    compiler: &Compiler, caps: &Caps, variant: &Variant, (source, sum): (&str, String), args: &Args,
) -> Result<Row, String> {
    let kernel = variant.kernel;
    let (compiled, shared) = compiler.compile(kernel, source, caps.tiers.subgroup)?;
    if kernel.needs.coop && compiled.subgroup > 0 && compiled.subgroup != caps.coop_lanes {
        return Err(format!("compiled for subgroups of {}, not {}", compiled.subgroup, caps.coop_lanes));
    }
    if args.keep.as_ref().is_some_and(|part| kernel.name.contains(part.as_str())) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/static").join(args.device.name());
        let file = variant.name();
        let write = |kind: &str, text: &str| std::fs::write(folder.join(format!("{file}.{kind}")), text);
        std::fs::create_dir_all(&folder)
            .and_then(|()| write("wgsl", source))
            .and_then(|()| compiled.texts.iter().try_for_each(|(name, text)| write(&name.replace(' ', "_"), text)))
            .map_err(|e| format!("{}: {e}", folder.display()))?;
    }
    Ok(Row::new((kernel.name, variant.constants()), sum, shared, args.device.family(), &compiled))
}

/// Prints what changed since the table of the repository.
fn differences(before: &[Row], now: &[Row]) {
    for row in now {
        let Some(old) = before.iter().find(|old| old.same(row)) else {
            let numbers = row::COLUMNS.iter().zip(&row.numbers).filter(|(_, number)| **number > 0);
            let numbers: Vec<_> = numbers.map(|(column, number)| format!("{column} {number}")).collect();
            println!("new      {} {}: {}", row.kernel, row.constants, numbers.join(", "));
            continue;
        };
        let changed =
            row::COLUMNS.iter().zip(old.numbers.iter().zip(&row.numbers)).filter(|(_, (old, new))| old != new);
        let changed: Vec<_> = changed.map(|(column, (old, new))| format!("{column} {old} → {new}")).collect();
        if !changed.is_empty() {
            println!("changed  {} {}: {}", row.kernel, row.constants, changed.join(", "));
        }
    }
}

/// `text`, a budget, with another section for this device.
fn replaced(text: &str, device: &str, section: &str) -> String {
    let own = |part: &&str| part.starts_with(&format!("{device}]")) || part.starts_with(&format!("{device}.kernels]"));
    let mut parts = text.split("\n[");
    let head = parts.next().unwrap_or_default();
    let mut sections: Vec<String> =
        parts.filter(|part| !own(part)).map(|part| format!("[{}", part.trim_end())).collect();
    sections.push(section.trim_end().to_owned());
    // always in one order; a device's two sections stay in theirs
    sections.sort_by_key(|section| section.split(['.', ']']).next().map(str::to_owned));
    format!("{}\n\n{}\n", head.trim_end(), sections.join("\n\n"))
}
