//! Losses of rows that count: the binary cross-entropy of logits, and absolute differences.
//!
//! ```text
//!   x, target (R, D)   weight (R)
//!   loss = Σ weight[r]·l(x, target)/divisor;  0 where the divisor is 0
//!   cross-entropy: l = max(x, 0) − x·t + ln(1 + e^−|x|), dl = σ(x) − t
//!   difference: l = |x − t|, dl = its sign, 0 at 0
//! ```

/// Which loss.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `F.binary_cross_entropy_with_logits`.
    CrossEntropy,
    /// `F.l1_loss`.
    Difference,
}

/// l and dl.
fn element(form: Form, x: f64, t: f64) -> (f64, f64) {
    match form {
        Form::CrossEntropy => (x.max(0.0) - x * t + (-x.abs()).exp().ln_1p(), 1.0 / (1.0 + (-x).exp()) - t),
        Form::Difference if x == t => (0.0, 0.0),
        Form::Difference => ((x - t).abs(), (x - t).signum()),
    }
}

/// Loss and dx for a gradient of 1. `x` has as many rows as `weight`.
pub fn of(form: Form, x: &[f64], target: &[f64], weight: &[f64], divisor: f64) -> (f64, Vec<f64>) {
    let d = x.len() / weight.len();
    let share = if divisor == 0.0 { 0.0 } else { 1.0 / divisor };
    let mut loss = 0.0;
    let each = |(i, (x, t)): (usize, (&f64, &f64))| {
        let (l, dl) = element(form, *x, *t);
        loss += weight[i / d] * l * share;
        weight[i / d] * dl * share
    };
    let dx = x.iter().zip(target).enumerate().map(each).collect();
    (loss, dx)
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, random};
    use super::*;

    #[test]
    fn by_hand() {
        assert_eq!(of(Form::CrossEntropy, &[0.0, 9.0], &[1.0, 0.0], &[1.0, 0.0], 1.0), (2f64.ln(), vec![-0.5, 0.0]));
        assert_eq!(of(Form::Difference, &[1.0, 5.0], &[1.0, 2.0], &[1.0], 2.0), (1.5, vec![0.0, 0.5]));
        assert_eq!(of(Form::Difference, &[1.0], &[2.0], &[1.0], 0.0), (0.0, vec![0.0]));
        assert_eq!(of(Form::CrossEntropy, &[-800.0], &[0.0], &[1.0], 1.0).0, 0.0);
    }

    #[test]
    fn gradients() {
        let (x, t, w) = (random(1, 24), random(2, 24), random(3, 6));
        for form in [Form::CrossEntropy, Form::Difference] {
            check("dx", &x, &of(form, &x, &t, &w, 3.0).1, |x| of(form, x, &t, &w, 3.0).0);
        }
    }
}
