//! layer_norm: kernels; launcher and tape rule are those of rms_norm. Maths: `shaders/layer_norm.wgsl`.

use super::rms_norm::{BACKWARD_BINDS, CONSTS, Family, Norm, columns};
use crate::error::Result;
use crate::gpu::{Kernel, read, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

const SRC: &str = wgsl!("layer_norm", "grid", "reduce", "half", "norm");
const SUBGROUP: &str = wgsl!("layer_norm", "grid", "reduce_subgroup", "half", "norm");

const FORWARD: Kernel = Kernel::new::<Norm>(
    "layer_norm.forward",
    SRC,
    &[
        read(1, "x"),
        read(2, "residual"),
        read(3, "keep"),
        read(4, "w"),
        read(17, "b"),
        write(5, "sum"),
        write(6, "y").f16_if("HALF"),
        write(7, "stat"),
    ],
)
.subgroup(SUBGROUP)
.consts(CONSTS)
.rounds()
.least(|x| columns(x, 8));
const BACKWARD: Kernel = Kernel::new::<Norm>("layer_norm.backward", SRC, BACKWARD_BINDS)
    .subgroup(SUBGROUP)
    .consts(CONSTS)
    .rounds()
    .least(|x| columns(x, 16));
const SUM_PARTIALS: Kernel =
    Kernel::new::<Norm>("layer_norm.sum_partials", SRC, &[read(15, "shares"), write(16, "dw"), write(18, "db")])
        .consts(CONSTS)
        .rounds();

/// The kernels of this family.
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD, &SUM_PARTIALS];

/// The residual sum r' = residual + keep·x, and its layer norm y: -> (y, r'). `x` and `residual` are (B, L, D) or
/// (rows, D), `keep` is (B), a factor per sample, `w` and `b` are (D). Without residual and keep, r' is `x` itself.
#[expect(clippy::too_many_arguments, reason = "the operands of one fused operator")]
pub fn layer_norm(
    r: &mut Recorder, x: &Var, residual: Option<&Var>, keep: Option<&Tensor>, w: &Var, b: &Var, eps: f32,
) -> Result<(Var, Var)> {
    FAMILY.apply(r, false, x, residual, keep, &[("w", w), ("b", b)], eps)
}

/// [`layer_norm`] with y in f16, for operators that take it so; D has to be even.
#[expect(clippy::too_many_arguments, reason = "the operands of one fused operator")]
pub fn layer_norm_half(
    r: &mut Recorder, x: &Var, residual: Option<&Var>, keep: Option<&Tensor>, w: &Var, b: &Var, eps: f32,
) -> Result<(Var, Var)> {
    FAMILY.apply(r, true, x, residual, keep, &[("w", w), ("b", b)], eps)
}

const FAMILY: Family = Family { op: "layer_norm", forward: &FORWARD, backward: &BACKWARD, sum_partials: &SUM_PARTIALS };
