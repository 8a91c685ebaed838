//! The pretraining run: batches in, losses out, records and checkpoints along the way.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::checkpoint::{self, State};
use super::data::{Cursor, Dataset, Loader, LoaderOptions, Split, Transform};
use super::mask::{Mask, Masker};
use super::output_dir::OutputDir;
use super::progress::Progress;
use super::reconstruct::Reconstructor;
use super::record::{EventFile, Grid, LogLine, Panel, TrainLog, loss_curve, read_log, write_atomic};
use super::schedule::Schedule;
use super::settings::Settings;
use super::step::{Pretrainer, expect_fit};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Readback, human_bytes};
use crate::models::Config;

/// Steps that may be on the GPU at once: enough to keep it busy, few enough to stay responsive.
const IN_FLIGHT: usize = 2;

/// Where and how often a run leaves traces; none of it changes the result.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// Folder for everything.
    pub dir: PathBuf,
    /// All options as TOML, for `pretrain.toml`.
    pub options: String,
    /// Steps between log lines.
    pub log_every: u64,
    /// Epochs between picture grids; 0 for none.
    pub grid_every: u64,
    /// Steps between checkpoints besides those at the end of an epoch; 0 for none.
    pub save_every_steps: u64,
    /// Epoch checkpoints to keep, the newest; 0 keeps all.
    pub keep: usize,
    /// Decoding threads; 0 takes one per core.
    pub threads: usize,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// All epochs are done; the loss of the last step, if there was one left to do.
    Finished(Option<f64>),
    /// It was asked to stop and saved this checkpoint.
    Interrupted(PathBuf),
}

/// A pretraining run, ready to go.
pub struct Run<'a> {
    g: &'a Gpu,
    config: &'a Config,
    settings: &'a Settings,
    outputs: &'a Outputs,
    data: Arc<Dataset>,
    loader: Loader,
    trainer: Pretrainer,
    masker: Masker,
    schedule: Schedule,
    _alone: OutputDir,
    log: TrainLog,
    events: EventFile,
    progress: Progress,
    pictures: Option<(Reconstructor, Vec<u8>, Mask)>,
    at: State,
    per_epoch: u64,
    /// Step, epoch, learning rate, and the loss on its way.
    pending: VecDeque<(u64, f64, f64, Readback)>,
    last_loss: Option<f64>,
}

/// What is not the same in two structures, one line each.
fn differences<T: serde::Serialize>(was: &T, now: &T, except: &str) -> Vec<String> {
    let value = |it: &T| serde_json::to_value(it).unwrap_or_default();
    let (was, now) = (value(was), value(now));
    let keys =
        now.as_object().into_iter().flatten().filter(|(key, value)| *key != except && was[key.as_str()] != **value);
    keys.map(|(key, value)| format!("{key} was {}, now {value}", was[key.as_str()])).collect()
}

/// Refuses a checkpoint of another run; the number of epochs may change.
fn expect_same_run(folder: &Path, config: &Config, fresh: &State) -> Result<()> {
    let other = differences(&checkpoint::config(folder)?, config, "");
    if !other.is_empty() {
        return Err(Error::file(folder.join("config.json"), format!("is of another model: {}", other.join("; "))));
    }
    let found = checkpoint::state(folder)?;
    let other = differences(&found.settings, &fresh.settings, "epochs");
    if !other.is_empty() {
        return Err(Error::file(folder, format!("belongs to a run with other settings: {}", other.join("; "))));
    }
    if found.images != fresh.images {
        let reason =
            format!("belongs to a run on {} images, {} has {}", found.images, fresh.settings.data, fresh.images);
        return Err(Error::file(folder, reason));
    }
    let per_epoch = (fresh.images / fresh.settings.batch_size.max(1)) as u64;
    if found.epoch.checked_mul(per_epoch).and_then(|steps| steps.checked_add(found.batch)) != Some(found.step) {
        let reason = format!("step {} is not batch {} of epoch {}", found.step, found.batch, found.epoch);
        return Err(Error::file(folder.join("state.json"), reason));
    }
    if found.settings.epochs != fresh.settings.epochs {
        tracing::warn!("the number of epochs changed, and with it the learning rates from here on");
    }
    Ok(())
}

