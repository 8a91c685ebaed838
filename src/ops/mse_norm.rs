//! mse_norm: launcher and tape rule of the masked pixel loss. Maths: `shaders/mse_norm.wgsl`.

use super::norm::{ROW_WORKGROUPS, row_workgroup};
use crate::error::{Error, Result};
use crate::gpu::{Const, Grid, Kernel, params, read, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `mse_norm.wgsl`.
    pub struct MseNorm { rows: u32, cols: u32, channels: u32, normalize: u32, scale: f32 }
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

/// What a predicted patch is compared with, and the weight of its error.
#[derive(Debug, Clone, Copy)]
pub struct MseNormOptions {
    /// Colors C of a pixel.
    pub channels: usize,
    /// Factor on every error.
    pub scale: f32,
    /// Whether the target's pixels get mean 0 and deviation 1 in each patch: MAE's `norm_pix_loss`.
    pub normalize: bool,
}

impl Default for MseNormOptions {
    fn default() -> Self {
        Self { channels: 3, scale: 1.0, normalize: true }
    }
}

/// Mean squared error of each patch, times `mask` and `scale`: pred (B, L, C·P·P) with the channel fastest, tgt (B, L,
/// C·P·P) with the channel slowest, mask (B, L) -> (B, L). The sum is the loss if `scale` is 1/Σ `mask`: `forward_loss`
/// of the MAE repository.
pub fn mse_norm(r: &mut Recorder, pred: &Var, tgt: &Tensor, mask: &Tensor, options: MseNormOptions) -> Result<Var> {
    let (rows, cols) = pred.data.rows_cols();
    if tgt.rows_cols() != (rows, cols) {
        let expected = format!("{rows} patches of {cols}");
        return Err(Error::argument("mse_norm: tgt", format!("{:?}", tgt.shape()), expected));
    }
    let shape = &pred.data.shape()[..pred.data.shape().len().saturating_sub(1)];
    mask.expect_shape("mse_norm: mask", shape)?;
    let p = scalars(rows, cols, options)?;
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
pub fn target(r: &mut Recorder, tgt: &Tensor, channels: usize, normalize: bool) -> Result<Tensor> {
    let (rows, cols) = tgt.rows_cols();
    let p = scalars(rows, cols, MseNormOptions { channels, scale: 1.0, normalize })?;
    let out = Tensor::scratch("target", tgt.shape());
    r.launch_with(&TARGET, &[("WG", row_workgroup(r.caps(), cols) as u32)], Grid::rows(rows), &p, &[tgt, &out])?;
    Ok(out)
}

fn scalars(rows: usize, cols: usize, options: MseNormOptions) -> Result<MseNorm> {
    let MseNormOptions { channels, scale, normalize } = options;
    if channels == 0 || !cols.is_multiple_of(channels) {
        return Err(Error::argument("mse_norm: channels", channels, format!("a divisor of {cols}")));
    }
    if normalize && cols < 2 {
        return Err(Error::argument("mse_norm: columns of pred", cols, "at least 2 to normalize"));
    }
    let (channels, normalize) = (channels as u32, normalize.into());
    Ok(MseNorm { rows: rows as u32, cols: cols as u32, channels, normalize, scale })
}
