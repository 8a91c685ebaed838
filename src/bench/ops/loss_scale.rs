//! loss_scale: the check of all gradients for overflow, and the update of the loss scale (torch.amp.GradScaler).

use crate::bench::ops::*;
use crate::tensor::Tensor;
use cpu::loss_scale::{State, judge};
use ops::loss_scale;

const BETAS: (f64, f64) = (0.9, 0.95);

fn expect(v: &Values) -> Result<Vec<Want>> {
    let square_sum = v.get("grad")?.iter().map(|g| g * g).sum();
    let (new, factor, norm) = judge(State::default(), square_sum, BETAS, 1.0);
    let clip = vec![factor, norm, new.correction1, new.correction2];
    Ok(vec![near("clip", clip, 4e-6)]) // error of a long sum, which the square root halves
}

/// Gradient of the loss before it is scaled.
const SEED: f32 = 0.5;
/// Level of the scale, which is 2^(16 + level).
const LEVEL: f32 = -3.0;

pub fn cases(c: &mut Cases) {
    for n in c.scope.batches() {
        let case = c.case(format!("seed {n}")).floor(Floor::bytes(4 * n));
        case.check(1, "losses", move |_| Ok(vec![want("out", vec![f64::from(SEED) * 2f64.powi(13); n], Tol::EXACT)]))
            .launches(move |r, x| {
                let state = Tensor::from_slice(x.g, &[loss_scale::STATE], &[LEVEL, 0.0, 0.0, 0.0, 0.0])?;
                let out = Tensor::scratch("seed", &[n]);
                loss_scale::seed(r, &state, SEED, &out)?;
                Ok(vec![result("out", Whole, out)])
            });
    }
    for (model, n) in c.scope.parameters() {
        let case = c.case(format!("judge {model}")).floor(Floor::bytes(4 * n));
        case.check(n, "parameters", expect).launches(move |r, x| {
            let grad = x.normal("grad", Whole, &[n])?;
            let state = Tensor::from_slice(x.g, &[loss_scale::STATE], &[0.0; loss_scale::STATE])?;
            Ok(vec![result("clip", Whole, loss_scale::judge(r, &state, &[&grad], BETAS, 1.0)?)])
        });
    }
}
