//! `rowscan finetune`: arguments over file over recipe, then the run.

use std::path::PathBuf;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::augment_args::AugmentArgs;
use super::model_args::ModelArgs;
use super::run_args::{RunArgs, carry_out, merged, needed, planning_caps};
use crate::cli::terminal::{Device, Outcome, Stop, say, usage};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu};
use crate::models::Config;
use crate::run::Outputs;
use crate::run::checkpoint;
use crate::run::finetune;
use crate::run::open_data;
use crate::train::finetune::mixup::Mix;
use crate::train::finetune::recipes::{Preset, RECIPES, recipe};
use crate::train::finetune::settings::Settings;
use crate::train::finetune::step::Finetuner;
use crate::train::memory_check::expect_fit;

#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Args {
    #[command(flatten)]
    #[serde(flatten)]
    run: RunArgs,
    /// Recipe that the options change; mae_base if none is named.
    #[arg(long, value_parser = RECIPES.iter().map(|row| row.0).collect::<Vec<_>>())]
    recipe: Option<String>,
    /// Checkpoint folder of a pretrained model to start from; without it --model starts from initial values.
    #[arg(long, value_name = "FOLDER")]
    checkpoint: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    #[serde(flatten)]
    augment: AugmentArgs,
    /// Repeated augmentation: how often an epoch shows an image, in place of others.
    #[arg(long)]
    repeats: Option<usize>,
    /// Mixup takes its share from Beta(MIXUP, MIXUP); 0 for none.
    #[arg(long)]
    mixup: Option<f64>,
    /// CutMix takes its share from Beta(CUTMIX, CUTMIX); 0 for none.
    #[arg(long)]
    cutmix: Option<f64>,
    /// Probability of mixing a batch at all.
    #[arg(long)]
    mixup_prob: Option<f64>,
    /// Probability of CutMix where both could be.
    #[arg(long)]
    mixup_switch_prob: Option<f64>,
    /// Label smoothing.
    #[arg(long)]
    smoothing: Option<f64>,
    /// Factor on the learning rate from each layer to the one before; 1 for one rate everywhere.
    #[arg(long)]
    layer_decay: Option<f64>,
    /// Keep a moving average of the weights, and test it too.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    model_ema: Option<bool>,
    /// Momentum of that average.
    #[arg(long)]
    model_ema_decay: Option<f64>,
    /// Share of the shorter side that is kept of a test image.
    #[arg(long)]
    crop_ratio: Option<f64>,
    /// Epochs between tests; 0 for none.
    #[arg(long)]
    eval_every: Option<u64>,
}

impl AsMut<RunArgs> for Args {
    fn as_mut(&mut self) -> &mut RunArgs {
        &mut self.run
    }
}

/// Momentum where an average is asked for and neither options nor recipe say which.
const MOMENTUM: f64 = 0.9999;

impl Args {
    /// The options over `d`.
    fn settings(&self, d: Settings) -> Result<Settings> {
        let momentum = self.model_ema_decay.or(d.model_ema);
        Ok(Settings {
            run: self.run.settings(d.run)?,
            checkpoint: self.checkpoint.clone().or(d.checkpoint),
            recipe: self.augment.over(d.recipe)?,
            repeats: self.repeats.unwrap_or(d.repeats),
            mix: Mix {
                mixup: self.mixup.unwrap_or(d.mix.mixup),
                cutmix: self.cutmix.unwrap_or(d.mix.cutmix),
                mixup_prob: self.mixup_prob.unwrap_or(d.mix.mixup_prob),
                mixup_switch_prob: self.mixup_switch_prob.unwrap_or(d.mix.mixup_switch_prob),
                smoothing: self.smoothing.unwrap_or(d.mix.smoothing),
            },
            layer_decay: self.layer_decay.unwrap_or(d.layer_decay),
            model_ema: match self.model_ema {
                Some(false) => None,
                Some(true) => Some(momentum.unwrap_or(MOMENTUM)),
                None => momentum,
            },
            crop_ratio: self.crop_ratio.unwrap_or(d.crop_ratio),
        })
    }

