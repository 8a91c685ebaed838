//! The pretraining run: batches in, losses out, records and checkpoints along the way.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::checkpoint::{self, State};
use super::data::{Cursor, Dataset, Loader, LoaderOptions, Split, Transform};
use super::mask::{Mask, Masker};
use super::progress::Progress;
use super::reconstruct::Reconstructor;
use super::record::{EventFile, Grid, LogLine, Panel, TrainLog, loss_curve, read_log};
use super::schedule::Schedule;
use super::settings::Settings;
use super::step::{Pretrainer, largest_batch};
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
    /// All epochs are done; the loss of the last step.
    Finished(f64),
    /// It was asked to stop and saved this checkpoint.
    Interrupted(PathBuf),
}

struct Run<'a> {
    g: &'a Gpu,
    config: &'a Config,
    settings: &'a Settings,
    outputs: &'a Outputs,
    trainer: Pretrainer,
    masker: Masker,
    schedule: Schedule,
    log: TrainLog,
    events: EventFile,
    progress: Progress,
    pictures: Option<(Reconstructor, Vec<u8>, Mask)>,
    /// Step, epoch, learning rate, and the loss on its way.
    pending: VecDeque<(u64, f64, f64, Readback)>,
    last_loss: f64,
}

/// Trains `config` from scratch, or from the checkpoint `resume`, until the end or until `stop` is set.
///
/// # Errors
/// Data, disk and GPU errors; [`Error::Diverged`] when the loss is no longer a number. Checkpoints written before stay.
pub fn pretrain(
    g: &Gpu, config: &Config, settings: &Settings, outputs: &Outputs, resume: Option<&Path>, stop: &AtomicBool,
) -> Result<Ended> {
    let batch = settings.batch_size;
    let data = Arc::new(Dataset::open(&settings.data, Split::Train)?);
    let masker = settings.masker(config)?;
    let hyper = settings.hyper()?;
    let longest = *masker.all_visible_lengths().end();
    let mut trainer = Pretrainer::new(g, config, batch, hyper, settings.seed)?;
    trainer.prepare(longest).map_err(|e| match e {
        Error::OutOfMemory(_) | Error::Limit { .. } => {
            let fitting = largest_batch(g.caps(), config, hyper, longest, batch);
            Error::OutOfMemory(format!("{e}the largest --batch-size that fits is {fitting}"))
        }
        other => other,
    })?;
    let mut at = State { version: checkpoint::VERSION, step: 0, epoch: 0, batch: 0, settings: stored(settings)? };
    if let Some(folder) = resume {
        let found = checkpoint::config(folder)?;
        if found != *config {
            let reason = format!("holds the model {found:?}, but {config:?} was asked for");
            return Err(Error::file(folder.join("config.json"), reason));
        }
        at = same_run(checkpoint::load(g, folder, &trainer.params)?, at, folder)?;
    }
    std::fs::create_dir_all(&outputs.dir).map_err(|e| Error::file(&outputs.dir, format!("cannot be created: {e}")))?;
    let options = LoaderOptions {
        seed: settings.seed,
        threads: outputs.threads,
        ..LoaderOptions::new(batch, Transform::train(config.image_size as u32))
    };
    let start = Cursor { epoch: at.epoch, batch: at.batch };
    let loader = Loader::train(data.clone(), &options, start)?;
    let per_epoch = loader.batches_per_epoch();
    let total = settings.epochs * per_epoch;
    let mut run = Run {
        pictures: held_out(g, config, settings, &trainer, &masker, &data)?,
        schedule: settings.schedule(per_epoch)?,
        log: TrainLog::open(&outputs.dir.join("log.jsonl"), at.step)?,
        events: EventFile::create(&outputs.dir, resume.map(|_| at.step))?,
        progress: Progress::new(total, at.step, batch as u64),
        pending: VecDeque::new(),
        last_loss: f64::NAN,
        g,
        config,
        settings,
        outputs,
        trainer,
        masker,
    };
    run.progress.println(&format!(
        "{} images, {per_epoch} steps per epoch, {} parameters, {} on {}",
        data.len(),
        run.trainer.params.count(),
        human_bytes(g.counters().live_bytes),
        g.caps().name
    ));
    let ended = run.steps(loader, &mut at, per_epoch, total, stop)?;
    run.progress.finish();
    if data.skipped() > 0 {
        tracing::warn!("{} broken images were skipped", data.skipped());
    }
    Ok(ended)
}

