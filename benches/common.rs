//! What every family shares: the device, and an operator's way to its figures.

use std::cell::{OnceCell, RefCell};

use criterion::{BenchmarkId, Criterion};
use rowscan::Result;
use rowscan::gpu::{AdapterChoice, Gpu, Options, Program};
use rowscan::tape::{Grads, Tape, Var};
use rowscan::tensor::Tensor;

use crate::clock::{criterion, elapsed, median, rotated};
use crate::inputs::Fill;
use crate::report::Report;
use crate::roof::{Floor, Roof};

/// One run of the benches.
pub struct Bench {
    pub g: Gpu,
    /// The models' own batch sizes; else small ones, so that a software adapter gets through.
    pub full: bool,
    criterion: Criterion,
    samples: usize,
    roof: OnceCell<Roof>,
    report: Report,
    family: &'static str,
    validate: fn(&Gpu),
    valid: OnceCell<()>,
}

impl Bench {
    pub fn open() -> Result<Self> {
        let flag = |name: &str| std::env::var(name).is_ok_and(|v| v == "1");
        let choice = std::env::var("ROWSCAN_ADAPTER").unwrap_or_else(|_| "auto".into());
        let adapter: AdapterChoice = choice.parse().unwrap_or_default();
        let g = Gpu::open_blocking(&Options { adapter, portable: flag("ROWSCAN_PORTABLE"), ..Options::default() })?;
        let software = g.caps().software;
        let (criterion, samples) = criterion(software);
        Ok(Self {
            report: Report::open(&g),
            full: !software || flag("ROWSCAN_BENCH_FULL"),
            g,
            criterion,
            samples,
            roof: OnceCell::new(),
            family: "",
            validate: |_| {},
            valid: OnceCell::new(),
        })
    }

    /// Cases from here on belong to this family; `validate` compares it with the oracle before the first is timed.
    pub fn family(&mut self, name: &'static str, validate: fn(&Gpu)) {
        (self.family, self.validate, self.valid) = (name, validate, OnceCell::new());
    }

    /// Times an operator and its rule. `build` launches it on fresh inputs; every result gets a gradient.
    pub fn op(&mut self, case: &str, floors: [Floor; 2], build: impl Fn(&mut Tape, &Fill) -> Result<Vec<Var>>) {
        let forward = |x: &Fill| -> Result<_> {
            let mut tape = Tape::new();
            let (recording, outs) = x.g.record(|| build(&mut tape, x))?;
            // the tape is still there, so what it saves is kept, as in training
            Ok((Program::new(x.g, recording)?, tape, outs))
        };
        self.time("forward", case, floors[0], |x| Ok(forward(x)?.0));
        self.time("backward", case, floors[1], |x| {
            let (program, tape, mut outs) = forward(x)?;
            program.run()?;
            let first = outs.remove(0);
            let dout = x.normal(first.data.shape())?;
            let douts: Vec<Tensor> = outs.iter().map(|out| x.normal(out.data.shape())).collect::<Result<_>>()?;
            let (recording, ()) = x.g.record(|| {
                let mut grads = Grads::default();
                outs.iter().zip(douts).try_for_each(|(out, dout)| grads.add(x.g, out, dout))?;
                tape.backward_from(x.g, &first, dout, grads).map(drop)
            })?;
            Program::new(x.g, recording)
        });
    }

    /// Times launches that have no rule.
    pub fn launches<T>(&mut self, case: &str, floor: Floor, build: impl Fn(&Fill) -> Result<T>) {
        self.time("forward", case, floor, |x| {
            let (recording, _kept) = x.g.record(|| build(x))?;
            Program::new(x.g, recording)
        });
    }

    fn time(&mut self, direction: &str, case: &str, floor: Floor, build: impl Fn(&Fill) -> Result<Program>) {
        let (g, built, samples) = (&self.g, OnceCell::new(), RefCell::new(Vec::new()));
        let mut group = self.criterion.benchmark_group(self.family);
        // runs only if the command line selects the case
        group.bench_function(BenchmarkId::new(direction, case), |b| {
            self.valid.get_or_init(|| {
                eprintln!("{}: compared with the oracle", self.family);
                (self.validate)(g);
            });
            let programs = built.get_or_init(|| rotated(g, &build));
            b.iter_custom(|iters| {
                let taken = elapsed(g, programs, iters).unwrap_or_else(|e| panic!("{}: {case}: {e}", self.family));
                samples.borrow_mut().push(taken.as_secs_f64() / iters as f64);
                taken
            });
        });
        group.finish();
        let samples = samples.into_inner();
        let Some(programs) = built.get() else { return }; // not selected
        if programs.is_empty() {
            return self.report.skipped(self.family, direction, case);
        }
        let roof = self.roof.get_or_init(|| Roof::measure(g).unwrap_or_else(|e| panic!("roof: {e}")));
        self.report.case(roof, self.family, direction, case, median(samples, self.samples), floor);
    }

    /// The table once more, in one piece.
    pub fn finish(self) {
        self.report.table();
        self.criterion.final_summary();
    }
}
