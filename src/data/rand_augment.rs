//! RandAugment (Cubuk et al. 2019) with timm's operations, magnitudes and names.
use crate::error::DataError;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A few random operations of random strength, written as in timm: `rand-m9-mstd0.5-inc1`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RandAugment {
    /// Mean strength, 0 to 10 (`m`).
    pub magnitude: f64,
    /// Number of operations that are drawn, with replacement (`n`). Each is then applied with probability ½, as in
    /// timm.
    pub operations: usize,
    /// Standard deviation of the strength, which is clamped to 0 … 10 (`mstd`).
    pub deviation: f64,
    /// Whether a greater strength means a greater change for every operation (`inc`): timm's plain `posterize` and
    /// `solarize` change less the greater it is.
    pub increasing: bool,
}

impl RandAugment {
    /// `rand-m9-mstd0.5-inc1`, which DeiT uses and most papers after it.
    pub const DEIT: Self = Self { magnitude: 9.0, operations: 2, deviation: 0.5, increasing: true };
}

impl FromStr for RandAugment {
    type Err = DataError;

    /// Reads `rand` and, in any order, `-m`, `-n`, `-mstd` and `-inc`, each with a number behind it. The defaults are
    /// timm's: m10, n2, mstd0, inc0.
    fn from_str(text: &str) -> Result<Self, DataError> {
        let wrong = || DataError::setting("RandAugment", format!("`{text}`"), "such as rand-m9-n2-mstd0.5-inc1");
        let mut parts = text.split('-');
        if parts.next() != Some("rand") {
            return Err(wrong());
        }
        let mut it = Self { magnitude: 10.0, operations: 2, deviation: 0.0, increasing: false };
        for part in parts {
            let digits = part.find(|c: char| !c.is_ascii_alphabetic()).ok_or_else(wrong)?;
            let (name, value) = part.split_at(digits);
            let number = value.parse::<f64>().ok().filter(|v| (0.0..=100.0).contains(v)).ok_or_else(wrong)?;
            match name {
                "m" if number <= 10.0 => it.magnitude = number,
                "n" if number.fract() == 0.0 => it.operations = number as usize,
                "mstd" => it.deviation = number,
                "inc" if number <= 1.0 && number.fract() == 0.0 => it.increasing = number == 1.0,
                _ => return Err(wrong()),
            }
        }
        Ok(it)
    }
}

impl fmt::Display for RandAugment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { magnitude, operations, deviation, increasing } = *self;
        write!(f, "rand-m{magnitude}-n{operations}-mstd{deviation}-inc{}", u8::from(increasing))
    }
}

impl TryFrom<String> for RandAugment {
    type Error = DataError;

    fn try_from(text: String) -> Result<Self, DataError> {
        text.parse()
    }
}

impl From<RandAugment> for String {
    fn from(it: RandAugment) -> Self {
        it.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_timm() {
        let read = |text: &str| text.parse::<RandAugment>();
        assert_eq!(read("rand-m9-mstd0.5-inc1").unwrap(), RandAugment::DEIT);
        assert_eq!(read("rand-inc1-mstd0.5-n2-m9").unwrap(), RandAugment::DEIT);
        let plain = RandAugment { magnitude: 10.0, operations: 2, deviation: 0.0, increasing: false };
        assert_eq!(read("rand").unwrap(), plain);
        assert_eq!(RandAugment::DEIT.to_string().parse::<RandAugment>().unwrap(), RandAugment::DEIT);
        assert_eq!(serde_json::to_string(&plain).unwrap(), "\"rand-m10-n2-mstd0-inc0\"");
        assert_eq!(serde_json::from_str::<RandAugment>("\"rand-m7\"").unwrap().magnitude, 7.0);
        for text in
            ["", "augmix-m3", "rand-m11", "rand-m", "rand-x3", "rand-n1.5", "rand-inc2", "rand-m-9", "rand-mNaN"]
        {
            let error = read(text).unwrap_err().to_string();
            assert!(error.contains(&format!("`{text}`")) && error.contains("rand-m9"), "{error}");
        }
    }
}
