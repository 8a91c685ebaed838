//! ema: the moving average of all parameters.

use rowscan::cpu::ema::update;
use rowscan::ops::ema::{ema, momentum};

use super::*;

fn validate(g: &Gpu) {
    let mut random = Random::new(1);
    let (a, x) = (random.normal(5003), random.normal(5003));
    let [keep, take] = momentum(0.999);
    let attempt = || -> Result<_> {
        let average = Tensor::from_slice(g, &[a.len()], &a)?;
        ema(g, &average, &Tensor::from_slice(g, &[x.len()], &x)?, &Tensor::from_slice(g, &[2], &[keep, take])?)?;
        average.to_vec(g)
    };
    let got = attempt().unwrap_or_else(|e| panic!("{e}"));
    let want = update(&wide(&a), &wide(&x), keep.into(), take.into());
    close("average", &got, &want, Tol { rel: 2e-7, abs: 1e-9 }); // two roundings
}

pub fn bench(b: &mut Bench) {
    b.family("ema", validate);
    // the backbones' parameters in millions
    let models = if b.full { &[("tiny", 9), ("small", 34), ("base", 134)][..] } else { &[("tiny/9", 1)] };
    for &(model, millions) in models {
        let n = millions * 1_000_000;
        b.launches(&format!("update {model}"), Floor::bytes(12 * n), |x| {
            let factors = Tensor::from_slice(x.g, &[2], &momentum(0.999))?;
            ema(x.g, &x.normal(&[n])?, &x.normal(&[n])?, &factors)
        });
    }
}
