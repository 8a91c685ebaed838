//! Options in layers: default < recipe < file < command line, for every command that trains.
//!
//! *Settings* are plain structs with a value in every field. *Arguments* are structs of the same fields, all of them
//! optional: what one layer (a TOML file, a command line, a row of a table) says about the settings. [`overlay`] lays
//! the layers over the settings one by one. PyTorch projects do the same with `parser.set_defaults(**config)`.
//!
//! Two macros write the argument structs:
//!
//! - `settings!` writes the settings, their defaults and their arguments from one list, so that an option is one field
//!   whose doc comment is also its help text;
//! - `args!` writes the arguments alone, for settings that are defined in another room (a model, an augmentation).

#[cfg(feature = "files")]
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::str::FromStr;

use crate::error::{Error, Result};

/// Arguments of the settings `S`: one layer's values for some of them. A field that is `None` leaves the layer below.
pub trait Layer<S> {
    /// Writes every field that is given into `settings`.
    fn over(&self, settings: &mut S);
}

/// The settings `base` under `layers`: a later layer overrides an earlier one.
pub fn overlay<S, L: Layer<S>>(mut base: S, layers: &[L]) -> S {
    layers.iter().for_each(|layer| layer.over(&mut base));
    base
}

impl<S, L: Layer<S>> Layer<S> for &L {
    fn over(&self, settings: &mut S) {
        (*self).over(settings);
    }
}

/// The value of one option in the uppermost layer that gives it; `None` if no layer does.
pub fn uppermost<'a, L, T: ?Sized>(layers: &'a [L], option: impl Fn(&'a L) -> Option<&'a T>) -> Option<&'a T> {
    layers.iter().rev().find_map(option)
}

/// A type of argument for settings of type `S`. Most arguments have the type of their setting, or `T` for an
/// `Option<T>`; the types below are for settings that people write in another form.
pub trait Argument<S>: Sized {
    /// Writes the argument into the setting.
    fn set(self, setting: &mut S);
    /// The argument that gives the setting its value; `None` if no argument does.
    fn of(setting: &S) -> Option<Self>;
}

impl<T: Clone> Argument<T> for T {
    fn set(self, setting: &mut T) {
        *setting = self;
    }

    fn of(setting: &T) -> Option<Self> {
        Some(setting.clone())
    }
}

impl<T: Clone> Argument<Option<T>> for T {
    fn set(self, setting: &mut Option<T>) {
        *setting = Some(self);
    }

    fn of(setting: &Option<T>) -> Option<Self> {
        setting.clone()
    }
}

/// An argument for an optional setting that can also be switched off: a `T`, or the word `none`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct OrNone<T>(pub Option<T>);

/// A pair of numbers with a comma between them: `0.2,1`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Pair(pub f64, pub f64);

/// A share of hidden patches, or `truncnorm` for the draw of the MAP repository, which is `None` in the settings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(pub Option<f64>);

/// A flag that switches a setting off: `--no-vlb` for `vlb`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Negated(pub bool);

impl<T: Clone> Argument<Option<T>> for OrNone<T> {
    fn set(self, setting: &mut Option<T>) {
        *setting = self.0;
    }

    fn of(setting: &Option<T>) -> Option<Self> {
        Some(Self(setting.clone()))
    }
}

impl<T: FromStr<Err: Into<Error>>> FromStr for OrNone<T> {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "none" { Ok(Self(None)) } else { text.parse().map(|it| Self(Some(it))).map_err(Into::into) }
    }
}

impl<T: std::fmt::Display> std::fmt::Display for OrNone<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.0 {
            Some(it) => it.fmt(f),
            None => f.write_str("none"),
        }
    }
}

impl Argument<(f64, f64)> for Pair {
    fn set(self, setting: &mut (f64, f64)) {
        *setting = (self.0, self.1);
    }

    fn of(setting: &(f64, f64)) -> Option<Self> {
        Some(Self(setting.0, setting.1))
    }
}

impl FromStr for Pair {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.split_once(',').and_then(|(a, b)| Some(Self(a.trim().parse().ok()?, b.trim().parse().ok()?)));
        parsed.ok_or_else(|| Error::argument("a pair", format!("`{text}`"), "two numbers, such as 0.2,1"))
    }
}

impl std::fmt::Display for Pair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{},{}", self.0, self.1)
    }
}

impl Argument<Option<f64>> for Share {
    fn set(self, setting: &mut Option<f64>) {
        *setting = self.0;
    }

    fn of(setting: &Option<f64>) -> Option<Self> {
        Some(Self(*setting))
    }
}

impl FromStr for Share {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        if text == "truncnorm" {
            return Ok(Self(None));
        }
        let wrong = |_| Error::argument("a share", format!("`{text}`"), "a number from 0 to below 1, or truncnorm");
        text.parse().map(|share| Self(Some(share))).map_err(wrong)
    }
}

impl std::fmt::Display for Share {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(share) => share.fmt(f),
            None => f.write_str("truncnorm"),
        }
    }
}

impl Argument<bool> for Negated {
    fn set(self, setting: &mut bool) {
        *setting = !self.0;
    }

