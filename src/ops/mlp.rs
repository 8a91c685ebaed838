//! mlp: two linear layers with an activation between, as products with epilogues. Maths: `shaders/matmul.wgsl`.

use super::matmul::{Act, Epilogue, Form, Gemm, gemm, input, parameters};
use crate::error::{Error, Result};
use crate::gpu::DType;
use crate::ops::matmul::Added;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// A linear layer: w (N, K), bias (N).
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the line above says what each is")]
pub struct Layer<'a> {
    pub w: &'a Var,
    pub bias: Option<&'a Var>,
}

/// What is between the layers of an MLP, and what is added to it.
#[derive(Debug, Clone, Copy)]
pub struct MlpOptions<'a> {
    /// The activation.
    pub act: Act,
    /// Added to the result: (.., N).
    pub residual: Option<&'a Var>,
    /// Type in which the hidden layer is stored. f16 gives the same result in mixed precision, where products round
    /// what they read; H has to be a multiple of 4 then.
    pub hidden: DType,
}

impl MlpOptions<'_> {
    /// This activation, nothing added, f32.
    pub const fn act(act: Act) -> Self {
        Self { act, residual: None, hidden: DType::F32 }
    }
}

/// y = act(x·w₁ᵀ + b₁)·w₂ᵀ + b₂ (+ residual): x (.., K), first (H, K), second (N, H) -> y (.., N). PyTorch:
/// `F.linear(act(F.linear(x, w1, b1)), w2, b2) + residual`.
pub fn mlp(r: &mut Recorder, x: &Var, first: Layer, second: Layer, options: MlpOptions<'_>) -> Result<Var> {
    let MlpOptions { act, residual, hidden: dtype } = options;
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
    // the slope of the activation needs what was activated; without a backward pass nobody does
    let len = rows * hidden;
    let at = if r.keeps_rules() { len.next_multiple_of(128) } else { 0 }; // where ranges may start
    let both = Tensor::scratch_of(dtype, "mlp.hidden", &[at + len]);
    let (before, activated) = (both.range(0, &[rows, hidden])?, both.range(at, &[rows, hidden])?);
    let y = Tensor::scratch("mlp", &out);
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
