//! The cases of src/bench under criterion. benches/README.md says how to run it and read the results.

use std::cell::{OnceCell, RefCell};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion};
use rowscan::Result;
use rowscan::bench::runner::clock::{Seconds, rotated};
use rowscan::bench::runner::{BenchReport, BenchRow, Clock, Outcome, Roof};
use rowscan::bench::{Case, Direction, Scope, ops};
use rowscan::gpu::{AdapterChoice, Gpu, Options, Precision, Work};

fn flag(name: &str) -> bool {
    std::env::var(name).is_ok_and(|v| v == "1")
}

/// The criterion settings and their number of samples: fewer and shorter ones on a CPU.
fn criterion(software: bool) -> (Criterion, usize) {
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

fn main() -> std::process::ExitCode {
    let choice = std::env::var("ROWSCAN_ADAPTER").unwrap_or_else(|_| "auto".into());
    let adapter: AdapterChoice = choice.parse().unwrap_or_default();
    let g = Gpu::open_blocking(&Options { adapter, portable: flag("ROWSCAN_PORTABLE"), ..Options::default() })
        .unwrap_or_else(|e| panic!("{e}"));
    let clock = Clock::new(&g, flag("ROWSCAN_BENCH_WALL"));
    let words = std::env::var("ROWSCAN_PRECISION").unwrap_or_else(|_| "f32".into());
    let known = [Precision::F32, Precision::Mixed, Precision::High];
    let precision = known.into_iter().find(|p| p.to_string() == words);
    let precision = precision.unwrap_or_else(|| panic!("ROWSCAN_PRECISION={words}: expected f32, mixed or high"));
    eprintln!("{}", BenchReport::title(g.caps(), clock, precision));
    let scope = Scope { precision, quick: g.caps().software && !flag("ROWSCAN_BENCH_FULL"), ..Scope::default() };
    let (criterion, samples) = criterion(g.caps().software);
    let mut stopwatch = Stopwatch { criterion, samples, g: &g, clock };
    let (roof, mut rows) = (OnceCell::new(), Vec::new());
    for &family in ops::ALL {
        let (small, timed): (Vec<_>, Vec<_>) = ops::of(&scope, family).into_iter().partition(|c| c.floors.is_empty());
        let small_checked = OnceCell::new();
        for case in &timed {
            let checked = OnceCell::new();
            // criterion calls this only for a case that the command line selects
            let check = || {
                let roof = roof.get_or_init(|| Roof::measure(&g, clock).inspect(|roof| eprintln!("{roof}")));
                roof.as_ref().map_err(Clone::clone)?;
                let all = small_checked.get_or_init(|| small.iter().try_for_each(|case| case.check(&g).map(drop)));
                all.clone().and_then(|()| case.tune(&g)).and_then(|()| case.check(&g))
            };
            for &(direction, floor) in &case.floors {
                let check = || checked.get_or_init(check).clone();
                rows.extend(stopwatch.time(case, direction, floor, check));
            }
        }
    }
    stopwatch.criterion.final_summary();
    let Some(Ok(roof)) = roof.into_inner() else { return std::process::ExitCode::SUCCESS }; // no case was selected
    let report = BenchReport { caps: g.caps().clone(), roof, clock, precision, rows };
    println!("\n{report}");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench.json");
    std::fs::write(path, format!("{:#}\n", report.json())).unwrap_or_else(|e| panic!("{path}: {e}"));
    if report.passed() { std::process::ExitCode::SUCCESS } else { std::process::ExitCode::FAILURE }
}

/// Criterion, with the number of samples of a case, on a device.
struct Stopwatch<'g> {
    criterion: Criterion,
    samples: usize,
    g: &'g Gpu,
    clock: Clock,
}

impl Stopwatch<'_> {
    /// Times one direction of a case, after `check`. `None` if the command line does not select it.
    fn time(
        &mut self, case: &Case, direction: Direction, floor: Work, check: impl Fn() -> Result<String>,
    ) -> Option<BenchRow> {
        let Self { criterion, samples, g, clock } = self;
        let (built, taken) = (OnceCell::new(), RefCell::new(Vec::new()));
        let mut group = criterion.benchmark_group(case.family);
        group.bench_function(BenchmarkId::new(direction.to_string(), &case.name), |b| {
            let ready = built.get_or_init(|| Ok((check()?, rotated(g, case, direction, floor)?)));
            b.iter_custom(|iters| {
                let Ok((_, copies)) = ready else { return Duration::from_nanos(iters) }; // `outcome` below says why
                let programs: Vec<_> = copies.iter().filter_map(|copy| copy.program(direction)).collect();
                let time = clock.elapsed(g, &programs, iters).unwrap_or_else(|e| panic!("{case:?}: {e}"));
                taken.borrow_mut().push(time.as_secs_f64() / iters as f64);
                time
            });
        });
        group.finish();
        let (checked, outcome) = match built.into_inner()? {
            Ok((checked, _)) => {
                let all = taken.into_inner();
                let last = all[all.len().saturating_sub(*samples)..].to_vec(); // the ones before were for warm-up
                (checked, Outcome::Timed(Seconds::of(last)))
            }
            Err(e) => (String::new(), Outcome::of(&e)),
        };
        let (case_name, facts) = (case.name.clone(), case.facts.clone());
        let row = BenchRow { family: case.family, direction, case: case_name, checked, floor, outcome, facts };
        if let Outcome::Skipped(why) | Outcome::Failed(why) = &row.outcome {
            eprintln!("{case:?}: criterion's figure is void: {why}");
        }
        Some(row)
    }
}
