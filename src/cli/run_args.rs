//! The arguments of every command that trains, and what such a command does around its run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::watch::Watch;
use crate::cli::terminal::{Device, Outcome, Stop, say, usage, warn};
use crate::data::{Dataset, layout_names};
use crate::error::{Error, Result};
use crate::gpu::{AdapterChoice, Caps, Gpu};
use crate::run::checkpoint;
use crate::run::output_dir::OutputDir;
use crate::run::{Ended, Outputs, Run, Task, open_data};
use crate::train::checkpoint::Best;
use crate::train::settings::RunSettings;

/// Every option may also stand in the file of `--config`, under its long name.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct RunArgs {
    #[arg(long, help = format!("Data set to train on: {}", layout_names()))]
    pub data: Option<String>,
    /// Folder for checkpoints, log.jsonl, TensorBoard events and pictures.
    #[arg(long)]
    pub output_dir: Option<PathBuf>,
    /// TOML file with options; the command line goes first.
    #[arg(long)]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Continue bit-exactly from a checkpoint folder, or from the newest in --output-dir.
    #[arg(long, value_name = "FOLDER")]
    #[serde(skip)]
    pub resume: Option<Option<PathBuf>>,
    /// Print the model, the memory plan and the launches of a step, and stop.
    #[arg(long)]
    #[serde(skip)]
    pub dry_run: bool,
    /// Images to train on, evenly spread over the classes; 0 for all.
    #[arg(long)]
    max_images: Option<usize>,
    /// Images at a time.
    #[arg(long)]
    batch_size: Option<usize>,
    /// Batches whose gradients make one step.
    #[arg(long)]
    accum_iter: Option<usize>,
    /// Passes over the data.
    #[arg(long)]
    epochs: Option<u64>,
    /// Learning rate per 256 images of a step.
    #[arg(long, allow_negative_numbers = true)]
    blr: Option<f64>,
    /// Learning rate whatever the batch, in place of --blr.
    #[arg(long, allow_negative_numbers = true)]
    lr: Option<f64>,
    /// Learning rate at the end.
    #[arg(long, allow_negative_numbers = true)]
    min_lr: Option<f64>,
    /// Epochs of linear warm-up.
    #[arg(long)]
    warmup_epochs: Option<f64>,
    /// cosine (per step), epoch (timm's per epoch), or map_repo (the same with that repository's rates).
    #[arg(long, value_parser = ["cosine", "epoch", "map_repo"])]
    schedule: Option<String>,
    /// AdamW weight decay.
    #[arg(long)]
    weight_decay: Option<f64>,
    /// recommended (matrices only) or map_repo.
    #[arg(long, value_parser = ["recommended", "map_repo"])]
    decay_rule: Option<String>,
    /// Largest gradient norm; 0 for no clipping.
    #[arg(long)]
    clip_grad: Option<f64>,
    /// Seed of weights, order, crops, masks and DropPath.
    #[arg(long)]
    seed: Option<u64>,
    /// Compute each block again in the backward pass: less memory, more time, the same bits.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    checkpoint_blocks: Option<bool>,
    /// f32; mixed: products of operands rounded to f16, on cooperative matrices where there are any, the loss scaled
    /// as it takes; high: nearly f32 on cooperative matrices. Weights, sums and all else are f32.
    #[arg(long, value_parser = ["f32", "mixed", "high"])]
    precision: Option<String>,
    /// Steps between log lines.
    #[arg(long)]
    log_every: Option<u64>,
    /// Steps between checkpoints besides those of each epoch.
    #[arg(long)]
    save_every_steps: Option<u64>,
    /// Epoch checkpoints to keep, the newest; 0 keeps all.
    #[arg(long)]
    keep: Option<usize>,
    /// Decoding threads; 0 takes one per core.
    #[arg(long)]
    threads: Option<usize>,
}

/// An option whose value is a word of an enumeration.
pub fn word<T: DeserializeOwned>(name: &str, text: Option<&str>, expected: &str) -> Result<Option<T>> {
    let parsed = text.map(|t| serde_json::from_value(Value::String(t.into()))).transpose();
    parsed.map_err(|e| Error::argument(name.to_owned(), e, expected))
}

/// The word of a value of an enumeration.
pub fn word_of(value: impl Serialize) -> Option<String> {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned))
}

