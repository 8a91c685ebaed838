//! A pretraining run over images in memory, without files and threads, in which no call blocks. A browser page trains
//! with it.

use std::path::Path;

use crate::data::{Dataset, EpochOrder, Rgb8, Visit};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Precision, Readback};
use crate::infer::reconstruct::{Pictures, Reconstructor};
use crate::models::Config;
use crate::train::checkpoint;
use crate::train::checkpoint::{CONFIG, MODEL, OPTIMIZER, STATE, State};
use crate::train::pretrain::mask::{Masker, PatchMask};
use crate::train::pretrain::settings::PretrainSettings;
use crate::train::pretrain::step::Pretrainer;
use crate::train::weights_file;

/// Steps of linear warm-up.
const WARMUP: u64 = 20;

/// Files of a checkpoint: (name, content).
pub type Files = Vec<(String, Vec<u8>)>;

/// A pretraining run that its caller drives step by step.
#[derive(Debug)]
pub struct Session {
    g: Gpu,
    config: Config,
    trainer: Pretrainer,
    data: Dataset,
    order: EpochOrder,
    /// (epoch, its order of images). The order is made when the epoch's first batch is taken.
    epoch: (u64, Vec<Visit>),
    masker: Masker,
    shown: (Reconstructor, Vec<u8>, PatchMask),
    at: State,
}

/// The bytes of image number `index`; an error if it does not have the model's size.
fn image(data: &Dataset, index: usize, side: usize) -> Result<Vec<u8>> {
    let Rgb8 { width, height, pixels } = data.image(index)?;
    if [width, height] != [side as u32; 2] {
        let got = format!("{width} × {height}");
        return Err(Error::argument(data.sample_name(index), got, format!("{side} × {side} pixels")));
    }
    Ok(pixels)
}

/// Splits images into (images to train on, images to show). Every eighth is shown, at most eight. Of fewer than eight
/// images the last one is shown; a single image is both.
pub fn split(images: Vec<Rgb8>) -> (Vec<Rgb8>, Vec<Rgb8>) {
    if images.len() < 8 {
        let last = images.last().cloned().into_iter().collect();
        let kept = images.len().saturating_sub(1).max(1);
        return (images.into_iter().take(kept).collect(), last);
    }
    let mut shown = Vec::new();
    let mut train = Vec::new();
    for (i, image) in images.into_iter().enumerate() {
        if i % 8 == 7 && shown.len() < 8 { shown.push(image) } else { train.push(image) }
    }
    (train, shown)
}

impl Session {
    /// A session with fresh weights that trains on `data` and shows `held_out`; all images must have the model's size.
    ///
    /// # Errors
    /// PretrainSettings that cannot work, fewer images than a batch, images of another size, a model that does not fit.
    pub fn new(
        g: &Gpu, config: &Config, settings: &PretrainSettings, data: Dataset, held_out: &Dataset,
    ) -> Result<Self> {
        settings.check(config)?;
        if settings.run.precision != Precision::F32 {
            return Err(Error::argument("precision", settings.run.precision, "f32: a session keeps no loss scale"));
        }
        let (batch, masker) = (settings.run.batch_size, settings.masker(config)?);
        let order = EpochOrder::train(data.len(), 1, batch, settings.run.seed);
        if order.per_epoch == 0 {
            return Err(Error::argument("batch size", batch, format!("at most the {} images", data.len())));
        }
        let trainer = Pretrainer::new(g, config, &settings.objective, batch, settings.run.hyper()?, settings.run.seed)?;
        let bytes: Vec<Vec<u8>> =
            (0..held_out.len()).map(|i| image(held_out, i, config.image_size)).collect::<Result<_>>()?;
        let mask = masker.draw(u64::MAX, held_out.len());
        let reconstructor = Reconstructor::new(g, trainer.model(), config, held_out.len(), mask.visible_len)?;
        Ok(Self {
            g: g.clone(),
            config: config.clone(),
            trainer,
            epoch: (0, order.order(0)),
            order,
            masker,
            shown: (reconstructor, bytes.concat(), mask),
            at: State::new(data.len(), None, settings.clone()),
            data,
        })
    }