    fn of(setting: &bool) -> Option<Self> {
        Some(Self(!setting))
    }
}

impl FromStr for Negated {
    type Err = std::str::ParseBoolError;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

/// Text in files, as on the command line. Reading accepts a bare number too.
macro_rules! as_text {
    ($($name:ident $(<$T:ident>)?),*) => {$(
        impl$(<$T: std::fmt::Display>)? Serialize for $name$(<$T>)? {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de $(, $T: FromStr<Err: Into<Error>>)?> Deserialize<'de> for $name$(<$T>)? {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
                #[derive(Deserialize)]
                #[serde(untagged, expecting = "text or a number")]
                enum Text {
                    Text(String),
                    Number(f64),
                }
                let text = match Text::deserialize(deserializer)? {
                    Text::Text(text) => text,
                    Text::Number(number) => number.to_string(),
                };
                text.parse().map_err(|e: Error| serde::de::Error::custom(e))
            }
        }
    )*};
}
as_text!(Pair, Share, OrNone<T>);

/// Writes the argument struct `$Args` of the settings `$Settings`. Each line is a field, a `--flag` of the same name,
/// and its help. An argument whose setting has another name or lies deeper says so: `no_vlb => vlb: Negated`. `;
/// arg(…)` passes attributes on to clap. `given a, forget b`: a layer that gives a and not b sets b to `None`.
macro_rules! args {
    (@place $to:ident, $flag:ident) => { $to.$flag };
    (@place $to:ident, $flag:ident => $($path:ident).+) => { $to.$($path).+ };
    (
        $(#[$outer:meta])*
        pub struct $Args:ident for $Settings:ty {
            $( $(#[$doc:meta])* $flag:ident $(=> $($path:ident).+)? : $type:ty $(; arg($($arg:tt)*))?, )*
        }
        $(given $new:ident, forget $old:ident)?
    ) => {
        $(#[$outer])*
        #[derive(Debug, Clone, Default, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(feature = "cli", derive(clap::Args))]
        #[serde(rename_all = "kebab-case", default)]
        pub struct $Args {
            $(
                $(#[$doc])*
                #[cfg_attr(feature = "cli", arg(long $(, $($arg)*)?))]
                #[serde(skip_serializing_if = "Option::is_none")]
                pub $flag: Option<$type>,
            )*
        }

        impl $crate::train::options::Layer<$Settings> for $Args {
            fn over(&self, settings: &mut $Settings) {
                $( if self.$new.is_some() && self.$old.is_none() { settings.$old = None; } )?
                $( if let Some(given) = &self.$flag {
                    let to = &mut $crate::train::options::args!(@place settings, $flag $(=> $($path).+)?);
                    $crate::train::options::Argument::set(given.clone(), to);
                } )*
            }
        }

        impl From<&$Settings> for $Args {
            fn from(settings: &$Settings) -> Self {
                Self { $(
                    $flag: $crate::train::options::Argument::of(
                        &$crate::train::options::args!(@place settings, $flag $(=> $($path).+)?)
                    ),
                )* }
            }
        }
    };
}

/// Writes settings with their defaults, and their argument struct as [`args!`] does: an option is one field. `T as A =
/// value` is a setting of type T whose argument has type A.
macro_rules! settings {
    (@argument $type:ty) => { $type };
    (@argument $type:ty as $argument:ty) => { $argument };
    (
        $(#[$outer:meta])*
        pub struct $Settings:ident with $Args:ident {
            $(
                $(#[$doc:meta])*
                pub $field:ident : $type:ty $(as $argument:ty)? = $default:expr
                $(; serde($($serde:tt)*))? $(; arg($($arg:tt)*))?,
            )*
        }
        $(given $new:ident, forget $old:ident)?
    ) => {
        $(#[$outer])*
        pub struct $Settings {
            $( $(#[$doc])* $(#[serde($($serde)*)])? pub $field: $type, )*
        }

        impl $Settings {
            /// The values where no layer gives any.
            pub const DEFAULT: Self = Self { $( $field: $default, )* };
        }

        impl Default for $Settings {
            fn default() -> Self {
                Self::DEFAULT
            }
        }

        $crate::train::options::args! {
            #[doc = concat!("What one layer says about [`", stringify!($Settings), "`].")]
            pub struct $Args for $Settings {
                $( $(#[$doc])* $field: $crate::train::options::settings!(@argument $type $(as $argument)?)
                    $(; arg($($arg)*))?, )*
            }
            $(given $new, forget $old)?
        }
    };
}

pub(crate) use {args, settings};

/// Reads one layer from a TOML table. `place` names the table in errors; `known` lists the names of all options, or is
/// empty. Keys and words may have hyphens or underscores: `map_repo` is `map-repo`.
///
/// # Errors
/// An unknown key, a value of the wrong type, or a word that is not in the list. The error names the key, the place,
/// and what is expected.
#[cfg(feature = "files")]
pub fn read_table<A>(place: &str, table: &toml::Table, known: &[&str]) -> Result<A>
where
    A: Serialize + DeserializeOwned,
{
    use toml::Value;
    // one key at a time: within a flattened struct, serde's errors do not name the key
    let read = |key: &str, value: Value| A::deserialize(Value::Table([(key.to_string(), value)].into_iter().collect()));
    let mut layer = toml::Table::new();
    for (key, value) in table {
        let (key, what) = (key.replace('_', "-"), format!("`{key}` in {place}"));
        let words = value.as_str().map(|word| [word.replace('-', "_"), word.replace('_', "-")].map(Value::String));
        let spellings = [value.clone()].into_iter().chain(words.into_iter().flatten());
        let mut results = spellings.map(|value| read(&key, value.clone()).map(|found| (found, value)));
        let first = results.next();
        let found = match first {
            Some(Err(e)) => results.find_map(|r| r.ok()).ok_or(e),
            Some(found) => found,
            None => continue,
        };
        let (found, value) = found.map_err(|e| Error::argument(what.clone(), value, e.message().trim()))?;
        // an argument struct writes only what it was given: if nothing is left of a key, it is not one of its own
        if toml::Table::try_from(&found).is_ok_and(|left| left.is_empty()) {
            return Err(match known {
                [] => Error::argument(what, "an unknown key", "the name of an option"),
                known => Error::unknown(format!("an option in {place}"), &key, known.iter().copied()),
            });
        }
        layer.insert(key, value);
    }
    A::deserialize(Value::Table(layer))
        .map_err(|e| Error::argument(place.to_owned(), e.message().trim(), "options with values of their kind"))
}

/// The resolved options as the text of a TOML file that [`read_table`] reads.
#[cfg(feature = "files")]
pub fn to_toml(options: &impl Serialize) -> Result<String> {
    toml::to_string(options).map_err(|e| Error::Internal(format!("options as TOML: {e}")))
}

/// The words of an enumeration, as its `Deserialize` lists them, without those that it only accepts: aliases.
#[cfg(feature = "cli")]
fn words<T: Serialize + DeserializeOwned>() -> Vec<&'static str> {
    use serde::de::value::Error as Refused;
    struct Ask<'a>(&'a mut &'static [&'static str]);
    impl<'de> serde::Deserializer<'de> for Ask<'_> {
        type Error = Refused;

        fn deserialize_any<V: serde::de::Visitor<'de>>(self, _: V) -> std::result::Result<V::Value, Refused> {
            Err(serde::de::Error::custom("not an enumeration"))
        }

        fn deserialize_enum<V: serde::de::Visitor<'de>>(
            self, _: &'static str, words: &'static [&'static str], visitor: V,
        ) -> std::result::Result<V::Value, Refused> {
            *self.0 = words;
            self.deserialize_any(visitor)
        }

        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map struct identifier ignored_any
        }
    }
    let mut words: &[&str] = &[];
    let _ = T::deserialize(Ask(&mut words)); // always an error: it only asks
    let writes = |word: &str| {
        let value = serde_json::Value::String(word.into());
        serde_json::from_value::<T>(value.clone()).is_ok_and(|it| serde_json::to_value(it).is_ok_and(|it| it == value))
    };
    words.iter().copied().filter(|word| writes(word)).collect()
}

/// Parses a word of an enumeration on the command line: with hyphens or underscores, under its name or an alias.
#[cfg(feature = "cli")]
pub(crate) const fn word<T>() -> Word<T> {
    Word(std::marker::PhantomData)
}

/// Parser of a word of the enumeration `T`.
#[cfg(feature = "cli")]
#[derive(Debug, Clone, Copy)]
pub struct Word<T>(std::marker::PhantomData<fn() -> T>);

#[cfg(feature = "cli")]
impl<T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> clap::builder::TypedValueParser for Word<T> {
    type Value = T;

    fn parse_ref(
        &self, cmd: &clap::Command, arg: Option<&clap::Arg>, value: &std::ffi::OsStr,
    ) -> std::result::Result<T, clap::Error> {
        let text = value.to_string_lossy();
        let spellings = [text.to_string(), text.replace('-', "_"), text.replace('_', "-")];
        let read = |word: String| serde_json::from_value(serde_json::Value::String(word)).ok();
        if let Some(found) = spellings.into_iter().find_map(read) {
            return Ok(found);
        }
        let known = clap::builder::PossibleValuesParser::new(words::<T>());
        known.parse_ref(cmd, arg, value)?;
        Err(clap::Error::new(clap::error::ErrorKind::InvalidValue).with_cmd(cmd))
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = clap::builder::PossibleValue> + '_>> {
        Some(Box::new(words::<T>().into_iter().map(clap::builder::PossibleValue::new)))
    }
}

#[cfg(all(test, feature = "cli"))]
mod tests {
    use super::*;
    use crate::models::Target;
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
            ("schedule = \"linear\"", &["`schedule` in a.toml", "linear", "cosine"]),
            ("betas = \"0.9\"", &["`betas` in a.toml", "0.9", "such as 0.2,1"]),
        ] {
            let error = layer(text).unwrap_err().to_string();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }

    #[test]
    fn words_are_listed_without_aliases() {
        assert_eq!(words::<Target>(), ["normalized", "raw"]);
        assert_eq!(words::<ScheduleKind>(), ["cosine", "epoch", "map_repo"]);
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
