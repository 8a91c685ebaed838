//! `rowscan pretrain`: arguments over file over defaults, then the run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::model_args::ModelArgs;
use super::{Device, Outcome, Stop, say, usage, warn};
use crate::error::{Error, Result};
use crate::gpu::{AdapterChoice, Caps, Gpu};
use crate::models::Config;
use crate::train::checkpoint;
use crate::train::data::{Dataset, Split};
use crate::train::pretrain::{Ended, Outputs, Run};
use crate::train::settings::Settings;
use crate::train::step::{Pretrainer, expect_fit};

/// Every option may also stand in the file of `--config`, under its long name.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Args {
    /// Image folder (with or without class folders), tar, CIFAR or IDX files, or synthetic[:N].
    #[arg(long)]
    data: Option<String>,
    /// Folder for checkpoints, log.jsonl, TensorBoard events, loss.svg and grids.
    #[arg(long)]
    output_dir: Option<PathBuf>,
    /// TOML file with options; the command line goes first.
    #[arg(long)]
    #[serde(skip)]
    config: Option<PathBuf>,
    /// Continue bit-exactly from a checkpoint folder, or from the newest in --output-dir.
    #[arg(long, value_name = "FOLDER")]
    #[serde(skip)]
    resume: Option<Option<PathBuf>>,
    /// Print the model, the memory plan and the launches of a step, and stop.
    #[arg(long)]
    #[serde(skip)]
    dry_run: bool,
    #[command(flatten)]
    #[serde(flatten)]
    model: ModelArgs,
    /// Images per step.
    #[arg(long)]
    batch_size: Option<usize>,
    /// Passes over the data.
    #[arg(long)]
    epochs: Option<u64>,
    /// Learning rate per 256 images of a batch.
    #[arg(long, allow_negative_numbers = true)]
    blr: Option<f64>,
    /// Learning rate at the end.
    #[arg(long, allow_negative_numbers = true)]
    min_lr: Option<f64>,
    /// Epochs of linear warm-up.
    #[arg(long)]
    warmup_epochs: Option<f64>,
    /// cosine (per step) or map_repo (timm's per epoch).
    #[arg(long, value_parser = ["cosine", "map_repo"])]
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
    /// random, sequential or diagonal.
    #[arg(long, value_parser = ["random", "sequential", "diagonal"])]
    mask: Option<String>,
    /// Share of hidden patches, or `truncnorm` for the MAP repository's draw around 0.5.
    #[arg(long, allow_negative_numbers = true)]
    mask_ratio: Option<String>,
    /// Seed of weights, order, crops, masks and DropPath.
    #[arg(long)]
    seed: Option<u64>,
    /// Steps between log lines.
    #[arg(long)]
    log_every: Option<u64>,
    /// Epochs between picture grids; 0 for none.
    #[arg(long)]
    grid_every: Option<u64>,
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

/// The file's values with the command line's on top.
fn merged(args: Args) -> Result<Args> {
    let Some(path) = &args.config else { return Ok(args) };
    let text = std::fs::read_to_string(path).map_err(|e| Error::file(path, e))?;
    let broken = |e: &dyn std::fmt::Display| {
        Error::argument("--config", format!("{}: {e}", path.display()), "options as in --help")
    };
    let file: Args = toml::from_str(&text).map_err(|e| broken(&e))?;
    let value = |args: &Args| serde_json::to_value(args).map_err(|e| broken(&e));
    let (mut base, top) = (value(&file)?, value(&args)?);
    if let (Value::Object(base), Value::Object(top)) = (&mut base, top) {
        base.extend(top.into_iter().filter(|(_, v)| !v.is_null()));
    }
    let joined: Args = serde_json::from_value(base).map_err(|e| broken(&e))?;
    Ok(Args { config: args.config, resume: args.resume, dry_run: args.dry_run, ..joined })
}

