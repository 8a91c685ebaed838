use rowscan::cpu::conv1d::{Dims, backward, forward};
use rowscan::gpu::{DType, Gpu, Precision};
use rowscan::ops;
use rowscan::tape::{Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, each_tier, leaf, round_to_f16, run, some, to_f16, to_f32, wide};

fn check(g: &Gpu, s: usize, b: usize, l: usize, e: usize, k: usize) {
    check_in(g, false, s, b, l, e, k);
}

/// `f16`: whether xz, u and their gradients are stored as f16.
fn check_in(g: &Gpu, f16: bool, s: usize, b: usize, l: usize, e: usize, k: usize) {
    let mut random = Random::new((s * 1000 + l * 7 + e * 3 + k) as u64);
    let (mut xz, w, bias) = (random.normal(b * l * 2 * e), random.normal(s * e * k), random.normal(s * e));
    let mut du = random.normal(s * b * l * e);
    if f16 {
        round_to_f16(&mut xz);
        round_to_f16(&mut du);
    }
    let leaves = [leaf(g, &[b, l, 2 * e], &xz), leaf(g, &[s, e, k], &w), leaf(g, &[s, e], &bias)];
    let (u, grads) = run(g, &leaves, &du, |r, v| {
        r.set_precision(if f16 { Precision::Mixed } else { Precision::F32 });
        let xz = if f16 { to_f16(r, &v[0])? } else { v[0].clone() };
        let u = ops::conv1d::conv1d(r, &xz, &v[1], &v[2], s)?;
        assert_eq!(u.data.is_f16(), f16);
        if f16 { to_f32(r, &u) } else { Ok(u) }
    });
    let dim = Dims { s, b, l, e, k, ldx: 2 * e, same: false };
    let (xz, w, bias, du) = (wide(&xz), wide(&w), wide(&bias), wide(&du));
    let want = backward(dim, &xz, &w, &bias, &du);
    let mut dxz = vec![0.0; xz.len()]; // z, the second half of the columns, gets no gradient
    for (row, dx) in want.dx.chunks(e).enumerate() {
        dxz[row * 2 * e..][..e].copy_from_slice(dx);
    }
    let at = format!("S{s} B{b} L{l} E{e} K{k}{}", if f16 { " f16" } else { "" });
    // a sum of at most 8 products of order 1, then SiLU; storage as f16 rounds by 2⁻¹¹ = 4.9e-4
    let rel = if f16 { 4.9e-4 } else { 4e-6 };
    close(&format!("{at} u"), &u, &forward(dim, &xz, &w, &bias), Tol { rel, abs: 4e-6 });
    close(&format!("{at} dxz"), &grads[0], &dxz, Tol { rel, abs: 1e-5 });
    // sums of B·L terms of random sign: the rounding error grows with √(B·L)
    let abs = 4e-6 * (1.0 + ((b * l) as f64).sqrt());
    close(&format!("{at} dw"), &grads[1], &want.dw, Tol { rel: 1e-5, abs });
    close(&format!("{at} dbias"), &grads[2], &want.dbias, Tol { rel: 1e-5, abs });
}

#[test]
fn conv1d_matches_cpu() {
    each_tier(|g| {
        for s in [1, 2] {
            check(g, s, 1, 1, 1, 4); // L is smaller than K
            check(g, s, 2, 3, 5, 1);
            check(g, s, 3, 32, 64, 4); // exactly one run of 32 tokens and one workgroup of 64 channels
            check(g, s, 2, 197, 67, 4); // several runs, and channels past one workgroup
            check(g, s, 1, 65, 130, 8); // the last run is one token, fewer than K
            check(g, s, 9, 2, 3, 3); // more partial sums of dw than the second stage has groups
        }
    });
}

#[test]
fn conv1d_in_f16_matches_cpu() {
    each_tier(|g| {
        for s in some([2, 1]) {
            check_in(g, true, s, 1, 1, 4, 4);
            check_in(g, true, s, 2, 35, 68, 4);
            check_in(g, true, s, 1, 65, 132, 8); // channels past one workgroup
            check_in(g, true, s, 2, 33, 256, 1);
        }
    });
}

#[test]
fn conv1d_matches_cpu_at_random_sizes() {
    each_tier(|g| {
        let mut random = Random::new(5);
        for _ in 0..10 {
            let [s, b, l, e, k] = [2, 4, 100, 140, 8].map(|below| 1 + random.below(1, below)[0] as usize);
            check(g, s, b, l, e, k);
        }
    });
}

