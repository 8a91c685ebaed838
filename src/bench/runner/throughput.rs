//! The throughput of whole models as users count it: images per second and peak memory, of classifying images and of
//! training on them, as timm's `benchmark.py` prints them.
//!
//! The images lie on the device, and a step is a replay that is waited for, by the host's clock. A forward pass goes
//! from bytes to the scores of the classes. A training step is one of fine-tuning: forward pass, backward pass, AdamW.
//! Weights are initial values, because the time does not depend on them.

use serde_json::{Value, json};

use super::clock::{Clock, Seconds};
use super::report::{BenchReport, Outcome, circumstances};
use crate::bench::case::Direction;
use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu, Plan, Precision, Program, Recording, Work, human_bytes};
use crate::models::{Classifier, Config};
use crate::nn::Params;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;
use crate::train::finetune::step::Finetuner;
use crate::train::image_input::Images;
use crate::train::memory_check::expect_fit;
use crate::train::settings::RunSettings;
use crate::train::supervised::Tuning;
use crate::train::update::{Hyper, tuned};

/// The clock of all steps.
const CLOCK: Clock = Clock { wall: true };

/// Numbers of fine-tuning that a step's time does not depend on.
const TUNING: Tuning = Tuning { layer_decay: 1.0, average: None, by_name: false };

/// What is measured of each model.
#[derive(Debug, Clone, PartialEq)]
pub struct Throughput {
    /// Images of a step.
    pub batch_size: usize,
    /// Precision of matrix products.
    pub precision: Precision,
    /// Whether training steps are measured too.
    pub train: bool,
    /// Whether training steps compute each block again in the backward pass, to save memory.
    pub checkpoint_blocks: bool,
    /// Steps before the first one that is timed. They compile, and fill caches.
    pub warm_up: usize,
    /// Timed steps.
    pub steps: usize,
}

/// One line of the table: a model in one direction.
#[derive(Debug, Clone)]
pub struct ThroughputRow {
    /// Name of the model.
    pub model: String,
    /// Forward pass, or training step.
    pub direction: Direction,
    /// Side of its square images in pixels; 0 of a model of point clouds.
    pub image_size: usize,
    /// Images of a step.
    pub batch_size: usize,
    /// Weights of the model with its classifier; 0 if one of them is larger than the adapter's buffers.
    pub parameters: usize,
    /// Least work of a step; none unless it was timed.
    pub work: Work,
    /// Bytes of the memory plan: weights, gradients, moments, inputs, and all that is alive at once between launches.
    /// 0 unless it was timed.
    pub peak_bytes: u64,
    /// Time of a step, or the reason why there is none.
    pub outcome: Outcome,
}

/// The rows of a run, and the circumstances in which they were measured.
#[derive(Debug, Clone)]
pub struct ThroughputReport {
    /// The adapter.
    pub caps: Caps,
    /// What was measured.
    pub measured: Throughput,
    /// One row for each model and direction.
    pub rows: Vec<ThroughputRow>,
}

impl Throughput {
    /// Refuses numbers that cannot work.
    pub fn check(&self) -> Result<()> {
        self.run().check()?;
        if self.warm_up > 100_000 {
            return Err(Error::argument("--warm-up", self.warm_up, "0 to 100000"));
        }
        if !(1..=100_000).contains(&self.steps) {
            return Err(Error::argument("--steps", self.steps, "1 to 100000"));
        }
        Ok(())
    }

    fn run(&self) -> RunSettings {
        let Self { batch_size, precision, checkpoint_blocks, .. } = *self;
        RunSettings { batch_size, precision, checkpoint_blocks, ..RunSettings::default() }
    }

    fn directions(&self) -> &'static [Direction] {
        if self.train { &[Direction::Forward, Direction::Training] } else { &[Direction::Forward] }
    }
}

/// Measures each model on the device that `open` returns. A model that does not fit or fails becomes a row with the
/// reason, and the run goes on; after a lost device, with a new one. `say` gets each line as soon as it is known.
///
/// # Errors
/// If no device opens, or `say` fails.
pub fn throughput(
    open: impl Fn() -> Result<Gpu>, models: &[Config], measured: &Throughput, mut say: impl FnMut(String) -> Result<()>,
) -> Result<ThroughputReport> {
    let mut g = open()?;
    let mut report = ThroughputReport { caps: g.caps().clone(), measured: measured.clone(), rows: Vec::new() };
    say(BenchReport::title(g.caps(), CLOCK, measured.precision))?;
    say(ThroughputReport::head())?;
    for config in models {
        for &direction in measured.directions() {
            let row = row(&g, config, direction, measured);
            if g.check().is_err() {
                drop(g);
                g = open()?;
            }
            say(row.line())?;
            report.rows.push(row);
        }
    }
    Ok(report)
}

