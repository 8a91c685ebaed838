//! The loop of every run that trains: batches go in, losses come out, records and checkpoints are written on the way. A
//! [`Task`] says what is trained, and on what.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::checkpoint::{self, Learned};
use super::observer::{Observer, RunFacts};
use super::resume::expect_same_run;
use super::task::{Surroundings, Task, TaskSettings};
use super::tested::{Noted, Tested};
use super::world::{Item, World};

use super::output_dir::OutputDir;
use super::outputs::Outputs;
use super::progress::{Progress, Waited};
use super::record::atomic::write_atomic;
use super::record::log::{Line, LogLine, TrainLog};
use super::record::tfevents::EventFile;
use crate::data::{Cursor, DataError, Dataset, Fingerprint, ImageBatch, Loader, LoaderOptions, PixelLabels, Split};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Readback, human_bytes};
use crate::models::Config;
use crate::nn::Params;
use crate::ops::matmul::products;
use crate::train::checkpoint::{Best, State};
use crate::train::exchange::expect_shared;
use crate::train::loss_scaler::Scaling;
use crate::train::schedule::Schedule;
use crate::train::settings::RunSettings;

/// Steps that may be on the GPU at the same time: enough to keep it busy, few enough to stop soon when asked.
const IN_FLIGHT: usize = 2;

/// Name of the checkpoint with the best test.
const BEST: &str = "best";

/// Opens the data set that a run's settings name, as much of it as they want. A run opens its set once: this may take
/// minutes, as for an archive that has to be unpacked.
///
/// # Errors
/// Those of [`Dataset::open`]; more images wanted than there are.
pub fn open_data(settings: &RunSettings) -> Result<Arc<Dataset>> {
    open_labeled(settings, &PixelLabels::default())
}

/// [`open_data`] with what the values of segmentation maps mean.
///
/// # Errors
/// Those of [`Dataset::open_labeled`]; more images wanted than there are.
pub fn open_labeled(settings: &RunSettings, labels: &PixelLabels) -> Result<Arc<Dataset>> {
    Ok(Arc::new(Dataset::open_labeled(&settings.data, Split::Train, labels)?.limited(settings.max_images)?))
}

/// What the processes of a run must have in common: all that decides its bits.
fn in_common<S: Serialize>(g: &Gpu, config: &Config, fresh: &State<S>) -> Result<Vec<Item>> {
    let caps = g.caps();
    let mut items = vec![("the version of rowscan".to_owned(), env!("CARGO_PKG_VERSION").to_owned())];
    items.extend(World::items("model", config)?);
    items.extend(World::items("settings", &fresh.settings)?);
    items.retain(|(name, _)| name != "settings.data"); // the same images may lie elsewhere
    items.push(("the number of images".into(), fresh.images.to_string()));
    items.extend(World::items("data", &fresh.listing)?);
    items.push(("the adapter".into(), format!("{} ({})", caps.name, caps.backend)));
    items.push(("the driver".into(), caps.driver.clone()));
    items.push(("the adapter's instructions".into(), format!("{:?}, {}", caps.tiers, caps.nearest)));
    Ok(items)
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq)]
pub enum Ended {
    /// All epochs are done. Holds the loss of the last step; `None` if no step was left to do.
    Finished(Option<f64>),
    /// The run was asked to stop, and saved this checkpoint.
    Interrupted(PathBuf),
}

/// A run that is ready to train.
pub struct Run<'a, T: Task> {
    g: &'a Gpu,
    task: T,
    outputs: &'a Outputs,
    data: Arc<Dataset>,
    loader: Loader,
    schedule: Schedule,
    world: World,
    /// What the first of several processes writes for all.
    records: Option<Records>,
    progress: Progress,
    at: State<T::Settings>,
    per_epoch: u64,
    pending: VecDeque<Pending>,
    last_loss: Option<f64>,
    /// How long the loader was waited for.
    waited: Duration,
}

/// The records of a run, and the lock of the folder they are in.
struct Records {
    _alone: OutputDir,
    log: TrainLog,
    events: EventFile,
}

/// A step that was submitted to the GPU and whose loss was not read yet.
struct Pending {
    step: u64,
    lr: f64,
    batch: ImageBatch,
    loss: Readback,
    scaling: Option<Readback>,
}

