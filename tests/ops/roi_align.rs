use rowscan::cpu::roi_align::{Dims, backward, forward};
use rowscan::gpu::Gpu;
use rowscan::ops::roi_align::{RoiAlignOptions, roi_align};
use rowscan::tape::{Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, each_tier, gpu, leaf, run, some, wide};

struct Case {
    b: usize,
    c: usize,
    /// Rows and columns of the first level; each further one has half of both, rounded up.
    size: [usize; 2],
    stride: f64,
    levels: usize,
    output: [usize; 2],
    samples: usize,
    aligned: bool,
}

const CASE: Case =
    Case { b: 2, c: 8, size: [16, 19], stride: 4.0, levels: 3, output: [7, 7], samples: 0, aligned: true };

/// Boxes of all sizes, some across the border or outside, some empty or turned over.
fn boxes(random: &mut Random, n: usize, b: usize, extent: f32) -> Vec<f32> {
    let mut rois = Vec::new();
    for i in 0..n {
        let u = random.uniform(4, 0.0, 1.0);
        let side = extent * 0.02 * 80.0f32.powf(u[2]);
        let [x, y] = [u[0], u[1]].map(|u| (1.2 * u - 0.1) * extent);
        let (w, h) = (side * (0.5 + u[3]), side * (1.5 - u[3]));
        let far = match i % 13 {
            11 => [x, y],
            12 => [x - w, y + h],
            _ => [x + w, y + h],
        };
        rois.extend([random.below(1, b as u32)[0] as f32, x, y, far[0], far[1]]);
    }
    // Whole numbers of samples, and a box of the map's size. Both are off the grid by 1/64: a sample on the very border
    // of a map counts or not, as its last bit falls.
    rois.extend([0.0, 2.0, 2.0, 2.0 + 28.0 * 2.0, 2.0 + 28.0, 0.0, 0.0, 0.0, extent, extent]);
    let at = rois.len() - 10;
    rois[at..].chunks_mut(5).for_each(|roi| roi[1..].iter_mut().for_each(|side| *side += 1.0 / 64.0));
    rois
}

fn check(g: &Gpu, case: &Case, n: usize) {
    let &Case { b, c, size, stride, levels, output, samples, aligned } = case;
    let sizes: Vec<[usize; 2]> = (0..levels).map(|l| size.map(|side| side.div_ceil(1 << l))).collect();
    let extent = size[0].max(size[1]) as f32 * stride as f32;
    let dim = Dims {
        b,
        c,
        levels: sizes.iter().enumerate().map(|(l, size)| (*size, 1.0 / (stride * (1 << l) as f64))).collect(),
        out: output,
        samples,
        aligned,
        canonical_size: f64::from(extent) / 5.0,
        canonical_level: stride.log2().round() + 1.0,
    };
    let mut random = Random::new((b + c * 7 + size[0] * 31 + output[1] * 5 + samples) as u64);
    let rois = boxes(&mut random, n, b, extent);
    let count = rois.len() / 5;
    let maps: Vec<Vec<f32>> = sizes.iter().map(|[h, w]| random.normal(b * h * w * c)).collect();
    let dy = random.normal(count * output[0] * output[1] * c);
    let leaves: Vec<Var> = maps.iter().zip(&sizes).map(|(x, [h, w])| leaf(g, &[b, *h, *w, c], x)).collect();
    let tensor = Tensor::from_slice(g, &[count, 5], &rois).unwrap_or_else(|e| panic!("{e}"));
    let options = RoiAlignOptions {
        samples,
        aligned,
        canonical_size: dim.canonical_size,
        canonical_level: dim.canonical_level,
        gradient: 0.5,
        ..RoiAlignOptions::new(output)
    };
    let (y, grads) = run(g, &leaves, &dy, |r, v| {
        let levels: Vec<(&Var, f64)> = v.iter().enumerate().map(|(l, x)| (x, stride * f64::from(1 << l))).collect();
        roi_align(r, &levels, &tensor, options)
    });
    let (maps, wide_rois): (Vec<_>, _) = (maps.iter().map(|x| wide(x)).collect(), wide(&rois));
    let at = format!("{:?} x{b} {c} channels, {levels} levels to {output:?}, {samples} samples", size);
    // a place of up to 20 cells is off by 2e-6, and a weight with it; neighbors differ by up to 6 in both directions
    close(&format!("{at} y"), &y, &forward(&dim, &maps, &wide_rois), Tol { rel: 1e-6, abs: 4e-5 });
    let dx = backward(&dim, &wide_rois, &wide(&dy));
    for (level, (grad, dx)) in grads.iter().zip(dx).enumerate() {
        let dx: Vec<f64> = dx.into_iter().map(|v| 0.5 * v).collect();
        // as many such weights as boxes lie on a pixel, with all of their bins
        let most = dx.iter().fold(1.0f64, |most, v| v.abs().max(most));
        close(&format!("{at} dx of level {level}"), grad, &dx, Tol { rel: 1e-6, abs: 3e-5 * most });
    }
}