fn stored(settings: &Settings) -> Result<serde_json::Value> {
    serde_json::to_value(settings).map_err(|e| Error::argument("settings", e, "numbers that JSON can hold"))
}

/// The state to go on from, if it belongs to the same run; the number of epochs may change.
fn same_run(found: State, fresh: State, folder: &Path) -> Result<State> {
    let differing: Vec<String> = fresh
        .settings
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(key, value)| *key != "epochs" && found.settings.get(key.as_str()) != Some(value))
        .map(|(key, value)| format!("{key} was {}, now {value}", found.settings[key.as_str()]))
        .collect();
    if !differing.is_empty() {
        return Err(Error::file(folder, format!("belongs to a run with other settings: {}", differing.join("; "))));
    }
    if found.settings["epochs"] != fresh.settings["epochs"] {
        tracing::warn!("the number of epochs changed, and with it the learning rates from here on");
    }
    Ok(State { settings: fresh.settings, ..found })
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

impl Run<'_> {
    fn steps(
        &mut self, mut loader: Loader, at: &mut State, per_epoch: u64, total: u64, stop: &AtomicBool,
    ) -> Result<Ended> {
        while at.step < total {
            let Some(batch) = loader.next() else { break };
            let batch = batch?;
            let (step, lr) = (at.step, self.schedule.lr(at.step));
            let epoch = step as f64 / per_epoch as f64;
            let mask = self.masker.draw(step, self.settings.batch_size);
            let loss = self.trainer.step(&batch.images, &mask, step, lr)?.read(self.g)?;
            self.pending.push_back((step, epoch, lr, loss));
            at.step += 1;
            (at.epoch, at.batch) = (at.step / per_epoch, at.step % per_epoch);
            self.collect(IN_FLIGHT)?;
            if at.batch == 0 {
                self.end_of_epoch(at)?;
            } else if stop.load(Ordering::Relaxed) {
                self.collect(0)?;
                return self.save(at, &format!("checkpoint-step-{}", at.step)).map(Ended::Interrupted);
            } else if self.outputs.save_every_steps > 0 && at.step.is_multiple_of(self.outputs.save_every_steps) {
                self.collect(0)?;
                self.save(at, &format!("checkpoint-step-{}", at.step))?;
            }
            if stop.load(Ordering::Relaxed) && at.step < total {
                let folder = self.outputs.dir.join(format!("checkpoint-{}", at.epoch));
                return Ok(Ended::Interrupted(folder));
            }
        }
        self.collect(0)?;
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
            self.last_loss = loss;
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

    fn end_of_epoch(&mut self, at: &State) -> Result<()> {
        self.collect(0)?;
        let folder = self.save(at, &format!("checkpoint-{}", at.epoch))?;
        let every = self.outputs.grid_every;
        if every > 0 && (at.epoch.is_multiple_of(every) || at.epoch == self.settings.epochs) {
            self.draw(at.epoch)?;
        }
        let points: Vec<_> = read_log(&self.outputs.dir.join("log.jsonl"))?.iter().map(|l| (l.step, l.loss)).collect();
        if !points.is_empty() {
            loss_curve(
                &self.outputs.dir.join("loss.svg"),
                &format!("{} on {}", self.config.name, self.settings.data),
                &points,
            )?;
        }
        self.prune(at.epoch)?;
        let line = format!("epoch {:>3}  loss {:.4}  {}", at.epoch, self.last_loss, folder.display());
        self.progress.println(&line);
        Ok(())
    }

    fn save(&mut self, at: &State, name: &str) -> Result<PathBuf> {
        self.log.sync()?;
        let folder = self.outputs.dir.join(name);
        checkpoint::save(self.g, &folder, self.config, &self.trainer.params, at)?;
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

    /// Removes epoch checkpoints older than the newest `keep`.
    fn prune(&self, epoch: u64) -> Result<()> {
        if self.outputs.keep == 0 {
            return Ok(());
        }
        for old in 1..=epoch.saturating_sub(self.outputs.keep as u64) {
            let folder = self.outputs.dir.join(format!("checkpoint-{old}"));
            if folder.exists() {
                std::fs::remove_dir_all(&folder).map_err(|e| Error::file(&folder, e))?;
            }
        }
        Ok(())
    }
}
