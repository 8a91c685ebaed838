use rowscan::cpu::ss2d::{Dims, Inputs, backward, forward};
use rowscan::gpu::{Caps, Gpu, Phase};
use rowscan::ops::selective_scan::{Algorithm, Scan, channel_layout, packed};
use rowscan::ops::ss2d::{Ss2d, ss2d};
use rowscan::tape::{Grads, Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, close_l2, each_choice, each_tier, leaf, one_in, run, some, wide};

/// The shapes of u, x_proj, dt_proj, channel_params.
fn shapes(dim: Dims) -> [Vec<usize>; 4] {
    let Dims { b, h, w, e, n, r } = dim;
    [vec![b, h, w, e], vec![4 * (r + 2 * n), e], vec![4, e, r], vec![channel_layout(4, e, n).len]]
}

fn with(v: &[Var], states: usize, algorithm: Option<Algorithm>) -> Ss2d {
    let [x_proj, dt_proj, channel_params] = [1, 2, 3].map(|i| v[i].clone());
    Ss2d { x_proj, dt_proj, channel_params, states, algorithm }
}

/// Random operands: weights over the root of what a row sums, so that activations stay near 1. What lies between the
/// parameters of the channels is NaN, which must not be read.
fn operands(dim: Dims) -> [Vec<f32>; 4] {
    let Dims { h, w, e, n, r, .. } = dim;
    let mut random = Random::new((h * 31 + w * 7 + e + n) as u64);
    let shapes = shapes(dim);
    let scale = [1.0, (e as f32).powf(-0.5), (r as f32).powf(-0.5), 1.0];
    let mut values: [Vec<f32>; 4] =
        std::array::from_fn(|i| random.normal(shapes[i].iter().product()).iter().map(|v| v * scale[i]).collect());
    let at = channel_layout(4, e, n);
    values[3].fill(f32::NAN);
    values[3][at.a_log..][..4 * e * n].copy_from_slice(&random.uniform(4 * e * n, -3.0, 2.8));
    values[3][at.d..][..4 * e].copy_from_slice(&random.normal(4 * e));
    values[3][at.bias..][..4 * e].copy_from_slice(&random.uniform(4 * e, -4.0, 1.0));
    values
}

fn check(g: &Gpu, dim: Dims, algorithm: Option<Algorithm>) {
    // Three kernels in a row: each adds the rounding of sums over E, R, N or B·L terms of either sign.
    check_within(g, dim, algorithm, [4e-6, 2e-5]);
}

fn check_within(g: &Gpu, dim: Dims, algorithm: Option<Algorithm>, [forward_tol, backward_tol]: [f64; 2]) {
    let Dims { b, h, w, e, n, .. } = dim;
    let (values, shapes, at) = (operands(dim), shapes(dim), channel_layout(4, e, n));
    let dout = Random::new(5).normal(b * h * w * e);
    let leaves: Vec<Var> = (0..4).map(|i| leaf(g, &shapes[i], &values[i])).collect();
    let (out, grads) = run(g, &leaves, &dout, |r, v| ss2d(r, &v[0], &with(v, n, algorithm)));
    let [u, x_proj, dt_proj, params] = values.each_ref().map(|v| wide(v));
    let x = Inputs {
        u: &u,
        x_proj: &x_proj,
        dt_proj: &dt_proj,
        a_log: &params[at.a_log..][..4 * e * n],
        d: &params[at.d..][..4 * e],
        delta_bias: &params[at.bias..][..4 * e],
    };
    let back = backward(dim, &x, &wide(&dout));
    let name = format!("{dim:?} {algorithm:?}");
    close_l2(&format!("{name} out"), &out, &forward(dim, &x), forward_tol);
    for (i, (part, want)) in
        [("du", &back.du), ("dx_proj", &back.dx_proj), ("ddt_proj", &back.ddt_proj)].into_iter().enumerate()
    {
        close_l2(&format!("{name} {part}"), &grads[i], want, backward_tol);
    }
    for (part, start, want) in
        [("da_log", at.a_log, &back.da_log), ("dd", at.d, &back.dd), ("dbias", at.bias, &back.ddelta_bias)]
    {
        close_l2(&format!("{name} {part}"), &grads[3][start..][..want.len()], want, backward_tol);
    }
}

const BOTH: [Option<Algorithm>; 2] = [Some(Algorithm::Sequential), Some(Algorithm::Chunked)];
const WHOLE: Option<Algorithm> = Some(Algorithm::Whole);

#[test]
fn ss2d_matches_cpu() {
    each_choice(|g| {
        for algorithm in BOTH {
            for (b, h, w, e, n, r) in one_in(
                3,
                [
                    (1, 1, 1, 1, 1, 1),  // the smallest
                    (2, 5, 7, 67, 1, 6), // channels past a workgroup, two chunks and a bit, one state
                    (1, 1, 33, 5, 1, 1), // a single row: columns are as rows
                    (1, 19, 1, 5, 1, 1), // a single column
                    (3, 4, 8, 12, 3, 2), // whole chunks, part of a quad
                    (1, 7, 3, 3, 16, 3), // Mamba's number of states
                    (2, 3, 5, 4, 40, 1), // shorter chunks
                ],
            ) {
                check(g, Dims { b, h, w, e, n, r }, algorithm);
            }
        }
        check(g, Dims { b: 2, h: 5, w: 7, e: 67, n: 16, r: 3 }, WHOLE); // channels past a workgroup
        check(g, Dims { b: 1, h: 3, w: 2, e: 3, n: 7, r: 1 }, WHOLE);
    });
}

