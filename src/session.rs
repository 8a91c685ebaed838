//! A pretraining run over images in memory, without files and threads, in which no call blocks. A browser page trains
//! with it.

use std::path::Path;

use crate::data::stream::{Stream, StreamPurpose};
use crate::data::{Dataset, EpochOrder, Fingerprint, Rgb8, Scratch, Transform, Visit};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Precision, Readback};
use crate::infer::probe::{Features, linear_probe};
use crate::infer::program::InferenceProgram;
use crate::infer::reconstruct::{Pictures, Reconstructor};
use crate::infer::scores::Scores;
use crate::models::{Config, TestView};
use crate::nn::Weights;
use crate::ops::reduce;
use crate::train::checkpoint;
use crate::train::checkpoint::{CONFIG, MODEL, OPTIMIZER, STATE, State};
use crate::train::pretrain::mask::{Masker, PatchMask};
use crate::train::pretrain::settings::PretrainSettings;
use crate::train::pretrain::step::Pretrainer;
use crate::train::weights_file;

/// Steps of linear warm-up.
const WARMUP: u64 = 20;

/// Images at a time through the encoder, for a probe.
const PROBED: usize = 32;

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
    /// The held-out images with their mask; none for a method that predicts no patches.
    shown: Option<(Reconstructor, Vec<u8>, PatchMask)>,
    encoder: InferenceProgram,
    at: State,
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

/// The center square of each image, (N, S, S, 3).
fn squares(config: &Config, images: &Dataset) -> Result<Vec<u8>> {
    let whole = TestView::crop(1.0);
    let transform = Transform::testing(config, whole);
    let (mut scratch, mut stream) = (Scratch::default(), Stream::new(StreamPurpose::Augment, [0; 3]));
    let mut all = vec![0; images.len() * transform.bytes()];
    for (i, square) in all.chunks_exact_mut(transform.bytes()).enumerate() {
        transform.apply(&images.image(i)?, &mut stream, &mut scratch, square)?;
    }
    Ok(all)
}

