//! Probes of frozen features: a linear classifier trained on them (MAE's linear probe), and weighted nearest neighbors
//! (DINO's k-NN).

use super::scores::{Scores, Tally};
use crate::data::Place;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Precision, Program};
use crate::nn::{Entry, Init, Linear, Params};
use crate::ops::adamw::AdamwConfig;
use crate::ops::matmul::MatmulOptions;
use crate::ops::{cross_entropy, matmul, reduce};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;
use crate::train::optimizer::{DecayRule, Group};
use crate::train::schedule::Schedule;
use crate::train::update::{Hyper, Update, nothing};

/// Rows of features per launch of a program.
const CHUNK: usize = 4096;

/// Features of labeled images.
#[derive(Debug, Clone)]
pub struct Features {
    /// (n, D)
    rows: Vec<f32>,
    width: usize,
    /// (n)
    labels: Vec<u32>,
}

impl Features {
    /// Features (n, D) with labels (n).
    ///
    /// # Errors
    /// No row at all, or sizes that do not fit each other.
    pub fn new(rows: Vec<f32>, width: usize, labels: Vec<u32>) -> Result<Self> {
        if labels.is_empty() || labels.len() * width != rows.len() {
            let got = format!("{} numbers and {} labels", rows.len(), labels.len());
            return Err(Error::argument("features", got, format!("{width} numbers for each label, at least one")));
        }
        Ok(Self { rows, width, labels })
    }

    /// Number of images n.
    #[expect(clippy::len_without_is_empty, reason = "there is always a row")]
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Mean and standard deviation of each column; a deviation of 0 counts as 1.
    fn moments(&self) -> Vec<(f64, f64)> {
        let n = self.len() as f64;
        let column = |c: usize| self.rows.iter().skip(c).step_by(self.width).map(|v| f64::from(*v));
        let moments = |c: usize| {
            let mean = column(c).sum::<f64>() / n;
            let deviation = (column(c).map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
            (mean, if deviation > 0.0 { deviation } else { 1.0 })
        };
        (0..self.width).map(moments).collect()
    }

    /// These features with each column standardized by `moments`.
    fn standardized(&self, moments: &[(f64, f64)]) -> Self {
        let scaled = |(v, (mean, deviation)): (&f32, &(f64, f64))| ((f64::from(*v) - mean) / deviation) as f32;
        let rows = self.rows.chunks_exact(self.width).flat_map(|row| row.iter().zip(moments).map(scaled)).collect();
        Self { rows, ..self.clone() }
    }

    /// These features with each row scaled to length 1; a row of zeros stays.
    fn unit_rows(&self) -> Self {
        let mut rows = self.rows.clone();
        for row in rows.chunks_exact_mut(self.width) {
            let norm = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
            row.iter_mut().for_each(|v| *v = (f64::from(*v) / norm.max(1e-12)) as f32);
        }
        Self { rows, ..self.clone() }
    }

    fn expect_like(&self, other: &Self) -> Result<()> {
        if self.width == other.width {
            return Ok(());
        }
        Err(Error::argument("features of the test half", format!("width {}", other.width), self.width))
    }
}

/// Accuracy of a linear classifier on standardized features: multinomial logistic regression with AdamW. Each of the
/// `steps` steps takes the whole training split; the rate falls from 0.01 along a cosine.
pub async fn linear_probe(g: &Gpu, train: &Features, test: &Features, classes: usize, steps: u64) -> Result<Scores> {
    train.expect_like(test)?;
    let moments = train.moments();
    let (train, test) = (train.standardized(&moments), test.standardized(&moments));
    let mut params = Params::new(g);
    let head = Linear::new(&mut params, "head", train.width, classes, Init::Zeros)?;
    let chunk = train.len().min(CHUNK);
    let hyper = Hyper {
        adamw: AdamwConfig { betas: (0.9, 0.999), eps: 1e-8 },
        clip: None,
        weight_decay: 1e-3,
        decay_rule: DecayRule::Recommended,
        accum_iter: train.len().div_ceil(chunk),
        place: Place::ALL,
        seed: 0,
        checkpoint_blocks: false,
        precision: Precision::F32,
    };
    let mut update = Update::new(g, &params, hyper)?;
    params.init(g, 0)?;
    let mut programs = Vec::new();
    for (rows, labels) in train.rows.chunks(chunk * train.width).zip(train.labels.chunks(chunk)) {
        let (x, y) = (padded(g, rows, chunk, train.width)?, one_hot(g, labels, chunk, classes)?);
        let (recording, loss) = Recorder::new(g).record(|r| {
            let logits = head.forward(r, &Var::constant(x))?;
            let rows = cross_entropy::cross_entropy(r, &logits, &y)?;
            let loss = reduce::sum(r, &rows)?;
            let group = |entry: &Entry| Group { lr_scale: 1.0, weight_decay: hyper.decay_of(entry) };
            update.launch(r, &loss, &params, group)
        })?;
        drop(loss);
        programs.push(Program::new(recording)?);
    }
    update.prepare(&params, &nothing)?;
    let schedule = Schedule::half_cosine(0.01, 0.0, 0, steps.max(1))?;
    for step in 0..steps {
        for (part, program) in programs.iter().enumerate() {
            update.begin(step, part, schedule.lr(step))?;
            program.run()?;
            update.add(part)?;
        }
        update.finish()?;
    }
    let mut tally = Tally::new(classes);
    let scores = Rows::new(g, chunk.min(test.len()), test.width, |r, x| head.forward(r, x))?;
    scores.over(&test, |rows, labels| tally.add(rows, labels)).await?;
    Ok(tally.scores())
}

/// Accuracy of weighted nearest neighbors: each of the `k` training images with the highest cosine similarity votes for
/// its class with weight exp(similarity / `temperature`). The loss of the result is meaningless.
pub async fn nearest_neighbors(
    g: &Gpu, train: &Features, test: &Features, classes: usize, k: usize, temperature: f64,
) -> Result<Scores> {
    train.expect_like(test)?;
    let (train, test) = (train.unit_rows(), test.unit_rows());
    // (similarity, training image) for each test image, most similar first
    let mut nearest: Vec<Vec<(f32, usize)>> = vec![Vec::new(); test.len()];
    for (tile, rows) in train.rows.chunks(8 * CHUNK * train.width).enumerate() {
        let (first, count) = (tile * 8 * CHUNK, rows.len() / train.width);
        let keys = Var::constant(Tensor::from_slice(g, &[count, train.width], rows)?);
        let similar = Rows::new(g, test.len().min(256), test.width, |r, x| {
            matmul::matmul(r, x, &keys, MatmulOptions::default())
        })?;
        let mut image = 0;
        let rank = |similarities: &[f32], labels: &[u32]| {
            for row in similarities.chunks_exact(count).take(labels.len()) {
                let best = &mut nearest[image];
                best.extend(row.iter().copied().zip(first..));
                best.sort_unstable_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
                best.truncate(k);
                image += 1;
            }
            Ok(())
        };
        similar.over(&test, rank).await?;
    }
    let mut tally = Tally::new(classes);
    for (best, label) in nearest.iter().zip(&test.labels) {
        let mut votes = vec![0.0f32; classes];
        for &(similarity, image) in best {
            let class = train.labels[image] as usize;
            let Some(vote) = votes.get_mut(class) else {
                return Err(Error::argument("a label", class, format!("below {classes}, the number of classes")));
            };
            *vote += ((f64::from(similarity) - 1.0) / temperature).exp() as f32;
        }
        tally.add(&votes, &[*label])?;
    }
    Ok(tally.scores())
}

/// A program that maps rows of features to rows of outputs.
struct Rows {
    program: Program,
    x: Tensor,
    y: Tensor,
    g: Gpu,
}

impl Rows {
    fn new(
        g: &Gpu, count: usize, width: usize, build: impl FnOnce(&mut Recorder, &Var) -> Result<Var>,
    ) -> Result<Self> {
        let x = Tensor::input("features", &[count, width]);
        let (recording, y) = Recorder::inference(g).record(|r| Ok(build(r, &Var::constant(x.clone()))?.data))?;
        Ok(Self { program: Program::new(recording)?, x, y, g: g.clone() })
    }