/// `f16`: whether x, u and their gradients are stored as f16.
fn check_same(g: &Gpu, f16: bool, b: usize, l: usize, e: usize, k: usize) {
    let mut random = Random::new((l * 7 + e * 3 + k) as u64);
    let (mut x, w, mut du) = (random.normal(b * l * e), random.normal(e * k), random.normal(b * l * e));
    if f16 {
        round_to_f16(&mut x);
        round_to_f16(&mut du);
    }
    let leaves = [leaf(g, &[b, l, e], &x), leaf(g, &[e, k], &w)];
    let (u, grads) = run(g, &leaves, &du, |r, v| {
        r.set_precision(if f16 { Precision::Mixed } else { Precision::F32 });
        let x = if f16 { to_f16(r, &v[0])? } else { v[0].clone() };
        let u = ops::conv1d::conv1d_same(r, &x, &v[1])?;
        assert_eq!((u.data.is_f16(), u.data.shape()), (f16, &[b, l, e][..]));
        if f16 { to_f32(r, &u) } else { Ok(u) }
    });
    let dim = Dims { s: 1, b, l, e, k, ldx: e, same: true };
    let (x, w, du, bias) = (wide(&x), wide(&w), wide(&du), vec![0.0; e]);
    let want = backward(dim, &x, &w, &bias, &du);
    let at = format!("same B{b} L{l} E{e} K{k}{}", if f16 { " f16" } else { "" });
    // tolerances as in `check_in`
    let rel = if f16 { 4.9e-4 } else { 4e-6 };
    close(&format!("{at} u"), &u, &forward(dim, &x, &w, &bias), Tol { rel, abs: 4e-6 });
    close(&format!("{at} dx"), &grads[0], &want.dx, Tol { rel, abs: 1e-5 });
    let abs = 4e-6 * (1.0 + ((b * l) as f64).sqrt());
    close(&format!("{at} dw"), &grads[1], &want.dw, Tol { rel: 1e-5, abs });
}

#[test]
fn conv1d_same_matches_cpu() {
    each_tier(|g| {
        for (b, l, e, k) in [
            (1, 1, 1, 3), // L is smaller than K
            (2, 3, 5, 1),
            (3, 32, 64, 3),  // exactly one run of 32 tokens and one workgroup of 64 channels
            (2, 49, 67, 3),  // a window of 7×7, and channels past one workgroup
            (1, 65, 130, 8), // an even number of taps has one more behind; the last run is one token
            (9, 2, 3, 4),
        ] {
            check_same(g, false, b, l, e, k);
        }
        check_same(g, true, 2, 35, 68, 3);
        check_same(g, true, 1, 65, 132, 4);
        let mut random = Random::new(6);
        for _ in 0..6 {
            let [b, l, e, k] = [4, 100, 140, 8].map(|below| 1 + random.below(1, below)[0] as usize);
            check_same(g, false, b, l, e, k);
        }
    });
}

#[test]
fn conv1d_names_what_does_not_fit() {
    each_tier(|g| {
        let [xz, w, bias] = [&[1, 2, 6][..], &[2, 3, 4], &[2, 3]].map(|s| leaf(g, s, &vec![0.0; s.iter().product()]));
        let r = &mut Recorder::new(g);
        let e = ops::conv1d::conv1d(r, &xz, &w, &bias, 1).expect_err("two directions");
        assert!(e.to_string().contains("directions"), "{e}");
        let e = ops::conv1d::conv1d_same(r, &xz, &w).expect_err("w of three dimensions");
        assert!(e.to_string().contains("conv1d: w"), "{e}");
        let nine = leaf(g, &[6, 9], &[0.0; 54]);
        let e = ops::conv1d::conv1d_same(r, &xz, &nine).expect_err("nine taps");
        assert!(e.to_string().contains("K of 1 to 8"), "{e}");
        let e = ops::conv1d::conv1d(r, &xz, &w, &w, 2).expect_err("bias (S, E, K)");
        assert!(e.to_string().contains("conv1d: bias"), "{e}");
        let stored = Var::leaf(Tensor::scratch_of(DType::F16, "stored", &[1, 2, 6]));
        let e = ops::conv1d::conv1d(r, &stored, &w, &bias, 2).expect_err("three channels in f16");
        assert!(e.to_string().contains("channels in f16"), "{e}");
    });
}
