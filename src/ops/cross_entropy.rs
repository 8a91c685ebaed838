//! cross_entropy: launcher and tape rule of the classification loss. Maths: `shaders/cross_entropy.wgsl`.

use super::norm::{ROW_WORKGROUPS, row_workgroup};
use crate::error::Result;
use crate::gpu::{Const, Grid, Kernel, params, read, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `cross_entropy.wgsl`.
    pub struct CrossEntropy { b: u32, k: u32 }
}

const SRC: &str = wgsl!("cross_entropy", "grid", "reduce");
const SUBGROUP: &str = wgsl!("cross_entropy", "grid", "reduce_subgroup");
const CONSTS: &[Const] = &[Const::of("WG", ROW_WORKGROUPS)];

const FORWARD: Kernel = Kernel::new::<CrossEntropy>(
    "cross_entropy.forward",
    SRC,
    &[read(1, "logits"), read(2, "targets"), write(3, "stat"), write(4, "loss")],
)
.subgroup(SUBGROUP)
.consts(CONSTS);
const BACKWARD: Kernel = Kernel::new::<CrossEntropy>(
    "cross_entropy.backward",
    SRC,
    &[read(1, "logits"), read(2, "targets"), read(5, "saved_stat"), read(6, "dloss"), write(7, "dlogits")],
)
.consts(CONSTS);

/// The kernels of this family.
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD];

/// Cross-entropy of each row of `logits` (B, K) against probabilities `targets` (B, K), divided by B: (B), whose sum is
/// the mean loss.
pub fn cross_entropy(r: &mut Recorder, logits: &Var, targets: &Tensor) -> Result<Var> {
    let [b, k] = logits.data.dims("cross_entropy: logits")?;
    targets.expect_shape("cross_entropy: targets", &[b, k])?;
    let (loss, stat) = (Tensor::scratch("loss", &[b]), Tensor::scratch("softmax statistics", &[b, 4]));
    let p = CrossEntropy { b: b as u32, k: k as u32 };
    let consts = [("WG", row_workgroup(r.caps(), k) as u32)];
    r.launch_with(&FORWARD, &consts, Grid::rows(b), &p, &[&logits.data, targets, &stat, &loss])?;
    let targets = targets.clone();
    Ok(r.push(logits, loss, move |r, logits, dloss, grads| {
        let dlogits = grads.alloc(&logits);
        r.launch(&BACKWARD, Grid::items(b * k, 256), &p, &[&logits.data, &targets, &stat, dloss, &dlogits])?;
        grads.add(r, &logits, dlogits)
    }))
}