#[test]
fn roi_align_matches_cpu() {
    each_tier(|g| {
        check(g, &Case { b: 1, c: 1, size: [1, 1], levels: 1, output: [1, 1], ..CASE }, 3);
        check(g, &CASE, 40);
        check(g, &Case { c: 3, levels: 4, output: [5, 6], ..CASE }, 40);
        check(g, &Case { c: 6, levels: 1, samples: 2, ..CASE }, 30);
        check(g, &Case { levels: 2, aligned: false, output: [3, 2], ..CASE }, 30);
        check(g, &Case { b: 3, c: 68, size: [9, 5], levels: 2, output: [14, 14], ..CASE }, 20);
        check(g, &Case { c: 4, output: [2, 2], ..CASE }, 700); // more boxes than a workgroup takes at a time
        check(g, &Case { c: 256, levels: 2, ..CASE }, 80); // more than 32,768 workgroups' worth of items in two maps
        let mut random = Random::new(8);
        for i in some(0..8) {
            let d: Vec<usize> = random.below(7, 1 << 16).into_iter().map(|v| v as usize).collect();
            let case = Case {
                b: 1 + d[0] % 3,
                c: 1 + d[1] % 12,
                size: [1 + d[2] % 24, 1 + d[3] % 24],
                stride: [1.0, 4.0, 8.0][d[4] % 3],
                levels: 1 + d[4] % 4,
                output: [1 + d[5] % 14, 1 + d[6] % 9],
                samples: i % 3,
                aligned: i % 4 != 3,
            };
            check(g, &case, 25);
        }
    });
}

#[test]
fn level_of_a_box() {
    let options = RoiAlignOptions::new([7, 7]);
    let strides = [4.0, 8.0, 16.0, 32.0];
    let level = |side: f32| options.level(&strides, [3.0, 3.0, 3.0 + side, 3.0 + side]);
    assert_eq!([10.0, 111.0, 113.0, 224.0, 447.0, 448.0, 4000.0, -1.0].map(level), [0, 0, 1, 2, 2, 3, 3, 0]);
    assert_eq!(options.level(&strides[..2], [0.0, 0.0, 4000.0, 4000.0]), 1);
}

#[test]
fn roi_align_names_what_does_not_fit() {
    let Some(g) = gpu() else { return };
    let map = |c: usize| leaf(g, &[1, 2, 2, c], &vec![0.0; 4 * c]);
    let (x, other) = (map(1), map(2));
    let rois = |n: usize, columns: usize| Tensor::input("rois", &[n, columns]);
    let of = |levels: &[(&Var, f64)], rois: &Tensor, output: [usize; 2]| {
        let done = roi_align(&mut Recorder::new(g), levels, rois, RoiAlignOptions::new(output));
        done.expect_err("sizes").to_string()
    };
    assert!(of(&[(&x, 4.0)], &rois(2, 4), [7, 7]).contains("roi_align: rois"));
    assert!(of(&[(&x, 4.0)], &rois(2, 5), [0, 7]).contains("roi_align: output"));
    assert!(of(&[], &rois(2, 5), [7, 7]).contains("roi_align: strides"));
    assert!(of(&[(&x, 4.0), (&x, 16.0)], &rois(2, 5), [7, 7]).contains("roi_align: strides"));
    assert!(of(&[(&x, 4.0), (&other, 8.0)], &rois(2, 5), [7, 7]).contains("roi_align: map"));
}
