//! Cross-entropy against the soft targets of mixup and label smoothing, averaged over the batch (timm's
//! SoftTargetCrossEntropy).
//!
//! ```text
//!   logits, targets (B, K)   rows (B)
//!   rows[b] = Σ_k targets·(lse - logits),  lse = ln Σ_k exp logits    loss = mean rows
//!   dlogits = dloss/B·(softmax·Σ_k targets - targets)
//! ```

/// Sizes of the operands.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Samples B.
    pub b: usize,
    /// Classes K.
    pub k: usize,
}

/// Results of [`forward`].
pub struct Out {
    /// Mean of rows.
    pub loss: f64,
    /// (B), the loss of each sample.
    pub rows: Vec<f64>,
}

/// Returns the loss and the loss of each sample.
pub fn forward(dim: Dims, logits: &[f64], targets: &[f64]) -> Out {
    let row = |(x, t): (&[f64], &[f64])| {
        let lse = logsumexp(x);
        x.iter().zip(t).map(|(x, t)| t * (lse - x)).sum()
    };
    let rows: Vec<f64> = logits.chunks(dim.k).zip(targets.chunks(dim.k)).map(row).collect();
    Out { loss: rows.iter().sum::<f64>() / dim.b as f64, rows }
}

/// Gradient dlogits (B, K).
pub fn backward(dim: Dims, logits: &[f64], targets: &[f64], dloss: f64) -> Vec<f64> {
    let mut dlogits = Vec::with_capacity(logits.len());
    for (x, t) in logits.chunks(dim.k).zip(targets.chunks(dim.k)) {
        let (lse, total) = (logsumexp(x), t.iter().sum::<f64>());
        dlogits.extend(x.iter().zip(t).map(|(x, t)| dloss / dim.b as f64 * ((x - lse).exp() * total - t)));
    }
    dlogits
}

fn logsumexp(x: &[f64]) -> f64 {
    let max = x.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    max + x.iter().map(|x| (x - max).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, close, random};
    use super::*;

    /// The loss of equal logits is ln K, however large they are.
    #[test]
    fn equal_logits() {
        let out = forward(Dims { b: 2, k: 4 }, &[900.0; 8], &[0.0, 1.0, 0.0, 0.0, 0.25, 0.25, 0.25, 0.25]);
        close("rows", &out.rows, &[4f64.ln(); 2], 1e-12);
        close("loss", &[out.loss], &[4f64.ln()], 1e-12);
    }

    #[test]
    fn gradients() {
        for (b, k) in [(1, 1), (3, 7), (5, 2)] {
            let dim = Dims { b, k };
            let (logits, targets) = (random(1, b * k), random(2, b * k).iter().map(|t| t.abs()).collect::<Vec<_>>());
            let dlogits = backward(dim, &logits, &targets, 1.3);
            check("dlogits", &logits, &dlogits, |x| 1.3 * forward(dim, x, &targets).loss);
        }
    }
}
