//! The launches of a product: its arguments checked, and the parts combined if k is split.

use super::gemm::{COMBINE, Epilogue, Form, Gemm, KS, Matmul};
use super::variant::{Variant, best};
use crate::error::{Error, Result};
use crate::gpu::{Grid, Kernel, scalars};
use crate::ops::parts::{Rows, sum_parts};
use crate::ops::reduce::column_sum;
use crate::tape::Recorder;
use crate::tensor::Tensor;

/// Tensors that a product adds to a·b.
#[derive(Debug, Clone, Copy, Default)]
pub struct Added<'a> {
    /// Added to each row: (batch, N), dense.
    pub bias: Option<&'a Tensor>,
    /// Added element by element, in the layout of c.
    pub residual: Option<&'a Tensor>,
}

/// Writes c = a·b + bias + residual for a batch of matrices: cuBLAS's strided batched GEMM. It has no gradient of its
/// own.
///
/// Which operand is transposed, the sizes and the epilogue are in `p`. Columns N..`ldc` of c stay as they are.
///
/// - Shapes: a, b, c, and the residual as [`Gemm`] describes them, bias (batch, N). All but the bias may be f16.
/// - PyTorch: `torch.baddbmm(residual, a, b, out=c)`, where [`Form`](super::Form) says which operand is transposed.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::matmul::{Added, Form, Gemm, gemm}, tape::*, tensor::Tensor};
/// let a = Tensor::from_slice(g, &[1, 2], &[1.0, 2.0])?;
/// let b = Tensor::from_slice(g, &[2, 2], &[1.0, 0.0, 3.0, 4.0])?;
/// let c = Tensor::scratch("product", &[1, 2]);
/// let mut r = Recorder::inference(g);
/// gemm(&mut r, &Gemm::dense(Form::Nn, 1, 1, 2, 2), &a, &b, Added::default(), &c)?;
/// r.run()?;
/// assert_eq!(c.to_vec(g)?, [7.0, 8.0]); // a @ b
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If a tensor is smaller than `p` says, if a size is 0, if N, `ldc`, the stride or the place of the activated product
/// is no multiple of 4 while c is f16, or if [`Epilogue::Slope`] has no residual.
pub fn gemm(r: &mut Recorder, p: &Gemm, a: &Tensor, b: &Tensor, added: Added<'_>, c: &Tensor) -> Result<()> {
    gemm_with(r, best(r, r.precision(), p), p, a, b, added, c)
}

/// [`gemm`] with a given [`Variant`], for the tuner and for tests.
///
/// # Errors
///
/// Those of [`gemm`], and if the adapter cannot compute the variant.
pub fn gemm_with(
    r: &mut Recorder, variant: Variant, p: &Gemm, a: &Tensor, b: &Tensor, added: Added<'_>, c: &Tensor,
) -> Result<()> {
    launch(r, variant, p, [a, b], added, c, None)
}

/// Writes c = aᵀ·b and the sums of a over k, for a batch of matrices: the gradients dw = dyᵀ·x and dbias = Σ dy of a
/// linear layer. It has no gradient of its own.
///
/// The products without rounding take one launch for both. Others, in mixed precision and on cooperative matrices, take
/// two: [`column_sum`] adds up a as it is, not rounded.
///
/// - Shapes: a, b and c as `p` describes them, dense, in [`Form::Tn`]; sums (batch, M). a and b may be f16.
/// - PyTorch: `torch.bmm(a.mT, b, out=c)` and `torch.sum(a, dim=1, out=sums)`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::matmul::{Form, Gemm, gemm_and_sums}, tape::*, tensor::Tensor};
/// let dy = Tensor::from_slice(g, &[2, 1], &[1.0, 2.0])?;
/// let x = Tensor::from_slice(g, &[2, 2], &[1.0, 0.0, 3.0, 4.0])?;
/// let (dw, dbias) = (Tensor::scratch("dw", &[1, 2]), Tensor::scratch("dbias", &[1, 1]));
/// let mut r = Recorder::inference(g);
/// gemm_and_sums(&mut r, &Gemm::dense(Form::Tn, 1, 1, 2, 2), &dy, &x, &dw, &dbias)?;
/// r.run()?;
/// assert_eq!(dw.to_vec(g)?, [7.0, 8.0]); // dy.T @ x
/// assert_eq!(dbias.to_vec(g)?, [3.0]);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// Those of [`gemm`], and if `p` is in another form or not dense.
pub fn gemm_and_sums(r: &mut Recorder, p: &Gemm, a: &Tensor, b: &Tensor, c: &Tensor, sums: &Tensor) -> Result<()> {
    gemm_and_sums_with(r, best(r, r.precision(), p), p, a, b, c, sums)
}

