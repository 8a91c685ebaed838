//! box_refine: the boxes of a stage of Cascade R-CNN.

use crate::bench::ops::*;
use cpu::box_refine::{Step, refine};
use ops::box_refine::{BoxStep, refine_boxes};

const WEIGHTS: [[f64; 4]; 2] = [[10.0, 10.0, 5.0, 5.0], [20.0, 20.0, 10.0, 10.0]];

fn expect(v: &Values) -> Result<Vec<Want>> {
    let [weights, next] = WEIGHTS;
    let step = Step { weights, next, threshold: 0.6, background: 80 };
    let (rois, deltas, truths) = (v.get("rois")?, v.get("deltas")?, v.get("truths")?);
    let found = refine(step, rois, deltas, v.get("sizes")?, v.get("valid")?, truths);
    // a few roundings of places; targets divide by sides
    Ok(vec![near("boxes", found.rois, 2e-6), near("targets", found.targets, 1e-4)])
}

pub fn cases(c: &mut Cases) {
    for (samples, each, truths, timed) in [(2, 9, 3, false), (c.scope.batch().min(8), 512, 128, true)] {
        let n = samples * each;
        let mut draft = c.case(format!("{each} boxes, {truths} truths x{samples}"));
        if timed {
            let bytes = 4 * (n * (5 + 4 + 1 + 5 + 1 + 6) + samples * (2 + 5 * truths));
            draft = draft.floor(Floor::of(bytes, 20 * n * truths, 0));
        }
        draft.check(1, "all", expect).launches(move |r, fill| {
            let part = |i: usize, of: usize| (i * of % 101) as f32 / 101.0;
            let place = |i: usize| {
                let (x, y) = (600.0 * part(i, 37), 600.0 * part(i, 53));
                [x, y, x + 30.0 + 300.0 * part(i, 29), y + 30.0 + 300.0 * part(i, 71)]
            };
            let roi = |i: usize| [&[(i / each) as f32][..], &place(i % each)].concat();
            let truth = |i: usize| [&place(i % truths)[..], &[(i % 80) as f32]].concat();
            let rois = fill.values("rois", Whole, &[n, 5], &(0..n).flat_map(roi).collect::<Vec<_>>())?;
            let all: Vec<f32> = (0..samples * truths).flat_map(truth).collect();
            let truths = fill.values("truths", Whole, &[samples, truths, 5], &all)?;
            let deltas: Vec<f32> = (0..4 * n).map(|i| part(i, 17) - 0.5).collect();
            let deltas = fill.values("deltas", Whole, &[n, 4], &deltas)?;
            let sizes = fill.values("sizes", Whole, &[samples, 2], &vec![900.0; 2 * samples])?;
            let valid = fill.values("valid", Whole, &[n], &vec![1.0; n])?;
            let [weights, next] = WEIGHTS;
            let step = BoxStep { weights, next, threshold: 0.6, background: 80 };
            let found = refine_boxes(r, &rois, &deltas, &sizes, &valid, Some(&truths), step)?;
            Ok(vec![result("boxes", Whole, found.rois), result("targets", Whole, found.targets)])
        });
    }
}
