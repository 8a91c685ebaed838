//! Position embeddings for another grid: PyTorch's bicubic `interpolate`.

use crate::error::{Error, Result};

/// The weights of the four neighbors of a point that lies `t` past the second: cubic convolution with a = −0.75.
fn weights(t: f64) -> [f64; 4] {
    const A: f64 = -0.75;
    let near = |x: f64| ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0;
    let far = |x: f64| ((A * x - 5.0 * A) * x + 8.0 * A) * x - 4.0 * A;
    [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]
}

/// Resizes the position embeddings of a square grid, (old², width) → (side², width), as PyTorch's
/// `interpolate(mode="bicubic", align_corners=False)` does: half-pixel centers, no antialiasing, edges clamped
/// (src/models/README.md, "From pretraining to a classifier").
///
/// # Errors
/// A number of embeddings that is no square.
pub fn resize_positions(positions: &[f32], width: usize, side: usize) -> Result<Vec<f32>> {
    let count = positions.len() / width.max(1);
    let old = count.isqrt();
    if old * old * width != positions.len() || old == 0 {
        return Err(Error::argument("position embeddings", format!("{count} tokens"), "a square number"));
    }
    let taps = |i: usize| {
        let at = (i as f64 + 0.5) * old as f64 / side as f64 - 0.5;
        let base = at.floor();
        let index = move |k: usize| (base as isize + k as isize - 1).clamp(0, old as isize - 1) as usize;
        (weights(at - base), index)
    };
    let mut out = vec![0.0f32; side * side * width];
    for (token, row) in out.chunks_exact_mut(width).enumerate() {
        let ((wy, iy), (wx, ix)) = (taps(token / side), taps(token % side));
        for (c, value) in row.iter_mut().enumerate() {
            let pixel = |y: usize, x: usize| f64::from(positions[(iy(y) * old + ix(x)) * width + c]);
            let line = |y: usize| (0..4).map(|x| wx[x] * pixel(y, x)).sum::<f64>();
            *value = (0..4).map(|y| wy[y] * line(y)).sum::<f64>() as f32;
        }
    }
    Ok(out)
}
