//! cross_entropy: the classification loss. Maths: `shaders/cross_entropy.wgsl`.

use super::norm::{ROW_WORKGROUPS, row_consts};
use crate::error::Result;
use crate::gpu::{Const, Grid, Kernel, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `cross_entropy.wgsl`.
    pub(crate) struct CrossEntropy { b: u32, k: u32 }
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
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD];

/// Cross-entropy of logits against target probabilities, as the share of each row in the mean loss.
///
/// The sum of the result is the mean over rows, because each row is divided by B. Targets are probabilities, as mixup
/// and label smoothing need them; they get no gradient.
///
/// - Shapes: logits (B, K), targets (B, K) → (B).
/// - PyTorch: `F.cross_entropy(logits, targets)`, before the sum over rows. timm: `SoftTargetCrossEntropy`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::cross_entropy::cross_entropy, tape::*, tensor::Tensor};
/// let logits = Var::leaf(Tensor::from_slice(g, &[1, 2], &[0.0, 0.0])?);
/// let targets = Tensor::from_slice(g, &[1, 2], &[0.0, 1.0])?;
/// let mut r = Recorder::new(g);
/// let loss = cross_entropy(&mut r, &logits, &targets)?;
/// let grads = r.backward(&loss, Grads::default())?;
/// r.run()?;
/// assert_close(&loss.data.to_vec(g)?, &[0.6931], 1e-4); // ln 2
/// assert_close(&grads.get(&logits).unwrap().to_vec(g)?, &[0.5, -0.5], 1e-6); // softmax − targets
/// # Ok(()) });
/// ```
pub fn cross_entropy(r: &mut Recorder, logits: &Var, targets: &Tensor) -> Result<Var> {
    let [b, k] = logits.data.dims("cross_entropy: logits")?;
    targets.expect_shape("cross_entropy: targets", &[b, k])?;
    let (loss, stat) = (Tensor::scratch("loss", &[b]), Tensor::scratch("softmax statistics", &[b, 4]));
    let p = scalars!(CrossEntropy { b, k });
    let consts = row_consts(r.caps(), k);
    r.launch_with(&FORWARD, &consts, Grid::rows(b), &p, &[&logits.data, targets, &stat, &loss])?;
    let targets = targets.clone();
    Ok(r.push(logits, loss, move |r, logits, dloss, grads| {
        let dlogits = grads.alloc(&logits);
        r.launch(&BACKWARD, Grid::items(b * k, 256), &p, &[&logits.data, &targets, &stat, dloss, &dlogits])?;
        grads.add(r, &logits, dlogits)
    }))
}