/// Eight images the model is shown again and again: from the test half if there is one.
fn held_out(
    g: &Gpu, config: &Config, settings: &Settings, trainer: &Pretrainer, masker: &Masker, data: &Arc<Dataset>,
) -> Result<Option<(Reconstructor, Vec<u8>, Mask)>> {
    let shown = Dataset::open(&settings.data, Split::Test).map_or_else(|_| data.clone(), Arc::new);
    let batch = shown.len().min(8);
    let options = LoaderOptions::new(batch, Transform::eval(config.image_size as u32));
    let Some(images) = Loader::eval(shown, &options)?.next().transpose()? else { return Ok(None) };
    let mask = masker.draw(u64::MAX, batch);
    let reconstructor = Reconstructor::new(g, trainer.model(), config, batch, mask.visible_len)?;
    Ok(Some((reconstructor, images.images, mask)))
}

impl<'a> Run<'a> {
    /// Opens and checks everything, from scratch or to go on from the checkpoint `resume`. The output folder is touched
    /// last.
    ///
    /// # Errors
    /// Wrong settings, data that cannot be read, a model that does not fit, a checkpoint of another run.
    pub fn prepare(
        g: &'a Gpu, config: &'a Config, settings: &'a Settings, outputs: &'a Outputs, resume: Option<&Path>,
    ) -> Result<Self> {
        settings.check(config)?;
        let (batch, hyper, masker) = (settings.batch_size, settings.hyper()?, settings.masker(config)?);
        let data = Arc::new(Dataset::open(&settings.data, Split::Train)?);
        let fresh = State {
            version: checkpoint::VERSION,
            step: 0,
            epoch: 0,
            batch: 0,
            images: data.len(),
            settings: settings.clone(),
        };
        resume.map(|folder| expect_same_run(folder, config, &fresh)).transpose()?;
        let longest = *masker.all_visible_lengths().end();
        expect_fit(g.caps(), config, hyper, longest, batch)?;
        let mut trainer = Pretrainer::new(g, config, batch, hyper, settings.seed)?;
        let at = match resume {
            Some(folder) => State { settings: settings.clone(), ..checkpoint::load(g, folder, &trainer.params)? },
            None => fresh,
        };
        let options = LoaderOptions {
            seed: settings.seed,
            threads: outputs.threads,
            ..LoaderOptions::new(batch, Transform::train(config.image_size as u32))
        };
        let loader = Loader::train(data.clone(), &options, Cursor { epoch: at.epoch, batch: at.batch })?;
        let per_epoch = loader.batches_per_epoch();
        trainer.prepare(longest)?;
        let pictures = held_out(g, config, settings, &trainer, &masker, &data)?;
        let alone = OutputDir::open(&outputs.dir)?;
        write_atomic(&outputs.dir.join("pretrain.toml"), outputs.options.as_bytes())?;
        let mut run = Self {
            schedule: settings.schedule(per_epoch)?,
            log: TrainLog::open(&outputs.dir.join("log.jsonl"), at.step)?,
            events: EventFile::create(&outputs.dir, resume.map(|_| at.step))?,
            progress: Progress::new(settings.epochs * per_epoch, at.step, batch as u64),
            pending: VecDeque::new(),
            last_loss: None,
            _alone: alone,
            g,
            config,
            settings,
            outputs,
            data,
            loader,
            trainer,
            masker,
            pictures,
            at,
            per_epoch,
        };
        run.progress.println(&format!(
            "{} images, {per_epoch} steps per epoch, {} parameters, {} on {}",
            run.data.len(),
            run.trainer.params.count(),
            human_bytes(g.counters().live_bytes),
            g.caps().name
        ));
        Ok(run)
    }

    /// Trains until the end or until `stop` is set.
    ///
    /// # Errors
    /// Data, disk and GPU errors; [`Error::Diverged`] when the loss is no longer a number. Checkpoints written before stay.
    pub fn train(&mut self, stop: &AtomicBool) -> Result<Ended> {
        let ended = self.steps(stop);
        self.progress.finish();
        if self.data.skipped() > 0 {
            tracing::warn!("{} broken images were skipped", self.data.skipped());
        }
        ended
    }

