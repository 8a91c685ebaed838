//! Comparing tensors: differences, tolerances, and the table that `rowscan check` prints.

use std::fmt;

use super::fixture::{Array, Fixture};

/// Relative L2 error allowed on outputs in f32.
pub const OUTPUT: f64 = 1e-5;
/// Relative L2 error allowed on each gradient in f32.
pub const GRADIENT: f64 = 1e-4;
/// Absolute error allowed if the reference is zero.
pub const ZERO: f64 = 1e-6;

/// One compared tensor.
#[derive(Debug, Clone)]
pub struct FixtureRow {
    /// Name in the fixture.
    pub name: String,
    /// Shape in the fixture.
    pub shape: Vec<usize>,
    /// Largest absolute difference.
    pub max_abs: f64,
    /// ‖ours − theirs‖ / ‖theirs‖; if `theirs` is zero, the largest absolute value of `ours`.
    pub error: f64,
    /// Largest `error` that passes.
    pub tolerance: f64,
}

impl FixtureRow {
    /// Whether the error is within its tolerance. NaN is not.
    pub fn passed(&self) -> bool {
        self.error <= self.tolerance
    }
}

/// All compared tensors of a fixture.
#[derive(Debug, Clone)]
pub struct FixtureReport {
    /// The file.
    pub path: String,
    /// Kind of the fixture.
    pub kind: String,
    /// The tensors, in the order in which they were compared.
    pub rows: Vec<FixtureRow>,
}

impl FixtureReport {
    pub(super) fn new(fixture: &Fixture) -> Self {
        Self { path: fixture.path.display().to_string(), kind: fixture.kind.clone(), rows: Vec::new() }
    }

    /// Whether at least one tensor was compared, and all passed.
    pub fn passed(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(FixtureRow::passed)
    }

    /// Compares ‖ours − theirs‖ with `tolerance`·‖theirs‖. If `theirs` is all zero, [`FixtureReport::zero`] compares
    /// instead.
    pub(super) fn relative(&mut self, name: &str, ours: &[f32], theirs: &Array, tolerance: f64) {
        let norm = theirs.values.iter().map(|v| v * v).sum::<f64>().sqrt();
        if norm == 0.0 {
            return self.zero(name, ours, &theirs.shape);
        }
        let mut row = FixtureRow {
            name: name.into(),
            shape: theirs.shape.clone(),
            max_abs: f64::NAN,
            error: f64::NAN,
            tolerance,
        };
        if ours.len() == theirs.values.len() {
            let difference = |(o, t): (&f32, &f64)| if f64::from(*o) == *t { 0.0 } else { f64::from(*o) - t };
            let differences: Vec<f64> = ours.iter().zip(&theirs.values).map(difference).collect();
            // f64::max drops NaN, but the sum of squares keeps it, so `error` becomes NaN and the row fails
            row.max_abs = differences.iter().fold(0.0, |m, d| d.abs().max(m));
            row.error = differences.iter().map(|d| d * d).sum::<f64>().sqrt() / norm;
        }
        self.rows.push(row);
    }

    /// Compares values that must be equal: indices and other whole numbers.
    pub(super) fn exact(&mut self, name: &str, ours: &[f32], theirs: &Array) {
        self.relative(name, ours, theirs, 0.0);
    }

    /// Compares |ours − theirs| of a single number with `tolerance`.
    pub(super) fn absolute(&mut self, name: &str, ours: f64, theirs: f64, tolerance: f64) {
        let error = (ours - theirs).abs();
        self.rows.push(FixtureRow { name: name.into(), shape: vec![1], max_abs: error, error, tolerance });
    }

    /// Compares max |ours| with [`ZERO`], for a tensor that should be zero.
    pub(super) fn zero(&mut self, name: &str, ours: &[f32], shape: &[usize]) {
        let finite = ours.iter().all(|v| v.is_finite()) && ours.len() == shape.iter().product::<usize>();
        let largest = ours.iter().fold(0.0, |m, v| f64::from(v.abs()).max(m));
        let error = if finite { largest } else { f64::NAN };
        self.rows.push(FixtureRow { name: name.into(), shape: shape.to_vec(), max_abs: error, error, tolerance: ZERO });
    }
}

impl fmt::Display for FixtureReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.rows.iter().map(|r| r.name.len()).max().unwrap_or(0).max(6);
        writeln!(f, "{} ({})", self.path, self.kind)?;
        writeln!(f, "  {:width$}  {:<18} {:>9} {:>9} {:>9}", "tensor", "shape", "max abs", "error", "allowed")?;
        for row in &self.rows {
            let verdict = if row.passed() { "pass" } else { "FAIL" };
            let shape = format!("{:?}", row.shape);
            let (abs, error, allowed) = (row.max_abs, row.error, row.tolerance);
            writeln!(f, "  {:width$}  {shape:<18} {abs:>9.2e} {error:>9.2e} {allowed:>9.0e}  {verdict}", row.name)?;
        }
        let failed = self.rows.iter().filter(|r| !r.passed()).count();
        let worst = self.rows.iter().map(|r| r.error / r.tolerance).fold(0.0, f64::max);
        let verdict = if self.passed() { "PASS" } else { "FAIL" };
        write!(f, "  {verdict}: {} tensors, {failed} failed, worst at {:.2} of its tolerance", self.rows.len(), worst)
    }
}