#[test]
fn ss2d_matches_cpu_at_random_sizes() {
    each_choice(|g| {
        let mut random = Random::new(17);
        for i in some(0..6) {
            let [b, h, w, e, n, r] = [3, 13, 13, 140, 5, 9].map(|below| 1 + random.below(1, below)[0] as usize);
            check(g, Dims { b, h, w, e, n: if i % 2 == 0 { 1 } else { n }, r }, BOTH[i / 2 % 2]);
        }
    });
}

/// The map of VMamba's first stage at 224 pixels, which a CPU's loops just hold, and more samples than the groups of
/// the last stage of a sum.
#[test]
fn ss2d_matches_cpu_on_large_maps() {
    each_tier(|g| {
        // a slow decay remembers a thousand steps, and the errors of as many exponentials
        let tol = [2e-5, 6e-5];
        check_within(g, Dims { b: 1, h: 56, w: 56, e: 3, n: 1, r: 2 }, None, tol);
        check_within(g, Dims { b: 1, h: 80, w: 50, e: 2, n: 1, r: 1 }, None, tol); // the most that a CPU loops over
        check(g, Dims { b: 9, h: 6, w: 5, e: 4, n: 1, r: 1 }, None);
    });
}

/// Few launches are the purpose of `ss2d`. A dry device counts them without an adapter.
#[test]
fn ss2d_takes_4_launches_forward_and_7_backward() {
    let g = Gpu::dry(Caps { software: true, ..Caps::portable() }); // a product without split sums is one launch
    let dim = Dims { b: 2, h: 14, w: 14, e: 384, n: 1, r: 12 };
    let v: Vec<Var> = shapes(dim).iter().map(|shape| Var::leaf(Tensor::input("leaf", shape))).collect();
    let step = |r: &mut Recorder| {
        let out = ss2d(r, &v[0], &with(&v, 1, None))?;
        let dout = Tensor::input("dout", out.data.shape());
        r.backward_from(&out, dout, Grads::default())
    };
    let (recording, _grads) = Recorder::new(&g).record(step).expect("records");
    let count = |phase| recording.launches().iter().filter(|l| l.phase == phase).count();
    assert_eq!((count(Phase::Forward), count(Phase::Backward)), (4, 7));
}

#[test]
fn ss2d_without_a_tape_gives_the_same_bits() {
    each_tier(|g| {
        let dim = Dims { b: 2, h: 4, w: 9, e: 5, n: 1, r: 2 };
        let (values, shapes) = (operands(dim), shapes(dim));
        let v: Vec<Var> = (0..4).map(|i| leaf(g, &shapes[i], &values[i])).collect();
        let out = |mut r: Recorder| {
            let out = ss2d(&mut r, &v[0], &with(&v, 1, None)).expect("records");
            r.run().expect("runs");
            out.data.to_vec(g).expect("readable")
        };
        assert_eq!(out(Recorder::new(g)), out(Recorder::inference(g)));
    });
}

#[test]
fn a_grid_names_what_does_not_fit() {
    let g = Gpu::dry(Caps::portable());
    let var = |shape: &[usize]| Var::leaf(Tensor::input("v", shape));
    let scan = |rows, xdbl: &[usize]| {
        let spec = Scan { grid: Some((rows, 3)), ..Scan::mamba(1) };
        let (u, delta, params) = (var(&[1, 2, 6, 4]), var(&[4, 2, 6, 4]), var(&[channel_layout(4, 4, 1).len]));
        packed(&mut Recorder::new(&g), &u, &delta, &var(xdbl), &params, None, spec).map(drop)
    };
    assert!(scan(2, &[2, 6, 4, 3]).is_ok());
    let error = scan(5, &[2, 6, 4, 3]).unwrap_err().to_string();
    assert!(error.contains("5 x 3 tokens") && error.contains("rows·columns"), "{error}");
    let error = scan(2, &[4, 2, 6, 3]).unwrap_err().to_string();
    assert!(error.contains("got [4, 2, 6, 3], expected [2, 6, 4, 3]"), "{error}");
    let (u, x_proj, dt_proj) = (var(&[1, 2, 3, 4]), var(&[11, 4]), var(&[4, 4, 1]));
    let p = Ss2d { x_proj, dt_proj, channel_params: var(&[192]), states: 1, algorithm: None };
    let error = ss2d(&mut Recorder::new(&g), &u, &p).unwrap_err().to_string();
    assert!(error.contains("R = 1, 11 rows"), "{error}");
}