    /// Runs over all rows. `each` gets the outputs and labels of one launch at a time.
    async fn over(&self, features: &Features, mut each: impl FnMut(&[f32], &[u32]) -> Result<()>) -> Result<()> {
        let &[count, width] = self.x.shape() else { return Ok(()) };
        for (rows, labels) in features.rows.chunks(count * width).zip(features.labels.chunks(count)) {
            let mut whole = rows.to_vec();
            whole.resize(count * width, 0.0);
            self.x.write(&self.g, &whole)?;
            self.program.run()?;
            let results = self.y.to_vec_async(&self.g).await?;
            each(&results[..results.len() / count * labels.len()], labels)?;
        }
        Ok(())
    }
}

/// The rows of features from `at` on, filled up with zeros to `count` rows.
fn padded(g: &Gpu, rows: &[f32], count: usize, width: usize) -> Result<Tensor> {
    let mut whole = rows.to_vec();
    whole.resize(count * width, 0.0);
    Tensor::from_slice(g, &[count, width], &whole)
}

/// One-hot targets of the labels, filled up to `count` rows with zeros, which add nothing to a loss.
fn one_hot(g: &Gpu, labels: &[u32], count: usize, classes: usize) -> Result<Tensor> {
    let mut targets = vec![0.0f32; count * classes];
    for (row, &label) in targets.chunks_exact_mut(classes).zip(labels) {
        let expected = || Error::argument("a label", label, format!("below {classes}, the number of classes"));
        *row.get_mut(label as usize).ok_or_else(expected)? = 1.0;
    }
    Tensor::from_slice(g, &[count, classes], &targets)
}
