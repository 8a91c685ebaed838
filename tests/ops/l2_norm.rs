use rowscan::cpu::l2_norm::{backward, forward};
use rowscan::ops;

use crate::common::{Random, Tol, close, each_tier, leaf, run, wide};

#[test]
fn l2_norm_matches_cpu() {
    let mut cases = vec![(1, 1), (3, 128), (2, 1031), (32_771, 3)];
    let mut random = Random::new(4);
    cases.extend((0..8).map(|_| {
        let n = random.below(2, 1 << 16);
        (1 + n[0] as usize % 70, 2 + n[1] as usize % 600)
    }));
    each_tier(|g| {
        for &(rows, d) in &cases {
            let mut random = Random::new((rows * d) as u64);
            let (mut x, mut dy) = (random.normal(rows * d), random.normal(rows * d));
            x[0] += 1.0; // for d = 1: away from 0, where the gradient jumps
            if rows > 2 {
                x[d..2 * d].iter_mut().for_each(|x| *x *= 1e-9);
                x[2 * d..3 * d].fill(0.0);
                dy[2 * d..3 * d].fill(0.0); // the gradient of a row of zeros is dy·1e12
            }
            let (y, grads) = run(g, &[leaf(g, &[rows, d], &x)], &dy, |r, v| ops::l2_norm::l2_norm(r, &v[0]));
            let (x, dy) = (wide(&x), wide(&dy));
            // y: a tree sum of squares, its root, and a product
            close(&format!("y ({rows}, {d})"), &y, &forward(d, &x), Tol { rel: 2e-6, abs: 1e-12 });
            // dx: a difference of numbers as large as dy/‖x‖, each with such errors; so dx·‖x‖ is compared
            let dx = backward(d, &x, &dy);
            let scaled = |v: &[f64]| -> Vec<f64> {
                let norm = |row: usize| x[row * d..(row + 1) * d].iter().map(|x| x * x).sum::<f64>().sqrt();
                v.iter().enumerate().map(|(i, v)| v * norm(i / d)).collect()
            };
            let found: Vec<f32> = scaled(&wide(&grads[0])).iter().map(|&v| v as f32).collect();
            close(&format!("dx·‖x‖ ({rows}, {d})"), &found, &scaled(&dx), Tol { rel: 4e-6, abs: 8e-6 });
        }
    });
}