    /// Model and settings of a new run: the recipe's, with the options over them. Classes are those of the data set,
    /// which is then open.
    fn fresh(&self) -> Result<(Config, Settings, Option<Arc<Dataset>>)> {
        let Preset { settings, image_size, drop_path } = recipe(self.recipe.as_deref().unwrap_or("mae_base"))?;
        let mut config = match &self.checkpoint {
            Some(folder) => checkpoint::config(folder)?,
            None => Config::preset(self.model.model.as_deref().ok_or_else(|| needed("--checkpoint or --model"))?)?,
        };
        config.image_size = image_size.unwrap_or(config.image_size);
        config.drop_path = drop_path.of(config.width);
        let settings = self.settings(settings)?;
        let needed = !settings.run.data.is_empty() && self.model.classes.is_none();
        let data = needed.then(|| open_data(&settings.run)).transpose()?;
        if let Some(data) = &data {
            config.classes = data.require_labels()?.len();
        }
        Ok((self.model.over(config)?, settings, data))
    }

    /// Every option, as the run has it.
    fn of(config: &Config, s: &Settings, outputs: &Outputs, eval_every: u64) -> Self {
        Self {
            run: RunArgs::of(&s.run, outputs),
            recipe: None,
            checkpoint: s.checkpoint.clone(),
            model: ModelArgs::of(config),
            augment: AugmentArgs::of(&s.recipe),
            repeats: Some(s.repeats),
            mixup: Some(s.mix.mixup),
            cutmix: Some(s.mix.cutmix),
            mixup_prob: Some(s.mix.mixup_prob),
            mixup_switch_prob: Some(s.mix.mixup_switch_prob),
            smoothing: Some(s.mix.smoothing),
            layer_decay: Some(s.layer_decay),
            model_ema: Some(s.model_ema.is_some()),
            model_ema_decay: s.model_ema,
            crop_ratio: Some(s.crop_ratio),
            eval_every: Some(eval_every),
        }
    }
}

/// Prints parameters, plan and launches; works without an adapter.
fn dry_run(caps: Caps, config: &Config, settings: &Settings) -> Result<()> {
    let (batch, hyper, tuning) = (settings.run.batch_size, settings.run.hyper()?, settings.tuning());
    let tuner = |g: &Gpu, batch, hyper| Finetuner::new(g, config, batch, hyper, tuning, 0);
    expect_fit(&caps, batch, hyper, |g, batch, hyper| tuner(g, batch, hyper)?.plan())?;
    let mut tuner = tuner(&Gpu::dry(caps), batch, hyper)?;
    let plan = tuner.plan()?;
    let (parts, launches) = (settings.run.accum_iter, plan.launches);
    say(format_args!("model {}: {} parameters, {} classes", config.name, tuner.params.count(), config.classes))?;
    say(format_args!("step of {parts} × {batch} images: {launches} launches for {batch} and the update\n{plan}"))
}

pub fn run(device: &Device, args: Args) -> Outcome {
    let args = usage(merged(args))?;
    // what a checkpoint says stands unless the command line says otherwise
    let from = usage(args.run.resume_from())?;
    let (config, settings, data) = match &from {
        Some(folder) => {
            let (config, settings) = (checkpoint::config(folder)?, checkpoint::state(folder)?.settings);
            (usage(args.model.over(config))?, usage(args.settings(settings))?, None)
        }
        None => usage(args.fresh())?,
    };
    usage(settings.check())?;
    if args.run.dry_run {
        return Ok(dry_run(planning_caps(device)?, &config, &settings)?);
    }
    if settings.run.data.is_empty() {
        return Err(Stop::Usage(needed("--data")));
    }
    let eval_every = args.eval_every.unwrap_or(1);
    let mut outputs = usage(args.run.outputs())?;
    let resolved = toml::to_string(&Args::of(&config, &settings, &outputs, eval_every));
    outputs.options = usage(resolved.map_err(|e| Error::Internal(format!("options as TOML: {e}"))))?;
    carry_out(device, &settings.run, &outputs, from.as_deref(), data, |g, outputs, data| {
        finetune::prepare(g, &config, &settings, outputs, eval_every, from.as_deref(), data)
    })
}
