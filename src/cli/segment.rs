//! `rowscan segment`: its options, and what it does with them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::dense::{backbone_under, network_for, recipe_changes_nothing, scenes};
use super::features::listed_anew;
use super::model_args::{ModelArgs, model_under};
use super::training::{CommandLine, OutputArgs, Training, TrainingOptions, carry_out, describe_step};
use crate::cli::terminal::{Device, Outcome};
use crate::data::Dataset;
use crate::error::Result;
use crate::gpu::Caps;
use crate::models::Config;
use crate::models::dense::{Dense, Segmentation};
use crate::run::outputs::TestArgs;
use crate::run::segment::Segmenting;
use crate::run::{Outputs, RecordSettings};
use crate::train::options::{Layer, overlay, uppermost};
use crate::train::segment::recipes::{RECIPES, SegmentRecipe, segment_recipe};
use crate::train::segment::settings::{HeadArgs, SegmentArgs, SegmentSettings};
use crate::train::segment::step::SegmentInputs;

/// The options of `rowscan segment`, on the command line or in a file.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
pub struct SegmentOptions {
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
    heads: HeadArgs,
    #[command(flatten)]
    #[serde(flatten)]
    training: SegmentArgs,
    /// Look through the data set anew, whatever was remembered of it.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    rescan: bool,
}

impl TrainingOptions for SegmentOptions {
    fn output(&self) -> &OutputArgs {
        &self.output
    }
}

impl Layer<RecordSettings> for SegmentOptions {
    fn over(&self, settings: &mut RecordSettings) {
        self.output.record.over(settings);
        self.tests.over(settings);
    }
}

/// The layers' parts.
fn apart<'a>(layers: &[&'a SegmentOptions]) -> (Vec<&'a ModelArgs>, Vec<&'a HeadArgs>, Vec<&'a SegmentArgs>) {
    let models = layers.iter().map(|layer| &layer.model).collect();
    (models, layers.iter().map(|layer| &layer.heads).collect(), layers.iter().map(|layer| &layer.training).collect())
}

impl Training for Segmenting {
    type Options = SegmentOptions;

    /// The classes are those of the data set, which is then open, unless the layers give their number.
    fn new_run(layers: &[&SegmentOptions]) -> Result<(Config, SegmentSettings, Option<Arc<Dataset>>)> {
        listed_anew(layers.iter().any(|layer| layer.rescan));
        let (models, heads, training) = apart(layers);
        let recipe = uppermost(layers, |layer| layer.recipe.as_deref()).map(segment_recipe).transpose()?;
        let checkpoint = uppermost(&training, |training| training.only.checkpoint.as_deref());
        let backbone = backbone_under(&models, checkpoint, recipe.as_ref().map(|recipe| recipe.model))?;
        let (found, settings) = match recipe {
            Some(SegmentRecipe { heads, settings, .. }) => (heads, settings),
            None => {
                (Segmentation::of_width(backbone.finest_width()), SegmentSettings::of_width(backbone.finest_width()))
            }
        };
        let mut settings = overlay(settings, &training);
        settings.run.data = scenes(&settings.run.data);
        let heads = overlay(found, &heads);
        let expected = "images with a segmentation map, such as synthetic or images/ and annotations/";
        let (config, data) =
            network_for(backbone, Dense::Segmentation(heads), &models, (&settings.run, &settings.labels), expected)?;
        Ok((config, settings, data))
    }

    fn resumed(
        config: Config, settings: SegmentSettings, layers: &[&SegmentOptions],
    ) -> Result<(Config, SegmentSettings)> {
        listed_anew(layers.iter().any(|layer| layer.rescan));
        if let Some(name) = layers.last().and_then(|line| line.recipe.as_deref()) {
            recipe_changes_nothing(name);
        }
        let (models, heads, training) = apart(layers);
        let mut config = model_under(config, &models)?;
        if let Some(Dense::Segmentation(found)) = config.dense.take() {
            let (dense, classes) = (Dense::Segmentation(overlay(found, &heads)), config.classes);
            config = config.for_dense(dense, classes);
        }
        config.validate()?;
        let mut settings = overlay(settings, &training);
        settings.run.data = scenes(&settings.run.data);
        Ok((config, settings))
    }

    fn describe(caps: Caps, config: &Config, settings: &SegmentSettings) -> Result<()> {
        describe_step::<SegmentInputs>(caps, config, &settings.run, settings.tuning())
    }

    fn resolved(config: &Config, settings: &SegmentSettings, outputs: &Outputs) -> SegmentOptions {
        let heads = match &config.dense {
            Some(Dense::Segmentation(heads)) => heads.into(),
            _ => HeadArgs::default(),
        };
        let (output, tests) = (outputs.into(), (&outputs.record).into());
        let (model, training) = (config.into(), settings.into());
        SegmentOptions { recipe: None, output, tests, model, heads, training, rescan: false }
    }
}

pub fn run(device: &Device, line: CommandLine<SegmentOptions>) -> Outcome {
    carry_out::<Segmenting>(device, line)
}
