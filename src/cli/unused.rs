//! Options that would change nothing. They are refused by name, with what they need.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::data::Augmentation;
use crate::error::{Error, Result};
use crate::models::{Config, Method, OF_DECODERS, Objective, Target};
use crate::run::RecordSettings;
use crate::train::finetune::mixup::Mix;
use crate::train::pretrain::settings::PretrainSettings;
use crate::train::settings::{RunSettings, ScheduleKind};

/// What a layer gives, by the long names of the options.
pub type Given = Map<String, Value>;

/// The options that a layer gives.
pub fn given(layer: &impl Serialize) -> Given {
    match serde_json::to_value(layer) {
        Ok(Value::Object(given)) => given.into_iter().filter(|(_, value)| !value.is_null()).collect(),
        _ => Given::new(),
    }
}

/// The value of an option as people write it.
pub fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Options that change nothing in a run.
#[derive(Debug)]
pub struct Unused {
    options: &'static [&'static str],
    /// The options that make it so. A file is not blamed for what the command line decides.
    by: &'static [&'static str],
    /// What stands behind the value in messages: ` for the method ar`.
    of: String,
    expected: String,
    /// Whether a value that switches off is fine: 0, false or `none`.
    off_is_fine: bool,
}

impl Unused {
    /// Of `options`, which change nothing because of the options `by`. `expected` says what they need.
    pub fn new(options: &'static [&'static str], by: &'static [&'static str], expected: impl Into<String>) -> Self {
        Self { options, by, of: String::new(), expected: expected.into(), off_is_fine: false }
    }

    fn for_method(self, method: Method) -> Self {
        Self { of: format!(" for the method {method}"), ..self }
    }

    fn or_off(self) -> Self {
        Self { off_is_fine: true, ..self }
    }

    fn find<'a>(&self, given: &'a Given) -> Option<(&'static str, &'a Value)> {
        let found = self.options.iter().filter_map(|option| Some((*option, given.get(*option)?)));
        found.into_iter().find(|(_, value)| !(self.off_is_fine && is_off(value)))
    }

    fn error(&self, what: String, value: &Value) -> Error {
        Error::argument(what, format!("{}{}", shown(value), self.of), &self.expected)
    }
}

fn is_off(value: &Value) -> bool {
    matches!(value.as_str(), Some("none")) || value.as_f64() == Some(0.0) || value.as_bool() == Some(false)
}

/// Refuses what the command line gives of `unused`.
pub fn refuse(line: &Given, unused: &[Unused]) -> Result<()> {
    match unused.iter().find_map(|rule| Some((rule, rule.find(line)?))) {
        Some((rule, (option, value))) => Err(rule.error(format!("--{option}"), value)),
        None => Ok(()),
    }
}

/// Refuses what the file `place` gives of `unused`, unless `line` decides that it changes nothing.
pub fn refuse_in_file(place: &str, file: &Given, line: &Given, unused: &[Unused]) -> Result<()> {
    let blamed = unused.iter().filter(|rule| !rule.by.iter().any(|option| line.contains_key(*option)));
    match blamed.into_iter().find_map(|rule| Some((rule, rule.find(file)?))) {
        Some((rule, (option, value))) => Err(rule.error(format!("`{option}` in {place}"), value)),
        None => Ok(()),
    }
}

/// The rules that hold; the others are `None`.
pub fn rules(all: impl IntoIterator<Item = Option<Unused>>) -> Vec<Unused> {
    all.into_iter().flatten().collect()
}

/// What learning rates leave unused.
pub fn of_run(run: &RunSettings) -> Vec<Unused> {
    let own_rates = run.schedule == ScheduleKind::MapRepo;
    let expected = "another --schedule than map_repo, which has rates and a warm-up of its own";
    rules([
        own_rates.then(|| Unused::new(&["blr", "lr", "min-lr", "warmup-epochs"], &["schedule"], expected)),
        run.lr.map(|lr| Unused::new(&["blr"], &["lr"], format!("no --lr {lr} with it, which takes its place"))),
    ])
}

