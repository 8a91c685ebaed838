use rowscan::cpu::conv2d::{Dims, backward, forward, transposed, transposed_backward};
use rowscan::gpu::{Caps, DType, Gpu, Precision};
use rowscan::ops::add::add;
use rowscan::ops::conv2d::{Conv2dOptions, conv2d, conv2d_transposed, same_padding};
use rowscan::tape::{Grads, Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{
    Random, Tol, close, each_choice, each_tier, gpu, leaf, one_in, round_to_f16, run, some, stored_as, wide,
};

/// B, H, W, C, O, groups, kernel, stride, padding, and whether there is a bias.
type Case = ([usize; 5], usize, [usize; 2], [usize; 2], [usize; 4], bool);

fn dims(&([b, h, w, c, o], groups, kernel, stride, padding, _): &Case) -> Dims {
    Dims { b, h, w, c, o, groups, kernel, stride, padding, ..Dims::default() }
}

fn options<'a>(dim: Dims, bias: Option<&'a Var>) -> Conv2dOptions<'a> {
    let Dims { stride, dilation, padding, groups, .. } = dim;
    Conv2dOptions { bias, stride, dilation, padding, groups, ..Conv2dOptions::default() }
}

/// The error of a sum of k products of unit variance is a random walk of about 2.4e-8·k (tests/ops/matmul/mod.rs);
/// `abs` is eight times that.
fn tol(k: usize) -> Tol {
    Tol { rel: 2e-7, abs: 2e-7 * (4.0 + k as f64) }
}

fn check(g: &Gpu, case: &Case) {
    check_stored(g, case, [false; 2]);
}

fn check_stored(g: &Gpu, case: &Case, halves: [bool; 2]) {
    check_in(g, Precision::F32, case, halves);
}

/// [`tol`] in a precision, for operands that the oracle reads rounded alike: as in tests/ops/matmul/mod.rs.
fn tol_in(precision: Precision, k: usize) -> Tol {
    let Tol { rel, abs } = tol(k);
    match precision {
        Precision::F32 => Tol { rel, abs },
        Precision::Mixed => Tol { rel: 4.0 * rel, abs: 4.0 * abs },
        Precision::High => Tol { rel: 1e-6, abs: 4.0 * abs + 2.4e-6 * (k as f64).sqrt() },
    }
}

/// `halves`: whether x and y are stored as f16.
fn check_in(g: &Gpu, precision: Precision, case: &Case, halves: [bool; 2]) {
    check_dilated(g, precision, case, [1; 2], halves);
}

fn check_dilated(g: &Gpu, precision: Precision, case: &Case, dilation: [usize; 2], halves: [bool; 2]) {
    let (dim, has_bias) = (Dims { dilation, ..dims(case) }, case.5);
    let Dims { b, h, w, c, o, kernel: [kh, kw], .. } = dim;
    let ([oh, ow], cg) = (dim.out(), c / dim.groups);
    let mut random = Random::new((h * 31 + w * 7 + c * 3 + o + kh) as u64);
    let (mut x, mut weight) = (random.normal(b * h * w * c), random.normal(o * cg * kh * kw));
    let (bias, mut dy) = (random.normal(o), random.normal(b * oh * ow * o));
    for (v, _) in [&mut x, &mut dy].into_iter().zip(halves).filter(|(_, half)| *half) {
        round_to_f16(v);
    }
    let mut leaves = vec![leaf(g, &[b, h, w, c], &x), leaf(g, &[o, cg, kh, kw], &weight)];
    leaves.extend(has_bias.then(|| leaf(g, &[o], &bias)));
    let (y, grads) = run(g, &leaves, &dy, |r, v| {
        r.set_precision(precision);
        let x = stored_as(r, &v[0], DType::f16_if(halves[0]))?;
        let dtype = DType::f16_if(halves[1]);
        let y = conv2d(r, &x, &v[1], Conv2dOptions { dtype, ..options(dim, v.get(2)) })?;
        assert_eq!(y.data.dtype(), dtype);
        stored_as(r, &y, DType::F32)
    });
    let (bias, dbias) = (
        wide(&bias),
        dy.chunks(o).fold(vec![0.0; o], |sum, row| sum.iter().zip(row).map(|(sum, dy)| sum + f64::from(*dy)).collect()),
    );
    // operands of a product are rounded in mixed precision; dbias is a sum
    if precision == Precision::Mixed {
        [&mut x, &mut weight, &mut dy].into_iter().for_each(|v| round_to_f16(v));
    }
    let (x, weight, dy, tol) = (wide(&x), wide(&weight), wide(&dy), |k| tol_in(precision, k));
    let back = backward(dim, &x, &weight, &dy);
    let (terms, name) =
        (kh * kw, |what| format!("{case:?} {what}, dilation {dilation:?}, in {precision}, f16 {halves:?}"));
    let wanted = forward(dim, &x, &weight, has_bias.then_some(&bias));
    close(&name("y"), &y, &wanted, tol(terms * cg).or_f16(halves[1]));
    close(&name("dx"), &grads[0], &back.dx, tol(terms * o / dim.groups).or_f16(halves[0]));
    close(&name("dw"), &grads[1], &back.dw, tol(b * oh * ow));
    if has_bias {
        close(&name("dbias"), &grads[2], &dbias, tol(b * oh * ow));
    }
}

