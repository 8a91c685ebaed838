//! `rowscan pretrain`: arguments over file over defaults, then the run.

use serde::{Deserialize, Serialize};

use super::augment_args::AugmentArgs;
use super::method_args::MethodArgs;
use super::model_args::ModelArgs;
use super::run_args::{RunArgs, carry_out, merged, needed, planning_caps};
use crate::cli::terminal::{Device, Outcome, Stop, say, usage};
use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu};
use crate::models::Config;
use crate::run::Outputs;
use crate::run::checkpoint;
use crate::run::pretrain;
use crate::train::pretrain::settings::Settings;
use crate::train::pretrain::step::{Pretrainer, expect_fit};

#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Args {
    #[command(flatten)]
    #[serde(flatten)]
    run: RunArgs,
    #[command(flatten)]
    #[serde(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    #[serde(flatten)]
    augment: AugmentArgs,
    #[command(flatten)]
    #[serde(flatten)]
    method: MethodArgs,
    /// Epochs between picture grids; 0 for none.
    #[arg(long)]
    grid_every: Option<u64>,
}

impl AsMut<RunArgs> for Args {
    fn as_mut(&mut self) -> &mut RunArgs {
        &mut self.run
    }
}

impl Args {
    /// The options over `d`.
    fn settings(&self, d: Settings) -> Result<Settings> {
        let settings = self.method.settings(d)?;
        let (run, recipe) = (self.run.settings(settings.run)?, self.augment.over(settings.recipe)?);
        Ok(Settings { run, recipe, ..settings })
    }

    /// Every option, as the run has it.
    fn of(config: &Config, settings: &Settings, outputs: &Outputs, grid_every: u64) -> Self {
        Self {
            run: RunArgs::of(&settings.run, outputs),
            model: ModelArgs::of(config),
            augment: AugmentArgs::of(&settings.recipe),
            method: MethodArgs::of(settings),
            grid_every: Some(grid_every),
        }
    }
}

/// Prints parameters, plan and launches; works without an adapter.
fn dry_run(caps: Caps, config: &Config, settings: &Settings) -> Result<()> {
    let (batch, hyper) = (settings.run.batch_size, settings.run.hyper()?);
    let longest = *settings.masker(config)?.all_visible_lengths().end();
    let objective = &settings.objective;
    expect_fit(&caps, config, objective, hyper, longest, batch)?;
    let mut trainer = Pretrainer::new(&Gpu::dry(caps), config, objective, batch, hyper, settings.run.seed)?;
    let plan = trainer.plan(longest)?;
    let (tokens, launches) = (config.tokens(), plan.launches);
    say(format_args!("model {}: {} parameters, method {}", config.name, trainer.params.count(), objective.method))?;
    say(format_args!("step of {batch} images, {longest} of {tokens} tokens visible: {launches} launches\n{plan}"))
}

pub fn run(device: &Device, args: Args) -> Outcome {
    let args = usage(merged(args))?;
    // what a checkpoint says stands unless the command line says otherwise
    let from = usage(args.run.resume_from())?;
    let (config, settings) = match &from {
        Some(folder) => {
            let (config, settings) = (checkpoint::config(folder)?, checkpoint::state(folder)?.settings);
            (usage(args.model.over(config))?, usage(args.settings(settings))?)
        }
        None => (usage(args.method.model(&args.model))?, usage(args.settings(Settings::default()))?),
    };
    usage(settings.check(&config))?;
    if args.run.dry_run {
        return Ok(dry_run(planning_caps(device)?, &config, &settings)?);
    }
    if settings.run.data.is_empty() {
        return Err(Stop::Usage(needed("--data")));
    }
    let (mut outputs, grid_every) = (usage(args.run.outputs())?, args.grid_every.unwrap_or(1));
    let resolved = toml::to_string(&Args::of(&config, &settings, &outputs, grid_every));
    outputs.options = usage(resolved.map_err(|e| Error::Internal(format!("options as TOML: {e}"))))?;
    carry_out(device, &settings.run, &outputs, from.as_deref(), None, |g, outputs, data| {
        pretrain::prepare(g, &config, &settings, outputs, grid_every, from.as_deref(), data)
    })
}
