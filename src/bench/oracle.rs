//! The oracle of a case: the expected results on the CPU, and their tolerances.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::{Error, Result};

/// Tolerance of a result: |got − want| ≤ abs + rel·|want| for every element, as in `torch.allclose`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tol {
    /// Relative tolerance.
    pub rel: f64,
    /// Absolute tolerance.
    pub abs: f64,
}

impl Tol {
    /// No difference at all, for values that are copied and not computed.
    pub const EXACT: Self = Self { rel: 0.0, abs: 0.0 };

    /// With what storage as f16 adds, if `half`: one rounding by 2⁻¹¹ = 4.9e-4, or below 6e-5 by steps of 6e-8.
    #[must_use]
    pub fn or_f16(self, half: bool) -> Self {
        if half { Self { rel: self.rel + 4.9e-4, abs: self.abs + 3e-8 } } else { self }
    }

    /// `rel` is `share`, and `abs` is `share` of the largest element. For sums, whose order differs from the oracle's.
    pub fn of(want: &[f64], share: f64) -> Self {
        Self { rel: share, abs: share * want.iter().fold(0.0, |most, v| v.abs().max(most)) }
    }
}

/// Compares two arrays and returns the largest absolute difference.
///
/// # Errors
/// [`Error::Mismatch`] with the element that exceeds its tolerance most, if one does. NaN and infinity always do.
pub fn compare(name: &str, got: &[f32], want: &[f64], tol: Tol) -> Result<f64> {
    if got.len() != want.len() {
        return Err(Error::Mismatch(format!("{name}: {} values, expected {}", got.len(), want.len())));
    }
    let (mut largest, mut worst) = (0.0f64, None);
    for (i, (&got, &want)) in got.iter().zip(want).enumerate() {
        let difference = (f64::from(got) - want).abs();
        largest = largest.max(difference);
        let excess = if got.is_finite() { difference - tol.abs - tol.rel * want.abs() } else { f64::INFINITY };
        if excess > worst.map_or(0.0, |(_, most)| most) {
            worst = Some((i, excess));
        }
    }
    let Some((i, _)) = worst else { return Ok(largest) };
    let Tol { rel, abs } = tol;
    Err(Error::Mismatch(format!("{name}[{i}]: got {}, expected {} (rel {rel:.1e}, abs {abs:.1e})", got[i], want[i])))
}

/// Inputs of the oracle by name: the compared samples only, and weights as a whole. The gradient of a result has the
/// name `d` + the result's name.
#[derive(Debug, Default)]
pub struct Values {
    pub(super) named: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
    /// Indices of the compared samples in the batch.
    pub picked: Vec<usize>,
    /// Number of samples in the whole batch.
    pub samples: usize,
}

impl Values {
    /// The values of a name.
    ///
    /// # Errors
    /// If there is no input of this name.
    pub fn get(&self, name: &str) -> Result<&[f64]> {
        self.find(name).map(|(_, values)| values.as_slice())
    }
    /// The shape of a name, with the compared samples only.
    ///
    /// # Errors
    /// If there is no input of this name, or it does not have `N` dimensions.
    pub fn shape<const N: usize>(&self, name: &str) -> Result<[usize; N]> {
        let shape = &self.find(name)?.0;
        shape
            .as_slice()
            .try_into()
            .map_err(|_| Error::argument(name.to_owned(), format!("{shape:?}"), format!("{N} dimensions")))
    }
    /// The values of a name as u32 indices.
    ///
    /// # Errors
    /// If there is no input of this name.
    pub fn indices(&self, name: &str) -> Result<Vec<u32>> {
        Ok(self.get(name)?.iter().map(|&v| v as u32).collect())
    }
    fn find(&self, name: &str) -> Result<&(Vec<usize>, Vec<f64>)> {
        self.named.get(name).ok_or_else(|| Error::argument("oracle", format!("`{name}`"), "the name of an input"))
    }
}

/// The expected values of one result, or of the gradient of one input.
#[derive(Debug, Clone)]
pub struct Want {
    /// Name of the result, or `d` + name of the input.
    pub name: &'static str,
    /// Values of the compared samples.
    pub values: Vec<f64>,
    /// Tolerance.
    pub tol: Tol,
}

/// Expected values with a tolerance.
pub fn want(name: &'static str, values: Vec<f64>, tol: Tol) -> Want {
    Want { name, values, tol }
}

/// Expected u32 words, exactly: each as its upper and its lower half, because f32 does not hold every word.
pub fn words(name: &'static str, words: impl IntoIterator<Item = u32>) -> Want {
    let values = words.into_iter().flat_map(halves).map(f64::from).collect();
    Want { name, values, tol: Tol::EXACT }
}

/// The upper and the lower half of a word.
pub(super) fn halves(word: u32) -> [u16; 2] {
    [(word >> 16) as u16, word as u16]
}

/// Expected values with the tolerance [`Tol::of`] this share.
pub fn near(name: &'static str, values: Vec<f64>, share: f64) -> Want {
    let tol = Tol::of(&values, share);
    Want { name, values, tol }
}

type Expect = Box<dyn Fn(&Values) -> Result<Vec<Want>>>;

/// The function that computes expected values, and the most samples that are compared with it.
pub(super) struct Oracle {
    pub count: usize,
    pub unit: &'static str,
    pub expect: Expect,
}

impl fmt::Debug for Oracle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Oracle of {} {}", self.count, self.unit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_value_is_named_and_nan_is_wrong() {
        let tol = Tol { rel: 0.0, abs: 0.1 };
        assert!(compare("x", &[1.0, 2.05], &[1.0, 2.0], tol).is_ok_and(|d| (d - 0.05).abs() < 1e-6));
        let error = compare("x", &[1.0, 2.5, 9.0], &[1.0, 2.0, 3.0], tol).unwrap_err().to_string();
        assert!(error.contains("x[2]: got 9, expected 3"), "{error}");
        assert!(compare("x", &[f32::NAN], &[0.0], tol).is_err());
        assert!(compare("x", &[], &[0.0], tol).is_err());
    }
}
