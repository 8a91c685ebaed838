//! `rowscan pretrain`: its options, and what it does with them.

use std::path::Path;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::model_args::{ModelArgs, model_to_pretrain, model_under};
use super::training::{CommandLine, OutputArgs, Training, carry_out};
use crate::cli::terminal::{Device, Outcome, say};
use crate::data::Dataset;
use crate::error::Result;
use crate::gpu::{Caps, Gpu};
use crate::models::{Config, Method};
use crate::run::outputs::PictureArgs;
use crate::run::pretrain::{Pretraining, prepare};
use crate::run::{Outputs, RecordSettings, Run};
use crate::train::options::{Layer, uppermost};
use crate::train::pretrain::settings::{Args, Settings};
use crate::train::pretrain::step::{Pretrainer, expect_fit};

/// The options of `rowscan pretrain`, on the command line or in a file.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
pub struct Options {
    #[command(flatten)]
    #[serde(flatten)]
    output: OutputArgs,
    #[command(flatten)]
    #[serde(flatten)]
    pictures: PictureArgs,
    #[command(flatten)]
    #[serde(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    #[serde(flatten)]
    training: Args,
}

impl super::training::Options for Options {
    fn output(&self) -> &OutputArgs {
        &self.output
    }
}

impl Layer<RecordSettings> for Options {
    fn over(&self, settings: &mut RecordSettings) {
        self.output.record.over(settings);
        self.pictures.over(settings);
    }
}

fn method(layers: &[&Args]) -> Option<Method> {
    uppermost(layers, |layer| layer.method.objective.method.as_ref()).copied()
}

impl Training for Pretraining {
    type Options = Options;

    fn new_run(layers: &[&Options]) -> Result<(Config, Settings, Option<Arc<Dataset>>)> {
        let (models, training) = apart(layers);
        let config = model_to_pretrain(&models, method(&training))?;
        Ok((config, Settings::default().under(&training, method(&training)), None))
    }

    fn resumed(config: Config, settings: Settings, layers: &[&Options]) -> Result<(Config, Settings)> {
        let (models, training) = apart(layers);
        Ok((model_under(config, &models)?, settings.under(&training, method(&training))))
    }

    fn check(config: &Config, settings: &Settings) -> Result<()> {
        settings.check(config)
    }

    fn describe(caps: Caps, config: &Config, settings: &Settings) -> Result<()> {
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

    fn resolved(config: &Config, settings: &Settings, outputs: &Outputs) -> Options {
        let (output, pictures) = (outputs.into(), (&outputs.record).into());
        Options { output, pictures, model: config.into(), training: settings.into() }
    }

    fn start<'a>(
        g: &'a Gpu, config: &Config, settings: &Settings, outputs: &'a Outputs, resume: Option<&Path>,
        data: Arc<Dataset>,
    ) -> Result<Run<'a, Self>> {
        prepare(g, config, settings, outputs, resume, data)
    }
}

/// The layers' models and the layers' settings.
fn apart<'a>(layers: &[&'a Options]) -> (Vec<&'a ModelArgs>, Vec<&'a Args>) {
    layers.iter().map(|layer| (&layer.model, &layer.training)).unzip()
}

pub fn run(device: &Device, line: CommandLine<Options>) -> Outcome {
    carry_out::<Pretraining>(device, line)
}
