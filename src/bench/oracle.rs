//! What is right: the oracle of a case, and how far a result may be off.

use std::collections::BTreeMap;
use std::fmt;

use crate::error::{Error, Result};

/// How far a result may be off: |got − want| ≤ abs + rel·|want| for every element.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tol {
    /// Of the element.
    pub rel: f64,
    /// Of every element.
    pub abs: f64,
}

impl Tol {
    /// Moved, not computed.
    pub const EXACT: Self = Self { rel: 0.0, abs: 0.0 };

    /// `share` of each element and of the largest of them: for sums in another order.
    pub fn of(want: &[f64], share: f64) -> Self {
        Self { rel: share, abs: share * want.iter().fold(0.0, |most, v| v.abs().max(most)) }
    }
}

/// The largest difference, or the element that is furthest beyond its tolerance.
///
/// # Errors
/// [`Error::Mismatch`] that names the value and the element.
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

/// What the oracle reads: the inputs of the compared samples, and weights whole. `d` + name is the gradient of a
/// result.
#[derive(Debug, Default)]
pub struct Values {
    pub(super) named: BTreeMap<String, (Vec<usize>, Vec<f64>)>,
    /// The compared samples by position.
    pub picked: Vec<usize>,
    /// Samples of the whole batch.
    pub samples: usize,
}

impl Values {
    /// Values by name.
    pub fn get(&self, name: &str) -> Result<&[f64]> {
        self.find(name).map(|(_, values)| values.as_slice())
    }
    /// Sizes by name, of the compared samples only.
    pub fn shape<const N: usize>(&self, name: &str) -> Result<[usize; N]> {
        let shape = &self.find(name)?.0;
        shape
            .as_slice()
            .try_into()
            .map_err(|_| Error::argument(name.to_owned(), format!("{shape:?}"), format!("{N} dimensions")))
    }
    /// Indices by name.
    pub fn indices(&self, name: &str) -> Result<Vec<u32>> {
        Ok(self.get(name)?.iter().map(|&v| v as u32).collect())
    }
    fn find(&self, name: &str) -> Result<&(Vec<usize>, Vec<f64>)> {
        self.named.get(name).ok_or_else(|| Error::argument("oracle", format!("`{name}`"), "the name of an input"))
    }
}

/// One result or gradient (`d` + name of the input) as it should be.
#[derive(Debug, Clone)]
pub struct Want {
    /// Of the result, or `d` and the name of an input.
    pub name: &'static str,
    /// The compared samples.
    pub values: Vec<f64>,
    /// How far it may be off.
    pub tol: Tol,
}

/// A value with its tolerance.
pub fn want(name: &'static str, values: Vec<f64>, tol: Tol) -> Want {
    Want { name, values, tol }
}

/// A value that sums in another order may differ from by this share.
pub fn near(name: &'static str, values: Vec<f64>, share: f64) -> Want {
    let tol = Tol::of(&values, share);
    Want { name, values, tol }
}

type Expect = Box<dyn Fn(&Values) -> Result<Vec<Want>>>;

/// What is right, and for how many samples it is asked.
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
