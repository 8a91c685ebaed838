//! `rowscan pretrain`: its options, and what it does with them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::features::listed_anew;
use super::model_args::{ModelArgs, model_to_pretrain, model_under};
use super::training::{CommandLine, OutputArgs, Training, carry_out};
use super::unused::{self, Unused, given, of_method, refuse};
use crate::cli::terminal::{Device, Outcome, say};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu};
use crate::models::{Config, Method};
use crate::run::checkpoint;
use crate::run::outputs::PictureArgs;
use crate::run::pretrain::Pretraining;
use crate::run::{Outputs, RecordSettings};
use crate::train::options::{Layer, uppermost};
use crate::train::pretrain::settings::{MethodArgs, PretrainArgs, PretrainSettings};
use crate::train::pretrain::step::{Pretrainer, expect_fit};

/// The options of `rowscan pretrain`, on the command line or in a file.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
pub struct PretrainOptions {
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
    training: PretrainArgs,
    /// Look through the data set anew, whatever was remembered of it.
    #[arg(long)]
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    rescan: bool,
}

impl super::training::TrainingOptions for PretrainOptions {
    fn output(&self) -> &OutputArgs {
        &self.output
    }
}

impl Layer<RecordSettings> for PretrainOptions {
    fn over(&self, settings: &mut RecordSettings) {
        self.output.record.over(settings);
        self.pictures.over(settings);
    }
}

fn method(layers: &[&PretrainArgs]) -> Option<Method> {
    uppermost(layers, |layer| layer.method.objective.method.as_ref()).copied()
}

/// Refuses options that would change nothing under a method.
pub fn expect_of_method(args: &MethodArgs, method: Method) -> Result<()> {
    refuse(&given(args), &of_method(method, args.objective.target.unwrap_or_default()))
}

impl Training for Pretraining {
    type Options = PretrainOptions;

    fn new_run(layers: &[&PretrainOptions]) -> Result<(Config, PretrainSettings, Option<Arc<Dataset>>)> {
        listed_anew(layers.iter().any(|layer| layer.rescan));
        let (models, training) = apart(layers);
        let (base, objective) = match uppermost(&training, |layer| layer.start.checkpoint.as_deref()) {
            None => (None, None),
            Some(folder) => (Some(checkpoint::config(folder)?.both_ways()), checkpoint::about(folder)?.objective),
        };
        if base.as_ref().is_some_and(|config| config.dense.is_some()) {
            let expected = "a pretrained or a classifying one";
            return Err(Error::argument("--checkpoint", "a network for a dense task", expected));
        }
        let before = objective.as_ref().map(|known| known.method);
        let method = method(&training).or(before);
        let config = model_to_pretrain(base, before, &models, method)?;
        let settings = match objective {
            None => PretrainSettings::of_model(&config),
            Some(objective) => {
                let run = PretrainSettings::of_model(&config).run;
                PretrainSettings { run, objective: objective.clone(), ..PretrainSettings::of(objective.method) }
            }
        };
        Ok((config, settings.under(&training, method), None))
    }

    fn resumed(
        config: Config, settings: PretrainSettings, layers: &[&PretrainOptions],
    ) -> Result<(Config, PretrainSettings)> {
        listed_anew(layers.iter().any(|layer| layer.rescan));
        let (models, training) = apart(layers);
        Ok((model_under(config, &models)?, settings.under(&training, method(&training))))
    }

    fn unused(config: &Config, settings: &PretrainSettings, record: &RecordSettings) -> Vec<Unused> {
        let mut rules = unused::of_objective(&settings.objective, config);
        rules.extend(unused::of_masks(settings));
        rules.extend(unused::of_augmentation(&settings.recipe, config));
        rules.extend(unused::of_probes(record));
        rules.extend(unused::of_run(&settings.run));
        rules
    }

    fn describe(caps: Caps, config: &Config, settings: &PretrainSettings) -> Result<()> {
        let (batch, hyper) = (settings.run.batch_size, settings.run.hyper()?);
        let longest = *settings.masker(config)?.all_visible_lengths().end();
        let objective = &settings.objective;
        expect_fit(&caps, config, objective, hyper, longest, batch)?;
        let mut trainer = Pretrainer::new(&Gpu::dry(caps), config, objective, batch, hyper, settings.run.seed)?;
        let plan = trainer.plan(longest)?;
        let (tokens, launches) = (config.tokens(), plan.launches);
        say(format_args!("model {}: {} parameters, method {}", config.name, trainer.params.count(), objective.method))?;
        let what = config.samples();
        say(format_args!("step of {batch} {what}, {longest} of {tokens} tokens visible: {launches} launches\n{plan}"))
    }

    fn resolved(config: &Config, settings: &PretrainSettings, outputs: &Outputs) -> PretrainOptions {
        let (output, pictures) = (outputs.into(), (&outputs.record).into());
        PretrainOptions { output, pictures, model: config.into(), training: settings.into(), rescan: false }
    }
}

/// The layers' models and the layers' settings.
fn apart<'a>(layers: &[&'a PretrainOptions]) -> (Vec<&'a ModelArgs>, Vec<&'a PretrainArgs>) {
    layers.iter().map(|layer| (&layer.model, &layer.training)).unzip()
}

pub fn run(device: &Device, line: CommandLine<PretrainOptions>) -> Outcome {
    carry_out::<Pretraining>(device, line)
}
