//! Time on the device.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use crate::bench::case::{Case, Direction};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Program, Work};

/// Working sets are rotated until they take this many bytes: past the last-level cache of any GPU.
const ROTATE: u64 = 512 << 20;
/// Samples of a case: at least, at most, and how long they may take together.
const SAMPLES: (usize, usize) = (5, 50);
const BUDGET: [Duration; 2] = [Duration::from_millis(500), Duration::from_millis(200)];
/// Replays before the first sample.
const WARM_UP: u64 = 3;

/// How time is taken.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    /// By the host's clock in spite of timestamps: includes what happens between launches.
    pub wall: bool,
}

/// Seconds of one replay.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Seconds {
    /// The fastest sample.
    pub min: f64,
    /// The middle one.
    pub median: f64,
    /// How many there were.
    pub samples: usize,
}

impl Seconds {
    /// Of samples, at least one.
    pub fn of(mut samples: Vec<f64>) -> Self {
        samples.sort_by(f64::total_cmp);
        let at = |i: usize| samples.get(i).copied().unwrap_or(f64::NAN);
        Self { min: at(0), median: at(samples.len() / 2), samples: samples.len() }
    }
}

impl Clock {
    /// Timestamps where the adapter has them.
    pub fn new(g: &Gpu, wall: bool) -> Self {
        Self { wall: wall || !g.caps().timestamps }
    }

    /// What the figures were taken with.
    pub fn name(self) -> &'static str {
        if self.wall { "wall clock" } else { "timestamps" }
    }

    /// Time of `iters` replays: the sum of the launches' own by timestamps, else the wall's up to the end of the last.
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

    /// Samples until the time is spent.
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

/// CPU time of this thread where the system tells, else the time since the first call.
pub fn thread_time() -> Duration {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    let since = FIRST.elapsed();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    text.split(' ').next().and_then(|ns| ns.parse().ok()).map_or(since, Duration::from_nanos)
}

/// Copies of a case, each with inputs of its own. They are timed in rotation, so that no run finds its inputs in a
/// cache from the run before. As many as fill `ROTATE` bytes, at most 8; one on a software adapter.
///
/// # Errors
/// [`Error::Limit`] or [`Error::OutOfMemory`] where the adapter is too small for the case.
pub fn rotated(g: &Gpu, case: &Case, direction: Direction, floor: Work) -> Result<Vec<crate::bench::case::Built>> {
    let mut copies = vec![case.build(g, direction)?];
    let bytes = copies[0].program(direction).map_or(0, |p| p.plan().total()).max(floor.bytes).max(1);
    let wanted = if g.caps().software { 1 } else { (ROTATE / bytes).clamp(1, 8) as usize };
    while copies.len() < wanted {
        match case.build(g, direction) {
            Ok(copy) => copies.push(copy),
            Err(Error::OutOfMemory(_)) => break, // as many as there is room for
            Err(e) => return Err(e),
        }
    }
    Ok(copies)
}
