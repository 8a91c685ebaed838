//! info_nce: a batch of queries against the queue of MoCo.

use crate::bench::ops::*;
use cpu::info_nce::{Dims, backward, enqueue, forward};
use ops::step::StepState;

/// Dot products of normal vectors divided by this are about as large as those of unit vectors at MoCo's temperature.
const TEMPERATURE: f32 = 20.0;
/// The step that enqueues: its keys go to the third batch of rows.
const STEP: u32 = 3;

fn expect(v: &Values, precision: Precision) -> Result<Vec<Want>> {
    let ([b, d], [k, _]) = (v.shape("q")?, v.shape("queue")?);
    let (dim, share, t) = (Dims { b, k, d }, b as f64 / v.samples as f64, f64::from(TEMPERATURE));
    let (q, keys, queue) = (v.get("q")?, v.get("keys")?, v.get("queue")?);
    // the oracle averages over the compared samples, the kernel over all: scale its results to all
    let loss = forward(dim, q, keys, queue, t).iter().map(|row| row * share).collect();
    let dq = backward(dim, q, keys, queue, t, v.get("dloss")?).iter().map(|d| d * share).collect();
    // logits are dot products of 128 numbers, and many exps are summed in a tree. With f16 operands a logit of 5 has an
    // error of 2⁻⁹
    let [loss_share, dq_share] = if precision == Precision::Mixed { [1e-3, 1e-2] } else { [1e-5, 4e-5] };
    Ok(vec![near("loss", loss, loss_share), near("dq", dq, dq_share)])
}

pub fn cases(c: &mut Cases) {
    let precision = c.scope.precision;
    let (b, k, d) = (c.scope.batch(), if c.scope.quick { 4096 } else { 65_536 }, 128);
    // a queue of 512 batches; keys are read and written
    let rows = 512 * b;
    c.case(format!("enqueue {b}of{rows}"))
        .floor(Floor::bytes(8 * b * d))
        .check(1, "queues", move |v| {
            let dim = Dims { b, k: rows, d };
            Ok(vec![want("queue", enqueue(dim, v.get("queue")?, v.get("keys")?, STEP as usize), Tol::EXACT)])
        })
        .launches(move |r, x| {
            let (keys, queue) = (x.normal("keys", Whole, &[b, d])?, x.normal("queue", Whole, &[rows, d])?);
            let state = StepState::tensor();
            StepState::new(STEP, 1.0, (0.9, 0.95), 0).write(x.g, &state)?;
            ops::info_nce::enqueue(r, &state, &keys, &queue)?;
            Ok(vec![result("queue", Whole, queue)])
        });
    // accesses of 4 bytes to each dot product. forward: written, read for the maximum, read for the sum. backward:
    // read, and its gradient written and read
    let floors = [12, 12].map(|bytes| Floor::of(bytes * b * k, 2 * b * k * d, b * k));
    c.case(format!("queue {k}x{b}")).floors(floors).check(4, "images", move |v| expect(v, precision)).op(
        move |r, x| {
            let (q, keys) = (x.leaf("q", Axis(0), &[b, d])?, x.normal("keys", Axis(0), &[b, d])?);
            let queue = x.normal("queue", Whole, &[k, d])?;
            Ok(vec![out("loss", Axis(0), ops::info_nce::info_nce(r, &q, &keys, &queue, TEMPERATURE)?)])
        },
    );
}
