//! matmul: the general product and the linear layer with its tape rule. Maths: `shaders/matmul.wgsl`, and on
//! cooperative matrices `shaders/matmul_coop.wgsl`.

mod gemm;
mod launch;
#[cfg(feature = "files")]
mod tune;
mod variant;

pub use gemm::{Act, Epilogue, Form, Gemm, KERNELS, Matmul};
pub use launch::{Added, gemm, gemm_with};
#[cfg(feature = "files")]
pub use tune::tune;
pub use variant::{Path, Variant, pick, products};

use super::reduce::column_sum;
use crate::error::{Error, Result};
use crate::gpu::DType;
use crate::tape::{Grads, Recorder, Var};
use crate::tensor::Tensor;

/// What is added to a product, and how it is stored. By default nothing, and f32.
#[derive(Debug, Clone, Copy, Default)]
pub struct MatmulOptions<'a> {
    /// Added to each row: (N), or (S, N) for a batch.
    pub bias: Option<&'a Var>,
    /// Added to the product: as the result.
    pub residual: Option<&'a Var>,
    /// Type of the result. In f16, for operators that read f16, N has to be a multiple of 4.
    pub dtype: DType,
}

/// The linear layer y = x·wᵀ (+ bias) (+ residual): x (.., K), w (N, K) -> y (.., N); or a batch of them: x (S, .., K),
/// w (S, N, K) -> y (S, .., N). PyTorch: `F.linear(x, w, bias) + residual`.
pub fn matmul(r: &mut Recorder, x: &Var, w: &Var, options: MatmulOptions<'_>) -> Result<Var> {
    let MatmulOptions { bias, residual, dtype } = options;
    let (s, n, k) = match *w.data.shape() {
        [n, k] => (1, n, k),
        [s, n, k] => (s, n, k),
        ref other => return Err(Error::argument("matmul: w", format!("{other:?}"), "(N, K) or (S, N, K)")),
    };
    if s == 0 {
        return Err(Error::argument("matmul: w", format!("{:?}", w.data.shape()), "at least one matrix"));
    }
    let batched = w.data.shape().len() == 3;
    let shape = x.data.shape();
    if shape.last() != Some(&k) || batched && (shape.len() < 2 || shape[0] != s) {
        let expected = if batched { format!("({s}, .., {k})") } else { format!("(.., {k})") };
        return Err(Error::argument("matmul: x", format!("{shape:?}"), expected));
    }
    let mut out = shape.to_vec();
    out[shape.len() - 1] = n;
    let rows = shape[..shape.len() - 1].iter().product::<usize>() / s;
    let bias_shape = if batched { vec![s, n] } else { vec![n] };
    if let Some(bias) = bias {
        bias.data.expect_shape("matmul: bias", &bias_shape)?;
    }
    if let Some(residual) = residual {
        residual.data.expect_shape("matmul: residual", &out)?;
    }
    let y = Tensor::scratch_of(dtype, "matmul", &out);
    let p = Gemm::dense(Form::Nt, s, rows, n, k);
    let added = Added { bias: bias.map(|v| &v.data), residual: residual.map(|v| &v.data) };
    gemm(r, &p, &x.data, &w.data, added, &y)?;

    Ok(r.push((x, w, bias, residual), y, move |r, (x, w, bias, residual), dy, grads| {
        if let Some(residual) = &residual {
            grads.add(r, residual, dy.clone())?;
        }
        let dy = dy.reshape(&[s, rows, n])?;
        parameters(r, grads, &dy, &x.data, &w, bias.as_ref())?;
        input(r, grads, &dy, &w.data, &x)
    }))
}

/// dbias = Σ dy and dw = dyᵀ·x, of dy (S, M, N) and x (S, M, K), where they are wanted.
pub(super) fn parameters(
    r: &mut Recorder, grads: &mut Grads, dy: &Tensor, x: &Tensor, w: &Var, bias: Option<&Var>,
) -> Result<()> {
    let [s, rows, n] = dy.dims("matmul: dy")?;
    if let Some(bias) = bias.filter(|bias| grads.wants(bias)) {
        let dbias = grads.alloc(bias);
        column_sum(r, dy, &dbias.reshape(&[s, n])?)?;
        grads.add(r, bias, dbias)?;
    }
    if grads.wants(w) {
        let dw = grads.alloc(w);
        gemm(r, &Gemm::dense(Form::Tn, s, n, dw.len() / (s * n), rows), dy, x, Added::default(), &dw)?;
        grads.add(r, w, dw)?;
    }
    Ok(())
}

/// dx = dy·w of dy (S, M, N), where it is wanted.
pub(super) fn input(r: &mut Recorder, grads: &mut Grads, dy: &Tensor, w: &Tensor, x: &Var) -> Result<()> {
    if !grads.wants(x) {
        return Ok(());
    }
    let [s, rows, n] = dy.dims("matmul: dy")?;
    // what x has collected is added while dx is written, so dx needs memory of its own
    let before = grads.take(x);
    let dx = if before.is_some() { x.data.scratch_like("gradient", x.data.shape()) } else { grads.alloc(x) };
    gemm(
        r,
        &Gemm::dense(Form::Nn, s, rows, w.len() / (s * n), n),
        dy,
        w,
        Added { residual: before.as_ref(), ..Added::default() },
        &dx,
    )?;
    grads.add(r, x, dx)
}