/// [`gemm_and_sums`] with a given [`Variant`], for tests.
///
/// # Errors
///
/// Those of [`gemm_and_sums`], and if the adapter cannot compute the variant.
pub fn gemm_and_sums_with(
    r: &mut Recorder, variant: Variant, p: &Gemm, a: &Tensor, b: &Tensor, c: &Tensor, sums: &Tensor,
) -> Result<()> {
    if *p != Gemm::dense(Form::Tn, p.batch, p.m, p.n, p.k) {
        return Err(Error::argument("matmul: product with sums", format!("{p:?}"), "a dense one in the form Tn"));
    }
    fits("sums", sums, 1, (p.batch, p.m), p.m, 0)?;
    if variant.kernel_with_sums().is_some() {
        return launch(r, variant, p, [a, b], Added::default(), c, Some(sums));
    }
    launch(r, variant, p, [a, b], Added::default(), c, None)?;
    column_sum(r, &a.reshape(&[p.batch, p.k, p.m])?, &sums.reshape(&[p.batch, p.m])?)
}

/// Launches a product, and with `sums` the sums of a over k.
fn launch(
    r: &mut Recorder, variant: Variant, p: &Gemm, [a, b]: [&Tensor; 2], Added { bias, residual }: Added<'_>,
    c: &Tensor, sums: Option<&Tensor>,
) -> Result<()> {
    variant.check(r.caps())?;
    let (a_size, b_size) = (p.a_rows_cols(), p.b_rows_cols());
    fits("a", a, p.batch, a_size, p.lda, p.a_stride)?;
    fits("b", b, p.batch, b_size, p.ldb, p.b_stride)?;
    fits("c", c, p.batch, (p.m, p.n), p.ldc, p.c_stride)?;
    let act_at = match p.epilogue {
        Epilogue::Activate(_, at) => at,
        _ => 0,
    };
    if act_at > 0 {
        let product = c.len().saturating_sub(act_at);
        fits("c, activated", &c.range(c.len() - product, &[product])?, p.batch, (p.m, p.n), p.ldc, p.c_stride)?;
    }
    if c.is_f16() && [p.n, p.ldc, p.c_stride, act_at].iter().any(|size| size % 4 != 0) {
        let got = format!("{} columns, rows of {}, strides of {}", p.n, p.ldc, p.c_stride);
        return Err(Error::argument("matmul: c in f16", got, "multiples of 4"));
    }
    if matches!(p.epilogue, Epilogue::Slope(_)) && residual.is_none() {
        return Err(Error::argument("matmul: residual", "none", "what the slope is of"));
    }
    if let Some(bias) = bias {
        fits("bias", bias, 1, (p.batch, p.n), p.n, 0)?;
    }
    if let Some(residual) = residual {
        fits("residual", residual, p.batch, (p.m, p.n), p.ldc, p.c_stride)?;
    }
    let (kernel, mut consts, tile) = variant.kernel(r.caps(), p);
    let quads = |sizes: &[usize]| sizes.iter().all(|size| size % 4 == 0);
    let whole_quads = quads(&[p.n, p.ldc, p.c_stride, act_at]);
    let k_split = p.k.div_ceil(variant.splits.max(1)).next_multiple_of(KS);
    let splits = p.k.div_ceil(k_split);
    let whole = scalars!(Matmul {
        batch: p.batch,
        m: p.m,
        n: p.n,
        k: p.k,
        lda: p.lda,
        ldb: p.ldb,
        ldc: p.ldc,
        a_stride: p.a_stride,
        b_stride: p.b_stride,
        c_stride: p.c_stride,
        splits,
        k_split,
        has_bias: bias.is_some(),
        has_residual: residual.is_some(),
        act_at,
    });
    let grid = Grid::of(p.n.div_ceil(tile.1), p.m.div_ceil(tile.0), p.batch * splits);
    if splits == 1 {
        consts.extend(variant.stores(whole_quads));
        return product(r, variant, kernel, &consts, grid, &whole, [Some(a), Some(b), bias, residual, Some(c)], sums);
    }
    let part = Tensor::scratch("matmul.part", &[splits, p.batch, p.m, p.n]);
    let parts =
        scalars!(Matmul { ldc: p.n, c_stride: p.m * p.n, has_bias: false, has_residual: false, act_at: 0, ..whole });
    consts.retain(|(name, _)| *name != "ACT");
    consts.extend(variant.stores(quads(&[p.n])));
    let sums_part = Tensor::scratch("matmul.sums", &[splits, p.batch, p.m]);
    let args = [Some(a), Some(b), None, None, Some(&part)];
    product(r, variant, kernel, &consts, grid, &parts, args, sums.map(|_| &sums_part))?;
    if let Some(sums) = sums {
        sum_parts(r, &sums_part, Rows::dense(splits, p.batch * p.m), sums)?;
    }
    let dense = p.ldc == p.n && (p.batch == 1 || p.c_stride == p.m * p.n);
    if dense && !c.is_f16() && p.epilogue == Epilogue::None && bias.is_none() && residual.is_none() {
        return sum_parts(r, &part, Rows::dense(splits, p.batch * p.m * p.n), c);
    }
    let grid = Grid::items(p.batch * p.m * p.n / if whole_quads { 4 } else { 1 }, 256);
    let consts = [("ACT", p.epilogue.number()), ("C4", u32::from(whole_quads))];
    r.launch_with(&COMBINE, &consts, grid, &whole, &[bias, residual, Some(c), Some(&part)])
}

