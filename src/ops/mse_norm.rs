//! mse_norm: launcher and tape rule of the masked pixel loss. Maths: `shaders/mse_norm.wgsl`.

use super::rms_norm::{ROW_WORKGROUPS, row_workgroup};
use crate::error::{Error, Result};
use crate::gpu::{Const, Grid, Kernel, params, read, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `mse_norm.wgsl`.
    pub struct MseNorm { rows: u32, cols: u32, channels: u32, normalise: u32, scale: f32 }
}

const SRC: &str = wgsl!("mse_norm", "grid", "reduce");
const SUBGROUP: &str = wgsl!("mse_norm", "grid", "reduce_subgroup");
const CONSTS: &[Const] = &[Const::of("WG", ROW_WORKGROUPS)];

const FORWARD: Kernel = Kernel::new::<MseNorm>(
    "mse_norm.forward",
    SRC,
    &[read(1, "pred"), read(2, "tgt"), read(3, "mask"), write(4, "stat"), write(5, "loss")],
)
.subgroup(SUBGROUP)
.consts(CONSTS);
const BACKWARD: Kernel = Kernel::new::<MseNorm>(
    "mse_norm.backward",
    SRC,
    &[read(1, "pred"), read(2, "tgt"), read(3, "mask"), read(6, "saved_stat"), read(7, "dloss"), write(8, "dpred")],
)
.consts(CONSTS);
const TARGET: Kernel = Kernel::new::<MseNorm>("mse_norm.target_forward", SRC, &[read(2, "tgt"), write(9, "out")])
    .subgroup(SUBGROUP)
    .consts(CONSTS);

/// The kernels of this family.
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD, &TARGET];

/// Mean squared error of each patch, times `mask` and `scale`: (B, L), whose sum is the loss if `scale` is 1/Σ `mask`.
/// `pred` is (B, L, C·P·P) with the channel fastest, `tgt` has as many patches with the channel slowest, `mask` is (B,
/// L).
/// `normalise` compares with pixels of zero mean and unit deviation in each patch.
#[expect(clippy::too_many_arguments, reason = "the operands of one fused operator")]
pub fn mse_norm(
    r: &mut Recorder, pred: &Var, tgt: &Tensor, mask: &Tensor, channels: usize, scale: f32, normalise: bool,
) -> Result<Var> {
    let (rows, cols) = pred.data.rows_cols();
    if tgt.rows_cols() != (rows, cols) {
        let expected = format!("{rows} patches of {cols}");
        return Err(Error::argument("mse_norm: tgt", format!("{:?}", tgt.shape()), expected));
    }
    let shape = &pred.data.shape()[..pred.data.shape().len().saturating_sub(1)];
    mask.expect_shape("mse_norm: mask", shape)?;
    let p = scalars(rows, cols, channels, scale, normalise)?;
    let (loss, stat) = (Tensor::scratch("loss", shape), Tensor::scratch("patch statistics", &[rows, 2]));
    let consts = [("WG", row_workgroup(r.caps(), cols) as u32)];
    r.launch_with(&FORWARD, &consts, Grid::rows(rows), &p, &[&pred.data, tgt, mask, &stat, &loss])?;
    let (tgt, mask) = (tgt.clone(), mask.clone());
    Ok(r.push(pred, loss, move |r, pred, dloss, grads| {
        let dpred = grads.alloc(&pred);
        let grid = Grid::items(pred.data.len(), 256);
        r.launch(&BACKWARD, grid, &p, &[&pred.data, &tgt, &mask, &stat, dloss, &dpred])?;
        grads.add(r, &pred, dpred)
    }))
}

/// What [`mse_norm`] compares with, as a prediction of it would be: `tgt` (.., C·P·P), the channel slowest -> the same
/// shape, the channel fastest.
pub fn target(r: &mut Recorder, tgt: &Tensor, channels: usize, normalise: bool) -> Result<Tensor> {
    let (rows, cols) = tgt.rows_cols();
    let p = scalars(rows, cols, channels, 1.0, normalise)?;
    let out = Tensor::scratch("target", tgt.shape());
    r.launch_with(&TARGET, &[("WG", row_workgroup(r.caps(), cols) as u32)], Grid::rows(rows), &p, &[tgt, &out])?;
    Ok(out)
}

fn scalars(rows: usize, cols: usize, channels: usize, scale: f32, normalise: bool) -> Result<MseNorm> {
    if channels == 0 || !cols.is_multiple_of(channels) {
        return Err(Error::argument("mse_norm: channels", channels, format!("a divisor of {cols}")));
    }
    if normalise && cols < 2 {
        return Err(Error::argument("mse_norm: columns of pred", cols, "at least 2 to normalise"));
    }
    let (channels, normalise) = (channels as u32, normalise.into());
    Ok(MseNorm { rows: rows as u32, cols: cols as u32, channels, normalise, scale })
}
