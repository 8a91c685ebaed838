//! `rowscan finetune`: its options, and what it does with them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::features::listed_anew;
use super::help::{CLOUDS_RECIPE, DEFAULT_RECIPE};
use super::model_args::{ModelArgs, model_under};
use super::training::{CommandLine, OutputArgs, Training, carry_out, describe_step, needed};
use super::unused::{self, Unused};
use crate::cli::terminal::{Device, Outcome, warn};
use crate::data::Dataset;
use crate::error::Result;
use crate::gpu::Caps;
use crate::models::Config;
use crate::run::checkpoint;
use crate::run::finetune::Finetuning;
use crate::run::outputs::TestArgs;
use crate::run::{Outputs, RecordSettings, open_data};
use crate::train::finetune::inputs::FinetuneInputs;
use crate::train::finetune::recipes::{FinetuneRecipe, RECIPES, recipe};
use crate::train::finetune::settings::{FinetuneArgs, FinetuneSettings};
use crate::train::options::{Layer, overlay, uppermost};
use crate::train::supervised::SupervisedSettings;

/// The options of `rowscan finetune`, on the command line or in a file.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
pub struct FinetuneOptions {
    /// Recipe that the options change; mae_base if none is named.
    #[arg(long, value_parser = RECIPES.iter().map(|row| row.0).collect::<Vec<_>>())]
    #[serde(skip_serializing_if = "Option::is_none")]
    recipe: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    #[serde(flatten)]
    tests: TestArgs,
    #[command(flatten)]
    #[serde(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    #[serde(flatten)]
    training: FinetuneArgs,
    /// Look through the data set anew, whatever was remembered of it.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    rescan: bool,
}

impl super::training::TrainingOptions for FinetuneOptions {
    fn output(&self) -> &OutputArgs {
        &self.output
    }
}

impl Layer<RecordSettings> for FinetuneOptions {
    fn over(&self, settings: &mut RecordSettings) {
        self.output.record.over(settings);
        self.tests.over(settings);
    }
}

impl Training for Finetuning {
    type Options = FinetuneOptions;

    /// The classes are those of the data set, which is then open, unless the layers give their number.
    fn new_run(layers: &[&FinetuneOptions]) -> Result<(Config, FinetuneSettings, Option<Arc<Dataset>>)> {
        listed_anew(layers.iter().any(|layer| layer.rescan));
        let (models, training) = apart(layers);
        let mut config = match uppermost(&training, |training| training.tuning.checkpoint.as_deref()) {
            Some(folder) => checkpoint::config(folder)?.both_ways(),
            None => {
                let model = uppermost(&models, |model| model.model.as_deref());
                Config::preset(model.ok_or_else(|| needed("--checkpoint or --model"))?)?
            }
        };
        let default = if config.family.clouds { CLOUDS_RECIPE } else { DEFAULT_RECIPE };
        let name = uppermost(layers, |layer| layer.recipe.as_deref()).unwrap_or(default);
        let FinetuneRecipe { settings, image_size, drop_path } = recipe(name)?;
        let settings = overlay(settings, &training);
        config.image_size = image_size.unwrap_or(config.image_size);
        config.drop_path = drop_path.of(&config);
        let classes = uppermost(&models, |model| model.shape.classes.as_ref());
        let needed = !settings.run.data.is_empty() && classes.is_none();
        let data = needed.then(|| open_data(&settings.run)).transpose()?;
        if let Some(data) = &data {
            config.classes = data.require_labels()?.len();
        }
        Ok((model_under(config, &models)?, settings, data))
    }

    fn resumed(
        config: Config, settings: FinetuneSettings, layers: &[&FinetuneOptions],
    ) -> Result<(Config, FinetuneSettings)> {
        listed_anew(layers.iter().any(|layer| layer.rescan));
        if let Some(name) = layers.last().and_then(|line| line.recipe.as_deref()) {
            warn(format_args!("--recipe {name} changes nothing: the run goes on with the settings of its checkpoint"));
        }
        let (models, training) = apart(layers);
        Ok((model_under(config, &models)?, overlay(settings, &training)))
    }

    fn unused(config: &Config, settings: &FinetuneSettings, _: &RecordSettings) -> Vec<Unused> {
        let mut rules = vec![unused::of_no_pretraining()];
        rules.extend(unused::of_augmentation(&settings.recipe, config));
        rules.extend(unused::of_mix(&settings.mix));
        rules.extend(unused::of_average(settings.model_ema));
        rules.extend(unused::of_test_views(config));
        rules.extend(unused::of_run(&settings.run));
        rules
    }

    fn describe(caps: Caps, config: &Config, settings: &FinetuneSettings) -> Result<()> {
        describe_step::<FinetuneInputs>(caps, config, &settings.run, settings.tuning())
    }

    fn resolved(config: &Config, settings: &FinetuneSettings, outputs: &Outputs) -> FinetuneOptions {
        let (output, tests) = (outputs.into(), (&outputs.record).into());
        let (model, training) = (config.into(), settings.into());
        FinetuneOptions { recipe: None, output, tests, model, training, rescan: false }
    }
}

/// The layers' models and the layers' settings.
fn apart<'a>(layers: &[&'a FinetuneOptions]) -> (Vec<&'a ModelArgs>, Vec<&'a FinetuneArgs>) {
    layers.iter().map(|layer| (&layer.model, &layer.training)).unzip()
}

pub fn run(device: &Device, line: CommandLine<FinetuneOptions>) -> Outcome {
    carry_out::<Finetuning>(device, line)
}