impl<'a, T: Task> Run<'a, T> {
    /// Checks everything for a new run, or for one that resumes from the checkpoint `resume`. `data` is the set that
    /// the settings name, opened by [`open_data`]. The output folder is touched last, so that a run which cannot start
    /// leaves nothing.
    ///
    /// # Errors
    /// Wrong settings, data that cannot be read, a model that does not fit, a checkpoint of another run.
    pub fn new(
        g: &'a Gpu, config: &Config, settings: &T::Settings, outputs: &'a Outputs, resume: Option<&Path>,
        data: Arc<Dataset>,
    ) -> Result<Self> {
        Self::among(&World::alone(), g, config, settings, outputs, resume, data)
    }

    /// [`Run::new`] for a run that the processes of `world` share: each takes its part of the micro-batches of a step.
    /// The first of them reads the checkpoint, and it alone writes. All of them make the same calls.
    ///
    /// # Errors
    /// Also micro-batches that the processes cannot share evenly, and processes that differ in model, settings, data,
    /// adapter or version.
    pub fn among(
        world: &World, g: &'a Gpu, config: &Config, settings: &T::Settings, outputs: &'a Outputs,
        resume: Option<&Path>, data: Arc<Dataset>,
    ) -> Result<Self> {
        T::check(config, settings)?;
        let (run, place) = (settings.as_ref(), world.place());
        expect_shared(place, run.accum_iter)?;
        let (batch, epochs) = (run.images_per_step(), run.epochs);
        let fresh = State::new(data.len(), Some(Fingerprint::of(&data)), settings.clone());
        let (seed, threads) = (run.seed, world.threads(outputs.record.threads));
        let options = LoaderOptions { batch_size: batch, seed, threads, place, ..settings.loading(config) };
        let per_epoch = options.batches_per_epoch(data.len());
        world.agree(&in_common(g, config, &fresh)?)?;
        let found = world.from_first(|| {
            let Some(folder) = resume else { return Ok(None) };
            expect_same_run(folder, config, &fresh, &data, per_epoch)?;
            checkpoint::state::<T::Settings>(folder).map(Some)
        })?;
        let surroundings = Surroundings { world, record: &outputs.record, data: &data, threads };
        let mut task = T::new(g, config, settings, surroundings, resume.is_some() || !world.leads())?;
        if let Some(folder) = resume.filter(|_| world.leads()) {
            checkpoint::load::<T::Settings>(g, folder, task.params(), &task.companions())?;
        }
        let models: Vec<&Params> =
            [task.params()].into_iter().chain(task.companions().into_iter().map(|(_, model)| model)).collect();
        world.spread(g, &models)?;
        let at = match found {
            Some(found) => State { settings: settings.clone(), listing: fresh.listing.clone(), ..found },
            None => fresh,
        };
        let loader = Loader::train(data.clone(), &options, Cursor { epoch: at.epoch, batch: at.batch });
        let loader = loader.map_err(|e| match e {
            // a batch of the loader is a whole step: say which settings it is made of
            DataError::TooFew { name, images, .. } => {
                DataError::TooFew { name, images, batch_size: run.batch_size, accum_iter: run.accum_iter }
            }
            other => other,
        })?;
        task.prepare(&data)?;
        let records = || {
            let alone = OutputDir::open(&outputs.dir)?;
            write_atomic(&outputs.dir.join(format!("{}.toml", T::COMMAND)), outputs.options.as_bytes())?;
            Ok::<_, Error>(Records {
                _alone: alone,
                log: TrainLog::open(&outputs.dir.join("log.jsonl"), at.step)?,
                events: EventFile::create(&outputs.dir, resume.map(|_| at.step))?,
            })
        };
        let what = (batch as u64, task.config().samples());
        Ok(Self {
            schedule: run.schedule(per_epoch)?,
            records: world.leads().then(records).transpose()?,
            progress: Progress::new(epochs * per_epoch, at.step, what).among(world.size()),
            pending: VecDeque::new(),
            last_loss: None,
            waited: Duration::ZERO,
            world: world.clone(),
            g,
            task,
            outputs,
            data,
            loader,
            at,
            per_epoch,
        })
    }

