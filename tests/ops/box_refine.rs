use rowscan::cpu::box_refine::{Step, refine};
use rowscan::gpu::Gpu;
use rowscan::ops::box_refine::{BoxStep, refine_boxes};
use rowscan::tape::Recorder;
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, each_tier, gpu, some, wide};

fn check(g: &Gpu, b: usize, n: usize, truths: usize) {
    let mut random = Random::new((b * 7 + n * 31 + truths) as u64);
    let boxes = |random: &mut Random| {
        let u = random.uniform(4, 0.0, 1.0);
        [60.0 * u[0], 50.0 * u[1], 60.0 * u[0] + 2.0 + 30.0 * u[2], 50.0 * u[1] + 2.0 + 30.0 * u[3]]
    };
    let mut given: Vec<f32> = Vec::new();
    for i in 0..b * truths {
        let class = if i % 5 == 4 { -1.0 } else { random.below(1, 80)[0] as f32 };
        given.extend(boxes(&mut random));
        given.push(class);
    }
    let mut rois: Vec<f32> = Vec::new();
    for i in 0..n {
        let sample = random.below(1, b as u32)[0];
        rois.push(sample as f32);
        // two of three next to a truth
        match (i % 3, truths) {
            (0, _) | (_, 0) => rois.extend(boxes(&mut random)),
            _ => {
                let at = (sample as usize * truths + random.below(1, truths as u32)[0] as usize) * 5;
                rois.extend_from_slice(&given[at..at + 4]);
            }
        }
    }
    let mut deltas: Vec<f32> = random.normal(4 * n).into_iter().map(|v| v / 1.5).collect();
    deltas[..4].copy_from_slice(&[0.0, 0.0, 60.0, 60.0]); // more than sides may grow
    if n > 1 {
        deltas[4..8].copy_from_slice(&[-300.0, 0.0, 0.0, 0.0]); // out of the picture
    }
    let sizes: Vec<f32> = (0..b).flat_map(|i| [70.0 - i as f32, 80.0 + i as f32]).collect();
    let valid: Vec<f32> = (0..n).map(|i| if i % 7 == 6 { 0.0 } else { 1.0 }).collect();
    let (weights, next) = ([10.0, 10.0, 5.0, 5.0], [20.0, 20.0, 10.0, 10.0]);
    let step = BoxStep { weights, next, threshold: 0.6, background: 80 };

    let on = |shape: &[usize], values: &[f32]| Tensor::from_slice(g, shape, values).unwrap_or_else(|e| panic!("{e}"));
    let truths_ = (truths > 0).then(|| on(&[b, truths, 5], &given));
    let mut r = Recorder::inference(g);
    let (rois_, deltas_) = (on(&[n, 5], &rois), on(&[n, 4], &deltas));
    let (sizes_, valid_) = (on(&[b, 2], &sizes), on(&[n], &valid));
    let out = refine_boxes(&mut r, &rois_, &deltas_, &sizes_, &valid_, truths_.as_ref(), step);
    let out = out.and_then(|out| r.run().map(|()| out)).unwrap_or_else(|e| panic!("{e}"));
    let values = |tensor: &Tensor| tensor.to_vec(g).unwrap_or_else(|e| panic!("{e}"));

    let step = Step { weights, next, threshold: 0.6, background: 80 };
    let want = refine(step, &wide(&rois), &wide(&deltas), &wide(&sizes), &wide(&valid), &wide(&given));
    let at = format!("{n} boxes of {b}, {truths} truths");
    // an exp of up to e^4 times a side of up to 32
    close(&format!("{at} rois"), &values(&out.rois), &want.rois, Tol { rel: 2e-6, abs: 1e-4 });
    close(&format!("{at} valid"), &values(&out.valid), &want.valid, Tol::EXACT);
    close(&format!("{at} foreground"), &values(&out.foreground), &want.foreground, Tol::EXACT);
    let labels: Vec<u32> = values(&out.labels).into_iter().map(f32::to_bits).collect();
    assert_eq!(labels, want.labels, "{at}");
    // places that are off by 1e-5 over sides of at least 1, times a weight of 20
    close(&format!("{at} targets"), &values(&out.targets), &want.targets, Tol { rel: 1e-5, abs: 4e-4 });
}

#[test]
fn box_refine_matches_cpu() {
    each_tier(|g| {
        check(g, 1, 1, 1);
        check(g, 2, 30, 0);
        check(g, 3, 512, 17);
        check(g, 2, 1031, 128);
        let mut random = Random::new(6);
        let mut drawn = || [4, 200, 20].map(|below| 1 + random.below(1, below)[0] as usize);
        let drawn: Vec<_> = (0..6).map(|_| drawn()).collect();
        some(drawn).for_each(|[b, n, truths]| check(g, b, n, truths));
    });
}

/// Of two equal truths the first counts, and an overlap at the threshold is enough.
#[test]
fn ties_and_thresholds() {
    each_tier(|g| {
        let on =
            |shape: &[usize], values: &[f32]| Tensor::from_slice(g, shape, values).unwrap_or_else(|e| panic!("{e}"));
        let truths = on(&[1, 3, 5], &[0.0, 0.0, 4.0, 2.0, 9.0, 0.0, 0.0, 4.0, 2.0, 5.0, 9.0, 9.0, 10.0, 10.0, 1.0]);
        let rois = on(&[1, 5], &[0.0, 0.0, 0.0, 4.0, 4.0]);
        let (deltas, sizes, valid) = (on(&[1, 4], &[0.0; 4]), on(&[1, 2], &[20.0; 2]), on(&[1], &[1.0]));
        for (threshold, label) in [(0.5, 9), (0.5001, 80)] {
            let step = BoxStep { weights: [1.0; 4], next: [1.0; 4], threshold, background: 80 };
            let mut r = Recorder::inference(g);
            let out = refine_boxes(&mut r, &rois, &deltas, &sizes, &valid, Some(&truths), step);
            let out = out.and_then(|out| r.run().map(|()| out)).unwrap_or_else(|e| panic!("{e}"));
            assert_eq!(out.labels.to_vec(g).unwrap_or_else(|e| panic!("{e}"))[0].to_bits(), label);
        }
    });
}

#[test]
fn box_refine_names_what_does_not_fit() {
    let Some(g) = gpu() else { return };
    let of = |rois: [usize; 2], deltas: usize, truths: [usize; 3]| {
        let input = |shape: &[usize]| Tensor::input("boxes", shape);
        let step = BoxStep { weights: [1.0; 4], next: [1.0; 4], threshold: 0.5, background: 80 };
        let (rois, deltas, truths) = (input(&rois), input(&[deltas, 4]), input(&truths));
        let (sizes, valid) = (input(&[2, 2]), input(&[3]));
        let mut r = Recorder::new(g);
        refine_boxes(&mut r, &rois, &deltas, &sizes, &valid, Some(&truths), step).expect_err("sizes").to_string()
    };
    assert!(of([3, 4], 3, [2, 1, 5]).contains("refine_boxes: rois"));
    assert!(of([3, 5], 4, [2, 1, 5]).contains("refine_boxes: deltas"));
    assert!(of([3, 5], 3, [1, 1, 5]).contains("refine_boxes: truths"));
    assert!(of([3, 5], 3, [2, 0, 5]).contains("refine_boxes: truths"));
}
