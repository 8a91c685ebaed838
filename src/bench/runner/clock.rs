//! Timing of programs on the device.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::bench::case::{Case, Direction};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Program, Work};

/// Bytes that the copies of a case take together: more than the last-level cache of any GPU, see [`rotated`].
const ROTATE: u64 = 512 << 20;
/// Least and most samples of a case.
const SAMPLES: (usize, usize) = (5, 50);
/// Time for all samples of a case, on a GPU and on a CPU. After it, sampling ends if the least number is reached.
const BUDGET: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(200)];
/// Least replays before the first sample.
const WARM_UP: u64 = 3;

/// The clock that measures: GPU timestamps (CUDA events), or the host's clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// Use the host's clock even if the adapter has timestamps. It includes the time between launches.
    pub wall: bool,
}

/// Statistics of the samples of a case, in seconds per replay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seconds {
    /// Fastest sample.
    pub min: f64,
    /// Median sample.
    pub median: f64,
    /// Number of samples.
    pub samples: usize,
}

impl Seconds {
    /// Statistics of at least one sample; NaN without any.
    pub fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let at = |i: usize| samples.get(i).copied().unwrap_or(f64::NAN);
        Self { min: at(0), median: at(samples.len() / 2), samples: samples.len() }
    }
}

impl Clock {
    /// The host's clock if `wall` is set or the adapter has no timestamps, else timestamps.
    pub fn new(g: &Gpu, wall: bool) -> Self {
        Self { wall: wall || !g.caps().timestamps }
    }

    /// Name of the clock, for the report.
    pub fn name(self) -> &'static str {
        if self.wall { "wall clock" } else { "timestamps" }
    }

    /// Total time of `iters` replays of the programs in turn. With timestamps, the sum of the launches' own times; with
    /// the host's clock, the time from the first submission until the GPU is idle.
    pub fn elapsed(self, g: &Gpu, programs: &[&Program], iters: u64) -> Result<Duration> {
        let mut turns = programs.iter().cycle().take(iters as usize);
        if !self.wall {
            let ns =
                turns.map(|p| Ok(p.profile()?.iter().map(|launch| launch.ns).sum::<u64>())).sum::<Result<u64>>()?;
            return Ok(Duration::from_nanos(ns.max(1)));
        }
        g.wait()?;
        let start = Instant::now();
        turns.try_for_each(|program| program.run())?;
        g.wait()?;
        Ok(start.elapsed())
    }

    /// Warms up and then times single replays, until the time budget is spent.
    pub fn sample(self, g: &Gpu, programs: &[&Program]) -> Result<Seconds> {
        self.elapsed(g, programs, WARM_UP.max(programs.len() as u64))?;
        let (start, budget) = (Instant::now(), BUDGET[usize::from(g.caps().software)]);
        let mut samples = Vec::new();
        for turn in 0..SAMPLES.1 {
            if turn >= SAMPLES.0 && start.elapsed() > budget {
                break;
            }
            let program = &programs[turn % programs.len()..][..1];
            samples.push(self.elapsed(g, program, 1)?.as_secs_f64());
        }
        Ok(Seconds::of(samples))
    }
}

/// CPU time of this thread on Linux; elsewhere the wall time since the first call.
pub fn thread_time() -> Duration {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    let since = FIRST.elapsed();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).map_or(since, Duration::from_nanos)
}

/// Copies of a case, each with inputs of its own. They are timed in turn, so that no run finds its inputs in a cache
/// from the run before. There are as many as fill `ROTATE` bytes, at most 8; on a software adapter there is one.
///
/// # Errors
/// [`Error::Limit`] or [`Error::OutOfMemory`] if not even one copy fits the adapter.
pub fn rotated(g: &Gpu, case: &Case, direction: Direction, floor: Work) -> Result<Vec<crate::bench::case::Built>> {
    let mut copies = vec![case.build(g, direction)?];
    let bytes = copies[0].program(direction).map_or(0, |p| p.plan().total()).max(floor.bytes).max(1);
    let wanted = if g.caps().software { 1 } else { (ROTATE / bytes).clamp(1, 8) as usize };
    while copies.len() < wanted {
        match case.build(g, direction) {
            Ok(copy) => copies.push(copy),
            Err(Error::OutOfMemory(_)) => break, // fewer copies will do
            Err(e) => return Err(e),
        }
    }
    Ok(copies)
}
