//! The command line: arguments, progress and pictures. It computes nothing itself.

mod bench;
mod check;
mod classifier;
mod compare;
mod compiling;
mod completions;
mod csv;
mod curve;
mod dense;
mod dense_training;
mod detected;
mod embedding_map;
mod eval;
mod export;
mod features;
mod finetune;
mod help;
mod import;
mod info;
mod model_args;
mod numbers;
mod predict;
mod pretrain;
mod probe;
mod profile;
mod ranks;
mod reconstruct;
mod report;
mod segmented;
mod signals;
mod study;
mod terminal;
mod tested;
mod training;
mod unused;
mod watch;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use ranks::{Gpus, Ranks};
use terminal::{Device, Stop, told, usage, warn};

use crate::error::Error;
use crate::files::user_cache;
use crate::gpu::{AdapterChoice, Gpu, Options};
use crate::run::detect::LabeledObjects;
use crate::run::segment::PixelClasses;
use crate::run::world::{PATIENCE, World};

/// Masked Autoregressive Pretraining of hybrid Mamba-Transformer vision backbones on any GPU.
#[derive(Debug, Parser)]
#[command(name = "rowscan", version, propagate_version = true, args_override_self = true)]
struct Cli {
    /// Adapter: auto, cpu, a number of `rowscan info`, or part of a name.
    #[arg(long, global = true, value_name = "ADAPTER")]
    adapter: Option<String>,
    /// Use the WebGPU baseline only, even where the adapter offers subgroups, f16 or cooperative matrices.
    #[arg(long, global = true)]
    portable: bool,
    /// Log more: -v for info, -vv for debug.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
    /// GPUs of this machine that share the steps of training, or the batches of an evaluation: a number, or all. Starts
    /// as many processes with MPI; under mpirun or srun it is not needed.
    #[arg(long, global = true, value_name = "N|all")]
    gpus: Option<String>,
    /// Seconds that a process waits for the others before it gives up.
    #[arg(long, global = true, value_name = "SECONDS", default_value_t = PATIENCE.as_secs())]
    exchange_timeout: u64,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Pretrain a model with MAP, or a method it is compared with, on a set of images.
    Pretrain(Box<training::CommandLine<pretrain::PretrainOptions>>),
    /// Fine-tune a model on the classes of a set of images, from a pretrained checkpoint or from scratch.
    Finetune(Box<training::CommandLine<finetune::FinetuneOptions>>),
    /// Train a network that says the class of each pixel, on images with segmentation maps.
    Segment(Box<training::CommandLine<dense_training::DenseOptions<PixelClasses>>>),
    /// Train a network that finds objects, their boxes and their pixels, on images with annotations like COCO's.
    Detect(Box<training::CommandLine<dense_training::DenseOptions<LabeledObjects>>>),
    /// Say what a checkpoint sees in images: the classes of a classifier or of each pixel, or objects.
    Predict(predict::Args),
    /// Measure the accuracy of a classifier, the mIoU of a segmentation network, or the AP of a detector.
    Eval(eval::Args),
    /// Measure the accuracy that frozen features allow: linear probe and nearest neighbors.
    Probe(Box<probe::Args>),
    /// Draw a pretrained model's reconstructions of hidden patches.
    Reconstruct(reconstruct::Args),
    /// Write the encoder's features of a set of images.
    Features(features::Args),
    /// Write a checkpoint's weights in f16, with metadata about their origin.
    Export(export::Args),
    /// Turn weights under the official names into a checkpoint.
    Import(Box<import::Args>),
    /// Draw the curves of several runs in one picture, and print what differs in their settings.
    Compare(compare::Args),
    /// Print what a shell completes after `rowscan`.
    Completions(completions::Args),
    /// Run conformance fixtures and compare every tensor.
    Check(check::Args),
    /// Print adapters, limits, and a model's parameters, memory plan and launches.
    Info(Box<info::Args>),
    /// Run a table of the paper at a reduced scale: pretrain, fine-tune and test every cell.
    Study(study::Args),
    /// Time every kernel of one pretraining step on the GPU.
    Profile(Box<profile::Args>),
    /// Compare every operator with its oracle, then time it against its floor.
    Bench(bench::Args),
}

impl Command {
    /// Whether several processes can share the command.
    fn is_shared(&self) -> bool {
        match self {
            Self::Bench(args) => args.is_exchange(),
            Self::Pretrain(_) | Self::Finetune(_) | Self::Segment(_) | Self::Detect(_) => true,
            Self::Eval(_) | Self::Probe(_) | Self::Features(_) => true,
            _ => false,
        }
    }
}

/// The processes that share the command: those that a launcher started, or this one alone. With `--gpus` this process
/// becomes the launcher and does not come back.
fn world(cli: &Cli) -> Result<World, Stop> {
    if !cli.command.is_shared() {
        if let Some(gpus) = &cli.gpus {
            let expected = "pretrain, finetune, segment, detect, eval, probe or features with it: other commands take \
                            one GPU";
            return Err(Stop::Usage(Error::argument("--gpus", gpus, expected)));
        }
        return Ok(World::alone());
    }
    if cli.exchange_timeout == 0 {
        return Err(Stop::Usage(Error::argument("--exchange-timeout", 0, "at least 1 second")));
    }
    let count = match usage(cli.gpus.as_deref().map(str::parse).transpose())? {
        None => 1,
        Some(Gpus::Count(count)) => count,
        Some(Gpus::All) => pollster::block_on(Gpu::count_best()),
    };
    // where nothing has to be started, nothing has to be found: not everywhere is there a /proc that knows
    let program = match count {
        0 | 1 => PathBuf::new(),
        _ => std::env::current_exe().map_err(Error::io("this program", "found"))?,
    };
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(ranks) = usage(Ranks::of(count, &program, &arguments))? {
        return Err(become_launcher(ranks).into());
    }
    Ok(World::from_environment(Duration::from_secs(cli.exchange_timeout))?)
}

