//! `rowscan pretrain`: its options, and what it does with them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::features::listed_anew;
use super::model_args::{ModelArgs, model_to_pretrain, model_under};
use super::training::{CommandLine, OutputArgs, Training, carry_out};
use crate::cli::terminal::{Device, Outcome, say};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu};
use crate::models::{Config, Method};
use crate::run::outputs::PictureArgs;
use crate::run::pretrain::Pretraining;
use crate::run::{Outputs, RecordSettings};
use crate::train::options::{Layer, uppermost};
use crate::train::pretrain::settings::{ObjectiveArgs, PretrainArgs, PretrainSettings};
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
    /// List the folders of the data set anew, whatever was remembered of them.
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

/// Refuses options of one method where another one is asked for: they would change nothing.
pub fn expect_of_method(given: &ObjectiveArgs, method: Method) -> Result<()> {
    let shown = |value: Option<&dyn std::fmt::Display>| value.map(ToString::to_string);
    macro_rules! options {
        ($($flag:literal => $field:ident),*) => { [$(($flag, shown(given.$field.as_ref().map(|v| v as _)))),*] };
    }
    let diffusion = options!["--diffusion-width" => diffusion_width, "--diffusion-depth" => diffusion_depth,
        "--diffusion-repeats" => diffusion_repeats];
    let no_vlb = ("--no-vlb", given.no_vlb.map(|off| off.0.to_string()));
    let contrastive = options!["--queue" => queue, "--temperature" => temperature, "--key-momentum" => key_momentum];
    let of_diffusion = diffusion.into_iter().chain([no_vlb]).map(|option| (Method::DIFFUSION, option));
    let all = of_diffusion.chain(contrastive.into_iter().map(|option| (Method::CONTRASTIVE, option)));
    for (owner, (option, value)) in all.filter(|(owner, _)| *owner != method) {
        if let Some(value) = value {
            return Err(Error::argument(
                option,
                format!("{value} for the method {method}"),
                format!("the method {owner}"),
            ));
        }
    }
    Ok(())
}

impl Training for Pretraining {
    type Options = PretrainOptions;

    fn new_run(layers: &[&PretrainOptions]) -> Result<(Config, PretrainSettings, Option<Arc<Dataset>>)> {
        listed_anew(layers.iter().any(|layer| layer.rescan));
        let (models, training) = apart(layers);
        let config = model_to_pretrain(&models, method(&training))?;
        if let Some(line) = layers.last() {
            // a file may be the record of a run, which has every option
            expect_of_method(&line.training.method.objective, method(&training).unwrap_or_default())?;
        }
        Ok((config, PretrainSettings::default().under(&training, method(&training)), None))
    }

    fn resumed(
        config: Config, settings: PretrainSettings, layers: &[&PretrainOptions],
    ) -> Result<(Config, PretrainSettings)> {
        listed_anew(layers.iter().any(|layer| layer.rescan));
        let (models, training) = apart(layers);
        Ok((model_under(config, &models)?, settings.under(&training, method(&training))))
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
        say(format_args!("step of {batch} images, {longest} of {tokens} tokens visible: {launches} launches\n{plan}"))
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
