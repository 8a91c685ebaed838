//! GELU, SiLU, softplus and ReLU, element by element, as in torch.nn.functional: y = f(x), dx = f'(x)·dy.
//!
//! ```text
//!   gelu      x·Φ(x), Φ(x) = (1 + erf(x/√2))/2       f' = Φ(x) + x·φ(x), φ(x) = exp(-x²/2)/√(2π)
//!   gelu_tanh x·(1 + τ)/2, τ = tanh(√(2/π)·(x + 0.044715x³))
//!   silu      x·σ(x)                                 f' = σ(x)·(1 + x·(1 - σ(x)))
//!   softplus  x if x > 20 else ln(1 + exp x)         f' = 1 if x > 20 else σ(x)
//!   relu      max(x, 0)                              f' = 1 if x > 0 else 0
//! ```
use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

/// The activation functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// GELU with erf, PyTorch's default.
    Gelu,
    /// GELU with tanh (`approximate="tanh"`).
    GeluTanh,
    /// x·σ(x).
    Silu,
    /// ln(1 + exp x), linear above the threshold 20, as in the scan.
    Softplus,
    /// max(x, 0).
    Relu,
}

/// Returns y, of the shape of x.
pub fn forward(act: Activation, x: &[f64]) -> Vec<f64> {
    let f = match act {
        Activation::Gelu => gelu,
        Activation::GeluTanh => gelu_tanh,
        Activation::Silu => silu,
        Activation::Softplus => softplus,
        Activation::Relu => |x: f64| x.max(0.0),
    };
    x.iter().map(|&x| f(x)).collect()
}

/// Gradient dx.
pub fn backward(act: Activation, x: &[f64], dy: &[f64]) -> Vec<f64> {
    let df = match act {
        Activation::Gelu => dgelu,
        Activation::GeluTanh => dgelu_tanh,
        Activation::Silu => dsilu,
        Activation::Softplus => dsoftplus,
        Activation::Relu => |x: f64| f64::from(u8::from(x > 0.0)),
    };
    x.iter().zip(dy).map(|(&x, dy)| df(x) * dy).collect()
}

/// Returns x·Φ(x).
pub fn gelu(x: f64) -> f64 {
    x * normal_cdf(x)
}

/// Derivative of [`gelu`].
pub fn dgelu(x: f64) -> f64 {
    let density = 0.5 * FRAC_1_SQRT_2 * FRAC_2_SQRT_PI * (-0.5 * x * x).exp();
    normal_cdf(x) + x * density
}

/// √(2/π).
const C: f64 = FRAC_1_SQRT_2 * FRAC_2_SQRT_PI;

/// [`gelu`] with tanh in place of erf.
pub fn gelu_tanh(x: f64) -> f64 {
    0.5 * x * (1.0 + (C * (x + 0.044715 * x * x * x)).tanh())
}

/// Derivative of [`gelu_tanh`].
pub fn dgelu_tanh(x: f64) -> f64 {
    let tau = (C * (x + 0.044715 * x * x * x)).tanh();
    let slope = (1.0 - tau * tau) * C * (1.0 + 0.134145 * x * x);
    0.5 * (1.0 + tau) + 0.5 * x * slope
}

/// Returns x·σ(x).
pub fn silu(x: f64) -> f64 {
    x * sigmoid(x)
}

/// Derivative of [`silu`].
pub fn dsilu(x: f64) -> f64 {
    let s = sigmoid(x);
    s * (1.0 + x * (1.0 - s))
}

/// Returns ln(1 + exp x), or x above 20.
pub fn softplus(x: f64) -> f64 {
    if x > 20.0 { x } else { x.exp().ln_1p() }
}

/// Derivative of [`softplus`].
pub fn dsoftplus(x: f64) -> f64 {
    if x > 20.0 { 1.0 } else { sigmoid(x) }
}

/// Returns σ(x) = 1/(1 + exp(-x)).
pub fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Returns erf x = 2/√π · exp(-x²) · Σ_k 2ᵏ·x^(2k+1) / (1·3·…·(2k+1)), and ±1 for |x| > 6. All terms have the same
/// sign, so no digits cancel.
pub fn erf(x: f64) -> f64 {
    if x.abs() > 6.0 {
        return x.signum();
    }
    let (mut term, mut sum, mut odd) = (x, x, 1.0);
    while term.abs() > 1e-17 * sum.abs() {
        odd += 2.0;
        term *= 2.0 * x * x / odd;
        sum += term;
    }
    FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

fn normal_cdf(x: f64) -> f64 {
    0.5 * (1.0 + erf(x * FRAC_1_SQRT_2))
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, close, dot, random};
    use super::*;

    /// Values of table 7.1 in Abramowitz & Stegun, with more digits.
    #[test]
    fn erf_table() {
        let x = [0.0, 0.1, 0.5, 1.0, -1.0, 2.0, 3.0, 5.0, 7.0];
        let want = [
            0.0,
            0.112_462_916_018_284_9,
            0.520_499_877_813_046_5,
            0.842_700_792_949_714_9,
            -0.842_700_792_949_714_9,
            0.995_322_265_018_952_7,
            0.999_977_909_503_001_4,
            0.999_999_999_998_462_5,
            1.0,
        ];
        close("erf", &x.map(erf), &want, 1e-15);
    }

    #[test]
    fn extremes_are_finite() {
        for act in [Activation::Gelu, Activation::GeluTanh, Activation::Silu, Activation::Softplus] {
            let x = [-1e4, -800.0, -20.0, 0.0, 20.0, 800.0, 1e4];
            assert!(forward(act, &x).iter().chain(&backward(act, &x, &[1.0; 7])).all(|v| v.is_finite()), "{act:?}");
        }
    }

    /// Central differences at x around zero, in both tails (random numbers times 6), and above softplus's threshold
    /// (20.5).
    #[test]
    fn gradients() {
        for act in [Activation::Gelu, Activation::GeluTanh, Activation::Silu, Activation::Softplus] {
            let mut x = random(1, 23);
            x.extend(random(2, 23).iter().map(|x| 6.0 * x));
            x.push(20.5);
            let dy = random(3, x.len());
            check(&format!("{act:?} dx"), &x, &backward(act, &x, &dy), |x| dot(&forward(act, x), &dy));
        }
    }
}
