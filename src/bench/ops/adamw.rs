//! adamw: an optimizer step over all parameters, and the gradient norm for clipping.

use crate::bench::case::Out;
use crate::bench::ops::*;
use crate::tape::Recorder;
use crate::tensor::Tensor;
use cpu::adamw::{Config, State, clip_factor, global_norm, step};
use ops::adamw;
use ops::adamw::{AdamwArrays, AdamwConfig, BLOCK, Factor};
use ops::step::StepState;

const HYPER: AdamwConfig = AdamwConfig { betas: (0.9, 0.95), eps: 1e-8 };
const LR: f32 = 0.01;
const DECAY: f32 = 0.05;
const STEP: u32 = 3;
/// Parameter groups of a model of 32 layers: with and without decay.
const GROUPS: usize = 2 * 34;

/// What is done to the gradients before the step.
#[derive(Clone, Copy, PartialEq)]
enum Before {
    Nothing,
    /// Clipping to a global norm of 1.
    Clip,
    /// Loss scaling: the gradients are [`SCALE`] times too large, and there is no step without overflow before.
    Unscale,
}

const SCALE: f32 = 65536.0;

fn launch(r: &mut Recorder, x: &Fill, n: usize, before: Before) -> Result<Vec<Out>> {
    let named = |name| x.normal(name, Axis(0), &[n]);
    let (p, grad, m, v) = (named("p")?, named("grad")?, named("m")?, x.uniform("v", Axis(0), &[n])?);
    let groups = Tensor::from_indices(x.g, &[n / BLOCK], &vec![0; n / BLOCK])?;
    let (state, table) = (StepState::tensor(), Tensor::from_slice(x.g, &[1, 2], &[1.0, DECAY])?);
    StepState::new(STEP, LR, HYPER.betas, 0).write(x.g, &state)?;
    let arrays = AdamwArrays { p: &p, grad: &grad, m: &m, v: &v };
    let clip;
    let factor = match before {
        Before::Nothing => Factor::One,
        Before::Clip => {
            clip = adamw::clip_factor(r, &[&grad], 1.0)?;
            Factor::Clipped(&clip)
        }
        Before::Unscale => {
            let correction = |beta: f64| (1.0 - beta.powi(STEP as i32)) as f32;
            let judged = [1.0 / SCALE, 1.0, correction(HYPER.betas.0), correction(HYPER.betas.1)];
            clip = Tensor::from_slice(x.g, &[4], &judged)?;
            Factor::Scaled(&clip)
        }
    };
    adamw::adamw(r, &state, arrays, &groups, &table, factor, HYPER)?;
    Ok(vec![result("p", Axis(0), p), result("m", Axis(0), m), result("v", Axis(0), v)])
}

fn expect(v: &Values, before: Before) -> Result<Vec<Want>> {
    let grad = v.get("grad")?;
    let clip = match before {
        Before::Nothing => 1.0,
        Before::Clip => clip_factor(global_norm(grad), 1.0),
        Before::Unscale => 1.0 / f64::from(SCALE),
    };
    let old = State { p: v.get("p")?.to_vec(), m: v.get("m")?.to_vec(), v: v.get("v")?.to_vec() };
    let config = Config { lr: LR.into(), betas: HYPER.betas, eps: HYPER.eps.into(), step: STEP, clip };
    let new = step(config, &old, grad, &vec![DECAY.into(); grad.len()]);
    // a few rounding errors of numbers as large as the results
    let tol = Tol { rel: 4e-6, abs: 1e-6 };
    Ok(vec![want("p", new.p, tol), want("m", new.m, tol), want("v", new.v, tol)])
}

fn expect_norm(v: &Values) -> Result<Vec<Want>> {
    let norm = global_norm(v.get("grad")?);
    Ok(vec![near("clip", vec![clip_factor(norm, 1.0), norm], 4e-6)])
}

/// A guard leaves the rows of a table alone, or sets every factor on the learning rate to 0.
fn guard(c: &mut Cases, name: &str, loss: f32) {
    let (table, frozen) = ([1.0, DECAY].repeat(GROUPS), [0.0, DECAY].repeat(GROUPS));
    let after = if loss.is_finite() { table.clone() } else { frozen };
    let after: Vec<f64> = after.into_iter().map(f64::from).collect();
    let case = c.case(format!("{name} {GROUPS}")).floor(Floor::bytes(4));
    case.check(1, "tables", move |_| Ok(vec![want("table", after.clone(), Tol::EXACT)])).launches(move |r, x| {
        let x_table = x.values("table", Whole, &[GROUPS, 2], &table)?;
        adamw::guard(r, &Tensor::from_slice(x.g, &[1], &[loss])?, &x_table)?;
        Ok(vec![result("table", Whole, x_table)])
    });
}

pub fn cases(c: &mut Cases) {
    let n = 31 * BLOCK;
    c.case("clipped small")
        .check(n, "parameters", |v| expect(v, Before::Clip))
        .launches(move |r, x| launch(r, x, n, Before::Clip));
    guard(c, "guard finite", 2.5);
    guard(c, "guard NaN", f32::NAN);
    for (model, n) in c.scope.parameters() {
        for (name, before) in
            [("step", Before::Nothing), ("clipped step", Before::Clip), ("scaled step", Before::Unscale)]
        {
            let max_norm = (before == Before::Clip).then_some(1.0);
            let scale = (before == Before::Unscale).then_some(SCALE);
            let hyper = serde_json::json!({
                "lr": LR, "betas": [HYPER.betas.0, HYPER.betas.1], "eps": HYPER.eps, "weight_decay": DECAY,
                "step": STEP, "max_norm": max_norm, "scale": scale,
            });
            // clipping reads the gradients once more, and its norm is a sum over all of them
            let (bytes, count) = if before == Before::Clip { (32, n) } else { (28, 8192) };
            let case = c.case(format!("{name} {model}")).fact("hyper", hyper).floor(Floor::bytes(bytes * n));
            case.check(count, "parameters", move |v| expect(v, before)).launches(move |r, x| launch(r, x, n, before));
        }
        let case = c.case(format!("clip {model}")).floor(Floor::bytes(4 * n));
        case.check(n, "parameters", expect_norm).launches(move |r, x| {
            let grad = x.normal("grad", Axis(0), &[n])?;
            Ok(vec![result("clip", Whole, adamw::clip_factor(r, &[&grad], 1.0)?)])
        });
    }
}
