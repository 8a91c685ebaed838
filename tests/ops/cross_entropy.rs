use rowscan::cpu::cross_entropy::{Dims, backward, forward};
use rowscan::ops;
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, each_tier, leaf, run, wide};

#[test]
fn cross_entropy_matches_cpu() {
    let mut cases = vec![(1, 1, 0.0), (3, 1000, 0.0), (2, 1031, 900.0), (32_771, 3, -900.0)];
    let mut random = Random::new(3);
    cases.extend((0..10).map(|_| {
        let n = random.below(2, 1 << 16);
        (1 + n[0] as usize % 70, 1 + n[1] as usize % 1100, 0.0)
    }));
    each_tier(|g| {
        for &(b, k, offset) in &cases {
            let mut random = Random::new((b * k) as u64);
            let mut logits: Vec<f32> = random.normal(b * k).iter().map(|x| offset + 4.0 * x).collect();
            logits[b * k - 1] = offset + 200.0; // so large that exp underflows for the other logits of the row
            let mut targets = random.uniform(b * k, 0.0, 2.0 / k as f32);
            targets[b * k / 2] = 1.0;
            let dloss = random.normal(b);
            let on = Tensor::from_slice(g, &[b, k], &targets).expect("targets");
            let (loss, grads) =
                run(g, &[leaf(g, &[b, k], &logits)], &dloss, |r, v| ops::cross_entropy::cross_entropy(r, &v[0], &on));
            let dim = Dims { b, k };
            let (logits, targets) = (wide(&logits), wide(&targets));
            let want: Vec<f64> = forward(dim, &logits, &targets).rows.iter().map(|row| row / b as f64).collect();
            // the oracle takes one dloss for all rows: it gets 1, and the rows of its result are scaled
            let mut dlogits = backward(dim, &logits, &targets, 1.0);
            dlogits.iter_mut().enumerate().for_each(|(i, d)| *d *= f64::from(dloss[i / k]));
            // loss: a tree sum of k terms, and log, which WGSL allows an error of 2⁻²¹ near 1
            close(&format!("loss ({b}, {k})"), &loss, &want, Tol { rel: 4e-6, abs: 4e-6 / b as f64 });
            // dlogits: exp of |x| < 25 may be off by (3 + 2|x|) ulp, and so may the sum of exps; softmax times the sum
            // of targets, and the targets, are below 2
            close(&format!("dlogits ({b}, {k})"), &grads[0], &dlogits, Tol { rel: 4e-6, abs: 2e-5 / b as f64 });
        }
    });
}
