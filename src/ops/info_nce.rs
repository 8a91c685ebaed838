//! info_nce: the contrastive loss of MoCo, and its queue of negatives. Maths: `shaders/info_nce.wgsl`.

use super::matmul::{Form, Gemm, gemm};
use super::norm::{ROW_WORKGROUPS, row_consts};
use super::step::StepState;
use crate::error::{Error, Result};
use crate::gpu::{Const, Grid, Kernel, params, read, scalars, update, wgsl, write};
use crate::ops::matmul::Added;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `info_nce.wgsl`.
    pub(crate) struct InfoNce { b: u32, k: u32, d: u32, rate: f32 }
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
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD_DOTS, &BACKWARD_POS, &ENQUEUE];

/// InfoNCE: cross-entropy of finding a query's own key among the keys of `queue`, as the share of each row in the mean
/// loss.
///
/// The sum of the result is the mean over rows, because each row is divided by B. Keys and queue get no gradient. The
/// backward pass reads the queue again, so [`enqueue`] must come after it.
///
/// - Shapes: q (B, D), `keys` (B, D), `queue` (K, D) → (B).
/// - MoCo: `F.cross_entropy(torch.cat([l_pos, l_neg], dim=1) / T, zeros)`, with l_pos = q·key and l_neg = q·queueᵀ,
///   before the sum over rows.
/// - Source: van den Oord et al. 2018; the queue: He et al. 2020 (MoCo).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::info_nce::info_nce, tape::*, tensor::Tensor};
/// let q = Var::leaf(Tensor::from_slice(g, &[1, 2], &[1.0, 0.0])?);
/// let keys = Tensor::from_slice(g, &[1, 2], &[1.0, 0.0])?; // q·key = 1
/// let queue = Tensor::from_slice(g, &[1, 2], &[0.0, 1.0])?; // q·queue = 0
/// let mut r = Recorder::inference(g);
/// let loss = info_nce(&mut r, &q, &keys, &queue, 0.5)?;
/// r.run()?;
/// assert_close(&loss.data.to_vec(g)?, &[0.1269], 1e-4); // ln(1 + exp(-1/0.5))
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If the temperature is not above 0.
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
    let p = scalars!(InfoNce { b, k, d, rate: temperature.recip() });
    let consts = row_consts(r.caps(), k);
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

/// Replaces the oldest B rows of `queue` by `keys`: first in, first out.
///
/// The place follows from the step t in `state`, a [`StepState`]: keys go to rows
/// (t − 1)·B mod K and following. So no pointer has to be kept.
///
/// - Shapes: `state` (8), `keys` (B, D), `queue` (K, D).
/// - MoCo: `self._dequeue_and_enqueue(keys)`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::{info_nce::enqueue, step::StepState}, tape::*, tensor::Tensor};
/// let queue = Tensor::from_slice(g, &[4, 1], &[1.0, 2.0, 3.0, 4.0])?;
/// let keys = Tensor::from_slice(g, &[2, 1], &[10.0, 20.0])?;
/// let state = StepState::tensor();
/// StepState::new(2, 0.0, (0.9, 0.999), 0).write(g, &state)?; // step 2: rows 0 and 1 are newer
/// let mut r = Recorder::inference(g);
/// enqueue(&mut r, &state, &keys, &queue)?;
/// r.run()?;
/// assert_eq!(queue.to_vec(g)?, [1.0, 2.0, 10.0, 20.0]);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If K is no multiple of B.
pub fn enqueue(r: &mut Recorder, state: &Tensor, keys: &Tensor, queue: &Tensor) -> Result<()> {
    let ([b, d], [k, _]) = (keys.dims("enqueue: keys")?, queue.dims("enqueue: queue")?);
    state.expect_shape("enqueue: state", &[StepState::LEN])?;
    queue.expect_shape("enqueue: queue", &[k, d])?;
    if b == 0 || !k.is_multiple_of(b) {
        return Err(Error::argument("rows of the queue", k, format!("a multiple of the {b} keys of a step")));
    }
    let p = scalars!(InfoNce { b, k, d, rate: 0.0 });
    r.launch(&ENQUEUE, Grid::items(b * d, 256), &p, &[keys, state, queue])
}