/// Maps in f16: operands of a product, both ways, with loads of four and of one, and stores of four.
#[test]
fn conv2d_in_f16_matches_cpu() {
    let cases: [(Case, [bool; 2]); 7] = [
        (([2, 8, 11, 8, 12], 1, [3, 3], [2, 2], [1; 4], true), [true, true]),
        (([2, 17, 14, 3, 8], 1, [7, 7], [2, 2], [3; 4], true), [false, true]), // an image in f32
        (([1, 8, 12, 12, 6], 1, [4, 4], [4, 4], NONE, false), [true, false]),
        (([2, 5, 6, 8, 12], 1, [1, 1], [1, 1], NONE, true), [true, true]), // a linear layer
        (([1, 6, 5, 12, 24], 3, [3, 3], [3, 2], [1; 4], true), [true, true]), // groups
        (([1, 12, 12, 68, 132], 1, [3, 3], [1, 1], [1; 4], true), [true, true]),
        (([9, 33, 32, 4, 8], 1, [3, 3], [1, 1], [1; 4], false), [true, true]),
    ];
    each_choice(|g| one_in(3, cases).for_each(|(case, halves)| check_stored(g, &case, halves)));
}

/// The precisions of products: f16 operands with f32 sums, on cooperative matrices or without, and operands split into
/// two f16. Channels in eights, in fours and single, maps in f32 and in f16, and several tiles.
#[test]
fn conv2d_follows_the_precision_of_products() {
    let cases: [(Case, [bool; 2]); 11] = [
        (([1, 1, 1, 1, 1], 1, [2, 2], [1, 1], [1; 4], false), [false, false]),
        (([2, 7, 9, 5, 6], 1, [3, 3], [1, 1], [1; 4], true), [false, false]),
        (([2, 8, 11, 8, 16], 1, [3, 3], [2, 2], [1; 4], true), [true, true]), // loads of eight
        (([2, 8, 11, 8, 12], 1, [3, 3], [2, 2], [1; 4], false), [true, true]), // loads of four, for y of eight
        (([2, 17, 14, 3, 8], 1, [7, 7], [2, 2], [3; 4], true), [false, true]), // a stem
        (([2, 7, 6, 8, 12], 1, [1, 1], [2, 2], NONE, true), [false, false]),  // three of four phases of dx are 0
        (([1, 2, 3, 4, 4], 1, [5, 3], [1, 2], [2, 3, 1, 0], false), [false, false]), // a kernel larger than the map
        (([1, 6, 5, 24, 48], 3, [3, 3], [3, 2], [1; 4], true), [true, true]), // groups
        (([1, 5, 5, 6, 12], 6, [3, 3], [1, 1], [1; 4], true), [false, false]),
        (([1, 13, 12, 72, 136], 1, [3, 3], [1, 1], [1; 4], true), [true, true]), // several tiles
        (([9, 33, 32, 4, 8], 1, [3, 3], [1, 1], [1; 4], false), [false, true]),  // a sum of dw that is split
    ];
    each_choice(|g| {
        one_in(4, cases).for_each(|(case, halves)| check_in(g, Precision::Mixed, &case, halves));
        if g.caps().tiers.coop {
            // elsewhere it is f32; the loads are those of mixed precision
            cases.iter().skip(1).step_by(3).for_each(|(case, halves)| check_in(g, Precision::High, case, *halves));
        }
    });
}

