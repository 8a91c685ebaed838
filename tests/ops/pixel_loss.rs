use rowscan::cpu::pixel_loss::{Dims, backward, forward};
use rowscan::gpu::Gpu;
use rowscan::ops::pixel_loss::{PixelMean, pixel_cross_entropy};
use rowscan::tape::Recorder;
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, each_tier, gpu, leaf, run, some, wide};

/// `ignored`: one of so many pixels has no label; 1 for all of them.
fn check(g: &Gpu, b: usize, small: [usize; 2], large: [usize; 2], k: usize, ignored: u32, offset: f32) {
    let mut random = Random::new((b * 7 + small[0] * 31 + large[1] * 5 + k) as u64);
    let shape = [b, small[0], small[1], k];
    let z: Vec<f32> = random.normal(shape.iter().product()).into_iter().map(|v| offset + 3.0 * v).collect();
    let n = b * large[0] * large[1];
    let mut labels = random.below(n, k as u32);
    for (label, draw) in labels.iter_mut().zip(random.below(n, ignored)) {
        if draw == 0 {
            *label = [255, u32::MAX, k as u32 + 300][*label as usize % 3];
        }
    }
    let on = Tensor::from_indices(g, &[b, large[0], large[1]], &labels).unwrap_or_else(|e| panic!("{e}"));
    for (labeled, mean) in [(false, PixelMean::All), (true, PixelMean::Labeled)] {
        let dim = Dims { b, small, large, k, labeled };
        let (loss, grads) = run(g, &[leaf(g, &shape, &z)], &[-1.5], |r, v| pixel_cross_entropy(r, &v[0], &on, mean));
        let at = format!("{shape:?} to {large:?}, {ignored}, {mean:?}");
        let z = wide(&z);
        // exp and log of WGSL have errors of 2⁻²¹ near 1, and scores below 12 + offset are interpolated
        let most = 12.0 + f64::from(offset.abs());
        close(&format!("{at} loss"), &loss, &[forward(dim, &z, &labels)], Tol { rel: 4e-6, abs: 4e-7 * most });
        let dz: Vec<f64> = backward(dim, &z, &labels).into_iter().map(|v| -1.5 * v).collect();
        // an exp of scores that are off by 2⁻²³ of their size
        let largest = dz.iter().fold(0.0f64, |most, v| v.abs().max(most));
        close(&format!("{at} dz"), &grads[0], &dz, Tol { rel: 1e-5, abs: (5e-6 + 3e-7 * most) * largest });
    }
}

#[test]
fn pixel_loss_matches_cpu() {
    each_tier(|g| {
        check(g, 1, [1, 1], [1, 1], 1, 5, 0.0);
        check(g, 2, [5, 7], [20, 28], 7, 4, 0.0);
        check(g, 3, [5, 7], [20, 28], 3, 1, 0.0); // nothing has a label: the loss and its gradients are 0
        check(g, 1, [1, 31], [1, 31], 81, 6, 0.0); // rows
        check(g, 2, [6, 5], [3, 2], 4, 5, 0.0); // fewer labels than scores
        check(g, 1, [3, 4], [50, 67], 150, 5, 500.0);
        check(g, 1, [2, 2], [41, 3], 2, 5, -500.0);
        check(g, 1, [1, 33_000], [1, 33_000], 3, 5, 0.0);
        let mut random = Random::new(3);
        for _ in some(0..10) {
            let d: Vec<usize> = random.below(6, 1 << 16).into_iter().map(|v| v as usize).collect();
            let (small, large) = ([1 + d[1] % 9, 1 + d[2] % 9], [1 + d[3] % 50, 1 + d[4] % 50]);
            check(g, 1 + d[0] % 3, small, large, 1 + d[5] % 40, 4, 0.0);
        }
    });
}

#[test]
fn pixel_loss_names_what_does_not_fit() {
    let Some(g) = gpu() else { return };
    let z = leaf(g, &[1, 2, 2, 3], &[0.0; 12]);
    let of = |shape: &[usize]| {
        let labels = Tensor::input("labels", shape);
        let done = pixel_cross_entropy(&mut Recorder::new(g), &z, &labels, PixelMean::All);
        done.expect_err("labels").to_string()
    };
    assert!(of(&[2, 4, 4]).contains("pixel_cross_entropy: z"));
    assert!(of(&[1, 0, 4]).contains("pixel_cross_entropy: z"));
    assert!(of(&[1, 400, 400]).contains("pixel_cross_entropy: size"));
}