/// What an augmentation leaves unused.
pub fn of_augmentation(augmentation: &Augmentation, config: &Config) -> Vec<Unused> {
    const ALL: &[&str] = &["crop-scale", "hflip", "aa", "three-augment", "color-jitter", "reprob"];
    let jitter = augmentation.aa.map(|aa| format!("--aa none with it: {aa} takes its place"));
    rules([
        config.family.clouds.then(|| Unused::new(ALL, &["model", "checkpoint"], "a model on images").or_off()),
        jitter.map(|expected| Unused::new(&["color-jitter"], &["aa", "recipe"], expected).or_off()),
    ])
}

/// What the mixing of images leaves unused.
pub fn of_mix(mix: &Mix) -> Vec<Unused> {
    let (mixup, cutmix) = (mix.mixup > 0.0, mix.cutmix > 0.0);
    let by = &["mixup", "cutmix"];
    rules([
        (!mixup && !cutmix).then(|| Unused::new(&["mixup-prob"], by, "--mixup or --cutmix above 0 with it")),
        (!mixup || !cutmix).then(|| {
            let expected = "--mixup and --cutmix above 0 with it: it chooses between the two";
            Unused::new(&["mixup-switch-prob"], by, expected)
        }),
    ])
}

/// What a moving average that is not kept leaves unused.
pub fn of_average(momentum: Option<f64>) -> Option<Unused> {
    let expected = "no --model-ema=false with it: there is no average";
    momentum.is_none().then(|| Unused::new(&["model-ema-decay"], &["model-ema"], expected))
}

/// The options of pretraining's decoder, where there is no pretraining. Its kind stays: it also says how a ViT starts.
pub fn of_no_pretraining() -> Unused {
    let sizes = OF_DECODERS.split_first().map_or(OF_DECODERS, |(_kind, sizes)| sizes);
    Unused::new(sizes, &[], "`rowscan pretrain`, which has a decoder")
}

/// What the probes of a run leave unused.
pub fn of_probes(record: &RecordSettings) -> Option<Unused> {
    let expected = "--probe-every with it: without there are no probes";
    (record.probe_every == 0).then(|| Unused::new(&["probe-images"], &["probe-every"], expected))
}

/// What a network that scores no pixels leaves unused: what the values of segmentation maps mean.
pub fn of_labels(segments: bool) -> Option<Unused> {
    const LABELS: &[&str] = &["num-classes", "reduce-zero-label", "color-table"];
    let expected = "a network for segmentation, whose data sets have values of pixels";
    (!segments).then(|| Unused::new(LABELS, &[], expected))
}

/// What test images leave unused: clouds are seen whole, and so is what a dense task reads.
pub fn of_test_views(config: &Config) -> Option<Unused> {
    let what = if config.family.clouds { "clouds" } else { "images for a dense task" };
    let expected = format!("none: {what} are not cropped in a test");
    (config.family.clouds || config.dense.is_some()).then(|| Unused::new(&["crop-ratio"], &[], expected))
}

/// What masks leave unused.
pub fn of_masks(settings: &PretrainSettings) -> Option<Unused> {
    let expected = |tokens| format!("no --mask-tokens {tokens} beside it, which takes its place");
    settings.mask_tokens.map(|tokens| Unused::new(&["mask-ratio"], &["mask-tokens"], expected(tokens)))
}

