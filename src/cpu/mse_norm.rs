//! Masked mean squared error against pixels normalized per patch (MAE's `forward_loss` with `norm_pix_loss`).
//!
//! ```text
//!   pred (rows, cols), column (py·P + px)·C + c: channel fastest, as the reference models store it
//!   tgt  (rows, cols), column (c·P + py)·P + px: as `patchify` writes it          cols = C·P·P
//!   mask (rows), 1 = hidden, counts        scale = 1 / Σ mask
//!   t^ = (tgt - mean)/√(var + eps), var unbiased (cols-1), `normalize` is eps; without it, t^ = tgt
//!   row[i] = mask·scale·mean_c (pred - t^)²    loss = Σ row
//!   dpred = dloss·mask·scale·2/cols·(pred - t^)
//! ```

/// Sizes of the operands.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Patches, B·L.
    pub rows: usize,
    /// Values of a patch, C·P·P; at least 2 if patches are normalized.
    pub cols: usize,
    /// Channels C.
    pub channels: usize,
}

/// Results of [`forward`].
pub struct Out {
    /// Σ rows
    pub loss: f64,
    /// (rows), the share of each patch in the loss
    pub rows: Vec<f64>,
}

/// Returns the loss and the share of each row.
pub fn forward(dim: Dims, pred: &[f64], tgt: &[f64], mask: &[f64], scale: f64, normalize: Option<f64>) -> Out {
    let diff = diff(dim, pred, tgt, normalize);
    let row = |(diff, mask): (&[f64], &f64)| mask * scale * diff.iter().map(|d| d * d).sum::<f64>() / dim.cols as f64;
    let rows: Vec<f64> = diff.chunks(dim.cols).zip(mask).map(row).collect();
    Out { loss: rows.iter().sum(), rows }
}

/// Gradient dpred (rows, cols).
pub fn backward(
    dim: Dims, pred: &[f64], tgt: &[f64], mask: &[f64], scale: f64, normalize: Option<f64>, dloss: f64,
) -> Vec<f64> {
    let factor = |i: usize| dloss * mask[i / dim.cols] * scale * 2.0 / dim.cols as f64;
    diff(dim, pred, tgt, normalize).iter().enumerate().map(|(i, d)| factor(i) * d).collect()
}

/// Returns t^ (rows, cols), in the column order of pred.
pub fn target(dim: Dims, tgt: &[f64], normalize: Option<f64>) -> Vec<f64> {
    let pixels = dim.cols / dim.channels;
    let mut out = Vec::with_capacity(tgt.len());
    for tgt in tgt.chunks(dim.cols) {
        let (mean, std) = normalize.map_or((0.0, 1.0), |eps| stats(tgt, eps));
        let column = |i: usize| i % dim.channels * pixels + i / dim.channels;
        out.extend((0..dim.cols).map(|i| (tgt[column(i)] - mean) / std));
    }
    out
}

/// Returns pred - t^, in the column order of pred.
fn diff(dim: Dims, pred: &[f64], tgt: &[f64], normalize: Option<f64>) -> Vec<f64> {
    pred.iter().zip(target(dim, tgt, normalize)).map(|(pred, target)| pred - target).collect()
}

/// Mean and √(unbiased variance + eps) of one patch.
fn stats(t: &[f64], eps: f64) -> (f64, f64) {
    let mean = t.iter().sum::<f64>() / t.len() as f64;
    let var = t.iter().map(|t| (t - mean).powi(2)).sum::<f64>() / (t.len() - 1) as f64;
    (mean, (var + eps).sqrt())
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, close, random};
    use super::*;

    /// The loss is 0 if pred is tgt in pred's order of columns, and 9 if every value of pred is 3 larger.
    #[test]
    fn perfect_prediction() {
        let dim = Dims { rows: 1, cols: 6, channels: 3 };
        let tgt = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        let pred = [1.0, 3.0, 5.0, 2.0, 4.0, 6.0];
        assert_eq!(forward(dim, &pred, &tgt, &[1.0], 1.0, None).loss, 0.0);
        assert_eq!(forward(dim, &pred.map(|p| p + 3.0), &tgt, &[1.0], 1.0, None).loss, 9.0);
        let normal = pred.map(|p| (p - 3.5) / (3.5f64 + 0.5).sqrt());
        close("loss", &[forward(dim, &normal, &tgt, &[1.0], 1.0, Some(0.5)).loss], &[0.0], 1e-30);
    }

    #[test]
    fn gradients() {
        for (rows, pixels, channels, normalize) in
            [(1, 1, 2, Some(1e-6)), (5, 4, 3, Some(0.1)), (3, 1, 1, None), (2, 7, 3, None)]
        {
            let cols = pixels * channels;
            let dim = Dims { rows, cols, channels };
            let (pred, tgt, mask) =
                (random(1, rows * cols), random(2, rows * cols), &[1.0, 0.0, 1.0, 0.5, 1.0][..rows]);
            let scale = 1.0 / mask.iter().sum::<f64>();
            let dpred = backward(dim, &pred, &tgt, mask, scale, normalize, -1.7);
            check("dpred", &pred, &dpred, |pred| -1.7 * forward(dim, pred, &tgt, mask, scale, normalize).loss);
        }
    }
}
