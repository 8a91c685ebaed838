use rowscan::cpu::resample::{Form, backward, forward};
use rowscan::gpu::{DType, Gpu};
use rowscan::ops::resample::{adaptive_average, bilinear};
use rowscan::tape::{Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, each_tier, gpu, leaf, round_to_f16, run, some, stored_as, wide};

const FORMS: [Form; 3] = [Form::HalfPixels, Form::Corners, Form::Average];

fn op(r: &mut Recorder, form: Form, x: &Var, out: [usize; 2]) -> rowscan::Result<Var> {
    match form {
        Form::Average => adaptive_average(r, x, out),
        _ => bilinear(r, x, out, form == Form::Corners),
    }
}

fn check(g: &Gpu, form: Form, [b, h, w, c]: [usize; 4], [oh, ow]: [usize; 2], half: bool) {
    let mut random = Random::new((b * 7 + h * 31 + w * 5 + c + oh * 3 + ow) as u64);
    let (mut x, mut dy) = (random.normal(b * h * w * c), random.normal(b * oh * ow * c));
    if half {
        [&mut x, &mut dy].into_iter().for_each(|v| round_to_f16(v));
    }
    let (y, grads) = run(g, &[leaf(g, &[b, h, w, c], &x)], &dy, |r, v| {
        let x = stored_as(r, &v[0], DType::f16_if(half))?;
        let y = op(r, form, &x, [oh, ow])?;
        assert_eq!(y.data.is_f16(), half);
        stored_as(r, &y, DType::F32)
    });
    let (x, dy) = (wide(&x), wide(&dy));
    let at = format!("{form:?} {:?} to {:?}, f16 {half}", [b, h, w, c], [oh, ow]);
    // Weights are off by two roundings. A bin of n cells below 3 sums n/4-fold roundings; in f16 there is a map between
    // the two launches, which is rounded too.
    let cells = h.div_ceil(oh) * w.div_ceil(ow);
    let tol = Tol { rel: 3e-7, abs: 1e-6 + 1e-7 * (cells as f64).sqrt() };
    close(&format!("{at} y"), &y, &forward(form, [b, h, w, c], [oh, ow], &x), or_f16(tol, half, 3.0));
    // A cell gets at most about 2·out/in + 1 gradients below 3 in each direction.
    let most = (2 * oh / h + 2) * (2 * ow / w + 2);
    let tol = Tol { rel: 3e-7, abs: 4e-7 * most as f64 };
    let dx = backward(form, [b, h, w, c], [oh, ow], &dy);
    close(&format!("{at} dx"), &grads[0], &dx, or_f16(tol, half, 3.0 * most as f64));
}

/// The tolerance of maps in f16 whose values, and those between the two launches, are below `largest`: two roundings.
fn or_f16(tol: Tol, half: bool, largest: f64) -> Tol {
    if half { Tol { rel: 1e-3, abs: largest * 1e-3 } } else { tol }
}

#[test]
fn resample_matches_cpu() {
    each_tier(|g| {
        for form in FORMS {
            check(g, form, [1, 1, 1, 1], [1, 1], false);
            check(g, form, [1, 1, 1, 3], [4, 5], false);
            check(g, form, [2, 5, 7, 3], [10, 14], false);
            check(g, form, [2, 5, 7, 3], [2, 3], false);
            check(g, form, [2, 16, 16, 8], [6, 6], false); // four channels at a time
            check(g, form, [2, 6, 6, 8], [16, 16], false);
            check(g, form, [1, 5, 7, 8], [5, 3], false); // one side stays
            check(g, form, [1, 5, 7, 4], [9, 7], false);
            check(g, form, [1, 32, 300, 66], [64, 301], false); // more than 32,768 workgroups of items, almost equal
            check(g, form, [1, 61, 53, 2], [1, 1], false);
            check(g, form, [2, 5, 7, 4], [12, 3], true);
            check(g, form, [1, 9, 6, 12], [4, 17], true);
        }
        let mut random = Random::new(8);
        for i in some(0..18) {
            let d: Vec<usize> = random.below(6, 1 << 16).into_iter().map(|v| v as usize).collect();
            let shape = [1 + d[0] % 3, 1 + d[1] % 20, 1 + d[2] % 20, 1 + d[3] % 40];
            check(g, FORMS[i % 3], shape, [1 + d[4] % 40, 1 + d[5] % 40], false);
        }
    });
}

/// Places are fractions of whole numbers: a cell that lies exactly on another has its value, at any size.
#[test]
fn a_cell_on_another_has_its_value() {
    each_tier(|g| {
        let x: Vec<f32> = Random::new(1).normal(1001);
        let (y, _) =
            run(g, &[leaf(g, &[1, 1, 1001, 1], &x)], &vec![1.0; 3003], |r, v| bilinear(r, &v[0], [1, 3003], false));
        let middle: Vec<f32> = y.chunks(3).map(|three| three[1]).collect();
        assert_eq!(middle, x);
    });
}

#[test]
fn resample_names_what_does_not_fit() {
    let Some(g) = gpu() else { return };
    let x = leaf(g, &[1, 2, 2, 1], &[0.0; 4]);
    for size in [[0, 1], [1, 40_000]] {
        let e = bilinear(&mut Recorder::new(g), &x, size, false).expect_err("size").to_string();
        assert!(e.contains("bilinear: size"), "{e}");
        let e = adaptive_average(&mut Recorder::new(g), &x, size).expect_err("size").to_string();
        assert!(e.contains("adaptive_average: size"), "{e}");
    }
    let x = Var::leaf(Tensor::scratch_of(DType::F16, "x", &[1, 2, 2, 2]));
    let e = bilinear(&mut Recorder::new(g), &x, [3, 3], true).expect_err("two channels in f16").to_string();
    assert!(e.contains("bilinear: channels in f16: got 2, expected a multiple of 4"), "{e}");
}