    /// Trains until all epochs are done or `stop` is set, and reports to `observer`.
    ///
    /// # Errors
    /// Errors of data, disk and GPU; [`Error::Diverged`] when a loss is not finite. Checkpoints that were written
    /// before stay.
    pub fn train(&mut self, stop: &AtomicBool, observer: &mut dyn Observer) -> Result<Ended> {
        observer.begin(&self.facts());
        observer.line(&format!(
            "{} {}, {} steps per epoch, {} parameters, {} on {}{}, products in {}",
            self.data.len(),
            self.task.config().samples(),
            self.per_epoch,
            self.task.params().count(),
            human_bytes(self.g.counters().live_bytes),
            if self.world.size() > 1 { format!("each of {} × ", self.world.size()) } else { String::new() },
            self.g.caps().name,
            products(self.g.caps(), self.at.settings.as_ref().precision),
        ));
        let ended = self.steps(stop, observer);
        observer.finish(&match &ended {
            Ok(Ended::Finished(_)) => "finished".to_owned(),
            Ok(Ended::Interrupted(folder)) => format!("stopped, and saved {}", folder.display()),
            Err(e) => format!("ended by an error: {e}"),
        });
        if self.data.skipped() > 0 {
            tracing::warn!("{} broken {} were skipped", self.data.skipped(), self.task.config().samples());
        }
        ended
    }

    /// What this run is, and where it runs.
    fn facts(&self) -> RunFacts {
        let (config, caps, run) = (self.task.config(), self.g.caps(), self.at.settings.as_ref());
        let what = config.samples();
        let batch = match run.accum_iter {
            1 => format!("{} {what}", run.batch_size),
            parts => format!("{} {what}, in {parts} micro-batches", run.images_per_step()),
        };
        let steps = format!("{} in {} epochs of {}", self.progress.total, run.epochs, self.per_epoch);
        let several = match self.world.size() {
            1 => String::new(),
            ranks => format!("{ranks} × "),
        };
        let memory = format!("{several}{}", human_bytes(self.g.counters().live_bytes));
        let cores = std::thread::available_parallelism().map_or("?".into(), |cores| cores.to_string());
        RunFacts {
            dir: self.outputs.dir.clone(),
            command: T::COMMAND,
            title: format!("{} on {}", config.name, self.data.spec()),
            task: vec![
                ("model", config.name.clone()),
                ("parameters", self.task.params().count().to_string()),
                ("data", format!("{}, {} {what}", self.data.spec(), self.data.len())),
                ("a step", batch),
                ("steps", steps),
            ],
            machine: vec![
                ("adapter", format!("{several}{}{}", caps.name, if caps.software { " (a CPU)" } else { "" })),
                ("driver", format!("{}, {}", caps.backend, caps.driver)),
                ("instructions", caps.tiers.to_string()),
                ("products", products(caps, run.precision).to_string()),
                ("GPU memory", memory),
                ("processor", format!("{cores} cores, {}, {}", std::env::consts::ARCH, std::env::consts::OS)),
                ("program", concat!("rowscan ", env!("CARGO_PKG_VERSION")).to_owned()),
            ],
            steps: (self.at.step, self.progress.total),
            options: self.outputs.options.clone(),
            columns: self.task.columns(),
        }
    }

    /// The best test so far, and the folder of its checkpoint.
    pub fn best(&self) -> Option<(Best, PathBuf)> {
        self.at.best.map(|best| (best, self.outputs.dir.join(BEST)))
    }

    fn epochs(&self) -> u64 {
        self.at.settings.as_ref().epochs
    }

