//! `rowscan profile`: GPU time of one pretraining step by kernel or by launch, against the floor of each.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::model_args::{ModelArgs, model_to_pretrain};
use super::unused::{given, of_objective, refuse};
use crate::bench::runner::clock::thread_time;
use crate::bench::runner::trace::chrome_trace;
use crate::bench::runner::{Clock, Roof};
use crate::cli::terminal::{Device, Outcome, say, usage};
use crate::error::Result;
use crate::gpu::{Gpu, LaunchTime, Precision, Program, Work, human_bytes};
use crate::ops::matmul::products;
use crate::run::record::{expect_folders, write_atomic};
use crate::train::options::word;
use crate::train::pretrain::settings::{MethodArgs, PretrainSettings};
use crate::train::pretrain::step::Pretrainer;
use crate::train::settings::RunSettings;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Images per step.
    #[arg(long, default_value_t = 32)]
    batch_size: usize,
    /// Of products: f32, mixed (f16 operands) or high (split into two f16).
    #[arg(long, value_parser = word::<Precision>(), default_value = "f32")]
    precision: Precision,
    #[command(flatten)]
    method: MethodArgs,
    /// A line for each launch, in order, instead of one for each kernel.
    #[arg(long)]
    launches: bool,
    /// Write the launches as a Chrome trace too, for chrome://tracing or Perfetto.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

/// Profiles a step on gray images three times and reports the last one. The first ones compile pipelines and touch the
/// memory.
pub fn run(device: &Device, args: &Args) -> Outcome {
    expect_folders(&args.trace)?;
    let method = args.method.objective.method;
    let config = usage(model_to_pretrain(None, None, &[&args.model], method))?;
    let precision = args.precision;
    let run = RunSettings { batch_size: args.batch_size, precision, ..RunSettings::default() };
    let settings = PretrainSettings { run, ..PretrainSettings::default() }.under(&[&args.method], method);
    let unused = of_objective(&settings.objective, &config);
    usage(refuse(&given(&args.method), &unused).and_then(|()| refuse(&given(&args.model), &unused)))?;
    usage(settings.check(&config))?;
    let masker = usage(settings.masker(&config))?;
    let start = Instant::now();
    let g = device.open()?;
    say(format_args!("{}, products in {}", g.caps(), products(g.caps(), precision)))?;
    let mut trainer = Pretrainer::new(&g, &config, &settings.objective, args.batch_size, settings.run.hyper()?, 0)?;
    let mask = masker.draw(0, args.batch_size);
    let bytes = trainer.model().crops() * args.batch_size * config.sample_bytes();
    trainer.step(&vec![128; bytes], &mask, 0, 0.0)?;
    g.wait()?;
    let pipelines = g.counters().pipelines;
    say(format_args!("first step {:.2} s after the start, {pipelines} pipelines", start.elapsed().as_secs_f64()))?;
    let (recording, _kept) = trainer.record(mask.visible_len)?;
    let program = Program::new(recording)?;
    let cpu = replay_cpu(&g, &program)?;
    let each = cpu.as_secs_f64() * 1e6 / program.plan().launches.max(1) as f64;
    say(format_args!("replay: {:.2} ms of CPU to submit a step, {each:.2} µs a launch", cpu.as_secs_f64() * 1e3))?;
    let _ = (program.profile()?, program.profile()?);
    let times = program.profile()?;
    let roof = Roof::measure(&g, Clock::new(&g, false))?;
    say(roof)?;
    if args.launches {
        by_launch(&times, &roof)?;
    } else {
        by_kernel(&times, &roof)?;
    }
    let (ns, floor) = (times.iter().map(|t| t.ns).sum(), times.iter().map(|t| roof.floor(t.work)).sum());
    line("all", times.len(), ns, ns, times.iter().map(|t| t.work).sum(), floor)?;
    if let Some(path) = &args.trace {
        let title = format!("{}, {} at batch {}", g.caps().name, config.name, args.batch_size);
        let trace = chrome_trace(&title, &times, &roof).to_string();
        write_atomic(path, trace.as_bytes())?;
        say(format_args!("trace: {}", path.display()))?;
    }
    Ok(())
}

/// CPU time of this thread to submit a step: the least of five replays, each waited for before the next.
fn replay_cpu(g: &Gpu, program: &Program) -> Result<Duration> {
    let mut least = Duration::MAX;
    for _ in 0..5 {
        let start = thread_time();
        program.run()?;
        least = least.min(thread_time().saturating_sub(start));
        g.wait()?;
    }
    Ok(least)
}

fn head(name: &str, launches: &str) -> Result<()> {
    let [ms, share, bytes, gb, gflop, ratio] = ["ms", "share", "bytes", "GB/s", "GFLOP/s", "x floor"];
    say(format_args!("{name:<34} {launches:>8} {ms:>10} {share:>7} {bytes:>10} {gb:>8} {gflop:>9} {ratio:>8}"))
}

/// Prints one row; `floor` is in seconds.
fn line(name: &str, launches: usize, ns: u64, all: u64, work: Work, floor: f64) -> Result<()> {
    let (ms, share) = (ns as f64 / 1e6, 100.0 * ns as f64 / all.max(1) as f64);
    let rate = |work: u64| work as f64 / ns.max(1) as f64;
    let (bytes, gb, gflop) = (human_bytes(work.bytes), rate(work.bytes), rate(work.flops));
    let ratio = ns as f64 / 1e9 / floor.max(1e-12);
    say(format_args!(
        "{name:<34} {launches:>8} {ms:>10.3} {share:>6.1}% {bytes:>10} {gb:>8.2} {gflop:>9.1} {ratio:>8.2}"
    ))
}

/// Prints a row for each kernel, the slowest first. The floor of a kernel is the sum of its launches' floors.
fn by_kernel(times: &[LaunchTime], roof: &Roof) -> Result<()> {
    let mut kernels: BTreeMap<&str, (usize, u64, Work, f64)> = BTreeMap::new();
    for time in times {
        let (launches, ns, work, floor) = kernels.entry(time.name).or_default();
        *launches += 1;
        *ns += time.ns;
        *work = *work + time.work;
        *floor += roof.floor(time.work);
    }
    let total = times.iter().map(|time| time.ns).sum();
    let mut rows: Vec<_> = kernels.into_iter().collect();
    rows.sort_by_key(|(_, row)| std::cmp::Reverse(row.1));
    head("kernel", "launches")?;
    rows.iter().try_for_each(|&(name, (launches, ns, work, floor))| line(name, launches, ns, total, work, floor))
}

/// Prints every launch, under the module that launched it.
fn by_launch(times: &[LaunchTime], roof: &Roof) -> Result<()> {
    let total = times.iter().map(|time| time.ns).sum();
    head("launch", "number")?;
    for (at, module) in times.chunk_by(|a, b| (a.phase, &a.scope) == (b.phase, &b.scope)).scan(0, |at, module| {
        *at += module.len();
        Some((*at - module.len(), module))
    }) {
        let name = if module[0].scope.is_empty() { "(no module)" } else { &module[0].scope };
        say(format_args!("{:?}: {name}", module[0].phase))?;
        for (i, time) in module.iter().enumerate() {
            line(&format!("  {}", time.name), at + i, time.ns, total, time.work, roof.floor(time.work))?;
        }
    }
    Ok(())
}
