//! `rowscan segment`: its options, and what it does with them.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::features::listed_anew;
use super::model_args::{ModelArgs, model_under};
use super::training::{CommandLine, OutputArgs, Training, TrainingOptions, carry_out};
use crate::cli::terminal::{Device, Outcome, say};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu};
use crate::models::Config;
use crate::models::dense::{Dense, Segmentation};
use crate::run::outputs::TestArgs;
use crate::run::segment::Segmenting;
use crate::run::{Outputs, RecordSettings, checkpoint, open_data};
use crate::train::memory_check::expect_fit;
use crate::train::options::{Layer, overlay, uppermost};
use crate::train::segment::settings::{HeadArgs, SegmentArgs, SegmentSettings};
use crate::train::segment::step::SegmentTrainer;

/// The model that is trained if none is named: one that learns on a CPU in minutes.
pub(super) const DEFAULT_MODEL: &str = "map_micro_patch8_64";

/// The options of `rowscan segment`, on the command line or in a file.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
pub struct SegmentOptions {
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

/// `synthetic[:N]` are scenes where the class of each pixel is asked for.
pub(super) fn scenes(data: &str) -> String {
    match data.strip_prefix("synthetic") {
        Some(rest) if rest.is_empty() || rest.starts_with(':') => format!("synthetic-scenes{rest}"),
        _ => data.to_owned(),
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
        let mut settings = overlay(SegmentSettings::default(), &training);
        settings.run.data = scenes(&settings.run.data);
        let base = match uppermost(&training, |training| training.only.checkpoint.as_deref()) {
            Some(folder) => Config { dense: None, ..checkpoint::config(folder)?.both_ways() },
            None => Config::preset(uppermost(&models, |model| model.model.as_deref()).unwrap_or(DEFAULT_MODEL))?,
        };
        // a checkpoint of a dense task has no prefix tokens, which its family may need
        let base = Config { registers: base.registers.max(*base.family.prefix_tokens.start()), ..base };
        let model = model_under(base, &models)?;
        let wanted = uppermost(&models, |model| model.shape.classes.as_ref()).copied();
        let data = (!settings.run.data.is_empty() && wanted.is_none()).then(|| open_data(&settings.run)).transpose()?;
        let classes = match (&data, wanted) {
            (Some(data), _) if data.classes().is_empty() => {
                let expected = "images with a segmentation map, such as synthetic or images/ and annotations/";
                return Err(Error::argument("--data", format!("{}, which has no classes", data.spec()), expected));
            }
            (Some(data), _) => data.classes().len(),
            (None, Some(wanted)) => wanted,
            (None, None) => model.classes.max(1),
        };
        let config = model.for_dense(Dense::Segmentation(overlay(Segmentation::default(), &heads)), classes);
        config.validate()?;
        Ok((config, settings, data))
    }

    fn resumed(
        config: Config, settings: SegmentSettings, layers: &[&SegmentOptions],
    ) -> Result<(Config, SegmentSettings)> {
        listed_anew(layers.iter().any(|layer| layer.rescan));
        let (models, heads, training) = apart(layers);
        let mut config = model_under(config, &models)?;
        if let Some(Dense::Segmentation(found)) = config.dense.take() {
            config.dense = Some(Dense::Segmentation(overlay(found, &heads)));
        }
        config.validate()?;
        let mut settings = overlay(settings, &training);
        settings.run.data = scenes(&settings.run.data);
        Ok((config, settings))
    }

    fn describe(caps: Caps, config: &Config, settings: &SegmentSettings) -> Result<()> {
        let (batch, hyper, tuning) = (settings.run.batch_size, settings.run.hyper()?, settings.tuning());
        let trainer = |g: &Gpu, batch, hyper| SegmentTrainer::new(g, config, batch, hyper, tuning, 0);
        expect_fit(&caps, batch, hyper, |g, batch, hyper| trainer(g, batch, hyper)?.plan())?;
        let mut trainer = trainer(&Gpu::dry(caps), batch, hyper)?;
        let plan = trainer.plan()?;
        let (parts, launches) = (settings.run.accum_iter, plan.launches);
        say(format_args!("model {}: {} parameters, {} classes", config.name, trainer.params.count(), config.classes))?;
        say(format_args!("step of {parts} × {batch} images: {launches} launches for {batch} and the update\n{plan}"))
    }

    fn resolved(config: &Config, settings: &SegmentSettings, outputs: &Outputs) -> SegmentOptions {
        let heads = match &config.dense {
            Some(Dense::Segmentation(heads)) => heads.into(),
            _ => HeadArgs::default(),
        };
        let (output, tests) = (outputs.into(), (&outputs.record).into());
        let (model, training) = (config.into(), settings.into());
        SegmentOptions { output, tests, model, heads, training, rescan: false }
    }
}

pub fn run(device: &Device, line: CommandLine<SegmentOptions>) -> Outcome {
    carry_out::<Segmenting>(device, line)
}