/// Windows as large as the map, as in the linear layer behind pooled boxes, and others beside each other.
#[test]
fn conv2d_with_large_strides_matches_cpu() {
    let cases: [Case; 3] = [
        ([3, 7, 7, 8, 12], 1, [7, 7], [7, 7], NONE, true),
        ([2, 11, 17, 3, 5], 1, [3, 8], [5, 8], [1, 0, 2, 1], true),
        ([1, 8, 6, 6, 9], 3, [2, 3], [8, 6], NONE, false),
    ];
    each_tier(|g| cases.iter().for_each(|case| check(g, case)));
}

/// A sum of dx has the taps of one phase: a window as large as the map may have many channels.
#[test]
fn long_sums_are_refused_by_their_own_length() {
    let g = Gpu::dry(Caps::portable());
    let of = |stride: usize| {
        let of = |shape: &[usize]| Var::leaf(Tensor::input("map", shape));
        let options = Conv2dOptions { stride: [stride; 2], ..Conv2dOptions::default() };
        conv2d(&mut Recorder::new(&g), &of(&[2, 7, 7, 256]), &of(&[1024, 256, 7, 7]), options).map(drop)
    };
    of(7).unwrap();
    let error = of(1).unwrap_err().to_string();
    assert!(error.contains("49 taps of 1024 channels, expected at most 40960"), "{error}");
    assert!(of(9).unwrap_err().to_string().contains("1 to 8"));
}

/// Taps that are apart: dense, in groups and depthwise, more than a side of the map apart, and stored as f16.
#[test]
fn dilated_conv2d_matches_cpu() {
    let cases: [(Case, [usize; 2], [bool; 2]); 11] = [
        (([2, 9, 11, 8, 12], 1, [3, 3], [1, 1], [2; 4], true), [2, 2], [true, true]),
        (([1, 7, 8, 5, 6], 1, [3, 2], [1, 1], [2, 3, 0, 1], true), [3, 2], [false, false]), // loads of one
        (([1, 6, 5, 8, 12], 2, [3, 3], [1, 1], [4; 4], false), [4, 4], [false, false]),
        (([1, 5, 4, 8, 4], 1, [3, 3], [1, 1], [12; 4], true), [12, 12], [false, false]), // one tap reads the map
        (([1, 12, 12, 68, 132], 1, [3, 3], [1, 1], [2; 4], true), [2, 2], [false, false]), // several tiles
        (([2, 9, 10, 12, 12], 12, [3, 3], [1, 1], [2; 4], true), [2, 2], [true, true]),
        (([1, 13, 11, 65, 65], 65, [3, 3], [1, 1], [5; 4], true), [5, 5], [false, false]),
        (([2, 4, 5, 3, 3], 3, [3, 3], [1, 1], [36; 4], false), [36, 36], [false, false]),
        (([2, 4, 9, 6, 6], 6, [3, 3], [1, 1], [6; 4], true), [6, 6], [true, true]), // that of one side alone
        (([1, 20, 9, 6, 6], 6, [5, 5], [1, 1], [6, 2, 3, 7], true), [2, 2], [false, true]),
        (([1, 9, 9, 4, 4], 4, [3, 3], [1, 1], [1, 1, 2, 2], true), [1, 2], [false, false]), // by products
    ];
    each_choice(|g| {
        for (case, dilation, halves) in some(cases) {
            check_dilated(g, Precision::F32, &case, dilation, halves);
        }
        // a depthwise convolution rounds no operand
        for (case, dilation, halves) in one_in(2, &cases[..5]) {
            check_dilated(g, Precision::Mixed, case, *dilation, *halves);
        }
    });
}

/// As many terms as a sum may have, loaded by four and by one: llvmpipe ends long loops early.
#[test]
fn the_longest_sums_match_cpu() {
    let cases: [Case; 2] =
        [([1, 2, 2, 10_240, 4], 1, [2, 2], [1, 1], NONE, true), ([1, 1, 5, 8191, 3], 1, [1, 5], [1, 1], NONE, false)];
    each_tier(|g| cases.iter().for_each(|case| check(g, case)));
}