impl Session {
    /// A session with fresh weights that trains on `data`, cropped and mirrored as `settings` say, and shows the center
    /// squares of `held_out`.
    ///
    /// # Errors
    /// Settings that cannot work, fewer images than a batch, a model of point clouds or one that does not fit.
    pub fn new(
        g: &Gpu, config: &Config, settings: &PretrainSettings, data: Dataset, held_out: &Dataset,
    ) -> Result<Self> {
        settings.check(config)?;
        if config.family.clouds {
            return Err(Error::argument("the model of a session", config.family.name, "one of images"));
        }
        if settings.run.precision != Precision::F32 {
            return Err(Error::argument("precision", settings.run.precision, "f32: a session keeps no loss scale"));
        }
        if settings.run.accum_iter != 1 {
            return Err(Error::argument("accum_iter", settings.run.accum_iter, "1 in a session"));
        }
        let (batch, masker) = (settings.run.batch_size, settings.masker(config)?);
        let order = EpochOrder::train(data.len(), 1, batch, settings.run.seed);
        if order.per_epoch == 0 {
            return Err(Error::argument("batch size", batch, format!("at most the {} images", data.len())));
        }
        let trainer = Pretrainer::new(g, config, &settings.objective, batch, settings.run.hyper()?, settings.run.seed)?;
        let method = settings.objective.method;
        let shown = if method.predicts {
            let mask = masker.draw(u64::MAX, held_out.len());
            let reconstructor = Reconstructor::new(g, trainer.model(), config, held_out.len(), mask.visible_len)?;
            Some((reconstructor, squares(config, held_out)?, mask))
        } else {
            None
        };
        let encoder = trainer.model().encoder().clone();
        let encoder = InferenceProgram::new(g, config, PROBED, move |r, patches| {
            let tokens = encoder.tokens(r, patches, None)?;
            reduce::mean_tokens(r, &tokens)
        })?;
        let listing = Some(Fingerprint::of(&data));
        Ok(Self {
            g: g.clone(),
            config: config.clone(),
            trainer,
            epoch: (0, order.order(0)),
            order,
            masker,
            shown,
            encoder,
            at: State::new(data.len(), listing, settings.clone()),
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

    /// Sets the learning rate and the share of hidden patches, from the next step on.
    pub fn adjust(&mut self, lr: f64, mask_ratio: f64) -> Result<()> {
        let mut settings = PretrainSettings { mask_ratio: Some(mask_ratio), ..self.at.settings.clone() };
        settings.run.lr = Some(lr);
        self.take(settings)
    }

    /// Takes other settings of rate and mask.
    fn take(&mut self, settings: PretrainSettings) -> Result<()> {
        settings.check(&self.config)?;
        self.masker = settings.masker(&self.config)?;
        self.at.settings = settings;
        Ok(())
    }

    /// The learning rate of the next step.
    pub fn lr(&self) -> f64 {
        self.at.settings.run.peak_lr() * (self.at.step + 1).min(WARMUP) as f64 / WARMUP as f64
    }

    /// Takes these weights in place of the fresh ones.
    pub fn load_weights(&self, weights: &Weights) -> Result<()> {
        self.trainer.start_from(weights, self.at.settings.run.seed)
    }

    /// The images of the next step as the network sees them: (crops · B, S, S, 3), all first crops before all second
    /// ones. They are those that `rowscan pretrain` takes with the same seed.
    pub fn images(&mut self) -> Result<Vec<u8>> {
        let (settings, at) = (&self.at.settings, &self.at);
        if self.epoch.0 != at.epoch {
            self.epoch = (at.epoch, self.order.order(at.epoch));
        }
        let crops = settings.objective.method.crops;
        let transform = Transform::pretraining(&self.config, settings.recipe);
        let visits = self.order.batch(&self.epoch.1, at.batch);
        let (bytes, mut scratch) = (transform.bytes(), Scratch::default());
        let mut images = vec![0; crops * visits.len() * bytes];
        for (i, visit) in visits.iter().enumerate() {
            let (_, image) = self.data.good_image(visit.sample)?;
            for crop in 0..crops {
                let keys = [settings.run.seed, at.epoch * crops as u64 + crop as u64, visit.sample as u64];
                let mut stream = Stream::new(StreamPurpose::Augment, keys);
                let start = (crop * visits.len() + i) * bytes;
                transform.apply(&image, &mut stream, &mut scratch, &mut images[start..start + bytes])?;
            }
        }
        Ok(images)
    }

    /// Submits one step. Returns its loss, which can be read when the GPU is done.
    pub fn step(&mut self) -> Result<Readback> {
        let images = self.images()?;
        let (batch, step) = (self.order.batch_size, self.at.step);
        let mask = self.masker.draw(step, batch);
        let loss = self.trainer.step(&images, &mask, step, self.lr())?.read(&self.g)?;
        self.at.step += 1;
        (self.at.epoch, self.at.batch) = (self.at.step / self.order.per_epoch, self.at.step % self.order.per_epoch);
        Ok(loss)
    }

    /// Reconstructions of the held-out images, and the mean loss over their predicted patches. None for a method that
    /// predicts no patches.
    pub async fn pictures(&self) -> Result<Option<(Vec<Pictures>, f32)>> {
        let Some((reconstructor, images, mask)) = &self.shown else { return Ok(None) };
        reconstructor.run(images, mask).await.map(Some)
    }

    /// How well a linear classifier of the encoder's features tells the classes of `test` apart, trained on those of
    /// `train` for `steps` steps. The weights do not change.
    ///
    /// # Errors
    /// Images without labels.
    pub async fn probe(&self, train: &Dataset, test: &Dataset, steps: u64) -> Result<Scores> {
        let (train, test, classes) = (self.features(train).await?, self.features(test).await?, train.classes().len());
        linear_probe(&self.g, &train, &test, classes, steps).await
    }

    /// Features and labels of a data set.
    async fn features(&self, data: &Dataset) -> Result<Features> {
        let images = squares(&self.config, data)?;
        let mut rows = Vec::new();
        for batch in images.chunks(PROBED * self.config.sample_bytes()) {
            rows.extend(self.encoder.run(batch).await?);
        }
        let label = |i| data.label(i).ok_or_else(|| Error::argument(data.sample_name(i), "no label", "a class"));
        Features::new(rows, self.encoder.width(), (0..data.len()).map(label).collect::<Result<_>>()?)
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
        let mut files: Files = files.map(|(name, bytes)| (name.to_string(), bytes)).into();
        for (name, params) in self.trainer.model().companions() {
            files.push((name.to_string(), checkpoint::weights_to_bytes(g, params).await?));
        }
        Ok(files)
    }

    /// Continues from saved files, with the rate and the share of hidden patches that they name. The losses are bit for
    /// bit those of the saved run.
    ///
    /// # Errors
    /// A file that is missing, broken, of another model, or of a run with other settings or images.
    pub fn load(&mut self, files: &[(String, Vec<u8>)]) -> Result<()> {
        let file = |name: &str| {
            let found = files.iter().find(|(known, _)| known == name).map(|(_, bytes)| bytes.as_slice());
            found.ok_or_else(|| Error::file(name, "is missing"))
        };
        let weights = |name: &str| weights_file::from_bytes(Path::new(name), file(name)?);
        let config = checkpoint::config_from_bytes(Path::new(CONFIG), file(CONFIG)?)?;
        if config != self.config {
            return Err(Error::file(CONFIG, format!("is of another model ({})", config.name)));
        }
        let state: State = checkpoint::state_from_bytes(Path::new(STATE), file(STATE)?)?;
        let (now, then) = (&self.at, &state);
        let others = then.images != now.images || then.settings.run.data != now.settings.run.data;
        if others || then.listing.is_some() && then.listing != now.listing {
            return Err(Error::file(STATE, format!("is of a run on other images ({})", state.settings.run.data)));
        }
        let mut same = PretrainSettings { mask_ratio: state.settings.mask_ratio, ..self.at.settings.clone() };
        (same.run.blr, same.run.lr) = (state.settings.run.blr, state.settings.run.lr);
        if same != state.settings {
            return Err(Error::file(STATE, "is of a run with other settings than rate and share of hidden patches"));
        }
        let params = &self.trainer.params;
        // all are read and checked before one changes anything
        let model = weights(MODEL)?;
        params.expect_names(&model).map_err(|e| Error::file(MODEL, e))?;
        let [first, second] = checkpoint::moments(Path::new(OPTIMIZER), weights(OPTIMIZER)?, params)?;
        let companions = self.trainer.model().companions().into_iter();
        let companions: Vec<_> = companions.map(|(name, to)| Ok((name, to, weights(name)?))).collect::<Result<_>>()?;
        for (name, to, weights) in &companions {
            to.expect_names(weights).map_err(|e| Error::file(*name, e))?;
        }
        params.load(&self.g, &model)?;
        params.load_moments(&self.g, &first, &second)?;
        for (_, to, weights) in companions {
            to.load(&self.g, &weights)?;
        }
        self.take(same)?;
        self.at.step = state.step;
        (self.at.epoch, self.at.batch) = (state.step / self.order.per_epoch, state.step % self.order.per_epoch);
        Ok(())
    }
}
