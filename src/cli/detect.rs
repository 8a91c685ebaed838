//! `rowscan detect`: its options, and what it does with them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::dense::{backbone_under, network_for, objects, recipe_changes_nothing};
use super::features::listed_anew;
use super::model_args::{ModelArgs, model_under};
use super::training::{CommandLine, OutputArgs, Training, TrainingOptions, carry_out, describe_step};
use crate::cli::terminal::{Device, Outcome};
use crate::data::{Dataset, PixelLabels};
use crate::error::Result;
use crate::gpu::Caps;
use crate::models::Config;
use crate::models::dense::{Dense, Detection};
use crate::run::detect::Detecting;
use crate::run::outputs::TestArgs;
use crate::run::{Outputs, RecordSettings};
use crate::train::detect::recipes::{DetectRecipe, RECIPES, detect_recipe};
use crate::train::detect::settings::{DetectArgs, DetectSettings, DetectorArgs};
use crate::train::detect::step::DetectInputs;
use crate::train::options::{Layer, overlay, uppermost};

/// The options of `rowscan detect`, on the command line or in a file.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
pub struct DetectOptions {
    /// Recipe that the options change, which also names a model; `rowscan info --recipe NAME` says what it takes.
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
    heads: DetectorArgs,
    #[command(flatten)]
    #[serde(flatten)]
    training: DetectArgs,
    /// Look through the data set anew, whatever was remembered of it.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    rescan: bool,
}

impl TrainingOptions for DetectOptions {
    fn output(&self) -> &OutputArgs {
        &self.output
    }
}

impl Layer<RecordSettings> for DetectOptions {
    fn over(&self, settings: &mut RecordSettings) {
        self.output.record.over(settings);
        self.tests.over(settings);
    }
}

/// The layers' parts.
fn apart<'a>(layers: &[&'a DetectOptions]) -> (Vec<&'a ModelArgs>, Vec<&'a DetectorArgs>, Vec<&'a DetectArgs>) {
    let models = layers.iter().map(|layer| &layer.model).collect();
    (models, layers.iter().map(|layer| &layer.heads).collect(), layers.iter().map(|layer| &layer.training).collect())
}

impl Training for Detecting {
    type Options = DetectOptions;

    /// The classes are those of the data set, which is then open, unless the layers give their number.
    fn new_run(layers: &[&DetectOptions]) -> Result<(Config, DetectSettings, Option<Arc<Dataset>>)> {
        listed_anew(layers.iter().any(|layer| layer.rescan));
        let (models, heads, training) = apart(layers);
        let recipe = uppermost(layers, |layer| layer.recipe.as_deref()).map(detect_recipe).transpose()?;
        let checkpoint = uppermost(&training, |training| training.only.checkpoint.as_deref());
        let backbone = backbone_under(&models, checkpoint, recipe.as_ref().map(|recipe| recipe.model))?;
        let (found, settings) = match recipe {
            Some(DetectRecipe { heads, settings, .. }) => (heads, settings),
            None => (Detection::of_width(backbone.finest_width()), DetectSettings::of_width(backbone.finest_width())),
        };
        let mut settings = overlay(settings, &training);
        settings.run.data = objects(&settings.run.data);
        let heads = overlay(found, &heads);
        let expected = "images with boxes, such as synthetic or a folder like COCO";
        let run = (&settings.run, &PixelLabels::default());
        let (config, data) = network_for(backbone, Dense::Detection(heads), &models, run, expected)?;
        Ok((config, settings, data))
    }

    fn resumed(
        config: Config, settings: DetectSettings, layers: &[&DetectOptions],
    ) -> Result<(Config, DetectSettings)> {
        listed_anew(layers.iter().any(|layer| layer.rescan));
        if let Some(name) = layers.last().and_then(|line| line.recipe.as_deref()) {
            recipe_changes_nothing(name);
        }
        let (models, heads, training) = apart(layers);
        let mut config = model_under(config, &models)?;
        if let Some(Dense::Detection(found)) = config.dense.take() {
            config.dense = Some(Dense::Detection(overlay(found, &heads)));
        }
        config.validate()?;
        let mut settings = overlay(settings, &training);
        settings.run.data = objects(&settings.run.data);
        Ok((config, settings))
    }

    fn describe(caps: Caps, config: &Config, settings: &DetectSettings) -> Result<()> {
        describe_step::<DetectInputs>(caps, config, &settings.run, settings.tuning())
    }

    fn resolved(config: &Config, settings: &DetectSettings, outputs: &Outputs) -> DetectOptions {
        let heads = match &config.dense {
            Some(Dense::Detection(heads)) => heads.into(),
            _ => DetectorArgs::default(),
        };
        let (output, tests) = (outputs.into(), (&outputs.record).into());
        let (model, training) = (config.into(), settings.into());
        DetectOptions { recipe: None, output, tests, model, heads, training, rescan: false }
    }
}

pub fn run(device: &Device, line: CommandLine<DetectOptions>) -> Outcome {
    carry_out::<Detecting>(device, line)
}