fn row(g: &Gpu, config: &Config, direction: Direction, measured: &Throughput) -> ThroughputRow {
    let row = |parameters, (work, peak_bytes), outcome| ThroughputRow {
        model: config.name.clone(),
        direction,
        image_size: if config.family.clouds { 0 } else { config.image_size },
        batch_size: measured.batch_size,
        parameters,
        work,
        peak_bytes,
        outcome,
    };
    let parameters = match parameters(g.caps(), config) {
        Ok(parameters) => parameters,
        Err(e) => return row(0, Default::default(), Outcome::of(&e)),
    };
    match time(g, config, direction, measured) {
        Ok((seconds, work, peak)) => row(parameters, (work, peak), Outcome::Timed(seconds)),
        Err(e) => row(parameters, Default::default(), outcome(&e)),
    }
}

fn parameters(caps: &Caps, config: &Config) -> Result<usize> {
    let g = Gpu::dry(caps.clone());
    let mut params = Params::new(&g);
    Classifier::new(&g, &mut params, config)?;
    Ok(params.count())
}

/// [`Outcome::of`], with the advice in the last line of an error about memory: which batch fits.
fn outcome(e: &Error) -> Outcome {
    let text = e.to_string();
    match (Outcome::of(e), text.lines().last()) {
        (Outcome::Skipped(why), Some(advice)) if advice != why => Outcome::Skipped(format!("{why}; {advice}")),
        (other, _) => other,
    }
}

/// Time of a step, its least work, and the bytes of its plan. What does not fit is refused before weights are drawn.
fn time(g: &Gpu, config: &Config, direction: Direction, measured: &Throughput) -> Result<(Seconds, Work, u64)> {
    let hyper = measured.run().hyper()?;
    let batch = measured.batch_size;
    let pixels = batch * config.sample_bytes();
    let images = || (0..pixels).map(|i| ((i * 2_654_435_761) >> 7) as u8).collect::<Vec<u8>>();
    if direction == Direction::Forward {
        let record = |g: &Gpu, batch, hyper| Inference::new(g, config, batch)?.record(config, hyper);
        expect_fit(g.caps(), batch, hyper, |g, batch, hyper| {
            let (recording, kept) = record(g, batch, hyper)?;
            let plan = Plan::new(&recording);
            drop(kept);
            plan
        })?;
        let inference = Inference::new(g, config, batch)?;
        inference.params.draw(g, 0)?;
        inference.images.write(g, &images(), (0, 1))?;
        let (recording, scores) = tuned(g, &hyper, &mut None, || inference.record(config, hyper))?;
        return replayed(g, recording, &scores, measured);
    }
    expect_fit(g.caps(), batch, hyper, |g, batch, hyper| {
        Finetuner::new(g, config, batch, hyper, TUNING, 0).and_then(|mut tuner| tuner.plan())
    })?;
    let mut tuner = Finetuner::new(g, config, batch, hyper, TUNING, 0)?;
    let classes = config.classes;
    let one_hot = |i: usize| f32::from(u8::from(i % classes == i / classes % classes));
    let targets: Vec<f32> = (0..batch * classes).map(one_hot).collect();
    tuner.step((&images(), &targets), 0, 1e-4)?; // uploads the images, tunes the products
    let (recording, loss) = tuner.record()?;
    replayed(g, recording, &loss, measured)
}

/// Replays a recording and times each step. `result` must be finite in the end.
fn replayed(g: &Gpu, recording: Recording, result: &Tensor, measured: &Throughput) -> Result<(Seconds, Work, u64)> {
    let work = recording.work();
    let program = Program::new(recording)?;
    CLOCK.elapsed(g, &[&program], measured.warm_up as u64)?;
    let each = (0..measured.steps).map(|_| Ok(CLOCK.elapsed(g, &[&program], 1)?.as_secs_f64()));
    let seconds = Seconds::of(each.collect::<Result<_>>()?);
    if let Some(odd) = result.to_vec(g)?.iter().find(|value| !value.is_finite()) {
        return Err(Error::Mismatch(format!("the result holds {odd}, expected finite numbers")));
    }
    Ok((seconds, work, program.plan().total()))
}

/// A classifier and the images that it reads.
struct Inference {
    params: Params,
    model: Classifier,
    images: Images,
    g: Gpu,
}

