//! rng: the draws of a step.

use rowscan::cpu::rng as oracle;
use rowscan::ops::rng;
use rowscan::ops::step::StepState;

use super::*;

/// Rows of DropPath factors: the layers of a model.
const LAYERS: usize = 32;

fn state(g: &Gpu) -> Result<Tensor> {
    let state = StepState::tensor();
    StepState::new(5, 1.0, (0.9, 0.95), 7).write(g, &state)?;
    Ok(state)
}

fn validate(g: &Gpu) {
    let n = 1031;
    let words: Vec<u32> = (0..258).flat_map(|block| oracle::philox([block, 2, 5, 0], [7, 0])).collect();
    let attempt = || -> Result<_> {
        let state = state(g)?;
        let drop = Tensor::from_slice(g, &[1], &[0.25])?;
        let keep = rng::keep(g, &state, 2, &drop, 1, 1024, 1024)?;
        let draws = (rng::uniform(g, &state, 2, &[n])?, rng::normal(g, &state, 2, &[n])?);
        Ok((draws.0.to_vec(g)?, draws.1.to_vec(g)?, keep.to_vec(g)?))
    };
    let (uniform, normal, keep) = attempt().unwrap_or_else(|e| panic!("{e}"));
    let exact: Vec<f64> = words[..n].iter().map(|&word| oracle::uniform(word)).collect();
    close("uniform", &uniform, &exact, Tol { rel: 0.0, abs: 0.0 });
    let pairs: Vec<f64> = words.chunks_exact(2).flat_map(|pair| oracle::normal([pair[0], pair[1]])).collect();
    // WGSL grants sin and cos an error of 2^-11, times a radius of up to 5.8
    close("normal", &normal, &pairs[..n], Tol { rel: 0.0, abs: 3e-3 });
    let factors: Vec<f64> = words[..1024].iter().map(|&word| oracle::keep(word, 0.25)).collect();
    close("keep", &keep, &factors, Tol { rel: 1e-6, abs: 0.0 });
}

pub fn bench(b: &mut Bench) {
    b.family("rng", validate);
    for n in [1 << 16, if b.full { 1 << 26 } else { 1 << 20 }] {
        let floor = Floor::bytes(4 * n);
        b.launches(&format!("uniform {n}"), floor, |x| rng::uniform(x.g, &state(x.g)?, 0, &[n]));
        b.launches(&format!("normal {n}"), floor, |x| rng::normal(x.g, &state(x.g)?, 0, &[n]));
    }
    b.launches(&format!("keep {LAYERS}x128"), Floor::bytes(4 * LAYERS * 128), |x| {
        rng::keep(x.g, &state(x.g)?, 0, &x.uniform(&[LAYERS])?, LAYERS, 128, 128)
    });
}
