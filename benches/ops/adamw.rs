//! adamw: a step over all parameters, and the norm that clips their gradients.

use rowscan::cpu::adamw::{Config, State, clip_factor, global_norm, step};
use rowscan::ops::adamw::{self, AdamwArrays, AdamwConfig, BLOCK};
use rowscan::ops::step::StepState;

use super::*;

const BETAS: (f64, f64) = (0.9, 0.95);

fn validate(g: &Gpu) {
    let n = 31 * BLOCK;
    let mut random = Random::new(1);
    let [p, grad, m] = [(); 3].map(|()| random.normal(n));
    let v = random.uniform(n, 0.0, 1.0);
    let attempt = || -> Result<_> {
        let [on, d, m, v] = [&p, &grad, &m, &v].map(|values| Tensor::from_slice(g, &[n], values));
        let (on, d, m, v) = (on?, d?, m?, v?);
        let groups = Tensor::from_indices(g, &[n / BLOCK], &vec![0; n / BLOCK])?;
        let (state, table) = (StepState::tensor(), Tensor::from_slice(g, &[1, 2], &[1.0, 0.05])?);
        StepState::new(3, 0.01, BETAS, 0).write(g, &state)?;
        let clip = adamw::clip_factor(g, &[&d], 1.0)?;
        let (arrays, hyper) = (AdamwArrays { p: &on, grad: &d, m: &m, v: &v }, AdamwConfig { betas: BETAS, eps: 1e-8 });
        adamw::adamw(g, &state, arrays, &groups, &table, Some(&clip), hyper)?;
        Ok([on.to_vec(g)?, m.to_vec(g)?, v.to_vec(g)?])
    };
    let got = attempt().unwrap_or_else(|e| panic!("{e}"));
    let clip = clip_factor(global_norm(&wide(&grad)), 1.0);
    let config = Config { lr: 0.01f32.into(), betas: BETAS, eps: 1e-8, step: 3, clip };
    let old = State { p: wide(&p), m: wide(&m), v: wide(&v) };
    let want = step(config, &old, &wide(&grad), &vec![0.05f32.into(); n]);
    // a few roundings of numbers near their own size
    let tol = Tol { rel: 4e-6, abs: 1e-6 };
    [want.p, want.m, want.v].iter().zip(&got).for_each(|(want, got)| close("p, m, v", got, want, tol));
}

pub fn bench(b: &mut Bench) {
    b.family("adamw", validate);
    // the backbones' parameters in millions
    let models = if b.full { &[("tiny", 9), ("small", 34), ("base", 134)][..] } else { &[("tiny/9", 1)] };
    for &(model, millions) in models {
        let n = millions * 1_000_000usize.next_multiple_of(BLOCK);
        b.launches(&format!("step {model}"), Floor::bytes(28 * n), |x| {
            let (p, grad, m, v) = (x.normal(&[n])?, x.normal(&[n])?, x.normal(&[n])?, x.uniform(&[n])?);
            let groups = Tensor::from_indices(x.g, &[n / BLOCK], &vec![0; n / BLOCK])?;
            let (state, table) = (StepState::tensor(), Tensor::from_slice(x.g, &[1, 2], &[1.0, 0.05])?);
            StepState::new(3, 1e-6, BETAS, 0).write(x.g, &state)?;
            let arrays = AdamwArrays { p: &p, grad: &grad, m: &m, v: &v };
            adamw::adamw(x.g, &state, arrays, &groups, &table, None, AdamwConfig::default())
        });
        b.launches(&format!("clip {model}"), Floor::bytes(4 * n), |x| {
            adamw::clip_factor(x.g, &[&x.normal(&[n])?], 1.0)
        });
    }
}
