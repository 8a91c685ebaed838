//! One step of a segmentation run: images and labels go in, the weights move, the loss comes out. It is recorded once
//! and replayed.

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Plan, Program, Recording};
use crate::models::dense::{Dense, Segmentation};
use crate::models::{Config, Segmenter, layer_of};
use crate::nn::{Entry, Params};
use crate::ops::parts::join;
use crate::ops::rng;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;
use crate::train::cuts::Cuts;
use crate::train::drop_path::DropPath;
use crate::train::exchange::Exchange;
use crate::train::image_input::Images;
use crate::train::loss_scaler::LossScaler;
use crate::train::optimizer::Group;
use crate::train::update::{Hyper, Update, nothing, tuned};

/// Streams of the dropout of channels in the random number generator.
const STREAMS: [u32; 2] = [3, 4];

/// Numbers of a step that only segmentation has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SegmentTuning {
    /// Factor on the learning rate from each layer of the backbone to the one before it; 1 for one rate everywhere.
    pub layer_decay: f64,
    /// Momentum of the moving average of the weights; `None` keeps no average.
    pub average: Option<f64>,
}

/// A segmentation network being trained: weights, their average, optimizer, and the recorded step.
#[derive(Debug)]
pub struct SegmentTrainer {
    g: Gpu,
    config: Config,
    hyper: Hyper,
    tuning: SegmentTuning,
    /// The weights.
    pub params: Params,
    model: Segmenter,
    average: Option<(Params, Segmenter)>,
    images: Images,
    labels: Tensor,
    drop_path: DropPath,
    rate: Option<Tensor>,
    update: Update,
    program: Option<Step>,
}

/// A recorded micro-batch.
#[derive(Debug)]
struct Step {
    program: Program,
    cuts: Cuts,
    loss: Tensor,
}

impl SegmentTrainer {
    /// A model with weights drawn from `seed`, for micro-batches of `batch` images. A device that only plans draws
    /// nothing.
    ///
    /// # Errors
    /// A configuration that is not of a segmentation network, numbers out of range.
    pub fn new(g: &Gpu, config: &Config, batch: usize, hyper: Hyper, tuning: SegmentTuning, seed: u64) -> Result<Self> {
        let mut params = Params::new(g);
        let model = Segmenter::new(g, &mut params, config)?;
        let mut update = Update::new(g, &params, hyper)?;
        let average = match tuning.average {
            Some(m) => {
                let mut average = Params::new(g);
                let model = Segmenter::new(g, &mut average, config)?;
                update.follow(&average, m)?;
                Some((average, model))
            }
            None => None,
        };
        let Segmentation { dropout, .. } = *heads(config)?;
        let rate = (dropout > 0.0).then(|| Tensor::from_slice(g, &[1], &[dropout as f32])).transpose()?;
        let trainer = Self {
            images: Images::new(config, batch)?,
            labels: Tensor::indices("labels", &[batch, config.image_size, config.image_size]),
            drop_path: DropPath::new(g, config)?,
            rate,
            g: g.clone(),
            config: config.clone(),
            hyper,
            tuning,
            params,
            model,
            average,
            update,
            program: None,
        };
        if !g.is_dry() {
            trainer.params.init(g, seed)?;
            trainer.start_average()?;
        }
        Ok(trainer)
    }

    /// The model.
    pub fn model(&self) -> &Segmenter {
        &self.model
    }

    /// Lets this process share the micro-batches of each step with others.
    pub fn join(&mut self, exchange: Option<Box<dyn Exchange>>) {
        self.update.join(exchange);
    }

    /// The loss scaler; `None` in f32.
    pub fn scaler(&self) -> Option<&LossScaler> {
        self.update.scaler()
    }

    /// The moving average of the weights, and a model that reads it.
    pub fn average(&self) -> Option<&(Params, Segmenter)> {
        self.average.as_ref()
    }

