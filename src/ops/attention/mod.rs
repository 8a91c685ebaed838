//! attention: self- and cross-attention under a region mask. Maths: `shaders/attention.wgsl`, in f32, and
//! `shaders/attention_coop.wgsl`, on cooperative matrices (tensor cores).
//!
//! Cooperative matrices are used in mixed precision, where the adapter has them. Everywhere else arithmetic is in f32.
//! Operands, results and gradients are all f32 or all f16.

mod call;
mod coop;
mod kernels;
mod options;
mod regions;

pub use kernels::{AttentionMask, MAX_HEAD, tiling};
pub use options::AttentionOptions;
pub use regions::Regions;

use call::{Call, Columns};
use kernels::{BACKWARD_DELTA, BACKWARD_DKV, BACKWARD_DQ, FORWARD, WEIGHTS};

use crate::error::{Error, Result};
use crate::gpu::{Grid, Kernel};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[
    &FORWARD,
    &WEIGHTS,
    &BACKWARD_DELTA,
    &BACKWARD_DQ,
    &BACKWARD_DKV,
    &coop::FORWARD16,
    &coop::DQ16,
    &coop::DKV16,
    &coop::FORWARD8,
    &coop::DQ8,
    &coop::DKV8,
];

/// Multi-head self-attention: softmax(q·kᵀ/√(C/H))·v in each head, under a mask. The L × L scores are never stored.
///
/// qkv is the output of one linear layer, with columns q | k | v. Each of the three has its heads one after the other.
///
/// - Shapes: qkv (B, L, 3C) → (B, L, C), f16 if qkv is f16.
/// - PyTorch: `F.scaled_dot_product_attention(q, k, v, attn_mask)`, with q, k and v (B, H, L, C/H). timm: `Attention`
///   between its `qkv` and its `proj`.
/// - Source: Vaswani et al. 2017; the algorithm: Dao et al. 2022 (FlashAttention).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::ops::attention::{AttentionOptions, self_attention};
/// # use rowscan::{doctest::assert_close, tape::*, tensor::Tensor};
/// let ln3 = 3f32.ln(); // exp of the scores: 1 for the first key, 3 for the second
/// let qkv = Var::leaf(Tensor::from_slice(g, &[1, 2, 3], &[1.0, 0.0, 0.0, 1.0, ln3, 4.0])?);
/// let mut r = Recorder::inference(g);
/// let y = self_attention(&mut r, &qkv, AttentionOptions::heads(1))?;
/// r.run()?;
/// assert_close(&y.data.to_vec(g)?, &[3.0, 3.0], 1e-5); // ¼·0 + ¾·4
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If the number of heads does not divide C, if a head is larger than [`MAX_HEAD`] or, in f16, no multiple of 4, or if
/// a mask has no regions or regions of another number of tokens.
pub fn self_attention(r: &mut Recorder, qkv: &Var, options: AttentionOptions<'_>) -> Result<Var> {
    let [b, l, columns] = qkv.data.dims("attention: qkv")?;
    let c = columns / 3;
    if columns % 3 != 0 {
        return Err(Error::argument("attention: columns of qkv", columns, "a multiple of 3"));
    }
    let columns = Columns { q_row: 3 * c, kv_row: 3 * c, k: c, v: 2 * c };
    let call = Call::new(r, [b, l, l, c], columns, options, &qkv.data, &qkv.data)?.in_precision(r);
    let (out, lse) = call.forward(r)?;
    Ok(r.push(qkv, out.clone(), move |r, qkv, dout, grads| {
        let delta = call.delta(r, &out, dout)?;
        let dqkv = grads.alloc(&qkv);
        call.backward(r, &call.path.dq, call.p.lq, [&lse, &delta, dout], &dqkv)?;
        call.backward(r, &call.path.dkv, call.p.lk, [&lse, &delta, dout], &dqkv)?;
        grads.add(r, &qkv, dqkv)
    }))
}