#[test]
fn depthwise_conv2d_in_f16_matches_cpu() {
    let same = |kernel: usize| [kernel / 2; 4];
    let cases: [(Case, [bool; 2]); 6] = [
        (([2, 6, 9, 12, 12], 12, [3, 3], [1, 1], same(3), true), [true, true]),
        (([2, 9, 12, 10, 10], 10, [5, 5], [2, 2], same(5), true), [true, true]),
        (([2, 5, 4, 8, 8], 8, [7, 7], [1, 1], same(7), true), [false, true]), // a residual stream in f32
        (([1, 13, 14, 66, 66], 66, [7, 7], [1, 1], same(7), false), [true, false]),
        (([1, 9, 10, 2, 2], 2, [3, 3], [4, 4], NONE, true), [true, true]),
        (([3, 40, 41, 6, 6], 6, [7, 7], [3, 3], same(7), true), [true, true]),
    ];
    each_tier(|g| some(cases).for_each(|(case, halves)| check_stored(g, &case, halves)));
}

const NONE: [usize; 4] = [0; 4];

#[test]
fn conv2d_matches_cpu() {
    let cases: [Case; 15] = [
        ([1, 1, 1, 1, 1], 1, [1, 1], [1, 1], NONE, false),
        ([2, 7, 9, 5, 6], 1, [3, 3], [1, 1], [1; 4], true),
        ([2, 8, 11, 8, 12], 1, [3, 3], [2, 2], [1; 4], false), // loads and stores of four
        ([2, 17, 14, 3, 8], 1, [7, 7], [2, 2], [3; 4], true),  // a stem
        ([2, 7, 8, 6, 12], 1, [2, 2], [2, 2], NONE, true),     // rows that no window reads
        ([1, 12, 18, 3, 8], 1, [4, 4], [4, 4], NONE, true),
        ([2, 7, 6, 8, 12], 1, [1, 1], [2, 2], NONE, true), // three of four phases of dx are 0
        ([2, 5, 6, 7, 9], 1, [1, 1], [1, 1], NONE, true),  // a linear layer
        ([2, 8, 11, 4, 6], 1, [3, 3], [2, 2], [0, 1, 1, 1], true),
        ([1, 2, 3, 4, 4], 1, [5, 3], [1, 2], [2, 3, 1, 0], false), // a kernel larger than the map
        ([2, 6, 5, 8, 12], 2, [3, 3], [1, 1], [1; 4], true),
        ([1, 6, 5, 12, 24], 3, [3, 3], [3, 2], [1; 4], true), // groups of four and eight channels
        ([1, 5, 5, 6, 12], 6, [3, 3], [1, 1], [1; 4], true),  // two channels of y for one of x: not depthwise
        ([1, 12, 12, 68, 132], 1, [3, 3], [1, 1], [1; 4], true), // several tiles
        ([9, 33, 32, 4, 8], 1, [3, 3], [1, 1], [1; 4], false), // a sum of dw that is split
    ];
    each_choice(|g| some(cases).for_each(|case| check(g, &case)));
}

#[test]
fn depthwise_conv2d_matches_cpu() {
    let same = |kernel: usize| [kernel / 2; 4];
    let cases: [Case; 10] = [
        ([1, 1, 1, 1, 1], 1, [3, 3], [1, 1], same(3), true),
        ([2, 6, 9, 12, 12], 12, [3, 3], [1, 1], same(3), false),
        ([2, 9, 12, 10, 10], 10, [5, 5], [2, 2], same(5), true),
        ([2, 5, 4, 8, 8], 8, [7, 7], [1, 1], same(7), true),
        ([1, 2, 1, 65, 65], 65, [7, 7], [1, 1], same(7), true), // a kernel larger than the map
        ([1, 13, 14, 5, 5], 5, [3, 3], [2, 2], [0, 1, 0, 1], false),
        ([1, 11, 9, 3, 3], 3, [5, 5], [4, 4], [2, 0, 1, 3], true), // phases of one and of two taps
        ([1, 9, 10, 3, 3], 3, [3, 3], [4, 4], NONE, true),         // pixels that no tap reads
        ([2, 70, 9, 7, 7], 7, [7, 7], [1, 1], same(7), true),      // three runs of rows
        ([3, 40, 41, 3, 3], 3, [7, 7], [3, 3], same(7), true),
    ];
    each_tier(|g| some(cases).for_each(|case| check(g, &case)));
}

