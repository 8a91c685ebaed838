use rowscan::cpu::pool::{Dims, backward, forward};
use rowscan::cpu::reduce as means;
use rowscan::gpu::{DType, Gpu};
use rowscan::ops::pool::{Windows, global_average, max_pool};
use rowscan::tape::{Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, each_tier, gpu, leaf, round_to_f16, run, some, stored_as, wide};

/// `levels`: x has this many different numbers, so that there are ties; 0 for no ties.
fn check(g: &Gpu, shape: [usize; 4], windows: Windows, levels: u32) {
    check_stored(g, shape, windows, levels, false);
}

/// [`check`] with maps in f16 if `half`.
fn check_stored(g: &Gpu, [b, h, w, c]: [usize; 4], windows: Windows, levels: u32, half: bool) {
    let Windows { kernel, stride, padding } = windows;
    let dim = Dims { b, h, w, c, kernel, stride, padding };
    let [oh, ow] = dim.out();
    let mut random = Random::new((b * 7 + h * 31 + w * 5 + c) as u64);
    let mut x: Vec<f32> = match levels {
        0 => random.normal(b * h * w * c),
        _ => random.below(b * h * w * c, levels).into_iter().map(|v| v as f32 - 2.0).collect(),
    };
    let mut dy = random.normal(b * oh * ow * c);
    if half {
        [&mut x, &mut dy].into_iter().for_each(|v| round_to_f16(v));
    }
    let (y, grads) = run(g, &[leaf(g, &[b, h, w, c], &x)], &dy, |r, v| {
        let x = stored_as(r, &v[0], DType::f16_if(half))?;
        let y = max_pool(r, &x, windows)?;
        assert_eq!(y.data.is_f16(), half);
        stored_as(r, &y, DType::F32)
    });
    let (x, dy) = (wide(&x), wide(&dy));
    let at = format!("{:?} {windows:?}, {levels} levels, f16 {half}", [b, h, w, c]);
    close(&format!("{at} y"), &y, &forward(dim, &x).0, Tol::EXACT);
    // a sum of at most ⌈k/s⌉² gradients of up to 3
    close(&format!("{at} dx"), &grads[0], &backward(dim, &x, &dy), Tol { rel: 2e-7, abs: 2e-6 }.or_f16(half));
}

#[test]
fn max_pool_matches_cpu() {
    each_tier(|g| {
        let of = |kernel, stride, padding| Windows { kernel, stride, padding };
        for levels in [0, 3] {
            check(g, [1, 1, 1, 1], Windows::RESNET, levels);
            check(g, [2, 8, 9, 5], Windows::RESNET, levels);
            check(g, [2, 7, 8, 8], Windows::RESNET, levels); // four channels at a time
            check(g, [1, 56, 57, 66], Windows::RESNET, levels);
            check(g, [1, 9, 8, 3], of([2, 2], [2, 2], [0, 0]), levels); // a row that no window reads
            check(g, [2, 6, 7, 4], of([3, 2], [1, 3], [2, 1]), levels);
            check(g, [1, 20, 20, 2], of([15, 17], [2, 1], [7, 8]), levels); // places up to 254
            check_stored(g, [2, 7, 8, 8], Windows::RESNET, levels, true);
            check_stored(g, [1, 29, 31, 68], Windows::RESNET, levels, true);
            check_stored(g, [2, 6, 7, 4], of([3, 2], [1, 3], [2, 1]), levels, true);
        }
        let mut random = Random::new(8);
        for _ in some(0..12) {
            let d: Vec<usize> = random.below(10, 1 << 16).into_iter().map(|v| v as usize).collect();
            let kernel = [1 + d[0] % 5, 1 + d[1] % 5];
            let windows = of(kernel, [1 + d[2] % 4, 1 + d[3] % 4], [d[4] % kernel[0], d[5] % kernel[1]]);
            let shape = [1 + d[6] % 3, kernel[0] + d[7] % 12, kernel[1] + d[8] % 12, 1 + d[9] % 70];
            check(g, shape, windows, (d[9] % 2 * 4) as u32);
        }
    });
}

#[test]
fn global_average_is_the_mean_over_pixels() {
    each_tier(|g| {
        for (c, half) in [(5, false), (6, true)] {
            let ([b, h, w], mut random) = ([3, 4, 7], Random::new(2));
            let (mut x, dy) = (random.normal(b * h * w * c), random.normal(b * c));
            if half {
                round_to_f16(&mut x);
            }
            let (y, grads) = run(g, &[leaf(g, &[b, h, w, c], &x)], &dy, |r, v| {
                let x = stored_as(r, &v[0], DType::f16_if(half))?;
                global_average(r, &x) // f32
            });
            let tol = Tol { rel: 2e-7, abs: 1e-6 }; // 28 numbers of up to 3
            close("y", &y, &means::mean_tokens(h * w, c, &wide(&x)), tol);
            close("dx", &grads[0], &means::mean_tokens_backward(h * w, c, &wide(&dy)), tol.or_f16(half));
        }
    });
}

#[test]
fn max_pool_names_what_does_not_fit() {
    let Some(g) = gpu() else { return };
    let x = leaf(g, &[1, 2, 2, 1], &[0.0; 4]);
    for (kernel, stride, padding) in [
        ([3, 3], [1, 1], [0, 0]),
        ([2, 2], [0, 1], [0, 0]),
        ([2, 2], [1, 1], [2, 0]),
        ([16, 16], [1, 1], [15, 15]),
        ([0, 1], [1, 1], [0, 0]),
    ] {
        let windows = Windows { kernel, stride, padding };
        let e = max_pool(&mut Recorder::new(g), &x, windows).expect_err("windows").to_string();
        assert!(e.contains("max_pool: windows"), "{e}");
    }
    let x = Var::leaf(Tensor::scratch_of(DType::F16, "x", &[1, 2, 2, 2]));
    let windows = Windows { kernel: [1; 2], stride: [1; 2], padding: [0; 2] };
    let e = max_pool(&mut Recorder::new(g), &x, windows).expect_err("two channels in f16").to_string();
    assert!(e.contains("max_pool: channels in f16: got 2, expected a multiple of 4"), "{e}");
}
