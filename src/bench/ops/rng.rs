//! rng: the random numbers of a training step.

use crate::bench::ops::*;
use crate::tensor::Tensor;
use cpu::rng as oracle;
use ops::rng;
use ops::step::StepState;

/// Layers of a model, which are the rows of its DropPath factors.
const LAYERS: usize = 32;
const STEP: u32 = 5;
const SEED: u32 = 7;
const STREAM: u32 = 2;
/// Whole numbers are drawn below this: the steps of a noise schedule.
const BELOW: u32 = 1000;

fn state(x: &Fill) -> Result<Tensor> {
    let state = StepState::tensor();
    StepState::new(STEP, 1.0, (0.9, 0.95), SEED.into()).write(x.g, &state)?;
    Ok(state)
}

/// Random word `i` of the stream.
fn word(i: usize) -> u32 {
    oracle::philox([(i / 4) as u32, STREAM, STEP, 0], [SEED, 0])[i % 4]
}

fn uniform(v: &Values) -> Vec<f64> {
    v.picked.iter().map(|&i| oracle::uniform(word(i))).collect()
}

fn normal(v: &Values) -> Vec<f64> {
    v.picked.iter().map(|&i| oracle::normal([word(i / 2 * 2), word(i / 2 * 2 + 1)])[i % 2]).collect()
}

pub fn cases(c: &mut Cases) {
    for n in [1 << 16, if c.scope.quick { 1 << 20 } else { 1 << 26 }] {
        let floor = Floor::bytes(4 * n);
        let case = c.case(format!("uniform {n}")).floor(floor);
        case.check(4096, "numbers", |v| Ok(vec![want("uniform", uniform(v), Tol::EXACT)]))
            .launches(move |r, x| Ok(vec![result("uniform", Axis(0), rng::uniform(r, &state(x)?, STREAM, &[n])?)]));
        let case = c.case(format!("normal {n}")).floor(floor);
        // WGSL allows sin and cos an error of 2⁻¹¹, which is multiplied by a radius of up to 5.8
        let tol = Tol { rel: 0.0, abs: 3e-3 };
        case.check(4096, "numbers", move |v| Ok(vec![want("normal", normal(v), tol)]))
            .launches(move |r, x| Ok(vec![result("normal", Axis(0), rng::normal(r, &state(x)?, STREAM, &[n])?)]));
    }
    for n in [1 << 16, if c.scope.quick { 1 << 20 } else { 1 << 26 }] {
        let floor = Floor::bytes(4 * n);
        let case = c.case(format!("words {n}")).floor(floor);
        case.check(4096, "numbers", |v| Ok(vec![words("words", v.picked.iter().map(|&i| word(i)))]))
            .launches(move |r, x| Ok(vec![result("words", Axis(0), rng::words(r, &state(x)?, STREAM, &[n])?)]));
        let case = c.case(format!("below {BELOW} {n}")).floor(floor);
        let below = |v: &Values| words("below", v.picked.iter().map(|&i| oracle::below(word(i), BELOW)));
        case.check(4096, "numbers", move |v| Ok(vec![below(v)]))
            .launches(move |r, x| Ok(vec![result("below", Axis(0), rng::below(r, &state(x)?, STREAM, BELOW, &[n])?)]));
    }
    let case = c.case(format!("drop_path {LAYERS}x128")).floor(Floor::bytes(4 * LAYERS * 128));
    case.check(LAYERS * 128, "factors", |v| {
        let drop = v.get("drop")?;
        let factors = (0..LAYERS * 128).map(|i| oracle::drop_path(word(i), drop[i / 128])).collect();
        Ok(vec![want("drop_path", factors, Tol { rel: 1e-6, abs: 0.0 })])
    })
    .launches(|r, x| {
        let drop = x.uniform("drop", Whole, &[LAYERS])?;
        Ok(vec![result("drop_path", Whole, rng::drop_path(r, &state(x)?, STREAM, &drop, LAYERS, 128, 128)?)])
    });
}