#[test]
fn conv2d_matches_cpu_at_random_sizes() {
    each_choice(|g| {
        let mut random = Random::new(77);
        for _ in some(0..16) {
            let d: Vec<usize> = random.below(14, 1 << 16).into_iter().map(|v| v as usize).collect();
            // in every third case depthwise; else groups of channels that are multiples of 4 in every second case
            let (kernel, groups, cg, og) = match d[0] % 3 {
                0 => ([3 + d[1] % 3 * 2; 2], 1 + d[2] % 70, 1, 1),
                _ => {
                    let quads = 1 + 3 * (d[3] % 2);
                    ([1 + d[1] % 4, 1 + d[12] % 4], 1 + d[2] % 3, quads * (1 + d[4] % 6), quads * (1 + d[5] % 6))
                }
            };
            let stride = if d[0].is_multiple_of(3) { [1 + d[6] % 4; 2] } else { [1 + d[6] % 4, 1 + d[7] % 4] };
            let padding = [d[8] % 4, d[9] % 4, d[10] % 4, d[11] % 4];
            let (h, w) = (kernel[0] + d[13] % 11, kernel[1] + d[13] / 11 % 11);
            check(
                g,
                &(
                    [1 + d[7] % 3, h, w, groups * cg, groups * og],
                    groups,
                    kernel,
                    stride,
                    padding,
                    d[9].is_multiple_of(2),
                ),
            );
        }
    });
}

#[test]
fn transposed_conv2d_matches_cpu() {
    // the convolution whose gradient it is; every window fits, so that no row of its x is unread
    let cases: [Case; 6] = [
        ([2, 10, 12, 8, 4], 1, [2, 2], [2, 2], NONE, true), // also in f16
        ([2, 10, 12, 6, 8], 1, [2, 2], [2, 2], NONE, true),
        ([1, 8, 12, 12, 8], 1, [4, 4], [4, 4], NONE, false),
        ([2, 7, 9, 3, 5], 1, [3, 3], [2, 2], [1; 4], true),
        ([1, 5, 6, 8, 12], 2, [3, 2], [1, 1], [1, 0, 0, 1], true),
        ([1, 5, 5, 3, 3], 3, [3, 3], [1, 1], [1; 4], true), // depthwise, by products all the same
    ];
    each_choice(|g| {
        for (case, half) in [(cases[0], true)].into_iter().chain(some(cases).map(|case| (case, false))) {
            let (dim, has_bias) = (dims(&case), case.5);
            let Dims { b, h, w, c, o, kernel: [kh, kw], .. } = dim;
            let ([oh, ow], cg) = (dim.out(), c / dim.groups);
            let mut random = Random::new((h * 31 + w * 7 + c) as u64);
            let (mut x, weight) = (random.normal(b * oh * ow * o), random.normal(o * cg * kh * kw));
            let (bias, mut dy) = (random.normal(c), random.normal(b * h * w * c));
            if half {
                [&mut x, &mut dy].into_iter().for_each(|v| round_to_f16(v));
            }
            let mut leaves = vec![leaf(g, &[b, oh, ow, o], &x), leaf(g, &[o, cg, kh, kw], &weight)];
            leaves.extend(has_bias.then(|| leaf(g, &[c], &bias)));
            let (y, grads) = run(g, &leaves, &dy, |r, v| {
                let dtype = DType::f16_if(half);
                let x = stored_as(r, &v[0], dtype)?;
                let y = conv2d_transposed(r, &x, &v[1], Conv2dOptions { dtype, ..options(dim, v.get(2)) })?;
                stored_as(r, &y, DType::F32)
            });
            let (x, weight, bias, dy) = (wide(&x), wide(&weight), wide(&bias), wide(&dy));
            let back = transposed_backward(dim, &x, &weight, &dy);
            let y_wanted = transposed(dim, &x, &weight, has_bias.then_some(&bias));
            close(&format!("{case:?} y"), &y, &y_wanted, tol(kh * kw * o / dim.groups).or_f16(half));
            close(&format!("{case:?} dx"), &grads[0], &back.dx, tol(kh * kw * cg).or_f16(half));
            close(&format!("{case:?} dw"), &grads[1], &back.dw, tol(b * oh * ow));
            if has_bias {
                close(&format!("{case:?} dbias"), &grads[2], &back.dbias, tol(b * h * w));
            }
        }
    });
}

