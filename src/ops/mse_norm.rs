//! mse_norm: the pixel loss of MAE on masked patches. Maths: `shaders/mse_norm.wgsl`.

use super::norm::{ROW_WORKGROUPS, row_consts};
use crate::error::{Error, Result};
use crate::gpu::{Const, Grid, Kernel, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `mse_norm.wgsl`.
    pub(crate) struct MseNorm { rows: u32, cols: u32, channels: u32, normalize: u32, scale: f32, eps: f32 }
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
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD, &TARGET];

/// The target that a predicted patch is compared with, and a factor on the error.
#[derive(Debug, Clone, Copy)]
pub struct MseNormOptions {
    /// Colors C of a pixel.
    pub channels: usize,
    /// Factor on the error of every patch.
    pub scale: f32,
    /// The pixels of each target patch are normalized to mean 0 and variance 1, with this added to the variance: MAE's
    /// `norm_pix_loss`. `None` compares with the pixels as they are.
    pub normalize: Option<f32>,
}

impl Default for MseNormOptions {
    fn default() -> Self {
        Self { channels: 3, scale: 1.0, normalize: Some(1e-6) }
    }
}

/// Mean squared error of each predicted patch, times its weight in `mask` and the option `scale`.
///
/// With `scale` = 1/Σ mask the sum of the result is the mean over masked patches. `pred` and `tgt` order the values of
/// a patch differently: `pred` as MAE does (y, x, channel), `tgt` as a convolution weight does (channel, y, x), which
/// is the order of [`patchify`](super::patchify).
///
/// - Shapes: `pred` (B, L, C·P·P), `tgt` (B, L, C·P·P), `mask` (B, L) → (B, L).
/// - MAE: `self.forward_loss(imgs, pred, mask)`, before the sum over patches.
/// - Source: He et al. 2022 (MAE).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::mse_norm::{MseNormOptions, mse_norm}, tape::*, tensor::Tensor};
/// let pred = Var::leaf(Tensor::from_slice(g, &[1, 2, 3], &[0.0; 6])?);
/// let tgt = Tensor::from_slice(g, &[1, 2, 3], &[1.0, 2.0, 3.0, 7.0, 8.0, 9.0])?; // normalized -1, 0, 1
/// let mask = Tensor::from_slice(g, &[1, 2], &[1.0, 0.0])?; // the second patch is visible: it does not count
/// let mut r = Recorder::inference(g);
/// let loss = mse_norm(&mut r, &pred, &tgt, &mask, MseNormOptions::default())?;
/// r.run()?;
/// assert_close(&loss.data.to_vec(g)?, &[0.6667, 0.0], 1e-4); // (1 + 0 + 1)/3
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If the number of channels does not divide the columns, or if a patch of one value is to be normalized.
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
    let consts = row_consts(r.caps(), cols);
    r.launch_with(&FORWARD, &consts, Grid::rows(rows), &p, &[&pred.data, tgt, mask, &stat, &loss])?;
    let (tgt, mask) = (tgt.clone(), mask.clone());
    Ok(r.push(pred, loss, move |r, pred, dloss, grads| {
        let dpred = grads.alloc(&pred);
        let grid = Grid::items(pred.data.len(), 256);
        r.launch(&BACKWARD, grid, &p, &[&pred.data, &tgt, &mask, &stat, dloss, &dpred])?;
        grads.add(r, &pred, dpred)
    }))
}

/// The target of [`mse_norm`] in the order of a prediction: what a perfect `pred` would be. It has no gradient.
///
/// - Shapes: `tgt` (.., C·P·P), ordered (channel, y, x) → the same shape, ordered (y, x, channel).
/// - MAE: `self.patchify(imgs)`, normalized by `norm_pix_loss`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::mse_norm::target, tape::*, tensor::Tensor};
/// let tgt = Tensor::from_slice(g, &[1, 4], &[1.0, 2.0, 10.0, 20.0])?; // channel 0: 1, 2; channel 1: 10, 20
/// let mut r = Recorder::inference(g);
/// let t = target(&mut r, &tgt, 2, None)?;
/// r.run()?;
/// assert_eq!(t.to_vec(g)?, [1.0, 10.0, 2.0, 20.0]);
/// # Ok(()) });
/// ```
pub fn target(r: &mut Recorder, tgt: &Tensor, channels: usize, normalize: Option<f32>) -> Result<Tensor> {
    let (rows, cols) = tgt.rows_cols();
    let p = scalars(rows, cols, MseNormOptions { channels, scale: 1.0, normalize })?;
    let out = Tensor::scratch("target", tgt.shape());
    r.launch_with(&TARGET, &row_consts(r.caps(), cols), Grid::rows(rows), &p, &[tgt, &out])?;
    Ok(out)
}

fn scalars(rows: usize, cols: usize, options: MseNormOptions) -> Result<MseNorm> {
    let MseNormOptions { channels, scale, normalize } = options;
    if channels == 0 || !cols.is_multiple_of(channels) {
        return Err(Error::argument("mse_norm: channels", channels, format!("a divisor of {cols}")));
    }
    if normalize.is_some() && cols < 2 {
        return Err(Error::argument("mse_norm: columns of pred", cols, "at least 2 to normalize"));
    }
    let (normalize, eps) = (normalize.is_some(), normalize.unwrap_or_default());
    Ok(scalars!(MseNorm { rows, cols, channels, normalize, scale, eps }))
}
