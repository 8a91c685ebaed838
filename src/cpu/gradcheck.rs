//! Central differences, with which the tests of the oracles check every gradient (`torch.autograd.gradcheck`).
use super::rng::{philox, uniform};

/// Returns `n` pseudo-random numbers in [-1, 1), which depend only on `seed`.
pub fn random(seed: u32, n: usize) -> Vec<f64> {
    (0..n as u32).map(|i| 2.0 * uniform(philox([i, 0, 0, 0], [seed, 0])[0]) - 1.0).collect()
}

/// Returns Σ a·b. If `a` is an output and `b` the gradient of it, backward returns the gradients of this scalar.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Asserts |got - want| <= tol·(1 + |want|) for every element and prints the largest difference.
pub fn close(name: &str, got: &[f64], want: &[f64], tol: f64) {
    assert_eq!(got.len(), want.len(), "{name}: length");
    let diff: Vec<f64> = got.iter().zip(want).map(|(g, w)| (g - w).abs() / (1.0 + w.abs())).collect();
    println!("{name}: max diff {:.1e}", diff.iter().copied().fold(0.0, f64::max));
    if let Some(i) = diff.iter().position(|&diff| diff > tol || diff.is_nan()) {
        panic!("{name}[{i}]: got {}, want {}", got[i], want[i]);
    }
}

/// Asserts dx[i] = (f(x + h·eᵢ) - f(x - h·eᵢ)) / 2h. With h = 1e-5 the error of order h² and the rounding error
/// are both near 1e-10.
pub fn check(name: &str, x: &[f64], dx: &[f64], f: impl Fn(&[f64]) -> f64) {
    const H: f64 = 1e-5;
    let moved = |i: usize, h: f64| {
        let mut x = x.to_vec();
        x[i] += h;
        f(&x)
    };
    let want: Vec<f64> = (0..x.len()).map(|i| (moved(i, H) - moved(i, -H)) / (2.0 * H)).collect();
    close(name, dx, &want, 1e-8);
}
