//! mlp: two linear layers with an activation between, each layer one product with an epilogue. Maths:
//! `shaders/matmul.wgsl`.

use super::matmul::{Act, Epilogue, Form, Gemm, gemm, input, parameters};
use crate::error::{Error, Result};
use crate::gpu::DType;
use crate::ops::matmul::Added;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Parameters of a linear layer: `w` (N, K) and `bias` (N), as in `nn.Linear`.
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the line above says what each is")]
pub struct MlpLayer<'a> {
    pub w: &'a Var,
    pub bias: Option<&'a Var>,
}

/// Activation of an MLP, the residual that is added to its result, and how its hidden layer and its result are stored.
#[derive(Debug, Clone, Copy)]
pub struct MlpOptions<'a> {
    /// Activation between the layers.
    pub act: Act,
    /// Added to the result (.., N): the residual connection around the MLP.
    pub residual: Option<&'a Var>,
    /// Element type of the hidden layer. In mixed precision f16 gives the same result as f32, because products round
    /// their operands to f16 anyway. H must then be a multiple of 4.
    pub hidden: DType,
    /// Element type of the result. f16 is for operators that read f16, and needs an N that is a multiple of 4.
    pub dtype: DType,
}

impl MlpOptions<'_> {
    /// Options with this activation, without residual, the hidden layer and the result in f32.
    pub const fn act(act: Act) -> Self {
        Self { act, residual: None, hidden: DType::F32, dtype: DType::F32 }
    }
}

/// Two linear layers with an activation between, and an optional residual: act(x·w₁ᵀ + b₁)·w₂ᵀ + b₂ + residual.
///
/// - Shapes: x (.., K), `first.w` (H, K), `first.bias` (H), `second.w` (N, H), `second.bias` (N) → (.., N).
/// - PyTorch: `F.linear(act(F.linear(x, w1, b1)), w2, b2) + residual`. timm: `x + self.mlp(y)` of a block.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, tape::*, tensor::Tensor};
/// # use rowscan::ops::{matmul::Act, mlp::{MlpLayer, MlpOptions, mlp}};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 1], &[1.0])?);
/// let w1 = Var::leaf(Tensor::from_slice(g, &[2, 1], &[1.0, -1.0])?); // hidden layer: SiLU of 1 and of -1
/// let w2 = Var::leaf(Tensor::from_slice(g, &[1, 2], &[1.0, 1.0])?);
/// let (first, second) = (MlpLayer { w: &w1, bias: None }, MlpLayer { w: &w2, bias: None });
/// let mut r = Recorder::inference(g);
/// let y = mlp(&mut r, &x, first, second, MlpOptions::act(Act::Silu))?;
/// r.run()?;
/// assert_close(&y.data.to_vec(g)?, &[0.7311 - 0.2689], 1e-4);
/// # Ok(()) });
/// ```
pub fn mlp(r: &mut Recorder, x: &Var, first: MlpLayer, second: MlpLayer, options: MlpOptions<'_>) -> Result<Var> {
    let MlpOptions { act, residual, hidden: dtype, dtype: of_y } = options;
    let ([hidden, k], [n, h]) = (first.w.data.dims("mlp: first.w")?, second.w.data.dims("mlp: second.w")?);
    let shape = x.data.shape();
    if shape.last() != Some(&k) {
        return Err(Error::argument("mlp: x", format!("{shape:?}"), format!("(.., {k})")));
    }
    if h != hidden {
        return Err(Error::argument("mlp: second.w", format!("({n}, {h})"), format!("({n}, {hidden})")));
    }
    let mut out = shape.to_vec();
    out[shape.len() - 1] = n;
    let rows = out[..shape.len() - 1].iter().product::<usize>();
    for (what, bias, width) in [("mlp: first.bias", first.bias, hidden), ("mlp: second.bias", second.bias, n)] {
        if let Some(bias) = bias {
            bias.data.expect_shape(what, &[width])?;
        }
    }
    if let Some(residual) = residual {
        residual.data.expect_shape("mlp: residual", &out)?;
    }
    // Backward reads x·w₁ᵀ + b₁ for the slope of the activation, so both are kept in one buffer, `before` first.
    // Without a backward pass `activated` alone is written.
    let len = rows * hidden;
    let at = if r.keeps_rules() { len.next_multiple_of(128) } else { 0 }; // a range of f16 begins at a multiple of 128
    let both = Tensor::scratch_of(dtype, "mlp.hidden", &[at + len]);
    let (before, activated) = (both.range(0, &[rows, hidden])?, both.range(at, &[rows, hidden])?);
    let y = Tensor::scratch_of(of_y, "mlp", &out);
    let p = Gemm { epilogue: Epilogue::Activate(act, at), ..Gemm::dense(Form::Nt, 1, rows, hidden, k) };
    gemm(r, &p, &x.data, &first.w.data, Added { bias: first.bias.map(|bias| &bias.data), residual: None }, &both)?;
    let p = Gemm::dense(Form::Nt, 1, rows, n, hidden);
    gemm(
        r,
        &p,
        &activated,
        &second.w.data,
        Added { bias: second.bias.map(|bias| &bias.data), residual: residual.map(|residual| &residual.data) },
        &y,
    )?;

    let operands = (x, first.w, first.bias, second.w, second.bias, residual);
    Ok(r.push(operands, y, move |r, (x, w1, b1, w2, b2, residual), dy, grads| {
        if let Some(residual) = &residual {
            grads.add(r, residual, dy.clone())?;
        }
        let dy = dy.reshape(&[1, rows, n])?;
        parameters(r, grads, &dy, &activated, &w2, b2.as_ref())?;
        let dbefore = Tensor::scratch_of(dtype, "gradient", &[1, rows, hidden]);
        let p = Gemm { epilogue: Epilogue::Slope(act), ..Gemm::dense(Form::Nn, 1, rows, hidden, n) };
        gemm(r, &p, &dy, &w2.data, Added { residual: Some(&before), ..Added::default() }, &dbefore)?;
        parameters(r, grads, &dbefore, &x.data, &w1, b1.as_ref())?;
        input(r, grads, &dbefore, &w1.data, &x)
    }))
}
