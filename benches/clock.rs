//! Time on the device.

use std::time::{Duration, Instant};

use criterion::Criterion;
use rowscan::gpu::{Gpu, Program};
use rowscan::{Error, Result};

use crate::inputs::Fill;

/// Working sets are rotated until they take this many bytes: past the last-level cache of any GPU.
const ROTATE: u64 = 512 << 20;

/// Criterion, and how many samples it takes: few and short ones on a CPU.
pub fn criterion(software: bool) -> (Criterion, usize) {
    let (samples, warm_up, measure) = if software { (10, 50, 200) } else { (20, 300, 1000) };
    let criterion = Criterion::default()
        .sample_size(samples)
        .warm_up_time(Duration::from_millis(warm_up))
        .measurement_time(Duration::from_millis(measure))
        .nresamples(2000)
        .without_plots()
        .configure_from_args();
    (criterion, samples)
}

/// Median of the last `count` samples: those before warmed the device up.
pub fn median(samples: Vec<f64>, count: usize) -> f64 {
    let mut last = samples[samples.len().saturating_sub(count)..].to_vec();
    last.sort_by(f64::total_cmp);
    last[last.len() / 2]
}

/// The program, or several with their own inputs that take turns, so that none finds its inputs in a cache.
/// None, loudly, if the adapter is too small for the case.
pub fn rotated(g: &Gpu, build: &impl Fn(&Fill) -> Result<Program>) -> Vec<Program> {
    let fill = Fill::new(g);
    let first = match build(&fill) {
        Ok(first) => first,
        Err(e @ (Error::Limit { .. } | Error::OutOfMemory(_))) => {
            eprintln!("SKIPPED, criterion's figure is void: {e}");
            return Vec::new();
        }
        Err(e) => panic!("{e}"),
    };
    let copies = if g.caps().software { 1 } else { (ROTATE / first.plan().total().max(1)).clamp(1, 8) };
    let more = (1..copies).map(|_| build(&fill).unwrap_or_else(|e| panic!("{e}")));
    std::iter::once(first).chain(more).collect()
}

/// Time of `iters` replays: the sum of the launches' own by timestamps, else the wall's up to the end of the last.
pub fn elapsed(g: &Gpu, programs: &[Program], iters: u64) -> Result<Duration> {
    if programs.is_empty() {
        return Ok(Duration::from_nanos(iters));
    }
    let mut turns = programs.iter().cycle().take(iters as usize);
    if timer(g) == "timestamps" {
        let ns = turns.map(|p| Ok(p.profile()?.iter().map(|launch| launch.ns).sum::<u64>())).sum::<Result<u64>>()?;
        return Ok(Duration::from_nanos(ns.max(1)));
    }
    g.wait()?;
    let start = Instant::now();
    turns.try_for_each(Program::run)?;
    g.wait()?;
    Ok(start.elapsed())
}

/// What the figures were taken with.
pub fn timer(g: &Gpu) -> &'static str {
    let wall = std::env::var("ROWSCAN_BENCH_WALL").is_ok_and(|v| v == "1");
    if g.caps().timestamps && !wall { "timestamps" } else { "wall clock" }
}
