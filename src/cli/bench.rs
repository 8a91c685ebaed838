//! `rowscan bench`: every operator family against its oracle, its floor and the clock.

use std::path::PathBuf;

use crate::bench::Scope;
use crate::bench::runner;
use crate::bench::runner::Clock;
use crate::cli::terminal::{Device, Outcome, Stop, say, usage};
use crate::error::Error;
use crate::gpu::Precision;
use crate::train::options::word;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Small batches and few shapes. A software adapter does nothing else unless --full is given.
    #[arg(long)]
    quick: bool,
    /// The paper's shapes on a software adapter too (hours).
    #[arg(long, conflicts_with = "quick")]
    full: bool,
    /// Only this family, as the files in shaders/ are called; may be given several times.
    #[arg(long, value_name = "NAME")]
    family: Vec<String>,
    /// Only this size of HybridNet: tiny, small, base, large; may be given several times.
    #[arg(long, value_name = "SIZE")]
    size: Vec<String>,
    /// Images of a batch instead of 128 and 1; may be given several times.
    #[arg(long, value_name = "IMAGES")]
    batch: Vec<usize>,
    /// Tokens of an image instead of 98, 208 and 592; may be given several times.
    #[arg(long, value_name = "TOKENS")]
    tokens: Vec<usize>,
    /// Of products: f32, mixed (f16 operands) or high (split into two f16).
    #[arg(long, value_parser = word::<Precision>(), default_value = "f32")]
    precision: Precision,
    /// Time by the host's clock even where the adapter has timestamps: includes what happens between launches.
    #[arg(long)]
    wall: bool,
    /// Write everything to this file too, as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write inputs and results of each case into this folder as safetensors, to compare others with.
    #[arg(long, value_name = "DIR")]
    dump: Option<PathBuf>,
}

pub fn run(device: &Device, args: &Args) -> Outcome {
    let g = device.open()?;
    let scope = Scope {
        quick: args.quick || g.caps().software && !args.full,
        families: args.family.clone(),
        sizes: args.size.clone(),
        batches: args.batch.clone(),
        lengths: args.tokens.clone(),
        precision: args.precision,
    };
    if let Some(folder) = &args.dump {
        std::fs::create_dir_all(folder).map_err(Error::io(folder, "created"))?;
    }
    let clock = Clock::new(&g, args.wall);
    let report = usage(runner::run(&g, &scope, clock, args.dump.as_deref(), say))?;
    if let Some(path) = &args.json {
        let text = format!("{:#}\n", report.json());
        crate::run::record::write_atomic(path, text.as_bytes())?;
    }
    if report.passed() { Ok(()) } else { Err(Stop::Negative) }
}