    fn steps(&mut self, stop: &AtomicBool) -> Result<Ended> {
        let total = self.settings.epochs * self.per_epoch;
        while self.at.step < total {
            let ended = || Error::Data(format!("{} ended before the run did", self.settings.data));
            let batch = self.loader.next().ok_or_else(ended)??;
            let (step, lr) = (self.at.step, self.schedule.lr(self.at.step));
            let epoch = step as f64 / self.per_epoch as f64;
            let mask = self.masker.draw(step, self.settings.batch_size);
            let loss = self.trainer.step(&batch.images, &mask, step, lr)?.read(self.g)?;
            self.pending.push_back((step, epoch, lr, loss));
            self.at.step += 1;
            (self.at.epoch, self.at.batch) = (self.at.step / self.per_epoch, self.at.step % self.per_epoch);
            self.collect(IN_FLIGHT)?;
            let every = self.outputs.save_every_steps;
            let stopping = stop.load(Ordering::Relaxed);
            let saved = if self.at.batch == 0 {
                Some(self.end_of_epoch()?)
            } else if stopping || every > 0 && self.at.step.is_multiple_of(every) {
                Some(self.save(&format!("checkpoint-step-{}", self.at.step))?)
            } else {
                None
            };
            if let Some(folder) = saved
                && stopping
                && self.at.step < total
            {
                return Ok(Ended::Interrupted(folder));
            }
        }
        Ok(Ended::Finished(self.last_loss))
    }

    /// Takes losses off the queue until at most `left` steps are on the GPU.
    fn collect(&mut self, left: usize) -> Result<()> {
        while self.pending.len() > left {
            let Some((step, epoch, lr, loss)) = self.pending.pop_front() else { break };
            let loss = f64::from(bytemuck::pod_read_unaligned::<f32>(&loss.wait()?));
            if !loss.is_finite() {
                let advice = "lower --blr, raise --warmup-epochs, or set --clip-grad; the last checkpoint is intact";
                return Err(Error::Diverged(format!("the loss of step {step} is {loss}: {advice}")));
            }
            self.last_loss = Some(loss);
            self.progress.update(step + 1, loss, lr);
            if step % self.outputs.log_every == 0 {
                let images_per_second = self.progress.images_per_second();
                self.log.append(&LogLine { step, epoch, loss, lr, images_per_second })?;
                let speed = ("train/images_per_second", images_per_second as f32);
                self.events.scalars(step, &[("train/loss", loss as f32), ("train/lr", lr as f32), speed])?;
            }
        }
        Ok(())
    }

    fn end_of_epoch(&mut self) -> Result<PathBuf> {
        let epoch = self.at.epoch;
        let folder = self.save(&format!("checkpoint-{epoch}"))?;
        let every = self.outputs.grid_every;
        if every > 0 && (epoch.is_multiple_of(every) || epoch == self.settings.epochs) {
            self.draw(epoch)?;
        }
        let points: Vec<_> = read_log(&self.outputs.dir.join("log.jsonl"))?.iter().map(|l| (l.step, l.loss)).collect();
        if !points.is_empty() {
            let title = format!("{} on {}", self.config.name, self.settings.data);
            loss_curve(&self.outputs.dir.join("loss.svg"), &title, &points)?;
        }
        let loss = self.last_loss.unwrap_or(f64::NAN);
        self.progress.println(&format!("epoch {epoch:>3}  loss {loss:.4}  {}", folder.display()));
        Ok(folder)
    }

    /// Saves where the run stands; what is logged before is on the disk before.
    fn save(&mut self, name: &str) -> Result<PathBuf> {
        self.collect(0)?;
        self.log.sync()?;
        let folder = self.outputs.dir.join(name);
        checkpoint::save(self.g, &folder, self.config, &self.trainer.params, &self.at)?;
        self.prune()?;
        Ok(folder)
    }

    fn draw(&mut self, epoch: u64) -> Result<()> {
        let Some((reconstructor, images, mask)) = &self.pictures else { return Ok(()) };
        let (pictures, _) = pollster::block_on(reconstructor.run(images, mask))?;
        let side = self.config.image_size;
        let mut grid = Grid::new(side, side, 3)?;
        for p in &pictures {
            grid.push_row(&[Panel::Rgb8(&p.original), Panel::Rgb8(&p.masked), Panel::Rgb8(&p.reconstruction)])?;
        }
        Ok(grid.save(&self.outputs.dir.join(format!("grid-{epoch:04}.png")))?)
    }

    /// Keeps the newest `keep` epoch checkpoints, and of those between epochs the one just written.
    fn prune(&self) -> Result<()> {
        let keep = self.outputs.keep as u64;
        for (step, folder) in if keep > 0 { checkpoint::all(&self.outputs.dir)? } else { Vec::new() } {
            let between = !step.is_multiple_of(self.per_epoch);
            if step < self.at.step && (between || step / self.per_epoch + keep <= self.at.epoch) {
                checkpoint::remove(&folder)?;
            }
        }
        Ok(())
    }
}