/// Multi-head cross-attention: softmax(q·kᵀ/√(C/H))·v in each head, under a mask, with q from other tokens than k and
/// v.
///
/// kv is the output of one linear layer, with columns k | v. q, k and v have their heads one after the other.
///
/// - Shapes: q (B, Lq, C), kv (B, Lk, 2C) → (B, Lq, C), f16 if q and kv are f16. A mask needs Lq = Lk.
/// - PyTorch: `F.scaled_dot_product_attention(q, k, v, attn_mask)`, with q, k and v (B, H, L, C/H).
/// - Source: Vaswani et al. 2017; the algorithm: Dao et al. 2022 (FlashAttention).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::ops::attention::{AttentionMask, AttentionOptions, Regions, cross_attention};
/// # use rowscan::{doctest::assert_close, tape::*, tensor::Tensor};
/// let q = Var::leaf(Tensor::from_slice(g, &[1, 2, 1], &[0.0, 0.0])?); // equal weights
/// let kv = Var::leaf(Tensor::from_slice(g, &[1, 2, 2], &[0.0, 1.0, 0.0, 3.0])?); // v = 1, 3
/// let regions = Regions::tokens(g, 2)?;
/// let causal = AttentionOptions { heads: 1, mask: AttentionMask::RegionCausal, regions: Some(&regions) };
/// let mut r = Recorder::inference(g);
/// let y = cross_attention(&mut r, &q, &kv, causal)?;
/// r.run()?;
/// assert_close(&y.data.to_vec(g)?, &[1.0, 2.0], 1e-5); // the first token sees only itself
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// Those of [`self_attention`].
pub fn cross_attention(r: &mut Recorder, q: &Var, kv: &Var, options: AttentionOptions<'_>) -> Result<Var> {
    let call = Call::cross(r, &q.data, &kv.data, options)?.in_precision(r);
    let (out, lse) = call.forward(r)?;
    Ok(r.push((q, kv), out.clone(), move |r, (q, kv), dout, grads| {
        if !grads.wants(&q) && !grads.wants(&kv) {
            return Ok(());
        }
        let delta = call.delta(r, &out, dout)?;
        if grads.wants(&q) {
            let dq = grads.alloc(&q);
            call.backward(r, &call.path.dq, call.p.lq, [&lse, &delta, dout], &dq)?;
            grads.add(r, &q, dq)?;
        }
        if grads.wants(&kv) {
            let dkv = grads.alloc(&kv);
            call.backward(r, &call.path.dkv, call.p.lk, [&lse, &delta, dout], &dkv)?;
            grads.add(r, &kv, dkv)?;
        }
        Ok(())
    }))
}

/// The attention weights of [`cross_attention`], for pictures of them: softmax(q·kᵀ/√(C/H)) under the mask.
///
/// They have no gradient, and are always computed in f32.
///
/// - Shapes: q (B, Lq, C), kv (B, Lk, 2C) → (B, H, Lq, Lk).
/// - PyTorch: `nn.MultiheadAttention` with `need_weights=True, average_attn_weights=False`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::attention::{AttentionOptions, weights}, tape::*, tensor::Tensor};
/// let q = Tensor::from_slice(g, &[1, 1, 1], &[1.0])?;
/// let kv = Tensor::from_slice(g, &[1, 2, 2], &[0.0, 0.0, 3f32.ln(), 0.0])?; // k = 0, ln 3
/// let mut r = Recorder::inference(g);
/// let probs = weights(&mut r, &q, &kv, AttentionOptions::heads(1))?;
/// r.run()?;
/// assert_close(&probs.to_vec(g)?, &[0.25, 0.75], 1e-5);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// Those of [`self_attention`].
pub fn weights(r: &mut Recorder, q: &Tensor, kv: &Tensor, options: AttentionOptions<'_>) -> Result<Tensor> {
    let call = Call::cross(r, q, kv, options)?;
    let (_, lse) = call.forward(r)?;
    let [b, lq, _] = call.shape;
    let probs = Tensor::scratch("attention weights", &[b, options.heads, lq, call.p.lk as usize]);
    let consts = tiling(r.caps().software, call.dh, false);
    let args = [Some(q), Some(kv), call.table.as_ref(), Some(&lse), Some(&probs)];
    r.launch_with(&WEIGHTS, &consts, Grid::items(probs.len(), 64), &call.p, &args)?;
    Ok(probs)
}