    /// Copies the weights into their moving average, as at the start of a run.
    pub fn start_average(&self) -> Result<()> {
        let Some((average, _)) = &self.average else { return Ok(()) };
        let mut r = Recorder::inference(&self.g);
        for (to, from) in average.flat_tensors().iter().zip(self.params.flat_tensors()) {
            to.copy_from(&mut r, &from)?;
        }
        r.run()
    }

    /// Records a micro-batch. Returns (recording, loss).
    pub fn record(&mut self) -> Result<(Recording, Tensor)> {
        let Self { g, config, hyper, tuning, params, model, images, labels, drop_path, rate, update, .. } = self;
        let batch = labels.shape()[0];
        let head = heads(config)?.head(config.width, config.classes);
        let channels = [head.channels, head.auxiliary.unwrap_or(0)];
        let (mut recording, loss) = hyper.recorder(g).record(|r| {
            let patches = Var::constant(images.patches(r, config.input_patch())?); // (B, L, P·P·3)
            let drop_path = drop_path.draw(r, update.state(), batch)?;
            let mut dropped = [None, None];
            for ((slot, stream), channels) in dropped.iter_mut().zip(STREAMS).zip(channels) {
                if let Some(rate) = rate.as_ref().filter(|_| channels > 0) {
                    let each = batch * channels;
                    let factors = rng::drop_path(r, update.state(), stream, rate, 1, each, each.next_multiple_of(64))?;
                    *slot = Some(factors.range(0, &[batch, channels])?);
                }
            }
            let [decode, auxiliary] = &dropped;
            let scores = model.forward(r, &patches, drop_path.as_ref(), [decode.as_ref(), auxiliary.as_ref()])?;
            let losses = model.losses(r, &scores, labels)?;
            update.launch(r, &losses.total, params, |entry| group(config, hyper, tuning, entry))
        })?;
        recording.drop_unread();
        join(&mut recording)?;
        Ok((recording, loss))
    }

    /// The memory plan of a step.
    pub fn plan(&mut self) -> Result<Plan> {
        let (recording, kept) = self.record()?;
        let plan = Plan::new(&recording.then(self.update.record(&self.params, &nothing)?))?;
        drop(kept);
        Ok(plan)
    }

    /// Builds the program of a step.
    pub fn prepare(&mut self) -> Result<()> {
        if self.program.is_none() {
            let (g, hyper) = (self.g.clone(), self.hyper);
            let mut others = self.update.leave();
            let recorded = tuned(&g, &hyper, &mut others, || self.record());
            self.update.join(others);
            let (mut recording, loss) = recorded?;
            let cuts = self.update.cut(&mut recording)?;
            self.program = Some(Step { program: Program::new(recording)?, cuts, loss });
            self.update.prepare(&self.params, &nothing)?;
        }
        Ok(())
    }

    /// Submits step number `step`, counted from 0, on views (B, 4·S·S): the bytes of an image and then the label of
    /// each of its pixels, where B counts all images of the micro-batches that this process computes. Returns the
    /// tensor that will hold the loss.
    pub fn step(&mut self, views: &[u8], step: u64, lr: f64) -> Result<&Tensor> {
        let run = |Step { program, cuts, .. }: &Step, update: &mut Update, part| {
            update.run(program, cuts)?;
            update.add(part).map(|()| None::<()>)
        };
        self.each_part(views, step, lr, run)?;
        self.update.finish()?;
        self.program.as_ref().map(|step| &step.loss).ok_or_else(|| Error::Internal("no program was built".into()))
    }

    /// Repeats a step whose loss was not finite, inspecting every tensor, and names the first that is not finite.
    #[cfg(feature = "files")]
    pub fn find_not_finite(&mut self, views: &[u8], step: u64) -> Result<Option<String>> {
        if let Some((name, value)) = pollster::block_on(self.params.find_not_finite(&self.g))? {
            return Ok(Some(format!("the parameter `{name}` holds {value}")));
        }
        let found = self.each_part(views, step, 0.0, |step, _, _| step.program.find_not_finite())?;
        Ok(found.map(|found| found.to_string()))
    }

