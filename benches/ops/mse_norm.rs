//! mse_norm: the loss over the pixels of 196 patches of 16×16×3, half of them hidden.

use rowscan::cpu::mse_norm::{Dims, backward, forward};

use super::*;

fn validate(g: &Gpu) {
    let dim = Dims { rows: 14, cols: 768, channels: 3 };
    let mut random = Random::new(1);
    let [pred, tgt] = [(); 2].map(|()| random.normal(dim.rows * dim.cols));
    let mask: Vec<f32> = (0..dim.rows).map(|row| (row % 2) as f32).collect();
    let ones = vec![1.0; dim.rows];
    let scale = 1.0 / 7.0f32;
    let on = |shape: &[usize], v: &[f32]| Tensor::from_slice(g, shape, v).unwrap_or_else(|e| panic!("{e}"));
    let (tgt_on, mask_on) = (on(&[dim.rows, dim.cols], &tgt), on(&[2, 7], &mask));
    let (loss, grads) = run(g, &[leaf(g, &[2, 7, dim.cols], &pred)], &ones, |g, t, v| {
        ops::mse_norm::mse_norm(g, t, &v[0], &tgt_on, &mask_on, dim.channels, scale, true)
    });
    let (pred, tgt, mask, scale) = (wide(&pred), wide(&tgt), wide(&mask), f64::from(scale));
    // differences of numbers up to 5, squared and averaged; then times 2·scale/cols
    let tol = |abs: f64| Tol { rel: 8e-6, abs: abs * scale };
    close("loss", &loss, &forward(dim, &pred, &tgt, &mask, scale, true).rows, tol(2e-6));
    close("dpred", &grads[0], &backward(dim, &pred, &tgt, &mask, scale, true, 1.0), tol(8e-6 / 384.0));
}

pub fn bench(b: &mut Bench) {
    b.family("mse_norm", validate);
    for n in [1, b.batch()] {
        let (l, cols) = (196, 768);
        let mask: Vec<f32> = (0..n * l).map(|row| (row % 2) as f32).collect();
        // half counts; of the rest only dpred is written
        let floors = [8, 12 + 4].map(|bytes| Floor::bytes(bytes * n * l * cols / 2));
        b.op(&format!("decoder {l}x{n}"), floors, |t, x| {
            let (pred, tgt) = (x.leaf(&[n, l, cols])?, x.normal(&[n * l, cols])?);
            let mask = Tensor::from_slice(x.g, &[n, l], &mask)?;
            Ok(vec![ops::mse_norm::mse_norm(x.g, t, &pred, &tgt, &mask, 3, 2.0 / (n * l) as f32, true)?])
        });
    }
}
