//! roi_align: the boxes of Cascade Mask R-CNN, from the levels of strides 4 to 32.

use crate::bench::ops::*;
use cpu::roi_align::{Dims, backward, forward};
use ops::roi_align::{RoiAlignOptions, roi_align};

const STRIDES: [f64; 4] = [4.0, 8.0, 16.0, 32.0];

fn dims(side: usize, c: usize, bins: usize) -> Dims {
    let levels = STRIDES.iter().map(|stride| ([side / *stride as usize; 2], 1.0 / stride)).collect();
    let (out, canonical_size) = ([bins; 2], side as f64 / 4.0);
    Dims { b: 1, c, levels, out, samples: 0, aligned: true, canonical_size, canonical_level: 4.0 }
}

const NAMES: [&str; 4] = ["p2", "p3", "p4", "p5"];

fn expect(v: &Values, dim: &Dims) -> Result<Vec<Want>> {
    let maps = NAMES.iter().map(|name| v.get(name).map(<[f64]>::to_vec)).collect::<Result<Vec<_>>>()?;
    let rois = v.get("rois")?;
    // places of up to 256 cells are off by 3e-5, and weights with them
    let mut all = vec![near("y", forward(dim, &maps, rois), 1e-4)];
    let names = ["dp2", "dp3", "dp4", "dp5"];
    all.extend(names.into_iter().zip(backward(dim, rois, v.get("dy")?)).map(|(name, dx)| near(name, dx, 1e-4)));
    Ok(all)
}

/// Boxes of a picture of this side: places and sizes from fractions of it.
fn boxes(side: usize, count: usize) -> Vec<f32> {
    let part = |i: usize, of: usize| (i * of % 101) as f32 / 101.0;
    let one = |i: usize| {
        let (x, y) = (part(i, 37) * 0.9 * side as f32, part(i, 53) * 0.9 * side as f32);
        let size = side as f32 * 0.02 * 40.0f32.powf(part(i, 29));
        [0.0, x, y, (x + size).min(side as f32), (y + 0.7 * size).min(side as f32)]
    };
    (0..count).flat_map(one).collect()
}

pub fn cases(c: &mut Cases) {
    let side = if c.scope.quick { 256 } else { 1024 };
    for (side, width, bins, count, timed) in [(64, c.scope.awkward(), 3, 20, false), (side, 256, 7, 512, true)] {
        let mut draft = c.case(format!("{width} {side}x{side} to {bins}x{bins} x{count}"));
        let dim = dims(side, width, bins);
        if timed {
            let cells: usize = dim.levels.iter().map(|([h, w], _)| h * w).sum();
            let pooled = count * bins * bins * width;
            draft = draft.floors([Floor::bytes(8 * pooled), Floor::bytes(4 * (pooled + cells * width))]);
        }
        let levels = dim.levels.clone();
        draft.check(1, "pictures", move |v| expect(v, &dim)).op(move |r, fill| {
            let map =
                |(name, ([h, w], _)): (&&'static str, &([usize; 2], f64))| fill.leaf(name, Whole, &[1, *h, *w, width]);
            let maps = NAMES.iter().zip(&levels).map(map).collect::<Result<Vec<_>>>()?;
            let rois = fill.values("rois", Whole, &[count, 5], &boxes(side, count))?;
            let options = RoiAlignOptions { canonical_size: side as f64 / 4.0, ..RoiAlignOptions::new([bins; 2]) };
            let levels: Vec<_> = maps.iter().zip(STRIDES).collect();
            Ok(vec![out("y", Whole, roi_align(r, &levels, &rois, options)?)])
        });
    }
}
