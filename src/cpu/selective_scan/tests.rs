//! Tests of the scan: a worked example, equality with a parallel prefix, equality with a flipped sequence, and
//! gradients by central differences.
use super::super::gradcheck::{check, close, dot, random};
use super::*;

/// Transposes from (channels, time), the layout of the example, to (time, channels), the layout of the operator.
fn transpose<const L: usize>(rows: &[[f64; L]]) -> Vec<f64> {
    (0..L).flat_map(|t| rows.iter().map(move |row| row[t])).collect()
}

/// An example with E = 2, N = 2 and L = 3, computed independently to six decimals.
#[test]
fn worked_example() {
    let dim = Dims { s: 1, b: 1, l: 3, e: 2, n: 2, r: 0 };
    let u = transpose(&[[0.5, -1.0, 2.0], [1.0, 0.25, -0.5]]);
    let delta = transpose(&[[0.1, -0.3, 0.7], [-1.2, 0.4, 0.0]]);
    let z = transpose(&[[1.0, -1.0, 0.5], [0.0, 2.0, -2.0]]);
    let g = transpose(&[[1.0, 0.5, -1.0], [0.2, -0.3, 1.0]]);
    let xdbl = transpose(&[[1.0, 0.5, -1.0], [0.2, -0.7, 0.3], [0.3, 1.0, 0.5], [-1.0, 0.6, 0.2]]);
    let a_log = [0.0, 2f64.ln(), 0.0, 2f64.ln()];
    let x = Inputs {
        u: &u,
        delta: &delta,
        xdbl: &xdbl,
        a_log: &a_log,
        d: Some(&[1.0, 0.5]),
        delta_bias: Some(&[-0.5, 0.2]),
        z: Some(&z),
        softplus: true,
    };
    let close = |name: &str, got: &[f64], want: &[f64]| close(name, got, want, 1e-6);
    let o = forward(dim, &x);
    close("y", &o.y, &transpose(&[[0.525651, -0.838051, 1.307228], [0.531326, 0.261472, -0.027274]]));
    close("out", &o.out, &transpose(&[[0.384281, 0.225387, 0.406848], [0.0, 0.460608, 0.006502]]));
    let h = [
        [0.256508, 0.051302, 0.313262, 0.062652],
        [-0.008567, 0.284193, 0.240688, -0.173694],
        [-1.600134, 0.536475, 0.507419, -0.154920],
    ];
    for (t, h) in h.iter().enumerate() {
        close("h", &forward(Dims { l: t + 1, ..dim }, &x).last_state, h);
    }
    let d = backward(dim, &x, &g);
    close("dz", &d.dz, &transpose(&[[0.487631, -0.030308, -0.967298], [0.053133, -0.085563, 0.002476]]));
    close("du", &d.du, &transpose(&[[0.691611, -0.148184, -0.201932], [-0.067189, -0.328921, -0.035479]]));
    close("ddelta", &d.ddelta, &transpose(&[[-0.015429, 0.024092, 0.154202], [-0.057683, 0.034977, -0.023583]]));
    close("ddelta_bias", &d.ddelta_bias, &[0.162864, -0.046288]);
    close("da_log", &d.da_log, &[0.012954, 0.007414, 0.077350, 0.002654]);
    let bc = transpose(&[
        [-0.044559, -0.075092, -0.200834],
        [-0.211767, -0.050127, -0.080334],
        [0.187522, -0.126047, 0.377038],
        [0.037504, 0.053578, -0.130033],
    ]);
    close("dxdbl", &d.dxdbl, &bc);
    close("dd", &d.dd, &[-0.122459, -0.012917]);
}

/// Random u, delta, xdbl, a_log, d, delta_bias, z and dout.
fn case(Dims { s, b, l, e, n, r }: Dims) -> [Vec<f64>; 8] {
    let rows = s * b * l;
    let sizes = [rows * e, rows * e, rows * (r + 2 * n), s * e * n, s * e, s * e, b * l * e, b * l * e];
    std::array::from_fn(|i| random(i as u32, sizes[i]))
}

fn inputs([u, delta, xdbl, a_log, d, delta_bias, z, _]: &[Vec<f64>; 8]) -> Inputs<'_> {
    Inputs { u, delta, xdbl, a_log, d: Some(d), delta_bias: Some(delta_bias), z: Some(z), softplus: true }
}

/// h_t is the second part of (a₁,b₁)∘…∘(a_t,b_t), where (a₁,b₁)∘(a₂,b₂) = (a₁·a₂, a₂·b₁ + b₂) is associative.
#[test]
fn last_state_by_parallel_prefix() {
    fn compose((a1, b1): (f64, f64), (a2, b2): (f64, f64)) -> (f64, f64) {
        (a1 * a2, a2 * b1 + b2)
    }
    fn tree(steps: &[(f64, f64)]) -> (f64, f64) {
        match steps {
            [] => (1.0, 0.0),
            [step] => *step,
            _ => compose(tree(&steps[..steps.len() / 2]), tree(&steps[steps.len() / 2..])),
        }
    }
    let dim = Dims { s: 1, b: 1, l: 13, e: 1, n: 1, r: 0 };
    let case = case(dim);
    let [u, delta, xdbl, a_log, _, bias, ..] = &case;
    let step = |t: usize| {
        let delta = softplus(delta[t] + bias[0]);
        ((-delta * a_log[0].exp()).exp(), delta * xdbl[2 * t] * u[t])
    };
    let steps: Vec<_> = (0..dim.l).map(step).collect();
    close("last_state", &forward(dim, &inputs(&case)).last_state, &[tree(&steps).1], 1e-14);
}

