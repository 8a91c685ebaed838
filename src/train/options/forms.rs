//! Arguments that people write in another form than the setting has: `none`, `0.2,1`, `truncnorm`, `--no-vlb`.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::layer::Argument;
use crate::error::{Error, Result};

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

/// Text in files, as on the command line. Reading accepts a bare number and a list of numbers too.
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
                #[serde(untagged, expecting = "text, a number or a list of numbers")]
                enum Form {
                    Text(String),
                    Number(f64),
                    Numbers(Vec<f64>),
                }
                let text = match Form::deserialize(deserializer)? {
                    Form::Text(text) => text,
                    Form::Number(number) => number.to_string(),
                    Form::Numbers(numbers) => numbers.iter().map(f64::to_string).collect::<Vec<_>>().join(","),
                };
                text.parse().map_err(|e: Error| serde::de::Error::custom(e))
            }
        }
    )*};
}
as_text!(Pair, Share, OrNone<T>);
