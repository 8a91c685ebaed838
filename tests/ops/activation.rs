use rowscan::cpu::activation::{Activation, backward, forward};
use rowscan::ops;

use crate::common::{Random, Tol, close, each_tier, leaf, run, wide};

#[test]
fn activation_matches_cpu() {
    each_tier(|g| {
        for n in [1, 7, 257, 65_537] {
            let mut random = Random::new(n as u64);
            let mut x = random.uniform(n, -8.0, 8.0);
            x[0] = 30.0; // above 20, where softplus(x) = x
            let dy = random.normal(n);
            // one rounding of the result, and the error of exp and log, which WGSL allows to be 3 ulp and more near 0
            let tol = Tol { rel: 4e-6, abs: 2e-6 };
            for act in
                [Activation::Gelu, Activation::GeluTanh, Activation::Silu, Activation::Softplus, Activation::Relu]
            {
                let (y, grads) = run(g, &[leaf(g, &[n], &x)], &dy, |r, v| match act {
                    Activation::Gelu => ops::activation::gelu(r, &v[0]),
                    Activation::GeluTanh => ops::activation::gelu_tanh(r, &v[0]),
                    Activation::Silu => ops::activation::silu(r, &v[0]),
                    Activation::Softplus => ops::activation::softplus(r, &v[0]),
                    Activation::Relu => ops::activation::relu(r, &v[0]),
                });
                close(&format!("{act:?} y"), &y, &forward(act, &wide(&x)), tol);
                close(&format!("{act:?} dx"), &grads[0], &backward(act, &wide(&x), &wide(&dy)), tol);
            }
        }
    });
}
