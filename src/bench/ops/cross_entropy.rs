//! cross_entropy: a batch of 1000 classes against soft targets.

use crate::bench::ops::*;
use cpu::cross_entropy::{Dims, backward, forward};

fn expect(v: &Values) -> Result<Vec<Want>> {
    let [b, k] = v.shape("logits")?;
    let (dim, whole) = (Dims { b, k }, v.samples as f64);
    let (logits, targets) = (v.get("logits")?, v.get("targets")?);
    let loss = forward(dim, logits, targets).rows.iter().map(|row| row / whole).collect();
    // the oracle averages over the compared samples and takes one dloss; the kernel averages over all and takes one
    // dloss per row
    let grads = backward(dim, logits, targets, b as f64 / whole);
    let dlogits = grads.chunks(k).zip(v.get("dloss")?).flat_map(|(row, d)| row.iter().map(move |g| g * d)).collect();
    // sums of 1000 terms in a tree; exp and log have errors of a few ulp
    Ok(vec![near("loss", loss, 4e-6), near("dlogits", dlogits, 4e-6)])
}

pub fn cases(c: &mut Cases) {
    for n in c.scope.batches() {
        let k = 1000;
        let floors = [8, 12].map(|bytes| Floor::of(bytes * n * k, 0, n * k));
        c.case(format!("head {k}x{n}")).floors(floors).check(8, "images", expect).op(move |r, x| {
            let (logits, targets) = (x.leaf("logits", Axis(0), &[n, k])?, x.uniform("targets", Axis(0), &[n, k])?);
            Ok(vec![out("loss", Axis(0), ops::cross_entropy::cross_entropy(r, &logits, &targets)?)])
        });
    }
}
