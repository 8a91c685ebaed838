//! matmul: the linear layer, and the general product of matrices that it is made of. Maths: `shaders/matmul.wgsl`, and
//! on cooperative matrices (tensor cores) `shaders/matmul_coop.wgsl`.

mod gemm;
mod launch;
#[cfg(feature = "files")]
mod tune;
mod variant;

pub(super) use gemm::KS;
pub use gemm::{Act, Epilogue, Form, Gemm, KERNELS};
pub use launch::{Added, gemm, gemm_and_sums, gemm_and_sums_with, gemm_with};
#[cfg(feature = "files")]
pub use tune::tune;
pub(super) use variant::{BUSY, best};
pub use variant::{Route, Variant, pick, products};

use super::reduce::column_sum;
use crate::error::{Error, Result};
use crate::gpu::DType;
use crate::tape::{Grads, Recorder, Var};
use crate::tensor::Tensor;

/// Bias and residual of a linear layer, and the element type of its result. By default there is neither, and f32.
#[derive(Debug, Clone, Copy, Default)]
pub struct MatmulOptions<'a> {
    /// Added to each row: (N), or (S, N) for a batch of layers.
    pub bias: Option<&'a Var>,
    /// Added to the result, in its shape: a residual connection.
    pub residual: Option<&'a Var>,
    /// Element type of the result. f16 is for operators that read f16, and needs an N that is a multiple of 4.
    pub dtype: DType,
}

/// The linear layer x·wᵀ + bias + residual, or a batch of S linear layers with one weight matrix each.
///
/// - Shapes: x (.., K), w (N, K) → (.., N). Batch: x (S, .., K), w (S, N, K) → (S, .., N). Each f32 or f16.
/// - PyTorch: `F.linear(x, w, bias) + residual`. Batch: `torch.baddbmm(bias.unsqueeze(1), x, w.mT)` for x (S, M, K).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::matmul::{MatmulOptions, matmul}, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 2], &[1.0, 2.0])?);
/// let w = Var::leaf(Tensor::from_slice(g, &[2, 2], &[1.0, 0.0, 3.0, 4.0])?);
/// let bias = Var::leaf(Tensor::from_slice(g, &[2], &[0.5, 0.0])?);
/// let mut r = Recorder::new(g);
/// let y = matmul(&mut r, &x, &w, MatmulOptions { bias: Some(&bias), ..MatmulOptions::default() })?;
/// let grads = r.backward(&y, Grads::default())?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [1.5, 11.0]);
/// assert_eq!(grads.get(&x).unwrap().to_vec(g)?, [4.0, 4.0]); // dx = dy·w, dy = (1, 1)
/// # Ok(()) });
/// ```
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

/// The gradients of the parameters, where they are wanted: dbias = Σ_m dy and dw = dyᵀ·x.
///
/// Shapes: dy (S, M, N), x (S, M, K).
pub(super) fn parameters(
    r: &mut Recorder, grads: &mut Grads, dy: &Tensor, x: &Tensor, w: &Var, bias: Option<&Var>,
) -> Result<()> {
    let [s, rows, n] = dy.dims("matmul: dy")?;
    let dbias = bias.filter(|bias| grads.wants(bias)).map(|bias| (bias, grads.alloc(bias)));
    let dw = grads.wants(w).then(|| grads.alloc(w));
    let p = |dw: &Tensor| Gemm::dense(Form::Tn, s, n, dw.len() / (s * n), rows);
    match (&dw, &dbias) {
        (Some(dw), Some((_, dbias))) => gemm_and_sums(r, &p(dw), dy, x, dw, dbias)?,
        (Some(dw), None) => gemm(r, &p(dw), dy, x, Added::default(), dw)?,
        (None, Some((_, dbias))) => column_sum(r, dy, &dbias.reshape(&[s, n])?)?,
        (None, None) => {}
    }
    dbias.map_or(Ok(()), |(bias, dbias)| grads.add(r, bias, dbias))?;
    dw.map_or(Ok(()), |dw| grads.add(r, w, dw))
}

/// The gradient of the input, where it is wanted: dx = dy·w, from dy (S, M, N).
pub(super) fn input(r: &mut Recorder, grads: &mut Grads, dy: &Tensor, w: &Tensor, x: &Var) -> Result<()> {
    if !grads.wants(x) {
        return Ok(());
    }
    let [s, rows, n] = dy.dims("matmul: dy")?;
    // The product adds the gradient that x has collected so far. That tensor may be shared, so dx is a new one.
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
