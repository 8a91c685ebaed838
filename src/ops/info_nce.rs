//! info_nce: launchers and tape rule of the contrastive loss, and its queue. Maths: `shaders/info_nce.wgsl`.

use super::matmul::{Form, Gemm, gemm};
use super::norm::{ROW_WORKGROUPS, row_workgroup};
use crate::error::{Error, Result};
use crate::gpu::{Const, Grid, Kernel, params, read, update, wgsl, write};
use crate::ops::matmul::Added;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `info_nce.wgsl`.
    pub struct InfoNce { b: u32, k: u32, d: u32, rate: f32 }
}

const SRC: &str = wgsl!("info_nce", "grid", "reduce", "step");
const SUBGROUP: &str = wgsl!("info_nce", "grid", "reduce_subgroup", "step");
const CONSTS: &[Const] = &[Const::of("WG", ROW_WORKGROUPS)];

const FORWARD: Kernel = Kernel::new::<InfoNce>(
    "info_nce.forward",
    SRC,
    &[read(1, "q"), read(2, "key"), read(3, "dots"), write(4, "stat"), write(5, "loss")],
)
.subgroup(SUBGROUP)
.consts(CONSTS);
const BACKWARD_DOTS: Kernel = Kernel::new::<InfoNce>(
    "info_nce.backward_dots",
    SRC,
    &[read(3, "dots"), read(6, "saved_stat"), read(7, "dloss"), write(8, "ddots")],
)
.consts(CONSTS);
const BACKWARD_POS: Kernel = Kernel::new::<InfoNce>(
    "info_nce.backward_pos",
    SRC,
    &[read(2, "key"), read(6, "saved_stat"), read(7, "dloss"), write(9, "dpos")],
)
.consts(CONSTS);
const ENQUEUE: Kernel =
    Kernel::new::<InfoNce>("info_nce.enqueue", SRC, &[read(2, "key"), read(10, "state").words(), update(11, "queue")])
        .consts(CONSTS);

/// The kernels of this family.
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD_DOTS, &BACKWARD_POS, &ENQUEUE];

/// The loss of each row, a share of the mean: queries (B, D) against their keys (B, D) and all of `queue` (K, D) ->
/// (B). The queue is read again by the rule: [`enqueue`] comes after backward.
pub fn info_nce(r: &mut Recorder, q: &Var, keys: &Tensor, queue: &Tensor, temperature: f32) -> Result<Var> {
    let ([b, d], [k, _]) = (q.data.dims("info_nce: q")?, queue.dims("info_nce: queue")?);
    keys.expect_shape("info_nce: keys", &[b, d])?;
    queue.expect_shape("info_nce: queue", &[k, d])?;
    if !(temperature > 0.0 && temperature.is_finite()) {
        return Err(Error::argument("info_nce: temperature", temperature, "a number above 0"));
    }
    let dots = Tensor::scratch("dots", &[b, k]);
    gemm(r, &Gemm::dense(Form::Nt, 1, b, k, d), &q.data, queue, Added::default(), &dots)?;
    let (loss, stat) = (Tensor::scratch("loss", &[b]), Tensor::scratch("softmax statistics", &[b, 4]));
    let p = InfoNce { b: b as u32, k: k as u32, d: d as u32, rate: temperature.recip() };
    let consts = [("WG", row_workgroup(r.caps(), k) as u32)];
    r.launch_with(&FORWARD, &consts, Grid::rows(b), &p, &[&q.data, keys, &dots, &stat, &loss])?;
    let (keys, queue) = (keys.clone(), queue.clone());
    Ok(r.push(q, loss, move |r, q, dloss, grads| {
        let (ddots, dpos) = (Tensor::scratch("ddots", &[b, k]), Tensor::scratch("dpos", &[b, d]));
        r.launch(&BACKWARD_DOTS, Grid::items(b * k, 256), &p, &[&dots, &stat, dloss, &ddots])?;
        r.launch(&BACKWARD_POS, Grid::items(b * d, 256), &p, &[&keys, &stat, dloss, &dpos])?;
        let dq = grads.alloc(&q);
        gemm(
            r,
            &Gemm::dense(Form::Nn, 1, b, d, k),
            &ddots,
            &queue,
            Added { residual: Some(&dpos), ..Added::default() },
            &dq,
        )?;
        grads.add(r, &q, dq)
    }))
}

/// Replaces the oldest B rows of `queue` (K, D) by `keys` (B, D); K is a multiple of B. `state` is the
/// [`StepState`](super::step::StepState), whose step says which are the oldest.
pub fn enqueue(r: &mut Recorder, state: &Tensor, keys: &Tensor, queue: &Tensor) -> Result<()> {
    let ([b, d], [k, _]) = (keys.dims("enqueue: keys")?, queue.dims("enqueue: queue")?);
    state.expect_shape("enqueue: state", &[8])?;
    queue.expect_shape("enqueue: queue", &[k, d])?;
    if b == 0 || !k.is_multiple_of(b) {
        return Err(Error::argument("rows of the queue", k, format!("a multiple of the {b} keys of a step")));
    }
    let p = InfoNce { b: b as u32, k: k as u32, d: d as u32, rate: 0.0 };
    r.launch(&ENQUEUE, Grid::items(b * d, 256), &p, &[keys, state, queue])
}