/// The values of the file of `--config` with the command line's on top.
pub fn merged<A: AsMut<RunArgs> + Serialize + DeserializeOwned>(mut args: A) -> Result<A> {
    let Some(path) = args.as_mut().config.clone() else { return Ok(args) };
    let text = std::fs::read_to_string(&path).map_err(Error::io(&path, "read"))?;
    let broken = |e: &dyn std::fmt::Display| {
        Error::argument("--config", format!("{}: {e}", path.display()), "options as in --help")
    };
    let file: A = toml::from_str(&text).map_err(|e| broken(&e))?;
    let value = |args: &A| serde_json::to_value(args).map_err(|e| broken(&e));
    let (mut base, top) = (value(&file)?, value(&args)?);
    if let (Value::Object(base), Value::Object(top)) = (&mut base, top) {
        base.extend(top.into_iter().filter(|(_, v)| !v.is_null()));
    }
    let mut joined: A = serde_json::from_value(base).map_err(|e| broken(&e))?;
    let (to, from) = (joined.as_mut(), args.as_mut());
    if from.blr.is_some() && from.lr.is_none() {
        to.lr = None; // the rate of the command line, of whichever kind
    }
    (to.config, to.resume, to.dry_run) = (from.config.take(), from.resume.take(), from.dry_run);
    Ok(joined)
}

pub fn needed(what: &str) -> Error {
    Error::argument(what.to_owned(), "nothing", "a value")
}

impl RunArgs {
    /// The options over `d`.
    pub fn settings(&self, d: RunSettings) -> Result<RunSettings> {
        let schedule = word("--schedule", self.schedule.as_deref(), "cosine, epoch or map_repo")?;
        let precision = word("--precision", self.precision.as_deref(), "f32, mixed or high")?;
        let rule = word("--decay-rule", self.decay_rule.as_deref(), "recommended or map_repo")?;
        Ok(RunSettings {
            data: self.data.clone().unwrap_or(d.data),
            max_images: self.max_images.unwrap_or(d.max_images),
            batch_size: self.batch_size.unwrap_or(d.batch_size),
            accum_iter: self.accum_iter.unwrap_or(d.accum_iter),
            epochs: self.epochs.unwrap_or(d.epochs),
            blr: self.blr.unwrap_or(d.blr),
            // a rate given on the command line stands, of whichever kind it is
            lr: self.lr.or(d.lr.filter(|_| self.blr.is_none())),
            min_lr: self.min_lr.unwrap_or(d.min_lr),
            warmup_epochs: self.warmup_epochs.unwrap_or(d.warmup_epochs),
            schedule: schedule.unwrap_or(d.schedule),
            weight_decay: self.weight_decay.unwrap_or(d.weight_decay),
            decay_rule: rule.unwrap_or(d.decay_rule),
            clip_grad: self.clip_grad.unwrap_or(d.clip_grad),
            seed: self.seed.unwrap_or(d.seed),
            checkpoint_blocks: self.checkpoint_blocks.unwrap_or(d.checkpoint_blocks),
            precision: precision.unwrap_or(d.precision),
            ..d
        })
    }

    /// Where results go, without the text of the options.
    pub fn outputs(&self) -> Result<Outputs> {
        let threads = self.threads.unwrap_or(0);
        if threads > 1024 {
            return Err(Error::argument("--threads", threads, "0 to 1024"));
        }
        let log_every = self.log_every.unwrap_or(10);
        if log_every == 0 {
            return Err(Error::argument("--log-every", 0, "at least 1"));
        }
        Ok(Outputs {
            options: String::new(),
            dir: self.output_dir.clone().ok_or_else(|| needed("--output-dir"))?,
            log_every,
            save_every_steps: self.save_every_steps.unwrap_or(0),
            keep: self.keep.unwrap_or(0),
            threads,
        })
    }

    /// Every option, as the run has it.
    pub fn of(settings: &RunSettings, outputs: &Outputs) -> Self {
        let s = settings.clone();
        Self {
            data: Some(s.data),
            output_dir: Some(outputs.dir.clone()),
            config: None,
            resume: None,
            dry_run: false,
            max_images: Some(s.max_images),
            batch_size: Some(s.batch_size),
            accum_iter: Some(s.accum_iter),
            epochs: Some(s.epochs),
            blr: Some(s.blr).filter(|_| s.lr.is_none()),
            lr: s.lr,
            min_lr: Some(s.min_lr),
            warmup_epochs: Some(s.warmup_epochs),
            schedule: word_of(s.schedule),
            weight_decay: Some(s.weight_decay),
            decay_rule: word_of(s.decay_rule),
            clip_grad: Some(s.clip_grad),
            seed: Some(s.seed),
            checkpoint_blocks: Some(s.checkpoint_blocks),
            precision: word_of(s.precision),
            log_every: Some(outputs.log_every),
            save_every_steps: Some(outputs.save_every_steps),
            keep: Some(outputs.keep),
            threads: Some(outputs.threads),
        }
    }

