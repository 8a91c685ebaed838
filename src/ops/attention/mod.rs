//! attention: launchers and tape rules of self- and cross-attention under a region mask. Maths:
//! `shaders/attention.wgsl`, and on cooperative matrices, in mixed precision where the adapter has them,
//! `shaders/attention_coop.wgsl`. Elsewhere, and in every other precision, attention is computed in f32. What it reads
//! and writes may be f16: all of it, or none.

mod call;
mod coop;
mod kernels;
mod options;
mod regions;

pub use kernels::{Attention, AttentionMask, MAX_HEAD, tiling};
pub use options::AttentionOptions;
pub use regions::Regions;

use call::{Call, Columns};
use kernels::{BACKWARD_DELTA, BACKWARD_DKV, BACKWARD_DQ, FORWARD, WEIGHTS};

use crate::error::{Error, Result};
use crate::gpu::{Grid, Kernel};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// The kernels of this family.
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

/// Softmax attention of tokens over themselves: qkv (B, L, 3C), columns q | k | v, each head-major -> (B, L, C).
pub fn self_attention(r: &mut Recorder, qkv: &Var, options: AttentionOptions<'_>) -> Result<Var> {
    let [b, l, columns] = qkv.data.dims("attention: qkv")?;
    let c = columns / 3;
    if columns % 3 != 0 {
        return Err(Error::argument("attention: columns of qkv", columns, "a multiple of 3"));
    }
    let columns = Columns { q_row: 3 * c, kv_row: 3 * c, k: c, v: 2 * c };
    let call = Call::new([b, l, l, c], columns, options, &qkv.data, &qkv.data)?.in_precision(r);
    let (out, lse) = call.forward(r)?;
    Ok(r.push(qkv, out.clone(), move |r, qkv, dout, grads| {
        let delta = call.delta(r, &out, dout)?;
        let dqkv = grads.alloc(&qkv);
        call.backward(r, &call.path.dq, call.p.lq, [&lse, &delta, dout], &dqkv)?;
        call.backward(r, &call.path.dkv, call.p.lk, [&lse, &delta, dout], &dqkv)?;
        grads.add(r, &qkv, dqkv)
    }))
}

/// Softmax attention of tokens over others: q (B, Lq, C), kv (B, Lk, 2C), columns k | v, each head-major -> (B, Lq, C).
/// Under a mask Lq = Lk.
pub fn cross_attention(r: &mut Recorder, q: &Var, kv: &Var, options: AttentionOptions<'_>) -> Result<Var> {
    let call = Call::cross(&q.data, &kv.data, options)?.in_precision(r);
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

/// The weights (B, H, Lq, Lk) with which [`cross_attention`] averages values, to look at: without a gradient, f32
/// always.
pub fn weights(r: &mut Recorder, q: &Tensor, kv: &Tensor, options: AttentionOptions<'_>) -> Result<Tensor> {
    let call = Call::cross(q, kv, options)?;
    let (_, lse) = call.forward(r)?;
    let [b, lq, _] = call.shape;
    let probs = Tensor::scratch("attention weights", &[b, options.heads, lq, call.p.lk as usize]);
    let consts = tiling(call.dh, false);
    let args = [Some(q), Some(kv), call.table.as_ref(), Some(&lse), Some(&probs)];
    r.launch_with(&WEIGHTS, &consts, Grid::items(probs.len(), 64), &call.p, &args)?;
    Ok(probs)
}