/// The launch of a product or of its parts, with the sums of a if they are wanted.
#[allow(clippy::too_many_arguments, reason = "those of a launch")]
fn product(
    r: &mut Recorder, variant: Variant, kernel: &'static Kernel, consts: &[(&str, u32)], grid: Grid, p: &Matmul,
    args: [Option<&Tensor>; 5], sums: Option<&Tensor>,
) -> Result<()> {
    match (variant.kernel_with_sums(), sums) {
        (Some(kernel), Some(sums)) => r.launch_with(kernel, consts, grid, p, &[&args[..], &[Some(sums)]].concat()),
        _ => r.launch_with(kernel, consts, grid, p, &args),
    }
}

/// An error unless the tensor holds `batch` matrices of this size, leading dimension and stride.
fn fits(
    what: &str, tensor: &Tensor, batch: usize, (rows, cols): (usize, usize), ld: usize, stride: usize,
) -> Result<()> {
    let what = || format!("matmul: {what}");
    if batch * rows * cols == 0 || ld < cols {
        let got = format!("{batch} × ({rows}, {cols}), leading dimension {ld}");
        return Err(Error::argument(what(), got, "sizes of at least 1 and a leading dimension of at least a row"));
    }
    let end = (batch - 1) * stride + (rows - 1) * ld + cols;
    if tensor.len() < end {
        return Err(Error::argument(what(), format!("{:?}", tensor.shape()), format!("at least {end} elements")));
    }
    Ok(())
}