impl Args {
    /// The options over `d`.
    fn settings(&self, d: Settings) -> Result<Settings> {
        fn parse<T: serde::de::DeserializeOwned>(
            name: &str, text: &Option<String>, expected: &str,
        ) -> Result<Option<T>> {
            let parsed = text.as_ref().map(|t| serde_json::from_value(Value::String(t.clone()))).transpose();
            parsed.map_err(|e| Error::argument(name, e, expected))
        }
        let schedule = parse("--schedule", &self.schedule, "cosine or map_repo")?;
        let rule = parse("--decay-rule", &self.decay_rule, "recommended or map_repo")?;
        Ok(Settings {
            data: self.data.clone().unwrap_or(d.data),
            batch_size: self.batch_size.unwrap_or(d.batch_size),
            epochs: self.epochs.unwrap_or(d.epochs),
            blr: self.blr.unwrap_or(d.blr),
            min_lr: self.min_lr.unwrap_or(d.min_lr),
            warmup_epochs: self.warmup_epochs.unwrap_or(d.warmup_epochs),
            schedule: schedule.unwrap_or(d.schedule),
            weight_decay: self.weight_decay.unwrap_or(d.weight_decay),
            decay_rule: rule.unwrap_or(d.decay_rule),
            clip_grad: self.clip_grad.unwrap_or(d.clip_grad),
            mask: self.mask.clone().unwrap_or(d.mask),
            mask_ratio: mask_ratio(self.mask_ratio.as_deref(), d.mask_ratio)?,
            seed: self.seed.unwrap_or(d.seed),
            ..d
        })
    }

    fn outputs(&self, dir: PathBuf, config: &Config, settings: &Settings) -> Result<Outputs> {
        let threads = self.threads.unwrap_or(0);
        if threads > 1024 {
            return Err(Error::argument("--threads", threads, "0 to 1024"));
        }
        let log_every = self.log_every.unwrap_or(10);
        if log_every == 0 {
            return Err(Error::argument("--log-every", 0, "at least 1"));
        }
        let outputs = Outputs {
            options: String::new(),
            dir,
            log_every,
            grid_every: self.grid_every.unwrap_or(1),
            save_every_steps: self.save_every_steps.unwrap_or(0),
            keep: self.keep.unwrap_or(0),
            threads,
        };
        let resolved = toml::to_string(&Self::of(config, settings, &outputs));
        let options = resolved.map_err(|e| Error::argument("options", e, "what TOML can hold"))?;
        Ok(Outputs { options, ..outputs })
    }

    /// Every option, as the run has it.
    fn of(config: &Config, settings: &Settings, outputs: &Outputs) -> Self {
        let s = settings.clone();
        let name = |value: Value| value.as_str().map(str::to_owned);
        Self {
            data: Some(s.data),
            output_dir: Some(outputs.dir.clone()),
            config: None,
            resume: None,
            dry_run: false,
            model: ModelArgs::of(config),
            batch_size: Some(s.batch_size),
            epochs: Some(s.epochs),
            blr: Some(s.blr),
            min_lr: Some(s.min_lr),
            warmup_epochs: Some(s.warmup_epochs),
            schedule: serde_json::to_value(s.schedule).ok().and_then(name),
            weight_decay: Some(s.weight_decay),
            decay_rule: serde_json::to_value(s.decay_rule).ok().and_then(name),
            clip_grad: Some(s.clip_grad),
            mask: Some(s.mask),
            mask_ratio: Some(s.mask_ratio.map_or("truncnorm".into(), |ratio| ratio.to_string())),
            seed: Some(s.seed),
            log_every: Some(outputs.log_every),
            grid_every: Some(outputs.grid_every),
            save_every_steps: Some(outputs.save_every_steps),
            keep: Some(outputs.keep),
            threads: Some(outputs.threads),
        }
    }
}

/// A share, `truncnorm`, or the default.
pub fn mask_ratio(text: Option<&str>, default: Option<f64>) -> Result<Option<f64>> {
    match text {
        None => Ok(default),
        Some("truncnorm") => Ok(None),
        Some(text) => {
            let wrong =
                |_| Error::argument("--mask-ratio", format!("`{text}`"), "a number from 0 to below 1, or truncnorm");
            text.parse().map(Some).map_err(wrong)
        }
    }
}

/// The checkpoint to go on from: the one named, or the newest of the output folder.
fn resume_from(wanted: Option<&Path>, output: Option<&Path>) -> Result<PathBuf> {
    if let Some(folder) = wanted {
        return Ok(folder.to_path_buf());
    }
    let output = output.ok_or_else(|| needed("--output-dir"))?;
    checkpoint::newest(output)?.ok_or_else(|| Error::file(output, "holds no checkpoint to resume from"))
}

fn needed(what: &str) -> Error {
    Error::argument(what, "nothing", "a value")
}

