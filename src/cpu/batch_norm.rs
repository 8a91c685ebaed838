//! Batch norm over all rows of each column (`F.batch_norm`), with the statistics of the batch or with given ones.
//!
//! ```text
//!   x, y (rows, C)   w, b, mean, var (C)
//!   y = n·w + b,  n = (x - mean)·r,  r = 1/√(var + eps)
//!   training:   mean and var over the rows, var biased (÷ rows); the running statistics become
//!               rm <- (1 - m)·rm + m·mean    rv <- (1 - m)·rv + m·var·rows/(rows - 1)
//!   evaluation: mean = rm, var = rv
//!   backward:   db = Σ dy    dw = Σ dy·n
//!     training:   dx = w·r·(dy - db/rows - n·dw/rows)
//!     evaluation: dx = w·r·dy
//! ```

/// Gradients of a batch norm.
pub struct Grads {
    /// (rows, C)
    pub dx: Vec<f64>,
    /// (C)
    pub dw: Vec<f64>,
    /// (C)
    pub db: Vec<f64>,
}

/// Mean and biased variance (C) over the rows of x (rows, C).
pub fn statistics(x: &[f64], c: usize) -> [Vec<f64>; 2] {
    let rows = (x.len() / c) as f64;
    let column = |at: usize| x.iter().skip(at).step_by(c);
    let mean: Vec<f64> = (0..c).map(|at| column(at).sum::<f64>() / rows).collect();
    let var = (0..c).map(|at| column(at).map(|x| (x - mean[at]).powi(2)).sum::<f64>() / rows).collect();
    [mean, var]
}

/// The running mean and variance after a step in training, from those before it.
pub fn running([mean, var]: [&[f64]; 2], x: &[f64], momentum: f64) -> [Vec<f64>; 2] {
    let (c, of) = (mean.len(), statistics(x, mean.len()));
    let rows = (x.len() / c) as f64;
    let mix = |old: &[f64], new: &[f64], scale: f64| {
        old.iter().zip(new).map(|(old, new)| (1.0 - momentum) * old + momentum * scale * new).collect()
    };
    [mix(mean, &of[0], 1.0), mix(var, &of[1], rows / (rows - 1.0))]
}

/// Returns y (rows, C) for these statistics.
pub fn forward(x: &[f64], [mean, var]: [&[f64]; 2], w: &[f64], b: &[f64], eps: f64) -> Vec<f64> {
    let c = w.len();
    x.iter().enumerate().map(|(i, x)| (x - mean[i % c]) / (var[i % c] + eps).sqrt() * w[i % c] + b[i % c]).collect()
}

/// Gradients from dy (rows, C). `training`: the statistics are those of x, and so depend on x.
pub fn backward(x: &[f64], [mean, var]: [&[f64]; 2], w: &[f64], eps: f64, dy: &[f64], training: bool) -> Grads {
    let c = w.len();
    let rows = (x.len() / c) as f64;
    let r = |at: usize| 1.0 / (var[at] + eps).sqrt();
    let n = |i: usize| (x[i] - mean[i % c]) * r(i % c);
    let column =
        |of: &dyn Fn(usize) -> f64| -> Vec<f64> { (0..c).map(|at| (at..x.len()).step_by(c).map(of).sum()).collect() };
    let (dw, db) = (column(&|i| dy[i] * n(i)), column(&|i| dy[i]));
    let share = if training { 1.0 / rows } else { 0.0 };
    let dx = |i: usize| w[i % c] * r(i % c) * (dy[i] - share * (db[i % c] + n(i) * dw[i % c]));
    Grads { dx: (0..x.len()).map(dx).collect(), dw, db }
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, close, dot, random};
    use super::*;

    #[test]
    fn by_hand() {
        // one column 1, 3: mean 2, biased variance 1, unbiased 2
        let x = [1.0, 3.0];
        let [mean, var] = statistics(&x, 1);
        assert_eq!((mean[0], var[0]), (2.0, 1.0));
        assert_eq!(forward(&x, [&mean, &var], &[3.0], &[0.5], 0.0), [-2.5, 3.5]);
        let [mean, var] = running([&[1.0], &[1.0]], &x, 0.5);
        assert_eq!((mean[0], var[0]), (1.5, 1.5));
    }

    #[test]
    fn gradients() {
        for (rows, c, training) in [(2, 1, true), (7, 3, true), (5, 4, false), (1, 2, false)] {
            let (x, w, b, dy) = (random(1, rows * c), random(2, c), random(3, c), random(4, rows * c));
            let fixed = [random(5, c), random(6, c).iter().map(|v| v.abs() + 0.3).collect()];
            let of = |x: &[f64]| if training { statistics(x, c) } else { fixed.clone() };
            let loss = |x: &[f64], w: &[f64], b: &[f64]| {
                let [mean, var] = of(x);
                dot(&forward(x, [&mean, &var], w, b, 0.1), &dy)
            };
            let [mean, var] = of(&x);
            let g = backward(&x, [&mean, &var], &w, 0.1, &dy, training);
            check("dx", &x, &g.dx, |x| loss(x, &w, &b));
            check("dw", &w, &g.dw, |w| loss(&x, w, &b));
            check("db", &b, &g.db, |b| loss(&x, &w, b));
            if training {
                close("dx sums to 0", &[g.dx.iter().sum()], &[0.0], 1e-12);
            }
        }
    }
}
