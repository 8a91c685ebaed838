//! `rowscan pretrain`: arguments over file over defaults, then the run.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::model_args::ModelArgs;
use super::{Device, Outcome, Stop, usage};
use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu};
use crate::models::Config;
use crate::train::checkpoint;
use crate::train::pretrain::{Ended, Outputs, pretrain};
use crate::train::record::write_atomic;
use crate::train::settings::Settings;
use crate::train::step::Pretrainer;

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
    #[arg(long, num_args = 0..=1, default_missing_value = "")]
    #[serde(skip)]
    resume: Option<PathBuf>,
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
    #[arg(long)]
    blr: Option<f64>,
    /// Learning rate at the end.
    #[arg(long)]
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
    #[arg(long)]
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
    fn settings(&self) -> Result<Settings> {
        let d = Settings::default();
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

    fn outputs(&self, dir: PathBuf) -> Result<Outputs> {
        let log_every = self.log_every.unwrap_or(10);
        if log_every == 0 {
            return Err(Error::argument("--log-every", 0, "at least 1"));
        }
        Ok(Outputs {
            dir,
            log_every,
            grid_every: self.grid_every.unwrap_or(1),
            save_every_steps: self.save_every_steps.unwrap_or(0),
            keep: self.keep.unwrap_or(0),
            threads: self.threads.unwrap_or(0),
        })
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

/// The checkpoint to go on from. An output folder that already holds a run is not overwritten.
fn resume_from(resume: Option<&Path>, output: &Path) -> Result<Option<PathBuf>> {
    match resume {
        Some(folder) if folder.as_os_str().is_empty() => match checkpoint::newest(output)? {
            Some(found) => Ok(Some(found)),
            None => Err(Error::file(output, "holds no checkpoint to resume from")),
        },
        Some(folder) => Ok(Some(folder.to_path_buf())),
        None => match checkpoint::newest(output)? {
            Some(found) => {
                let reason =
                    format!("already holds {}: add --resume to go on, or choose another --output-dir", found.display());
                Err(Error::file(output, reason))
            }
            None => Ok(None),
        },
    }
}

/// Prints parameters, plan and launches; works without an adapter.
fn dry_run(g: &Gpu, config: &Config, settings: &Settings) -> Result<()> {
    let dry = Gpu::dry(if g.is_dry() {
        Caps { max_binding: 2 << 30, max_buffer: 2 << 30, ..Caps::portable() }
    } else {
        g.caps().clone()
    });
    let longest = *settings.masker(config)?.all_visible_lengths().end();
    let mut trainer = Pretrainer::new(&dry, config, settings.batch_size, settings.hyper()?, settings.seed)?;
    let plan = trainer.plan(longest)?;
    println!("model {}: {} parameters", config.name, trainer.params.count());
    println!(
        "step of {} images, {longest} of {} tokens visible: {} launches",
        settings.batch_size,
        config.tokens(),
        plan.launches
    );
    print!("{plan}");
    plan.fits(g.caps())
}

pub fn run(device: &Device, args: Args) -> Outcome {
    let args = usage(merged(args))?;
    let config = usage(args.model.resolve())?;
    let settings = usage(args.settings())?;
    usage(settings.masker(&config).map(drop))?;
    usage(settings.hyper().map(drop))?;
    usage(settings.schedule(1).map(drop))?;
    let needed = |what: &str| Stop::Usage(Error::argument(what, "nothing", "a value"));
    if args.dry_run {
        let g = device.open().unwrap_or_else(|_| Gpu::dry(Caps::portable()));
        return Ok(dry_run(&g, &config, &settings)?);
    }
    if settings.data.is_empty() {
        return Err(needed("--data"));
    }
    let outputs = usage(args.outputs(args.output_dir.clone().ok_or_else(|| needed("--output-dir"))?))?;
    let resume = resume_from(args.resume.as_deref(), &outputs.dir)?;
    let g = device.open()?;
    if g.caps().software {
        eprintln!("training on the CPU adapter {}: expect a small fraction of a GPU's speed", g.caps().name);
    }
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let handler = move || {
        if flag.swap(true, Ordering::Relaxed) {
            std::process::exit(130); // asked twice: leave now, the last checkpoint is whole
        }
        eprintln!("\nfinishing this step and saving; once more to leave at once");
    };
    ctrlc::set_handler(handler).map_err(|e| Error::argument("signal handler", e, "one that can be set"))?;
    std::fs::create_dir_all(&outputs.dir).map_err(|e| Error::file(&outputs.dir, format!("cannot be created: {e}")))?;
    let resolved = toml::to_string(&args).map_err(|e| Error::argument("options", e, "what TOML can hold"))?;
    write_atomic(&outputs.dir.join("pretrain.toml"), resolved.as_bytes()).map_err(Error::from)?;
    match pretrain(&g, &config, &settings, &outputs, resume.as_deref(), &stop)? {
        Ended::Finished(loss) => println!("done: loss {loss:.4}, results in {}", outputs.dir.display()),
        Ended::Interrupted(folder) => {
            println!("stopped; saved {}", folder.display());
            println!("go on with the same command and `--resume`");
        }
    }
    Ok(())
}
