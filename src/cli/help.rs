//! The help of the commands that train: headings over their many options, and the default of each.

use clap::{Args, Command};
use serde::Serialize;
use serde_json::{Map, Value};

use super::model_args::ModelArgs;
use super::training::OutputArgs;
use crate::models::dense::{Detection, Segmentation};
use crate::run::RecordSettings;
use crate::run::outputs::{PictureArgs, RecordArgs, TestArgs};
use crate::train::detect::settings::{DetectArgs, DetectOnlyArgs, DetectSettings, DetectorArgs};
use crate::train::finetune::mixup::MixArgs;
use crate::train::finetune::recipes::recipe;
use crate::train::finetune::settings::{FinetuneArgs, TuningArgs};
use crate::train::pretrain::settings::{MethodArgs, PretrainArgs, PretrainSettings};
use crate::train::segment::settings::{HeadArgs, LabelArgs, SegmentArgs, SegmentOnlyArgs, SegmentSettings};
use crate::train::settings::{RecipeArgs, RunArgs};

/// The recipe of `finetune` whose values its help shows as defaults.
pub(super) const DEFAULT_RECIPE: &str = "mae_base";
/// The same of a model on point clouds.
pub(super) const CLOUDS_RECIPE: &str = "points";

/// Options that stand under another heading than the rest of their struct.
const DATA: &[&str] = &["data", "max-images", "repeats", "crop-ratio", "scale", "photometric"];

/// The long names of the options of `A`.
fn names<A: Args>() -> Vec<String> {
    let command = A::augment_args(Command::new("names"));
    command.get_arguments().filter_map(|arg| arg.get_long().map(String::from)).collect()
}

/// The heading of an option.
fn heading(long: &str) -> &'static str {
    type Names = fn() -> Vec<String>;
    let groups: [(&str, Names); 13] = [
        ("Output", names::<OutputArgs>),
        ("Output", names::<PictureArgs>),
        ("Output", names::<TestArgs>),
        ("Model", names::<ModelArgs>),
        ("Model", names::<HeadArgs>),
        ("Model", names::<DetectorArgs>),
        ("Data", names::<RecipeArgs>),
        ("Data", names::<LabelArgs>),
        ("Method", names::<MethodArgs>),
        ("Method", || [names::<MixArgs>(), names::<TuningArgs>()].concat()),
        ("Method", names::<SegmentOnlyArgs>),
        ("Method", names::<DetectOnlyArgs>),
        ("Run", names::<RunArgs>),
    ];
    if DATA.contains(&long) {
        return "Data";
    }
    let found = groups.iter().find(|(_, names)| names().iter().any(|name| name == long));
    found.map_or("Run", |(heading, _)| heading)
}

/// The values that options have if nothing else is said, by their long names.
fn defaults(of: &[&dyn erased::Values]) -> Map<String, Value> {
    of.iter().flat_map(|values| values.values()).collect()
}

/// Arguments of different types as lists of their values.
mod erased {
    use super::{Map, Serialize, Value};

    pub trait Values {
        fn values(&self) -> Map<String, Value>;
    }

    impl<T: Serialize> Values for T {
        fn values(&self) -> Map<String, Value> {
            match serde_json::to_value(self) {
                Ok(Value::Object(values)) => values,
                _ => Map::new(),
            }
        }
    }
}

/// `command` with headings, and with defaults in the help of its options. `what` says whose defaults they are.
fn described(command: Command, defaults: &Map<String, Value>, what: &str) -> Command {
    command.mut_args(|arg| {
        let Some(long) = arg.get_long().map(String::from).filter(|_| !arg.is_global_set()) else { return arg };
        let arg = arg.help_heading(heading(&long));
        let value = match defaults.get(&long) {
            None | Some(Value::Null) => return arg,
            Some(Value::String(text)) if text.is_empty() => return arg,
            Some(Value::String(text)) => text.clone(),
            Some(other) => other.to_string(),
        };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        arg.help(format!("{help} [{what}: {value}]"))
    })
}

/// The program with headings and defaults in the help of the commands that train.
pub(super) fn with_headings(program: Command) -> Command {
    let record = RecordSettings::default();
    let (records, pictures, tests) = (RecordArgs::from(&record), PictureArgs::from(&record), TestArgs::from(&record));
    let pretraining = PretrainArgs::from(&PretrainSettings::default());
    let pretraining = defaults(&[&records, &pictures, &pretraining]);
    let tuning = recipe(DEFAULT_RECIPE).map(|recipe| FinetuneArgs::from(&recipe.settings)).unwrap_or_default();
    let tuning = defaults(&[&records, &tests, &tuning]);
    let segmenting = SegmentArgs::from(&SegmentSettings::default());
    let heads = HeadArgs::from(&Segmentation::default());
    let segmenting = defaults(&[&records, &tests, &heads, &segmenting]);
    let detecting = DetectArgs::from(&DetectSettings::default());
    let detectors = DetectorArgs::from(&Detection::default());
    let detecting = defaults(&[&records, &tests, &detectors, &detecting]);
    program
        .mut_subcommand("pretrain", |command| described(command, &pretraining, "default"))
        .mut_subcommand("finetune", |command| described(command, &tuning, DEFAULT_RECIPE))
        .mut_subcommand("segment", |command| described(command, &segmenting, "default"))
        .mut_subcommand("detect", |command| described(command, &detecting, "default"))
}