    /// State of the run: step, epoch, settings.
    pub fn state(&self) -> &State {
        &self.at
    }

    /// The model's configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Number of weights.
    pub fn parameters(&self) -> usize {
        self.trainer.params.count()
    }

    /// Sets the learning rate per 256 images and the share of hidden patches, from the next step on.
    pub fn adjust(&mut self, blr: f64, mask_ratio: f64) -> Result<()> {
        let mut settings = PretrainSettings { mask_ratio: Some(mask_ratio), ..self.at.settings.clone() };
        settings.run.blr = blr;
        settings.check(&self.config)?;
        self.masker = settings.masker(&self.config)?;
        self.at.settings = settings;
        Ok(())
    }

    /// The learning rate of the next step.
    pub fn lr(&self) -> f64 {
        self.at.settings.run.peak_lr() * (self.at.step + 1).min(WARMUP) as f64 / WARMUP as f64
    }

    /// Submits one step. Returns its loss, which can be read when the GPU is done.
    pub fn step(&mut self) -> Result<Readback> {
        let (batch, step) = (self.order.batch_size, self.at.step);
        if self.epoch.0 != self.at.epoch {
            self.epoch = (self.at.epoch, self.order.order(self.at.epoch));
        }
        let samples = self.order.batch(&self.epoch.1, self.at.batch);
        let images: Vec<Vec<u8>> = samples
            .iter()
            .map(|visit| image(&self.data, visit.sample, self.config.image_size))
            .collect::<Result<_>>()?;
        let mask = self.masker.draw(step, batch);
        let loss = self.trainer.step(&images.concat(), &mask, step, self.lr())?.read(&self.g)?;
        self.at.step += 1;
        (self.at.epoch, self.at.batch) = (self.at.step / self.order.per_epoch, self.at.step % self.order.per_epoch);
        Ok(loss)
    }

    /// Reconstructions of the held-out images, and the mean loss over their hidden patches.
    pub async fn pictures(&self) -> Result<(Vec<Pictures>, f32)> {
        let (reconstructor, images, mask) = &self.shown;
        reconstructor.run(images, mask).await
    }

    /// The run as the files of a checkpoint, which the command line and [`Session::load`] read.
    pub async fn save(&self) -> Result<Files> {
        let (g, params) = (&self.g, &self.trainer.params);
        let files = [
            (CONFIG, checkpoint::config_to_bytes(&self.config)?),
            (MODEL, checkpoint::weights_to_bytes(g, params).await?),
            (OPTIMIZER, checkpoint::moments_to_bytes(g, params).await?),
            (STATE, checkpoint::state_to_bytes(&self.at)?),
        ];
        Ok(files.map(|(name, bytes)| (name.to_string(), bytes)).into())
    }

    /// Continues from saved files. The losses are bit for bit those of the saved run if batch size, seed and images are
    /// the same.
    ///
    /// # Errors
    /// A file that is missing, broken, or of another model.
    pub fn load(&mut self, files: &[(String, Vec<u8>)]) -> Result<()> {
        let file = |name: &str| {
            let found = files.iter().find(|(known, _)| known == name).map(|(_, bytes)| bytes.as_slice());
            found.ok_or_else(|| Error::file(name, "is missing"))
        };
        let config = checkpoint::config_from_bytes(Path::new(CONFIG), file(CONFIG)?)?;
        if config != self.config {
            return Err(Error::file(CONFIG, format!("is of another model ({})", config.name)));
        }
        let state: State = checkpoint::state_from_bytes(Path::new(STATE), file(STATE)?)?;
        let params = &self.trainer.params;
        params.load(&self.g, &weights_file::from_bytes(Path::new(MODEL), file(MODEL)?)?)?;
        let moments = weights_file::from_bytes(Path::new(OPTIMIZER), file(OPTIMIZER)?)?;
        checkpoint::load_moments(&self.g, Path::new(OPTIMIZER), moments, params)?;
        self.at.step = state.step;
        (self.at.epoch, self.at.batch) = (state.step / self.order.per_epoch, state.step % self.order.per_epoch);
        Ok(())
    }
}
