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

fn launch(r: &mut Recorder, x: &Fill, n: usize, clip: Option<f32>) -> Result<Vec<Out>> {
    let named = |name| x.normal(name, Axis(0), &[n]);
    let (p, grad, m, v) = (named("p")?, named("grad")?, named("m")?, x.uniform("v", Axis(0), &[n])?);
    let groups = Tensor::from_indices(x.g, &[n / BLOCK], &vec![0; n / BLOCK])?;
    let (state, table) = (StepState::tensor(), Tensor::from_slice(x.g, &[1, 2], &[1.0, DECAY])?);
    StepState::new(STEP, LR, HYPER.betas, 0).write(x.g, &state)?;
    let clip = clip.map(|norm| adamw::clip_factor(r, &[&grad], norm)).transpose()?;
    let arrays = AdamwArrays { p: &p, grad: &grad, m: &m, v: &v };
    adamw::adamw(r, &state, arrays, &groups, &table, clip.as_ref().map_or(Factor::One, Factor::Clipped), HYPER)?;
    Ok(vec![result("p", Axis(0), p), result("m", Axis(0), m), result("v", Axis(0), v)])
}

fn expect(v: &Values, clip: Option<f64>) -> Result<Vec<Want>> {
    let grad = v.get("grad")?;
    let clip = clip.map_or(1.0, |norm| clip_factor(global_norm(grad), norm));
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

pub fn cases(c: &mut Cases) {
    let n = 31 * BLOCK;
    c.case("clipped small")
        .check(n, "parameters", |v| expect(v, Some(1.0)))
        .launches(move |r, x| launch(r, x, n, Some(1.0)));
    for (model, n) in c.scope.parameters() {
        let hyper = serde_json::json!({
            "lr": LR, "betas": [HYPER.betas.0, HYPER.betas.1], "eps": HYPER.eps, "weight_decay": DECAY, "step": STEP,
        });
        let case = c.case(format!("step {model}")).fact("hyper", hyper).floor(Floor::bytes(28 * n));
        case.check(8192, "parameters", |v| expect(v, None)).launches(move |r, x| launch(r, x, n, None));
        let case = c.case(format!("clip {model}")).floor(Floor::bytes(4 * n));
        case.check(n, "parameters", expect_norm).launches(move |r, x| {
            let grad = x.normal("grad", Axis(0), &[n])?;
            Ok(vec![result("clip", Whole, adamw::clip_factor(r, &[&grad], 1.0)?)])
        });
    }
}
