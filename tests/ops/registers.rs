use rowscan::cpu::registers as cpu;
use rowscan::cpu::registers::Dims;
use rowscan::gpu::{Caps, Gpu};
use rowscan::ops::registers::{Places, extract, insert, rest};
use rowscan::tape::{Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, each_tier, leaf, run, wide};

fn check(g: &Gpu, dim: Dims, seed: u64) {
    eprintln!("{dim:?}");
    let Dims { b, l, n, d, first, step } = dim;
    let places = Places { first, step, count: n };
    let mut random = Random::new(seed);
    let (x, all) = (random.normal(b * l * d), random.normal(b * (l + n) * d));
    for samples in if b == 1 { vec![1] } else { vec![1, b] } {
        let r = random.normal(samples * n * d);
        let leaves = [leaf(g, &[b, l, d], &x), leaf(g, &[samples, n, d], &r)];
        let (out, grads) = run(g, &leaves, &all, |r, v| insert(r, &v[0], &v[1], places));
        close("insert out", &out, &cpu::insert(dim, &wide(&x), &wide(&r)), Tol::EXACT);
        let (dx, dr) = cpu::insert_backward(dim, &wide(&all), samples == 1);
        close("insert dx", &grads[0], &dx, Tol::EXACT);
        // registers shared by all samples: dr is an f32 sum of b normals
        let sum = Tol { rel: 1e-6, abs: if samples == b { 0.0 } else { 1e-6 * (b as f64).sqrt() } };
        close("insert dr", &grads[1], &dr, sum);
    }
    let dr = random.normal(b * n * d);
    let (out, grads) = run(g, &[leaf(g, &[b, l + n, d], &all)], &dr, |r, v| extract(r, &v[0], places));
    close("extract out", &out, &cpu::extract(dim, &wide(&all)), Tol::EXACT);
    close("extract dx", &grads[0], &cpu::extract_backward(dim, &wide(&dr)), Tol::EXACT);
    let (out, grads) = run(g, &[leaf(g, &[b, l + n, d], &all)], &x, |r, v| rest(r, &v[0], places));
    close("rest out", &out, &cpu::rest(dim, &wide(&all)), Tol::EXACT);
    close("rest dx", &grads[0], &cpu::rest_backward(dim, &wide(&x)), Tol::EXACT);
}

#[test]
fn registers_match_cpu() {
    each_tier(|g| {
        let even = |b, l, n, d| {
            let places = Places::even(l, n);
            Dims { b, l, n, d, first: places.first, step: places.step }
        };
        let sizes = [
            Dims { b: 1, l: 1, n: 1, d: 1, first: 0, step: 1 },
            Dims { b: 3, l: 7, n: 1, d: 5, first: 7, step: 1 }, // after all tokens
            Dims { b: 2, l: 5, n: 3, d: 7, first: 2, step: 1 }, // next to each other
            even(2, 3, 4, 3),                                   // more registers than tokens: all come first
            even(131, 13, 3, 31),
            even(2, 196, 12, 192),
            even(1, 33_003, 2, 3), // more than the 32768 workgroups of a grid row
        ];
        for (i, dim) in sizes.into_iter().enumerate() {
            check(g, dim, i as u64);
        }
        let mut random = Random::new(9);
        for seed in 0..10 {
            let draw: Vec<usize> = random.below(4, 30).into_iter().map(|v| v as usize + 1).collect();
            check(g, even(draw[0], draw[1], draw[2], draw[3]), seed);
        }
    });
}

/// The table in src/models/README.md, "Patches, positions and registers": side of the grid, number of registers, first
/// place, step, last place, patches after the last place.
#[test]
fn mamba_r_spreads_its_registers() {
    for (side, n, first, step, last, tail) in
        [(14, 12, 15, 16, 191, 16), (14, 16, 11, 12, 191, 20), (24, 12, 44, 45, 539, 48), (24, 16, 33, 34, 543, 48)]
    {
        let places = Places::even(side * side, n);
        assert_eq!(places, Places { first, step, count: n });
        assert_eq!(places.iter().last(), Some(last));
        assert_eq!(side * side + n - 1 - last, tail);
    }
    assert_eq!(Places::middle(196).first, 98);
}

#[test]
fn registers_refuse_places_outside() {
    let g = Gpu::dry(Caps::portable());
    let r = &mut Recorder::new(&g);
    let var = |shape: &[usize]| Var::leaf(Tensor::input("v", shape));
    let places = Places { first: 2, step: 3, count: 2 };
    assert!(insert(r, &var(&[2, 4, 8]), &var(&[1, 2, 8]), places).is_ok());
    let error = insert(r, &var(&[2, 3, 8]), &var(&[1, 2, 8]), places).unwrap_err().to_string();
    assert!(error.contains("places within 5 tokens"), "{error}");
    let error = insert(r, &var(&[3, 4, 8]), &var(&[2, 2, 8]), places).unwrap_err().to_string();
    assert!(error.contains("registers.insert: r") && error.contains("[3, 2, 8]"), "{error}");
    assert!(extract(r, &var(&[2, 5, 8]), places).is_err());
    assert!(rest(r, &var(&[2, 5, 8]), places).is_err());
}
