//! ema: the moving average of all parameters.

use crate::bench::ops::*;
use crate::tensor::Tensor;
use cpu::ema::update;
use ops::ema::{ema, momentum};

const DECAY: f64 = 0.999;

fn expect(v: &Values) -> Result<Vec<Want>> {
    let [keep, take] = momentum(DECAY);
    let average = update(v.get("average")?, v.get("x")?, keep.into(), take.into());
    Ok(vec![want("average", average, Tol { rel: 2e-7, abs: 1e-9 })]) // two roundings
}

pub fn cases(c: &mut Cases) {
    for (model, n) in c.scope.parameters() {
        let case = c.case(format!("update {model}")).floor(Floor::bytes(12 * n));
        case.check(8192, "parameters", expect).launches(move |r, x| {
            let (average, new) = (x.normal("average", Axis(0), &[n])?, x.normal("x", Axis(0), &[n])?);
            ema(r, &average, &new, &Tensor::from_slice(x.g, &[2], &momentum(DECAY))?)?;
            Ok(vec![result("average", Axis(0), average)])
        });
    }
}
