//! `rowscan segment` and `rowscan detect`: their options, and what they do with them.

use std::fmt::Debug;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::dense::{backbone_under, network_for, objects, recipe_changes_nothing, scenes};
use super::features::listed_anew;
use super::model_args::{ModelArgs, model_under};
use super::training::{CommandLine, OutputArgs, Training, TrainingOptions, carry_out, describe_step};
use super::unused::{self, Unused};
use crate::cli::terminal::{Device, Outcome};
use crate::data::Dataset;
use crate::error::Result;
use crate::gpu::Caps;
use crate::models::Config;
use crate::run::detect::LabeledObjects;
use crate::run::outputs::TestArgs;
use crate::run::segment::PixelClasses;
use crate::run::supervised::{DenseLabels, SupervisedTask};
use crate::run::{Outputs, RecordSettings, TaskSettings};
use crate::train::dense_recipes::DenseRecipe;
use crate::train::options::{Layer, overlay, uppermost};
use crate::train::supervised::SupervisedSettings;

/// What a command has besides its labels.
pub trait DenseCommand: DenseLabels<Args: clap::Args + Debug, HeadArgs: clap::Args + Debug> + Debug {
    /// What a data set has to be, for messages.
    const EXPECTED: &'static str;
    /// The data set that `synthetic[:N]` names.
    fn generated(data: &str) -> String;
}

impl DenseCommand for PixelClasses {
    const EXPECTED: &'static str = "images with a segmentation map, such as synthetic or images/ and annotations/";

    fn generated(data: &str) -> String {
        scenes(data)
    }
}

impl DenseCommand for LabeledObjects {
    const EXPECTED: &'static str = "images with boxes, such as synthetic or a folder like COCO";

    fn generated(data: &str) -> String {
        objects(data)
    }
}

/// The options of such a command, on the command line or in a file.
#[derive(Debug, clap::Args, Serialize, Deserialize)]
#[serde(bound = "")]
pub struct DenseOptions<L: DenseCommand> {
    /// Recipe that the options change, which also names a model; `rowscan info --recipe NAME` says what it takes.
    #[arg(long, value_parser = L::RECIPES.iter().map(|row| row.0).collect::<Vec<_>>())]
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
    heads: L::HeadArgs,
    #[command(flatten)]
    #[serde(flatten)]
    training: L::Args,
    /// Look through the data set anew, whatever was remembered of it.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    rescan: bool,
}

impl<L: DenseCommand> TrainingOptions for DenseOptions<L> {
    fn output(&self) -> &OutputArgs {
        &self.output
    }
}

impl<L: DenseCommand> Layer<RecordSettings> for DenseOptions<L> {
    fn over(&self, settings: &mut RecordSettings) {
        self.output.record.over(settings);
        self.tests.over(settings);
    }
}

/// The settings under the layers.
fn under<L: DenseCommand>(settings: L::Settings, layers: &[&DenseOptions<L>]) -> L::Settings {
    let training: Vec<&L::Args> = layers.iter().map(|layer| &layer.training).collect();
    let mut settings = overlay(settings, &training);
    let run = settings.as_mut();
    run.data = L::generated(&run.data);
    settings
}

/// The layers' models and heads.
fn apart<'a, L: DenseCommand>(layers: &[&'a DenseOptions<L>]) -> (Vec<&'a ModelArgs>, Vec<&'a L::HeadArgs>) {
    layers.iter().map(|layer| (&layer.model, &layer.heads)).unzip()
}

impl<L: DenseCommand> Training for SupervisedTask<L> {
    type Options = DenseOptions<L>;

    /// The classes are those of the data set, which is then open, unless the layers give their number.
    fn new_run(layers: &[&DenseOptions<L>]) -> Result<(Config, L::Settings, Option<Arc<Dataset>>)> {
        listed_anew(layers.iter().any(|layer| layer.rescan));
        let (models, heads) = apart(layers);
        let recipe = uppermost(layers, |layer| layer.recipe.as_deref()).map(L::recipe).transpose()?;
        // where the run begins, which the recipes leave open
        let begin = under::<L>(L::of_width(0).1, layers);
        let backbone = backbone_under(&models, begin.checkpoint(), recipe.as_ref().map(|recipe| recipe.model))?;
        let (found, settings) = match recipe {
            Some(DenseRecipe { heads, settings, .. }) => (heads, settings),
            None => L::of_width(backbone.finest_width()),
        };
        let (settings, heads) = (under::<L>(settings, layers), overlay(found, &heads));
        let (config, data) =
            network_for(backbone, L::dense(heads), &models, (settings.as_ref(), &settings.labels()), L::EXPECTED)?;
        Ok((config, settings, data))
    }

    fn resumed(config: Config, settings: L::Settings, layers: &[&DenseOptions<L>]) -> Result<(Config, L::Settings)> {
        listed_anew(layers.iter().any(|layer| layer.rescan));
        if let Some(name) = layers.last().and_then(|line| line.recipe.as_deref()) {
            recipe_changes_nothing(name);
        }
        let (models, heads) = apart(layers);
        let mut config = model_under(config, &models)?;
        if let Some(found) = config.dense.as_ref().and_then(L::heads) {
            let (dense, classes) = (L::dense(overlay(found.clone(), &heads)), config.classes);
            config = config.for_dense(dense, classes);
        }
        config.validate()?;
        Ok((config, under::<L>(settings, layers)))
    }

    fn unused(_: &Config, settings: &L::Settings, _: &RecordSettings) -> Vec<Unused> {
        let pool = Unused::new(&["pool"], &[], "none: the heads of a dense task read every patch");
        let mut rules = vec![unused::of_no_pretraining(), pool];
        rules.extend(unused::of_average(settings.tuning().average));
        rules.extend(unused::of_run(settings.as_ref()));
        rules
    }

    fn describe(caps: Caps, config: &Config, settings: &L::Settings) -> Result<()> {
        describe_step::<L::Inputs>(caps, config, settings.as_ref(), settings.tuning())
    }

    fn resolved(config: &Config, settings: &L::Settings, outputs: &Outputs) -> DenseOptions<L> {
        let heads = config.dense.as_ref().and_then(L::heads).cloned().unwrap_or_default();
        let (output, tests) = (outputs.into(), (&outputs.record).into());
        let (model, heads, training) = (config.into(), (&heads).into(), settings.into());
        DenseOptions { recipe: None, output, tests, model, heads, training, rescan: false }
    }
}

/// Carries out the command of these labels.
pub fn run<L: DenseCommand>(device: &Device, line: CommandLine<DenseOptions<L>>) -> Outcome {
    carry_out::<SupervisedTask<L>>(device, line)
}