    fn steps(&mut self, stop: &AtomicBool, observer: &mut dyn Observer) -> Result<Ended> {
        let total = self.epochs() * self.per_epoch;
        while self.at.step < total {
            let reason = "it ended before the run did";
            let ended = || DataError::Stopped { name: self.data.spec().into(), reason: reason.into() };
            let asked = Instant::now();
            let batch = self.loader.next().ok_or_else(ended)??;
            self.waited += asked.elapsed();
            let (step, lr) = (self.at.step, self.schedule.lr(self.at.step));
            self.world.doing(format!("step {step}"));
            let loss = self.task.step(&batch, step, lr)?.read(self.g)?;
            let scaling = self.task.scaler().map(|scaler| scaler.state().read(self.g)).transpose()?;
            self.pending.push_back(Pending { step, lr, batch, loss, scaling });
            self.at.step += 1;
            (self.at.epoch, self.at.batch) = (self.at.step / self.per_epoch, self.at.step % self.per_epoch);
            self.collect(IN_FLIGHT, observer)?;
            let every = self.outputs.record.save_every_steps;
            let stopping = self.world.any(stop.load(Ordering::Relaxed))?;
            let saved = if self.at.batch == 0 {
                Some(self.end_of_epoch(observer)?)
            } else if stopping || every > 0 && self.at.step.is_multiple_of(every) {
                Some(self.save(&format!("checkpoint-step-{}", self.at.step), observer)?)
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

    /// Reads back losses, oldest first, until at most `left` steps are on the GPU.
    fn collect(&mut self, left: usize, observer: &mut dyn Observer) -> Result<()> {
        while self.pending.len() > left {
            let Some(Pending { step, lr, batch, loss, scaling }) = self.pending.pop_front() else { break };
            let loss = f64::from(bytemuck::pod_read_unaligned::<f32>(&loss.wait()?));
            let scaling = scaling.map(|state| Ok::<_, Error>(Scaling::from_bytes(&state.wait()?))).transpose()?;
            if !loss.is_finite() || scaling.is_some_and(|scaling| scaling.hopeless) {
                return Err(self.diverged(step, loss, &batch));
            }
            let epoch = step as f64 / self.per_epoch as f64;
            self.last_loss = Some(loss);
            let exchanged = self.world.exchanged();
            let data = self.waited.as_secs_f64();
            let waited = Waited { data, exchange: exchanged.seconds, sent: exchanged.bytes };
            let text = self.progress.update(step + 1, loss, lr, waited);
            observer.step(step + 1, self.progress.total, &text);
            if step % self.outputs.record.log_every == 0 || step + 1 == self.progress.total {
                let images_per_second = self.progress.images_per_second();
                let (loss_scale, skipped) = (scaling.map(|s| s.scale), scaling.map(|s| s.skipped));
                let several = self.world.size() > 1;
                let exchange_share = several.then(|| self.progress.exchange_share());
                let exchange_bytes = several.then_some(exchanged.bytes);
                let data_wait = self.progress.data_wait();
                let line = LogLine {
                    step,
                    epoch,
                    loss,
                    lr,
                    images_per_second,
                    data_wait: Some(data_wait),
                    loss_scale,
                    skipped,
                    exchange_share,
                    exchange_bytes,
                };
                let Some(Records { log, events, .. }) = &mut self.records else { continue };
                log.append(Line::Step(line))?;
                let speed = ("train/images_per_second", images_per_second as f32);
                let mut scalars = vec![("train/loss", loss as f32), ("train/lr", lr as f32), speed];
                scalars.push(("train/data_wait", data_wait as f32));
                scalars.extend(loss_scale.map(|scale| ("train/loss_scale", scale as f32)));
                scalars.extend(skipped.map(|steps| ("train/skipped_steps", steps as f32)));
                scalars.extend(exchange_share.map(|share| ("train/exchange_share", share as f32)));
                events.scalars(step, &scalars)?;
                observer.logged();
            }
        }
        Ok(())
    }

    /// Saves the state before the step that diverged, and looks for the first tensor that is not finite. The weights
    /// are still those of that state: the GPU makes no update after a loss that is not finite.
    fn diverged(&mut self, step: u64, loss: f64, batch: &ImageBatch) -> Error {
        self.pending.clear();
        self.at = State { step, epoch: step / self.per_epoch, batch: step % self.per_epoch, ..self.at.clone() };
        let folder = self.outputs.dir.join(format!("diverged-step-{step}"));
        let saved = match self.save_to(&folder) {
            Ok(()) => format!("the state before it is in {}", folder.display()),
            Err(e) => format!("the state before it could not be saved ({e})"),
        };
        let cause = match self.found_not_finite(batch, step) {
            Ok(Some(found)) => format!("first, {found}"),
            Ok(None) => "taken again it is a number".into(),
            Err(e) => format!("what came first could not be found ({e})"),
        };
        let last = match checkpoint::newest(&self.outputs.dir) {
            Ok(Some(folder)) => format!("the last checkpoint, {}, is intact", folder.display()),
            Ok(None) => "this run has saved no checkpoint".into(),
            Err(e) => format!("the last checkpoint was not found ({e})"),
        };
        let advice = "lower `blr`, raise `warmup_epochs`, or set `clip_grad`";
        Error::Diverged(format!("the loss of step {step} is {loss}\n{cause}\n{saved}\n{advice}; {last}"))
    }

    /// The first tensor that is not finite, in the micro-batches of the first process that has one.
    fn found_not_finite(&mut self, batch: &ImageBatch, step: u64) -> Result<Option<String>> {
        let found = self.task.find_not_finite(batch, step)?.unwrap_or_default();
        let all = self.world.gather(found.into_bytes())?;
        let first = all.iter().enumerate().find(|(_, found)| !found.is_empty());
        let told = |(rank, found): (usize, &Vec<u8>)| match self.world.size() {
            1 => String::from_utf8_lossy(found).into_owned(),
            _ => format!("on {}, {}", self.world.name(rank), String::from_utf8_lossy(found)),
        };
        Ok(first.map(told))
    }

    fn end_of_epoch(&mut self, observer: &mut dyn Observer) -> Result<PathBuf> {
        let epoch = self.at.epoch;
        self.collect(0, observer)?;
        let last = epoch == self.epochs();
        let tested = self.task.test(epoch, last)?;
        let before = self.at.best;
        let scores = tested.map(|tested| self.record_test(tested)).transpose()?.unwrap_or_default();
        let folder = self.save(&format!("checkpoint-{epoch}"), observer)?;
        if self.at.best != before {
            self.save_to(&self.outputs.dir.join(BEST))?;
        }
        if self.world.leads() {
            self.task.show(&self.outputs.dir, epoch, last)?;
        }
        observer.epoch(&self.outputs.dir, &format!("{} on {}", self.task.config().name, self.data.spec()))?;
        let loss = self.last_loss.unwrap_or(f64::NAN);
        observer.line(&format!("epoch {epoch:>3}  loss {loss:.4}  {scores}{}", folder.display()));
        Ok(folder)
    }

    /// Logs a test, and notes it if it is the best so far. Returns it as text.
    fn record_test(&mut self, tested: Tested) -> Result<String> {
        let (epoch, step) = (self.at.epoch, self.at.step.saturating_sub(1));
        let Noted { line, scalars, mut text, scores } = tested.noted(step, epoch as f64);
        if let Some(Records { log, events, .. }) = &mut self.records {
            log.append(line)?;
            events.scalars(step, &scalars)?;
        }
        for (average, top1) in [false, true].into_iter().zip(scores) {
            if let Some(top1) = top1.filter(|top1| self.at.best.is_none_or(|best| *top1 > best.top1)) {
                self.at.best = Some(Best { epoch, top1, average });
            }
        }
        if self.at.best.is_some_and(|best| best.epoch == epoch) {
            text.push_str("(best)  ");
        }
        Ok(text)
    }

    /// Saves a checkpoint. The log is synced before it, so that a checkpoint is never ahead of the log.
    fn save(&mut self, name: &str, observer: &mut dyn Observer) -> Result<PathBuf> {
        self.collect(0, observer)?;
        let folder = self.outputs.dir.join(name);
        if let Some(Records { log, .. }) = &self.records {
            log.sync()?;
            self.save_to(&folder)?;
            self.prune()?;
        }
        Ok(folder)
    }

    /// Writes the state to a folder; of several processes the first does.
    fn save_to(&self, folder: &Path) -> Result<()> {
        if !self.world.leads() {
            return Ok(());
        }
        let (task, companions) = (&self.task, self.task.companions());
        let learned = Learned { classes: task.classes(), categories: task.categories() };
        checkpoint::save(self.g, folder, task.config(), task.params(), &companions, learned, &self.at)
    }

    /// Removes checkpoints beyond `keep`: of epoch checkpoints the newest `keep` stay, of those between epochs only the
    /// one just written.
    fn prune(&self) -> Result<()> {
        let keep = self.outputs.record.keep as u64;
        for (step, folder) in if keep > 0 { checkpoint::list(&self.outputs.dir)? } else { Vec::new() } {
            let between = !step.is_multiple_of(self.per_epoch);
            if step < self.at.step && (between || step / self.per_epoch + keep <= self.at.epoch) {
                checkpoint::remove(&folder)?;
            }
        }
        Ok(())
    }
}
