use rowscan::cpu::ssm::{self as cpu, Dims};
use rowscan::gpu::{Caps, Gpu, Phase, Precision};
use rowscan::ops::selective_scan::{Algorithm, Scan, channel_layout};
use rowscan::ops::ssm::{Ssm, ssm};
use rowscan::tape::{Grads, Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, as_hardware, close_l2, each_tier, leaf, round_to_f16, run, some, to_f16, to_f32, wide};

/// The shapes of xz, conv_w, conv_b, x_proj, dt_proj, channel_params.
fn shapes(dim: Dims) -> [Vec<usize>; 6] {
    let Dims { s, b, l, e, n, r, k } = dim;
    [
        vec![b, l, 2 * e],
        vec![s, e, k],
        vec![s, e],
        vec![s, r + 2 * n, e],
        vec![s, e, r],
        vec![channel_layout(s, e, n).len],
    ]
}

fn with(v: &[Var], scan: Scan) -> Ssm {
    let [conv_w, conv_b, x_proj, dt_proj, channel_params] = [1, 2, 3, 4, 5].map(|i| v[i].clone());
    Ssm { conv_w, conv_b, x_proj, dt_proj, channel_params, scan }
}

/// The oracle's out, then the gradients of xz, conv_w, conv_b, x_proj, dt_proj, channel_params.
fn oracle(
    dim: Dims, [xz, conv_w, conv_b, x_proj, dt_proj, channel_params]: &[Vec<f64>; 6], dout: &[f64],
) -> [Vec<f64>; 7] {
    let Dims { s, e, n, .. } = dim;
    let at = channel_layout(s, e, n);
    let a_log = &channel_params[..s * e * n];
    let (d, delta_bias) = (&channel_params[at.d..][..s * e], &channel_params[at.bias..][..s * e]);
    let x = cpu::Inputs { xz, conv_w, conv_b, x_proj, dt_proj, a_log, d, delta_bias };
    let back = cpu::backward(dim, &x, dout);
    let mut dchannel_params = vec![0.0; channel_params.len()];
    dchannel_params[..s * e * n].copy_from_slice(&back.da_log);
    dchannel_params[at.d..][..s * e].copy_from_slice(&back.dd);
    dchannel_params[at.bias..][..s * e].copy_from_slice(&back.ddelta_bias);
    [cpu::forward(dim, &x), back.dxz, back.dconv_w, back.dconv_b, back.dx_proj, back.ddt_proj, dchannel_params]
}

/// `f16`: whether xz, the activations computed from it and their gradients are stored as f16.
fn check(g: &Gpu, f16: bool, dim: Dims, algorithm: Option<Algorithm>) {
    check_scan(g, f16, dim, Scan { algorithm, ..Scan::mamba(dim.n) });
}

/// The columns of rows (.., 2E) with their halves exchanged.
fn exchanged(e: usize, rows: &[f64]) -> Vec<f64> {
    rows.chunks(2 * e).flat_map(|row| [&row[e..], &row[..e]].concat()).collect()
}

fn check_scan(g: &Gpu, f16: bool, dim: Dims, scan: Scan) {
    let mut random = Random::new((dim.l * 31 + dim.e) as u64);
    let shapes = shapes(dim);
    let Dims { s, b, l, e, n, r, .. } = dim;
    // weights scaled by 1/√fan_in, so that activations stay near 1 as in a trained mixer
    let scale = [1.0, 0.5, 0.5, (e as f32).powf(-0.5), (r as f32).powf(-0.5), 1.0];
    let mut values: [Vec<f32>; 6] =
        std::array::from_fn(|i| random.normal(shapes[i].iter().product()).iter().map(|v| v * scale[i]).collect());
    values[5][..s * e * n].copy_from_slice(&random.uniform(s * e * n, -1.0, 2.8));
    let mut dout = random.normal(b * l * e);
    if f16 {
        round_to_f16(&mut values[0]);
        round_to_f16(&mut dout);
    }
    let leaves: Vec<Var> = (0..6).map(|i| leaf(g, &shapes[i], &values[i])).collect();
    let (out, grads) = run(g, &leaves, &dout, |r, v| {
        r.set_precision(if f16 { Precision::Mixed } else { Precision::F32 });
        if !f16 {
            return ssm(r, &v[0], &with(v, scan));
        }
        let xz = to_f16(r, &v[0])?;
        let out = ssm(r, &xz, &with(v, scan))?;
        to_f32(r, &out)
    });
    let mut inputs = values.each_ref().map(|v| wide(v));
    if scan.swapped {
        inputs[0] = exchanged(e, &inputs[0]);
    }
    let mut want = oracle(dim, &inputs, &wide(&dout));
    if scan.swapped {
        want[1] = exchanged(e, &want[1]);
    }
    // Four kernels in a row: each adds the rounding of sums over E, R, N or B·L terms of either sign. With f16, each
    // also rounds what it stores and the operands of products by up to 2⁻¹¹.
    let (forward, backward) = if f16 { (2e-3, 4e-3) } else { (4e-6, 2e-5) };
    close_l2(&format!("{dim:?} out"), &out, &want[0], forward);
    for (i, name) in ["dxz", "dconv_w", "dconv_b", "dx_proj", "ddt_proj", "dchannel_params"].iter().enumerate() {
        close_l2(&format!("{dim:?} {name}"), &grads[i], &want[i + 1], backward);
    }
}