    /// The checkpoint to go on from, if the run is to go on: the one named, or the newest of the output folder.
    pub fn resume_from(&self) -> Result<Option<PathBuf>> {
        let Some(wanted) = &self.resume else { return Ok(None) };
        if let Some(folder) = wanted {
            return Ok(Some(folder.clone()));
        }
        let output = self.output_dir.as_ref().ok_or_else(|| needed("--output-dir"))?;
        let newest = checkpoint::newest(output)?;
        newest.map(Some).ok_or_else(|| Error::file(output, "holds no checkpoint to resume from"))
    }
}

/// What a dry run plans on: the adapter, or without one a device that only plans; with the limits to plan for.
pub fn planning_caps(device: &Device) -> Result<Caps> {
    match device.open() {
        Err(Error::NoAdapter(_)) if device.0.adapter == AdapterChoice::Auto => {
            Ok(Caps { max_binding: 2 << 30, max_buffer: 2 << 30, ..Caps::portable() })
        }
        opened => Ok(opened?.caps().clone()),
    }
}

/// Checks what can be checked without a device, opens one, and runs what `prepare` makes to its end. `opened` is the
/// data set where it had to be opened before.
pub fn carry_out<T: Task>(
    device: &Device, settings: &RunSettings, outputs: &Outputs, resume: Option<&Path>, opened: Option<Arc<Dataset>>,
    prepare: impl for<'a> FnOnce(&'a Gpu, &'a Outputs, Arc<Dataset>) -> Result<Run<'a, T>>,
) -> Outcome {
    OutputDir::expect_free(&outputs.dir)?;
    if resume.is_none() {
        expect_no_run(&outputs.dir)?;
    }
    let data = opened.map_or_else(|| usage(open_data(settings)), Ok)?; // before anything that takes time
    let g = device.open()?;
    if g.caps().software {
        warn(format_args!("training on the CPU adapter {}: expect a small fraction of a GPU's speed", g.caps().name));
    }
    let stop = stop_flag()?;
    let mut run = prepare(&g, outputs, data)?;
    let dir = outputs.dir.display();
    let go_on = format!("rowscan {} --output-dir {dir} --resume", T::COMMAND);
    match run.train(&stop, &mut Watch::new()) {
        Ok(Ended::Finished(Some(loss))) => {
            say(format_args!("done: loss {loss:.4}, results in {dir}"))?;
            if let Some((Best { epoch, top1, average }, folder)) = run.best() {
                let of = if average { " of the moving average" } else { "" };
                say(format_args!("best: top-1 {top1:.2}%{of} after epoch {epoch}, {}", folder.display()))?;
            }
        }
        Ok(Ended::Finished(None)) => say(format_args!("all {} epochs were done before", settings.epochs))?,
        Ok(Ended::Interrupted(folder)) => {
            say(format_args!("stopped; saved {}\ngo on with: {go_on}", folder.display()))?;
        }
        Err(e) => {
            if let Ok(Some(folder)) = checkpoint::newest(&outputs.dir) {
                warn(format_args!("the checkpoint {} is intact; go on with: {go_on}", folder.display()));
            }
            return Err(Stop::Failure(e));
        }
    }
    Ok(())
}

/// An output folder that already holds a run is not overwritten.
fn expect_no_run(output: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(output) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Error::io(output, "read"))?,
    };
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let Some(found) = paths.find(|path| checkpoint::is_named_so(path)) else { return Ok(()) };
    let advice = "add --resume to go on, or choose another --output-dir";
    Err(Error::file(output, format!("already holds {}: {advice}", found.display())))
}

/// A flag that the first Ctrl-C or SIGTERM sets; the second ends the program.
pub fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130); // asked twice: leave now, the last checkpoint is whole
        }
        warn("\nfinishing this step and saving; once more to leave at once");
    };
    ctrlc::set_handler(handler).map_err(|e| match e {
        ctrlc::Error::System(source) => Error::io("the handler of Ctrl-C", "set")(source),
        other => Error::Internal(format!("the handler of Ctrl-C: {other}")),
    })?;
    Ok(stop)
}
