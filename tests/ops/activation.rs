use rowscan::cpu::activation::{Activation, backward, forward};
use rowscan::gpu::DType;
use rowscan::ops;
use rowscan::tape::{Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, each_tier, gpu, leaf, round_to_f16, run, stored_as, wide};

#[test]
fn activation_matches_cpu() {
    each_tier(|g| {
        for (n, half) in [(1, false), (7, false), (257, false), (65_537, false), (4, true), (65_540, true)] {
            let mut random = Random::new(n as u64);
            let mut x = random.uniform(n, -8.0, 8.0);
            x[0] = 30.0; // above 20, where softplus(x) = x
            let mut dy = random.normal(n);
            if half {
                [&mut x, &mut dy].into_iter().for_each(|v| round_to_f16(v));
            }
            // one rounding of the result, and the error of exp and log, which WGSL allows to be 3 ulp and more near 0
            let tol = Tol { rel: 4e-6, abs: 2e-6 }.or_f16(half);
            let dtype = DType::f16_if(half);
            for act in
                [Activation::Gelu, Activation::GeluTanh, Activation::Silu, Activation::Softplus, Activation::Relu]
            {
                let (y, grads) = run(g, &[leaf(g, &[n], &x)], &dy, |r, v| {
                    let x = stored_as(r, &v[0], dtype)?;
                    let y = match act {
                        Activation::Gelu => ops::activation::gelu(r, &x)?,
                        Activation::GeluTanh => ops::activation::gelu_tanh(r, &x)?,
                        Activation::Silu => ops::activation::silu(r, &x)?,
                        Activation::Softplus => ops::activation::softplus(r, &x)?,
                        Activation::Relu => ops::activation::relu(r, &x)?,
                    };
                    assert_eq!(y.data.dtype(), dtype);
                    stored_as(r, &y, DType::F32)
                });
                close(&format!("{act:?} y"), &y, &forward(act, &wide(&x)), tol);
                close(&format!("{act:?} dx"), &grads[0], &backward(act, &wide(&x), &wide(&dy)), tol);
            }
        }
    });
}

#[test]
fn activation_in_f16_takes_whole_quads() {
    let Some(g) = gpu() else { return };
    let odd = Var::leaf(Tensor::scratch_of(DType::F16, "x", &[3, 5]));
    let e = ops::activation::relu(&mut Recorder::new(g), &odd).unwrap_err().to_string();
    assert_eq!(e, "activation: elements in f16: got 15, expected a multiple of 4");
}