/// A product adds the gradient that x has already, as in a block with a shortcut.
#[test]
fn conv2d_adds_to_the_gradient_of_its_input() {
    each_tier(|g| {
        for (c, groups, half) in [(4, 1, false), (4, 4, false), (3, 1, false), (4, 1, true), (4, 4, true)] {
            let case: Case = ([2, 5, 6, c, c], groups, [3, 3], [1, 1], [1; 4], false);
            let dim = dims(&case);
            let mut random = Random::new(5);
            let (mut x, weight) = (random.normal(60 * c), random.normal(c * c / groups * 9));
            let mut dy = random.normal(60 * c);
            if half {
                [&mut x, &mut dy].into_iter().for_each(|v| round_to_f16(v));
            }
            let leaves = [leaf(g, &[2, 5, 6, c], &x), leaf(g, &[c, c / groups, 3, 3], &weight)];
            let (_, grads) = run(g, &leaves, &dy, |r, v| {
                let dtype = DType::f16_if(half);
                let x = stored_as(r, &v[0], dtype)?;
                let y = conv2d(r, &x, &v[1], Conv2dOptions { dtype, ..options(dim, None) })?;
                let sum = add(r, &y, &x)?;
                stored_as(r, &sum, DType::F32)
            });
            let (x, weight, dy) = (wide(&x), wide(&weight), wide(&dy));
            let dx: Vec<f64> = backward(dim, &x, &weight, &dy).dx.iter().zip(&dy).map(|(a, b)| a + b).collect();
            // a depthwise kernel rounds dx before the sum with dy, of up to 3, and that is rounded again
            let rounded = Tol { rel: 2.0 * 4.9e-4, abs: 3.0 * 4.9e-4 };
            close("dx", &grads[0], &dx, if half { rounded } else { tol(9 * c) });
        }
    });
}

#[test]
fn split_sums_of_dw_repeat_bit_for_bit() {
    each_choice(|g| {
        let case: Case = ([9, 32, 33, 4, 8], 1, [3, 3], [1, 1], [1; 4], false);
        let dim = dims(&case);
        let mut random = Random::new(6);
        let (x, weight, dy) = (random.normal(9 * 1056 * 4), random.normal(288), random.normal(9 * 1056 * 8));
        let leaves = [leaf(g, &[9, 32, 33, 4], &x), leaf(g, &[8, 4, 3, 3], &weight)];
        let once = || run(g, &leaves, &dy, |r, v| conv2d(r, &v[0], &v[1], options(dim, None)));
        assert_eq!(once(), once());
    });
}

#[test]
fn conv2d_computes_only_the_gradients_that_are_wanted() {
    let g = Gpu::dry(Caps::portable());
    let tensor = |shape: &[usize]| Tensor::input("constant", shape);
    let count = |groups: usize, wants_x: bool, wants_w: bool| {
        let var = |wanted: bool, shape: &[usize]| match wanted {
            true => Var::leaf(tensor(shape)),
            false => Var::constant(tensor(shape)),
        };
        let (x, w) = (var(wants_x, &[1, 6, 6, 8]), var(wants_w, &[8, 8 / groups, 3, 3]));
        let recorded = Recorder::new(&g).record(|r| {
            let y = conv2d(r, &x, &w, Conv2dOptions { groups, stride: [2, 2], ..Conv2dOptions::default() })?;
            r.backward_from(&y, tensor(&[1, 2, 2, 8]), Grads::default())
        });
        recorded.unwrap_or_else(|e| panic!("{e}")).0.launches().len()
    };
    // y and dx: packed weights and a product, whatever the stride; dw: one product
    assert_eq!([count(1, false, false), count(1, true, false), count(1, false, true)], [2, 4, 3]);
    // depthwise, dw: two stages
    assert_eq!([count(8, false, false), count(8, true, false), count(8, false, true)], [2, 4, 4]);
}