#[test]
fn ssm_matches_cpu() {
    each_tier(|g| {
        for s in [1, 2] {
            check(g, false, Dims { s, b: 1, l: 1, e: 1, n: 1, r: 1, k: 4 }, None);
            check(g, false, Dims { s, b: 2, l: 37, e: 67, n: 16, r: 12, k: 4 }, None);
            check(g, false, Dims { s, b: 2, l: 98, e: 24, n: 16, r: 3, k: 4 }, Some(Algorithm::Chunked));
        }
    });
}

#[test]
fn ssm_in_f16_matches_cpu() {
    let each = |g: &Gpu| {
        for s in some([1, 2]) {
            let small = Dims { s, b: 1, l: 1, e: 4, n: 1, r: 1, k: 4 };
            let cases = [
                (small, None),
                (Dims { b: 2, l: 37, e: 68, n: 16, r: 12, ..small }, None),
                (Dims { b: 2, l: 98, e: 24, n: 16, r: 3, ..small }, Some(Algorithm::Chunked)),
            ];
            some(cases).for_each(|(dim, algorithm)| check(g, true, dim, algorithm));
        }
    };
    each_tier(each);
    as_hardware().iter().for_each(each);
}

/// Few launches are the purpose of `ssm`. A dry device counts them without an adapter.
#[test]
fn ssm_takes_4_launches_forward_and_9_backward() {
    let g = Gpu::dry(Caps { software: true, ..Caps::portable() }); // a product without split sums is one launch
    let dim = Dims { s: 2, b: 2, l: 98, e: 384, n: 16, r: 12, k: 4 };
    let v: Vec<Var> = shapes(dim).iter().map(|shape| Var::leaf(Tensor::input("leaf", shape))).collect();
    let step = |r: &mut Recorder| {
        let out = ssm(r, &v[0], &with(&v, Scan::mamba(16)))?;
        let dout = Tensor::input("dout", out.data.shape());
        r.backward_from(&out, dout, Grads::default())
    };
    let (recording, _grads) = Recorder::new(&g).record(step).expect("records");
    let count = |phase| recording.launches().iter().filter(|l| l.phase == phase).count();
    assert_eq!((count(Phase::Forward), count(Phase::Backward)), (4, 9));
}

#[test]
fn ssm_without_a_tape_saves_nothing() {
    each_tier(|g| {
        let dim = Dims { s: 2, b: 1, l: 20, e: 5, n: 3, r: 2, k: 4 };
        let mut random = Random::new(1);
        let v: Vec<Var> = shapes(dim).iter().map(|s| leaf(g, s, &random.normal(s.iter().product()))).collect();
        let out = |mut r: Recorder| {
            let out = ssm(&mut r, &v[0], &with(&v, Scan::mamba(3))).expect("records");
            r.run().expect("runs");
            out.data.to_vec(g).expect("readable")
        };
        assert_eq!(out(Recorder::new(g)), out(Recorder::inference(g)));
    });
}

/// With z | x in place of x | z, which the second scan of a C-SSM reads.
#[test]
fn ssm_with_its_halves_exchanged_matches_cpu() {
    each_tier(|g| {
        for algorithm in [None, Some(Algorithm::Chunked)] {
            let scan = |n| Scan { algorithm, swapped: true, ..Scan::mamba(n) };
            check_scan(g, false, Dims { s: 1, b: 2, l: 37, e: 66, n: 16, r: 5, k: 4 }, scan(16));
            check_scan(g, true, Dims { s: 1, b: 1, l: 50, e: 24, n: 16, r: 4, k: 4 }, scan(16));
        }
    });
}