/// Turns this process into the launcher, so that signals reach it. Returns only if that failed.
#[cfg(unix)]
fn become_launcher(ranks: Ranks) -> Error {
    let Ranks { mut command } = ranks;
    let failed = std::os::unix::process::CommandExt::exec(&mut command);
    Error::io(command.get_program(), "started")(failed)
}

#[cfg(not(unix))]
fn become_launcher(ranks: Ranks) -> Error {
    let Ranks { mut command } = ranks;
    match command.status() {
        Ok(status) => std::process::exit(status.code().unwrap_or(1)),
        Err(failed) => Error::io(command.get_program(), "started")(failed),
    }
}

/// Ends this process, and with it all others: those that wait for it would wait for ever.
fn end_all(world: &World, code: u8) -> ExitCode {
    // the launcher passes on what was printed, but not always what it has not read when the job is aborted
    std::thread::sleep(Duration::from_millis(300));
    world.abort(code.into());
    // the exchange may be stuck in a call, and the library's own clean-up behind it
    #[cfg(unix)]
    // SAFETY: the process ends; files are written by calls that have returned
    unsafe {
        libc::_exit(code.into())
    }
    #[cfg(not(unix))]
    std::process::exit(code.into())
}

/// Folder for compiled pipelines: `ROWSCAN_PIPELINE_CACHE`, or else the user's cache folder. `None` if it is `off`.
fn cache_folder() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("ROWSCAN_PIPELINE_CACHE") {
        return (named != "off" && !named.is_empty()).then(|| named.into());
    }
    user_cache("pipelines")
}

/// Parses the arguments and runs the command. The exit code is 0 for success, 1 for failure, 2 for wrong usage.
pub fn main() -> ExitCode {
    // a panic is a bug, so it is one line to report; decoders that panic on a broken image are caught before
    std::panic::set_hook(Box::new(|panic| warn(format_args!("internal error, please report it: {panic}"))));
    let program = numbers::reading_numbers(help::with_headings(Cli::command()));
    let cli = Cli::from_arg_matches(&program.get_matches()).unwrap_or_else(|e| e.exit());
    let world = match world(&cli) {
        Ok(world) => world,
        Err(stop) => return ended(Err(stop), &World::alone()),
    };
    let level = match world.leads() {
        true => ["warn", "info", "debug"][usize::from(cli.verbose.min(2))],
        false => ["error", "info", "debug"][usize::from(cli.verbose.min(2))], // the first warns for all
    };
    if !world.leads() {
        terminal::fall_silent();
    }
    // levels by target, without the spans and regular expressions of an `EnvFilter` that this program has not
    let named = std::env::var("ROWSCAN_LOG").ok().and_then(|levels| levels.parse::<Targets>().ok());
    let usual = || format!("rowscan={level},wgpu=error,wgpu_core=error,wgpu_hal=off,naga=error").parse().ok();
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(terminal::draws())
        .log_internal_errors(false) // stderr may be closed or full: the command goes on without its messages
        .without_time()
        .with_target(false)
        .with_filter(named.or_else(usual).unwrap_or_default());
    tracing_subscriber::registry().with(lines).with(compiling::layer()).init();
    let named = cli.adapter.or_else(|| std::env::var("ROWSCAN_ADAPTER").ok());
    let adapter: AdapterChoice = named.and_then(|name| name.parse().ok()).unwrap_or_default();
    let options = Options { adapter, portable: cli.portable, cache: cache_folder(), ..Options::default() };
    let device = Device { options, world: world.clone() };
    let outcome = match cli.command {
        Command::Pretrain(args) => pretrain::run(&device, *args),
        Command::Finetune(args) => finetune::run(&device, *args),
        Command::Segment(args) => dense_training::run(&device, *args),
        Command::Detect(args) => dense_training::run(&device, *args),
        Command::Predict(args) => predict::run(&device, &args),
        Command::Eval(args) => eval::run(&device, &args),
        Command::Probe(args) => probe::run(&device, &args),
        Command::Reconstruct(args) => reconstruct::run(&device, &args),
        Command::Features(args) => features::run(&device, &args),
        Command::Export(args) => export::run(&args),
        Command::Import(args) => import::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Completions(args) => completions::run(&args, help::with_headings(Cli::command())),
        Command::Check(args) => check::run(&device, &args),
        Command::Info(args) => info::run(&device, &args),
        Command::Study(args) => study::run(&device, &args),
        Command::Profile(args) => profile::run(&device, &args),
        Command::Bench(args) => bench::run(&device, &args),
    };
    ended(outcome.and_then(|()| Ok(world.finish()?)), &world)
}

/// Says what went wrong, if anything did, and ends the other processes too.
fn ended(outcome: terminal::Outcome, world: &World) -> ExitCode {
    let (code, error) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Stop::Negative) => return ExitCode::FAILURE,
        Err(Stop::Usage(error)) => (2, error),
        Err(Stop::Failure(error)) => (1, error),
    };
    if world.size() == 1 {
        warn(format_args!("error: {}", told(&error)));
        return ExitCode::from(code);
    }
    if !world.leads() {
        std::thread::sleep(Duration::from_secs(1)); // what all ranks find wrong, the first one says
    }
    let text = told(&error);
    let own = world.name(world.rank());
    warn(format_args!("error: {}{text}", if text.starts_with(&own) { String::new() } else { format!("{own}: ") }));
    end_all(world, code)
}