/// 8.3 million pixels: more tiles of 64 rows than a grid has workgroups.
#[test]
fn a_large_batch_of_large_maps_fits_into_a_grid() {
    let g = Gpu::dry(Caps { max_binding: 1 << 31, ..Caps::portable() });
    let (x, w) = (Tensor::input("x", &[660, 224, 224, 3]), Tensor::input("w", &[8, 3, 3, 3]));
    let recorded = Recorder::new(&g).record(|r| {
        let options = Conv2dOptions { stride: [2, 2], padding: [1; 4], ..Conv2dOptions::default() };
        let y = conv2d(r, &Var::leaf(x), &Var::leaf(w), options)?;
        r.backward_from(&y, Tensor::input("dy", &[660, 112, 112, 8]), Grads::default())
    });
    assert!(recorded.is_ok(), "{:?}", recorded.err());
}

#[test]
fn same_padding_is_tensorflow_s() {
    assert_eq!(same_padding([8, 11], [3, 3], [2, 2]), [0, 1, 1, 1]);
    assert_eq!(same_padding([5, 5], [5, 3], [1, 1]), [2, 2, 1, 1]);
    assert_eq!(same_padding([4, 4], [1, 1], [2, 2]), [0; 4]);
}

#[test]
fn conv2d_names_what_does_not_fit() {
    let Some(g) = gpu() else { return };
    let of = |shape: &[usize]| leaf(g, shape, &vec![0.0; shape.iter().product()]);
    let fails = |x: &[usize], w: &[usize], options: Conv2dOptions<'_>, says: &str| {
        let e = conv2d(&mut Recorder::new(g), &of(x), &of(w), options).expect_err(says).to_string();
        assert!(e.contains(says), "{e}");
    };
    let plain = Conv2dOptions::default();
    fails(&[1, 4, 4], &[2, 3, 1, 1], plain, "conv2d: x");
    fails(&[1, 4, 4, 3], &[2, 4, 3, 3], plain, "conv2d: w: got [2, 4, 3, 3] for 3 channels and 1 groups");
    fails(&[1, 4, 4, 3], &[2, 1, 3, 3], Conv2dOptions { groups: 3, ..plain }, "conv2d: w");
    fails(&[1, 4, 4, 3], &[2, 3, 3, 3], Conv2dOptions { stride: [0, 1], ..plain }, "conv2d: stride");
    fails(&[1, 4, 4, 3], &[2, 3, 5, 3], plain, "conv2d: kernel: got 5×3, expected at most 4×4");
    fails(&[1, 2, 2, 10_241], &[1, 10_241, 2, 2], plain, "conv2d: terms of a sum");
    let apart = |dilation: [usize; 2]| Conv2dOptions { dilation, ..plain };
    fails(&[1, 4, 4, 3], &[2, 3, 3, 3], apart([0, 1]), "conv2d: dilation: got [0, 1]");
    fails(&[1, 4, 4, 3], &[2, 3, 3, 3], apart([1, 2]), "conv2d: kernel: got 3×5, expected at most 4×4");
    let both = Conv2dOptions { stride: [2, 1], ..apart([1, 2]) };
    fails(&[1, 9, 9, 3], &[2, 3, 3, 3], both, "more than 1 without a stride only");
    let half = Conv2dOptions { dtype: DType::F16, ..plain };
    fails(&[1, 4, 4, 3], &[6, 3, 3, 3], half, "conv2d: y in f16: got 3 and 6 channels in 1 groups");
    fails(&[1, 4, 4, 3], &[3, 1, 3, 3], Conv2dOptions { groups: 3, ..half }, "conv2d: y in f16");
    let e = conv2d_transposed(&mut Recorder::new(g), &of(&[1, 4, 4, 3]), &of(&[2, 3, 1, 1]), plain);
    assert!(e.expect_err("3 and 2 channels").to_string().contains("conv2d_transposed: w"));
    let cut = Conv2dOptions { padding: [1; 4], ..plain };
    let e = conv2d_transposed(&mut Recorder::new(g), &of(&[1, 1, 1, 3]), &of(&[3, 3, 2, 2]), cut);
    assert!(e.expect_err("nothing left").to_string().contains("conv2d_transposed: padding"));
    let bias = of(&[3]);
    fails(&[1, 4, 4, 3], &[2, 3, 3, 3], Conv2dOptions { bias: Some(&bias), ..plain }, "conv2d: bias");
}