/// What a method leaves unused: options of other methods, masks where nothing is hidden, targets where there is one
/// alone, decoders where there is none.
pub fn of_method(method: Method, target: Target) -> Vec<Unused> {
    const METHOD: &[&str] = &["method", "checkpoint"];
    let of = |owner: Method, options| (owner != method).then(|| (options, format!("the method {owner}")));
    let hides = || format!("a method that hides patches: {}", Method::names(|method| method.hides));
    let targets = || format!("a method that predicts raw or normalized patches: {}", Method::names(|m| m.any_target));
    let decoders = || {
        let names = Method::names(|m| m.unread.is_empty());
        format!("a method with a decoder: {names}")
    };
    const DIFFUSION: &[&str] = &["diffusion-width", "diffusion-depth", "diffusion-repeats", "no-vlb"];
    const MASKS: &[&str] = &["mask", "mask-ratio", "mask-tokens", "decoder-mask", "decode-order"];
    let rules = [
        of(Method::DIFFUSION, DIFFUSION),
        of(Method::CONTRASTIVE, &["queue", "temperature", "key-momentum"]),
        of(Method::AR_SHIFT, &["shift"]),
        (!method.hides).then(|| (MASKS, hides())),
        (!method.any_target).then(|| (&["target", "target-eps"][..], targets())),
        (!method.unread.is_empty()).then(|| (method.unread, decoders())),
    ];
    let rules = rules.into_iter().flatten();
    let rules = rules.map(|(options, expected)| Unused::new(options, METHOD, expected).for_method(method));
    let raw = (method.any_target && target == Target::Raw).then(|| {
        let expected = "--target normalized with it: raw pixels are not divided by a deviation";
        Unused::new(&["target-eps"], &["target"], expected)
    });
    rules.chain(raw).collect()
}

/// What an objective leaves unused for a model.
pub fn of_objective(objective: &Objective, config: &Config) -> Vec<Unused> {
    let mut rules = of_method(objective.method, objective.target);
    if config.family.clouds {
        let expected = "a model on images: points are compared by their distances";
        rules.push(Unused::new(&["target", "target-eps"], &["model", "checkpoint"], expected));
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(layer: &str, unused: &[Unused]) -> Option<String> {
        let layer: Given = serde_json::from_str(layer).unwrap();
        refuse(&layer, unused).err().map(|e| e.to_string())
    }

    #[test]
    fn what_changes_nothing_is_refused_and_what_is_off_is_fine() {
        let rand = of_augmentation(&Augmentation::RAND_AUGMENT, &Config::preset("micro").unwrap());
        let error = said(r#"{"color-jitter": 0.3, "hflip": 0.5}"#, &rand).unwrap();
        assert!(error.contains("--color-jitter") && error.contains("got 0.3, expected --aa none"), "{error}");
        assert_eq!(said(r#"{"color-jitter": 0.0, "hflip": 0.5, "aa": "none"}"#, &rand), None);
        let cloud = of_augmentation(&Augmentation::PRETRAIN, &Config::preset("map3d_micro").unwrap());
        assert!(said(r#"{"aa": "rand-m9"}"#, &cloud).unwrap().contains("a model on images"));
        assert_eq!(said(r#"{"aa": "none", "three-augment": false, "reprob": 0}"#, &cloud), None);
        let mixed = |mixup, cutmix| of_mix(&Mix { mixup, cutmix, ..Mix::NONE });
        let (switch, prob) = (r#"{"mixup-switch-prob": 0.5}"#, r#"{"mixup-prob": 1.0}"#);
        assert!(said(switch, &mixed(0.8, 0.0)).unwrap().contains("--mixup and --cutmix above 0"));
        assert!(said(prob, &mixed(0.0, 0.0)).unwrap().contains("--mixup or --cutmix above 0"));
        assert_eq!((said(switch, &mixed(0.8, 1.0)), said(prob, &mixed(0.8, 0.0))), (None, None));
    }

    /// The line may decide otherwise than a file expects.
    #[test]
    fn files_are_not_blamed_for_the_command_line() {
        let (file, line) = (r#"{"mask-ratio": "0.75"}"#, r#"{"method": "contrastive"}"#);
        let [file, line]: [Given; 2] = [file, line].map(|text| serde_json::from_str(text).unwrap());
        let rules = of_method(Method::CONTRASTIVE, Target::default());
        refuse_in_file("a.toml", &file, &line, &rules).unwrap();
        let error = refuse_in_file("a.toml", &file, &Given::new(), &rules).unwrap_err().to_string();
        let words = ["`mask-ratio` in a.toml", "0.75 for the method contrastive", "a method that hides patches: map"];
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}