/// An output folder that already holds a run is not overwritten.
fn expect_no_run(output: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(output) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(|e| Error::file(output, e))?,
    };
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let Some(found) = paths.find(|path| checkpoint::is_named_so(path)) else { return Ok(()) };
    let advice = "add --resume to go on, or choose another --output-dir";
    Err(Error::file(output, format!("already holds {}: {advice}", found.display())))
}

/// Prints parameters, plan and launches; works without an adapter.
fn dry_run(g: &Gpu, config: &Config, settings: &Settings) -> Result<()> {
    let caps = match g.is_dry() {
        true => Caps { max_binding: 2 << 30, max_buffer: 2 << 30, ..Caps::portable() },
        false => g.caps().clone(),
    };
    let (batch, hyper) = (settings.batch_size, settings.hyper()?);
    let longest = *settings.masker(config)?.all_visible_lengths().end();
    expect_fit(&caps, config, hyper, longest, batch)?;
    let mut trainer = Pretrainer::new(&Gpu::dry(caps), config, batch, hyper, settings.seed)?;
    let plan = trainer.plan(longest)?;
    let (tokens, launches) = (config.tokens(), plan.launches);
    say(format_args!("model {}: {} parameters", config.name, trainer.params.count()))?;
    say(format_args!("step of {batch} images, {longest} of {tokens} tokens visible: {launches} launches\n{plan}"))
}

/// A flag that the first Ctrl-C or SIGTERM sets; the second ends the program.
fn stop_flag() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130); // asked twice: leave now, the last checkpoint is whole
        }
        warn("\nfinishing this step and saving; once more to leave at once");
    };
    ctrlc::set_handler(handler).map_err(|e| Error::argument("signal handler", e, "one that can be set"))?;
    Ok(stop)
}

pub fn run(device: &Device, args: Args) -> Outcome {
    let args = usage(merged(args))?;
    // what a checkpoint says stands unless the command line says otherwise
    let from = args.resume.as_ref().map(|wanted| resume_from(wanted.as_deref(), args.output_dir.as_deref()));
    let from = usage(from.transpose())?;
    let (config, settings) = match &from {
        Some(folder) => {
            let (config, settings) = (checkpoint::config(folder)?, checkpoint::state(folder)?.settings);
            (usage(args.model.over(config))?, usage(args.settings(settings))?)
        }
        None => (usage(args.model.resolve())?, usage(args.settings(Settings::default()))?),
    };
    usage(settings.check(&config))?;
    if args.dry_run {
        let g = match device.open() {
            Err(Error::NoAdapter(_)) if device.0.adapter == AdapterChoice::Auto => Gpu::dry(Caps::portable()),
            opened => opened?,
        };
        return Ok(dry_run(&g, &config, &settings)?);
    }
    if settings.data.is_empty() {
        return Err(Stop::Usage(needed("--data")));
    }
    let dir = args.output_dir.clone().ok_or_else(|| Stop::Usage(needed("--output-dir")))?;
    let outputs = usage(args.outputs(dir, &config, &settings))?;
    if from.is_none() {
        expect_no_run(&outputs.dir)?;
    }
    usage(Dataset::open(&settings.data, Split::Train).map_err(Error::from))?; // before anything that takes time
    let g = device.open()?;
    if g.caps().software {
        warn(format_args!("training on the CPU adapter {}: expect a small fraction of a GPU's speed", g.caps().name));
    }
    let stop = stop_flag()?;
    let mut run = Run::prepare(&g, &config, &settings, &outputs, from.as_deref())?;
    let dir = outputs.dir.display();
    let go_on = format!("rowscan pretrain --output-dir {dir} --resume");
    match run.train(&stop) {
        Ok(Ended::Finished(Some(loss))) => say(format_args!("done: loss {loss:.4}, results in {dir}"))?,
        Ok(Ended::Finished(None)) => say(format_args!("all {} epochs were done before", settings.epochs))?,
        Ok(Ended::Interrupted(folder)) => {
            say(format_args!("stopped; saved {}\ngo on with: {go_on}", folder.display()))?;
        }
        Err(e) => {
            if let Ok(Some(folder)) = checkpoint::newest(&outputs.dir) {
                warn(format_args!("the checkpoint {} is intact; go on with: {go_on}", folder.display()));
            }
            return Err(e.into());
        }
    }
    Ok(())
}