    /// Uploads each micro-batch and passes its program to `run`, until that returns something.
    fn each_part<T>(
        &mut self, views: &[u8], step: u64, lr: f64, run: impl Fn(&Step, &mut Update, usize) -> Result<Option<T>>,
    ) -> Result<Option<T>> {
        self.prepare()?;
        let none = || Error::Internal("no program was built".into());
        let recorded = self.program.as_ref().ok_or_else(none)?;
        let (parts, pixels) = (self.update.parts(), self.config.image_size.pow(2));
        let batch = self.labels.shape()[0];
        if views.len() != 4 * pixels * batch * parts {
            let expected = format!("{} bytes", 4 * pixels * batch * parts);
            return Err(Error::argument("views", format!("{} bytes", views.len()), expected));
        }
        for (part, views) in views.chunks(4 * pixels * batch).enumerate() {
            let (mut images, mut labels) = (Vec::new(), Vec::new());
            for view in views.chunks(4 * pixels) {
                images.extend_from_slice(&view[..3 * pixels]);
                labels.extend(view[3 * pixels..].iter().map(|label| u32::from(*label)));
            }
            self.images.write(&self.g, &images, (0, 1))?;
            self.labels.write(&self.g, &labels)?;
            self.update.begin(step, part, lr)?;
            if let Some(found) = run(recorded, &mut self.update, part)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }
}

/// The heads of a segmentation network.
fn heads(config: &Config) -> Result<&Segmentation> {
    match &config.dense {
        Some(Dense::Segmentation(heads)) => Ok(heads),
        other => Err(Error::argument("dense", format!("{other:?}"), "segmentation")),
    }
}

/// Parameter group of a parameter: its rate by its depth, its decay by the rule.
fn group(config: &Config, hyper: &Hyper, tuning: &SegmentTuning, entry: &Entry) -> Group {
    let lr_scale = entry.name.strip_prefix("backbone.").map_or(1.0, |name| {
        let (depth, last) = depth_of(config, name);
        tuning.layer_decay.powi((last - depth) as i32)
    });
    Group { lr_scale, weight_decay: hyper.decay_of(entry) }
}

/// (depth of a parameter of the backbone, the last depth). A transformer block behind Mamba layers has the depth of the
/// layer before it (src/models/README.md, D-24).
fn depth_of(config: &Config, name: &str) -> (usize, usize) {
    let mambas = config.pattern.contains('M');
    let counts = |letters: &str| letters.chars().filter(|letter| !mambas || *letter == 'M').count();
    let last = counts(&config.pattern) + 1;
    match layer_of(config, name) {
        (0, _) => (0, last),
        (layer, end) if layer == end => (last, last),
        (layer, _) => (counts(&config.pattern[..layer]).max(1), last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_the_depth_of_the_layer_before_them() {
        let config = Config::preset("map_small_patch16_224").unwrap();
        let depth = |name: &str| depth_of(&config, name);
        assert_eq!(depth("pos_embed"), (0, 25));
        assert_eq!(depth("patch_embed.proj.weight"), (0, 25));
        assert_eq!(depth("layers.0.mixer.A_log"), (1, 25));
        assert_eq!(depth("layers.2.norm.weight"), (3, 25));
        assert_eq!(depth("blocks.0.attn.qkv.weight"), (3, 25));
        assert_eq!(depth("layers.23.norm.weight"), (24, 25));
        assert_eq!(depth("blocks.7.mlp.fc1.weight"), (24, 25));
        assert_eq!(depth("fpn1.0.weight"), (25, 25));
        let vit = Config::preset("deit_tiny_patch16_224").unwrap();
        assert_eq!(depth_of(&vit, "blocks.3.norm1.weight"), (4, 13));
    }
}
