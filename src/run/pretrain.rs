//! The pretraining task: masks for its steps, and pictures of reconstructions.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use super::backbone::weights_of;
use super::checkpoint::Companions;
use super::outputs::RecordSettings;
use super::probe::RepeatedProbe;
use super::task::{Surroundings, Task, TaskSettings};
use super::tested::Tested;
use super::world::World;
use crate::data::{DataError, Dataset, ImageBatch, Loader, LoaderOptions, Transform};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::{Config, adapt_to_pretrain};
use crate::nn::Params;
use crate::run::pictures::{Painter, columns};
use crate::tensor::Tensor;
use crate::train::loss_scaler::LossScaler;
use crate::train::pretrain::mask::{Masker, PatchMask};
use crate::train::pretrain::settings::PretrainSettings;
use crate::train::pretrain::step::{Pretrainer, expect_fit};
use crate::train::update::Hyper;

/// A model being pretrained.
pub struct Pretraining {
    g: Gpu,
    config: Config,
    settings: PretrainSettings,
    /// The images of a step that this process takes.
    rows: Range<usize>,
    /// Whether this process draws the pictures.
    leads: bool,
    world: World,
    record: RecordSettings,
    threads: usize,
    trainer: Pretrainer,
    masker: Masker,
    longest: usize,
    pictures: Option<(Painter, Vec<u8>, PatchMask)>,
    probe: Option<RepeatedProbe>,
}

impl Pretraining {
    /// Up to eight samples that every picture grid shows, from the test split if there is one. `None` for contrastive
    /// pretraining, which reconstructs nothing.
    fn held_out(&self, data: &Arc<Dataset>) -> Result<Option<(Painter, Vec<u8>, PatchMask)>> {
        if !(self.settings.objective.method.predicts || self.config.family.clouds) {
            return Ok(None);
        }
        let shown = match data.test_split() {
            Ok(test) => Arc::new(test),
            Err(DataError::NoSplit { .. }) => data.clone(),
            Err(e) => return Err(e.into()),
        };
        let options = LoaderOptions::new(shown.len().min(8), Transform::testing(&self.config, self.config.test_view));
        let Some(images) = Loader::eval(shown, &options)?.next().transpose()? else { return Ok(None) };
        let batch = images.samples.len(); // fewer if some are broken
        let mask = self.masker.draw(u64::MAX, batch);
        let painter = Painter::new(&self.g, self.trainer.model(), &self.config, batch, mask.visible_len)?;
        Ok(Some((painter, images.images, mask)))
    }
}

impl TaskSettings for PretrainSettings {
    fn loading(&self, config: &Config) -> LoaderOptions {
        let transform = Transform::pretraining(config, self.recipe);
        let crops = self.objective.method.crops;
        LoaderOptions { crops, ..LoaderOptions::new(self.run.images_per_step(), transform) }
    }
}

impl Task for Pretraining {
    const COMMAND: &'static str = "pretrain";
    type Settings = PretrainSettings;

    fn check(config: &Config, settings: &PretrainSettings) -> Result<()> {
        settings.check(config)
    }

    /// It draws a grid of pictures every `grid_every` epochs of `record`, and probes its features every `probe_every`.
    fn new(
        g: &Gpu, config: &Config, settings: &PretrainSettings, surroundings: Surroundings<'_>, resumed: bool,
    ) -> Result<Self> {
        let Surroundings { world, record, threads, .. } = surroundings;
        let (batch, masker) = (settings.run.batch_size, settings.masker(config)?);
        let hyper = Hyper { place: world.place(), ..settings.run.hyper()? };
        let longest = *masker.all_visible_lengths().end();
        expect_fit(g.caps(), config, &settings.objective, hyper, longest, batch)?;
        let mut trainer = Pretrainer::new(g, config, &settings.objective, batch, hyper, settings.run.seed)?;
        if let Some(folder) = settings.checkpoint.as_deref().filter(|_| !resumed) {
            let ((path, weights), seed) = (weights_of(folder)?, settings.run.seed);
            let adapted = adapt_to_pretrain(weights, config, &trainer.params, seed);
            let adapted = adapted.map_err(|e| Error::file(&path, e))?;
            tracing::warn!("{}: {adapted}", path.display()); // nothing is left out or drawn anew without a word
            trainer.start_from(&adapted.weights, seed)?;
        }
        trainer.join(world.exchange(g)?);
        Ok(Self {
            trainer,
            rows: world.place().range(settings.run.images_per_step()),
            leads: world.leads(),
            g: g.clone(),
            config: config.clone(),
            settings: settings.clone(),
            world: world.clone(),
            record: record.clone(),
            threads,
            masker,
            longest,
            pictures: None,
            probe: None,
        })
    }

    fn config(&self) -> &Config {
        &self.config
    }

    fn params(&self) -> &Params {
        &self.trainer.params
    }

    fn companions(&self) -> Companions<'_> {
        let scaler = self.trainer.scaler().map(LossScaler::companion);
        self.trainer.model().companions().into_iter().chain(scaler).collect()
    }

    fn scaler(&self) -> Option<&LossScaler> {
        self.trainer.scaler()
    }

    fn prepare(&mut self, data: &Arc<Dataset>) -> Result<()> {
        self.trainer.prepare(self.longest)?;
        self.pictures = if self.leads { self.held_out(data)? } else { None };
        let RecordSettings { probe_every, probe_images, .. } = self.record;
        let probe = || RepeatedProbe::new(data, probe_images, self.threads);
        self.probe = (probe_every > 0).then(probe).transpose()?;
        Ok(())
    }

    fn step(&mut self, batch: &ImageBatch, step: u64, lr: f64) -> Result<&Tensor> {
        let mask = self.masker.draw_rows(step, self.rows.clone());
        self.trainer.step(&batch.images, &mask, step, lr)
    }

    fn find_not_finite(&mut self, batch: &ImageBatch, step: u64) -> Result<Option<String>> {
        let mask = self.masker.draw_rows(step, self.rows.clone());
        self.trainer.find_not_finite(&batch.images, &mask, step)
    }

    fn test(&mut self, epoch: u64, last: bool) -> Result<Option<Tested>> {
        let due = last || epoch.is_multiple_of(self.record.probe_every.max(1));
        let Some(probe) = self.probe.as_ref().filter(|_| due) else { return Ok(None) };
        let weights = pollster::block_on(self.trainer.params.weights(&self.g))?;
        Ok(Some(Tested::Features(probe.scores(&self.world, &self.g, &self.config, weights)?)))
    }

    fn columns(&self) -> usize {
        if self.pictures.is_some() && self.record.grid_every > 0 { columns(&self.config) } else { 0 }
    }

    fn show(&mut self, dir: &Path, epoch: u64, last: bool) -> Result<()> {
        let every = self.record.grid_every;
        let due = every > 0 && (epoch.is_multiple_of(every) || last);
        let Some((painter, images, mask)) = self.pictures.as_ref().filter(|_| due) else { return Ok(()) };
        let grid = painter.run(images, mask)?.grid;
        grid.save(&dir.join(format!("grid-{epoch:04}.png")))
    }
}
