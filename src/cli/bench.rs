//! `rowscan bench`: every operator family against its oracle, its floor and the clock; with `--throughput`, whole
//! models by images per second.

use std::path::PathBuf;

use crate::bench::Scope;
use crate::bench::runner;
use crate::bench::runner::{Clock, Throughput, exchange, throughput};
use crate::cli::terminal::{Device, Outcome, Stop, say, usage, with_flags};
use crate::error::{Error, Result};
use crate::gpu::Precision;
use crate::models::Config;
use crate::run::record::{expect_folders, write_atomic};
use crate::train::options::word;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Small batches and few shapes. A software adapter does nothing else unless --full is given.
    #[arg(long)]
    quick: bool,
    /// The paper's shapes on a software adapter too (hours).
    #[arg(long, conflicts_with = "quick")]
    full: bool,
    /// Only this family, as the files in shaders/ are called; may be given several times. `exchange` is that of
    /// gradients between processes: start it with --gpus, mpirun or srun.
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
    #[command(flatten)]
    models: Models,
}

/// What `--throughput` measures.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Throughput of whole models")]
struct Models {
    /// Instead of operators, measure whole models: images per second and peak memory of classifying images.
    #[arg(
        long,
        requires = "model",
        conflicts_with_all = ["quick", "full", "family", "size", "batch", "tokens", "wall", "dump"]
    )]
    throughput: bool,
    /// Of training steps too: forward pass, backward pass, AdamW.
    #[arg(long, requires = "throughput")]
    train: bool,
    /// Compute each block again in the backward pass of a training step: less memory, more time.
    #[arg(long, requires = "train")]
    checkpoint_blocks: bool,
    /// Models by name, with commas between them, each at the image size in its name: see `rowscan info --models`.
    #[arg(long, value_name = "NAME,NAME", value_delimiter = ',', requires = "throughput")]
    model: Vec<String>,
    /// Images of a step.
    #[arg(long, value_name = "IMAGES", default_value_t = 32, requires = "throughput")]
    batch_size: usize,
    /// Steps before the first one that is timed.
    #[arg(long, value_name = "STEPS", default_value_t = 5, requires = "throughput")]
    warm_up: usize,
    /// Timed steps, whose median counts.
    #[arg(long, value_name = "STEPS", default_value_t = 20, requires = "throughput")]
    steps: usize,
}

pub fn run(device: &Device, args: &Args) -> Outcome {
    device.world.from_first(|| expect_folders(&args.json))?;
    if args.models.throughput {
        return of_models(device, args);
    }
    if args.is_exchange() {
        return of_the_exchange(device, args);
    }
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
    end(args, report.json(), report.passed())
}

/// Measures whole models. Names and numbers are checked before a device is opened.
fn of_models(device: &Device, args: &Args) -> Outcome {
    let Models { train, checkpoint_blocks, batch_size, warm_up, steps, .. } = args.models;
    let precision = args.precision;
    let measured = Throughput { batch_size, precision, train, checkpoint_blocks, warm_up, steps };
    usage(measured.check())?;
    let named = |name: &String| Config::preset(name).and_then(|config| config.validate().map(|()| config));
    let configs: Vec<Config> = usage(args.models.model.iter().map(named).collect::<Result<_>>())?;
    let report = throughput(|| device.open(), &configs, &measured, |line| say(with_flags(&line)))?;
    end(args, report.json(), report.passed())
}

impl Args {
    /// Whether the exchange between processes is measured, and nothing else.
    pub fn is_exchange(&self) -> bool {
        self.family == [EXCHANGE]
    }
}

/// The family that is no operator's.
const EXCHANGE: &str = "exchange";

/// Measures the exchange of gradients between processes: of small models, and of `base`.
fn of_the_exchange(device: &Device, args: &Args) -> Outcome {
    let (world, g) = (&device.world, device.open()?);
    let quick = args.quick || g.caps().software && !args.full;
    let counts = [1_000_000, 12_000_000, 137_000_000];
    let counts = if quick { &counts[..2] } else { &counts[..] };
    let measured = usage(exchange::exchange(world, &g, counts, say))?;
    let right = !world.any(measured.iter().any(|m| !m.right))?;
    match world.leads() {
        true => end(args, exchange::to_json(world, &measured), right),
        false => Ok(()),
    }
}

/// Writes `--json`, and gives the exit code.
fn end(args: &Args, report: serde_json::Value, passed: bool) -> Outcome {
    if let Some(path) = &args.json {
        write_atomic(path, format!("{report:#}\n").as_bytes())?;
    }
    if passed { Ok(()) } else { Err(Stop::Negative) }
}
