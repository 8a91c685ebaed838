//! Options in layers: default < recipe < file < command line, for every command that trains.
//!
//! *Settings* are plain structs with a value in every field. *Arguments* are structs of the same fields, all of them
//! optional: what one layer (a TOML file, a command line, a row of a table) says about the settings. [`overlay`] lays
//! the layers over the settings one by one. PyTorch projects do the same with `parser.set_defaults(**config)`.
//!
//! Three macros write the argument structs:
//!
//! - `settings!` writes the settings, their defaults and their arguments from one list, so that an option is one field
//!   whose doc comment is also its help text;
//! - `args!` writes the arguments alone, for settings that are defined in another room (a model, an augmentation);
//! - `group!` writes the arguments of settings that are made of such parts.

mod declare;
mod forms;
mod layer;
#[cfg(feature = "files")]
mod table;
#[cfg(feature = "cli")]
mod word;

pub(crate) use declare::{args, group, settings};
pub use forms::{Negated, OrNone, Pair, Share};
pub use layer::{Argument, Layer, overlay, uppermost};
#[cfg(feature = "files")]
pub use table::{read_table, to_toml};
#[cfg(feature = "cli")]
pub use word::Word;
#[cfg(feature = "cli")]
pub(crate) use word::word;

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;
    use crate::error::Result;
    use crate::train::settings::{RunArgs, RunSettings, ScheduleKind};

    fn layer(text: &str) -> Result<RunArgs> {
        read_table("a.toml", &text.parse().unwrap(), &["batch-size", "blr", "lr", "schedule", "betas"])
    }

    #[test]
    fn a_later_layer_overrides_an_earlier_one() {
        let (file, line) = (layer("batch-size = 8\nepochs = 3").unwrap(), layer("batch_size = 4").unwrap());
        let settings = overlay(RunSettings::default(), &[&file, &line]);
        assert_eq!((settings.batch_size, settings.epochs, settings.accum_iter), (4, 3, 1));
        assert_eq!(uppermost(&[&file, &line], |layer| layer.epochs.as_ref()), Some(&3));
        // a rate per 256 images takes the place of a fixed one below it, not of one beside it
        let fixed = RunSettings { lr: Some(0.5), ..RunSettings::default() };
        let under = |text: &str| overlay(fixed.clone(), &[layer(text).unwrap()]);
        assert_eq!(
            (under("blr = 0.1").lr, under("blr = 0.1\nlr = 0.2").lr, under("").lr),
            (None, Some(0.2), Some(0.5))
        );
    }

    #[test]
    fn resolved_options_give_the_settings_again_over_any_others() {
        let settings = RunSettings {
            betas: (0.9, 0.999),
            schedule: ScheduleKind::MapRepo,
            blr: 1.0 / 3.0,
            checkpoint_blocks: true,
            ..RunSettings::default()
        };
        let text = to_toml(&RunArgs::from(&settings)).unwrap();
        let other = RunSettings { lr: Some(0.5), seed: 9, epochs: 1, ..RunSettings::default() };
        assert_eq!(overlay(other, &[layer(&text).unwrap()]), settings, "{text}");
    }

    #[test]
    fn wrong_keys_and_values_are_named() {
        for (text, words) in [
            ("batchsize = 4", &["an option in a.toml", "`batchsize`", "near it: batch-size"][..]),
            ("batch-size = -1", &["`batch-size` in a.toml", "-1", "expected usize"]),
            ("blr = \"high\"", &["`blr` in a.toml", "high", "expected f64"]),
            ("schedule = \"lines\"", &["`schedule` in a.toml", "lines", "cosine"]),
            ("betas = \"0.9\"", &["`betas` in a.toml", "0.9", "such as 0.2,1"]),
        ] {
            let error = layer(text).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }

    #[test]
    fn arguments_in_other_forms_are_read_as_they_are_written() {
        for text in ["truncnorm", "0.75"] {
            assert_eq!(text.parse::<Share>().unwrap().to_string(), text);
        }
        assert_eq!("0.2,1".parse::<Pair>().unwrap(), Pair(0.2, 1.0));
        assert_eq!("none".parse::<OrNone<crate::data::RandAugment>>().unwrap(), OrNone(None));
        for wrong in ["", "a", "1;2"] {
            assert!(wrong.parse::<Share>().is_err() && wrong.parse::<Pair>().is_err(), "{wrong}");
        }
    }
}