/// The output of two directions must be the mean of a forward scan, and of a forward scan over the flipped sequence,
/// flipped back.
#[test]
fn second_direction_is_the_flipped_sequence() {
    let dim = Dims { s: 2, b: 1, l: 5, e: 3, n: 2, r: 1 };
    let flip = |x: &[f64], cols: usize| x.chunks(cols).rev().flatten().copied().collect::<Vec<_>>();
    let case = case(dim);
    let one: [Vec<f64>; 8] = std::array::from_fn(|i| case[i][..case[i].len() / if i < 6 { 2 } else { 1 }].to_vec());
    let mut two: [Vec<f64>; 8] = std::array::from_fn(|i| case[i][if i < 6 { case[i].len() / 2 } else { 0 }..].to_vec());
    for (i, cols) in [(0, 3), (1, 3), (2, 5), (6, 3)] {
        two[i] = flip(&two[i], cols);
    }
    let [both, one, two] = [(dim, &case), (Dims { s: 1, ..dim }, &one), (Dims { s: 1, ..dim }, &two)]
        .map(|(dim, case)| forward(dim, &inputs(case)));
    let mean: Vec<f64> = one.out.iter().zip(flip(&two.out, 3)).map(|(a, b)| (a + b) / 2.0).collect();
    close("out", &both.out, &mean, 1e-14);
    close("y", &both.y, &[one.y, flip(&two.y, 3)].concat(), 1e-14);
    close("last_state", &both.last_state, &[one.last_state, two.last_state].concat(), 1e-14);
}

#[test]
fn gradients() {
    let dims = [[1, 1, 1, 1, 1, 0], [2, 2, 5, 3, 2, 1], [1, 1, 7, 2, 3, 2], [2, 1, 1, 1, 5, 3]];
    for [s, b, l, e, n, r] in dims {
        let dim = Dims { s, b, l, e, n, r };
        let case = case(dim);
        let (x, dout) = (inputs(&case), &case[7]);
        let loss = |x: Inputs| dot(&forward(dim, &x).out, dout);
        let g = backward(dim, &x, dout);
        check("du", x.u, &g.du, |u| loss(Inputs { u, ..x }));
        check("ddelta", x.delta, &g.ddelta, |delta| loss(Inputs { delta, ..x }));
        check("dxdbl", x.xdbl, &g.dxdbl, |xdbl| loss(Inputs { xdbl, ..x }));
        check("da_log", x.a_log, &g.da_log, |a_log| loss(Inputs { a_log, ..x }));
        check("dd", &case[4], &g.dd, |d| loss(Inputs { d: Some(d), ..x }));
        check("ddelta_bias", &case[5], &g.ddelta_bias, |v| loss(Inputs { delta_bias: Some(v), ..x }));
        check("dz", &case[6], &g.dz, |z| loss(Inputs { z: Some(z), ..x }));
    }
}

/// The scan without optional inputs: no gate, no skip connection D, no bias, and no softplus.
#[test]
fn gradients_of_the_bare_scan() {
    let dim = Dims { s: 2, b: 1, l: 3, e: 2, n: 2, r: 0 };
    let case = case(dim);
    let delta: Vec<f64> = case[1].iter().map(|v| v.abs()).collect();
    let x = Inputs { delta: &delta, d: None, delta_bias: None, z: None, softplus: false, ..inputs(&case) };
    let loss = |x: Inputs| dot(&forward(dim, &x).out, &case[7]);
    let g = backward(dim, &x, &case[7]);
    check("du", x.u, &g.du, |u| loss(Inputs { u, ..x }));
    check("ddelta", x.delta, &g.ddelta, |delta| loss(Inputs { delta, ..x }));
    check("dxdbl", x.xdbl, &g.dxdbl, |xdbl| loss(Inputs { xdbl, ..x }));
    check("da_log", x.a_log, &g.da_log, |a_log| loss(Inputs { a_log, ..x }));
    assert!(g.dz.is_empty());
}

/// Where one token writes and the others do not, all of the state is what that token has left.
#[test]
fn a_path_is_made_of_what_tokens_left() {
    let dim = Dims { s: 2, b: 2, l: 5, e: 3, n: 2, r: 1 };
    let (delta, xdbl) = (random(2, 2 * 2 * 5 * 3), random(3, 2 * 2 * 5 * 5));
    let (a_log, z) = (random(4, 2 * 3 * 2), random(5, 2 * 5 * 3));
    let with = |u: &[f64]| {
        let x = Inputs {
            u,
            delta: &delta,
            xdbl: &xdbl,
            a_log: &a_log,
            d: None,
            delta_bias: None,
            z: Some(&z),
            softplus: true,
        };
        (path(dim, &x), forward(dim, &x).last_state)
    };
    let all = random(1, 2 * 2 * 5 * 3);
    let (whole, last) = with(&all);
    for token in 0..5 {
        let alone: Vec<f64> = all.iter().enumerate().map(|(i, v)| if i / 3 % 5 == token { *v } else { 0.0 }).collect();
        let (one, _) = with(&alone);
        for lane in 0..4 {
            let row = &whole.left[(lane * 5 + token) * 5..][..5];
            close("what is left", row, &one.size[lane * 5..][..5], 1e-12);
            let before = |t: usize| if lane < 2 { t < token } else { t > token };
            assert!((0..5).all(|t| (row[t] == 0.0) == before(t)), "{row:?}");
        }
    }
    for (lane, h) in last.chunks(3 * 2).enumerate() {
        let end = if lane < 2 { 4 } else { 0 };
        let norm = h.iter().map(|v| v * v).sum::<f64>().sqrt();
        assert!((whole.size[lane * 5 + end] - norm).abs() < 1e-12);
    }
}
