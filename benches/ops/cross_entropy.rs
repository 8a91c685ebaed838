//! cross_entropy: a batch of 1000 classes against soft targets.

use rowscan::cpu::cross_entropy::{Dims, backward, forward};

use super::*;

fn validate(g: &Gpu) {
    let dim @ Dims { b, k } = Dims { b: 3, k: 1000 };
    let mut random = Random::new(1);
    let (logits, targets) = (random.normal(b * k), random.uniform(b * k, 0.0, 0.002));
    let on = Tensor::from_slice(g, &[b, k], &targets).unwrap_or_else(|e| panic!("{e}"));
    let (loss, grads) =
        run(g, &[leaf(g, &[b, k], &logits)], &[1.0; 3], |g, t, v| ops::cross_entropy::cross_entropy(g, t, &v[0], &on));
    let (logits, targets) = (wide(&logits), wide(&targets));
    let want: Vec<f64> = forward(dim, &logits, &targets).rows.iter().map(|row| row / b as f64).collect();
    // sums of 1000 terms in a tree, exp and log to a few ulp
    close("loss", &loss, &want, Tol { rel: 4e-6, abs: 2e-6 });
    close("dlogits", &grads[0], &backward(dim, &logits, &targets, 1.0), Tol { rel: 4e-6, abs: 1e-7 });
}

pub fn bench(b: &mut Bench) {
    b.family("cross_entropy", validate);
    for (n, k) in [(1, 1000), (b.batch(), 1000)] {
        let floors = [8, 12].map(|bytes| Floor { bytes: bytes * n * k, flops: 0, exps: n * k });
        b.op(&format!("head {k}x{n}"), floors, |t, x| {
            let (logits, targets) = (x.leaf(&[n, k])?, x.uniform(&[n, k])?);
            Ok(vec![ops::cross_entropy::cross_entropy(x.g, t, &logits, &targets)?])
        });
    }
}