impl Inference {
    fn new(g: &Gpu, config: &Config, batch: usize) -> Result<Self> {
        let mut params = Params::new(g);
        let model = Classifier::new(g, &mut params, config)?;
        Ok(Self { params, model, images: Images::new(config, batch)?, g: g.clone() })
    }

    /// Records the forward pass. Returns (recording, scores).
    fn record(&self, config: &Config, hyper: Hyper) -> Result<(Recording, Tensor)> {
        Recorder::inference(&self.g).in_precision(hyper.precision).record(|r| {
            let patches = Var::constant(self.images.patches(r, config.input_patch())?); // (B, L, P·P·3)
            Ok(self.model.forward(r, &patches, None)?.logits.data) // (B, K)
        })
    }
}

impl ThroughputReport {
    /// The line with the names of the columns.
    pub fn head() -> String {
        let [model, step, side, batch, params] = ["model", "step", "px", "batch", "M params"];
        let [gflop, ms, min, rate, peak] = ["GFLOP/image", "ms", "min", "images/s", "peak memory"];
        format!(
            "{model:<32} {step:<8} {side:>4} {batch:>5} {params:>8} {gflop:>11} {ms:>9} {min:>9} {rate:>9} {peak:>11}"
        )
    }

    /// Whether every model was measured.
    pub fn passed(&self) -> bool {
        self.rows.iter().all(|row| matches!(row.outcome, Outcome::Timed(_)))
    }

    /// The whole report as JSON.
    pub fn json(&self) -> Value {
        let mut report = circumstances("rowscan-throughput/1", &self.caps, CLOCK, self.measured.precision);
        report["checkpoint_blocks"] = json!(self.measured.checkpoint_blocks);
        report["warm_up"] = json!(self.measured.warm_up);
        report["steps"] = json!(self.measured.steps);
        report["rows"] = self.rows.iter().map(ThroughputRow::json).collect();
        report
    }
}

impl ThroughputRow {
    /// Floating-point operations for an image.
    fn flops(&self) -> f64 {
        self.work.flops as f64 / self.batch_size as f64
    }

    /// The row as a line under [`ThroughputReport::head`].
    pub fn line(&self) -> String {
        let Self { model, direction, image_size, batch_size, .. } = self;
        let millions = if self.parameters == 0 { "–".into() } else { format!("{:.2}", self.parameters as f64 / 1e6) };
        let side = if *image_size == 0 { "–".into() } else { image_size.to_string() };
        let name = format!("{model:<32} {direction:<8} {side:>4} {batch_size:>5} {millions:>8}");
        match &self.outcome {
            Outcome::Timed(time) => {
                let (gflop, ms, min) = (self.flops() / 1e9, time.median * 1e3, time.min * 1e3);
                let (rate, peak) = (*batch_size as f64 / time.median, human_bytes(self.peak_bytes));
                format!("{name} {gflop:>11.3} {ms:>9.3} {min:>9.3} {rate:>9.1} {peak:>11}")
            }
            Outcome::Skipped(why) => format!("{name} SKIPPED: {why}"),
            Outcome::Failed(why) => format!("{name} FAILED: {why}"),
        }
    }

    /// The row as JSON.
    pub fn json(&self) -> Value {
        let mut row = json!({
            "model": self.model, "direction": self.direction.to_string(), "image_size": self.image_size,
            "batch_size": self.batch_size, "parameters": self.parameters,
        });
        match &self.outcome {
            Outcome::Timed(time) => {
                row["images/s"] = json!(self.batch_size as f64 / time.median);
                row["ms"] = json!(time.median * 1e3);
                row["ms_min"] = json!(time.min * 1e3);
                row["samples"] = json!(time.samples);
                row["peak_bytes"] = json!(self.peak_bytes);
                row["flops_per_image"] = json!(self.flops());
            }
            Outcome::Skipped(why) => row["skipped"] = json!(why),
            Outcome::Failed(why) => row["failed"] = json!(why),
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_advice_of_an_error_about_memory_stays() {
        let plan = "`batch_size` 9: the plan needs 3 GB, Made Up has 2 GB\n  parameters  1 MB\n".to_string();
        let Outcome::Skipped(why) = outcome(&Error::OutOfMemory(plan + "the largest `batch_size` that fits is 6"))
        else {
            panic!("memory is a limit")
        };
        assert!(why.ends_with("Made Up has 2 GB; the largest `batch_size` that fits is 6"), "{why}");
        let limit = Error::Limit { what: "one parameter".into(), needed: 2, allowed: 1 };
        assert_eq!(outcome(&limit), Outcome::Skipped(limit.to_string()));
        assert_eq!(outcome(&Error::Mismatch("odd".into())), Outcome::Failed("odd".into()));
    }
}
