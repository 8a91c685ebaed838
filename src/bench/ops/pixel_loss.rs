//! pixel_loss: scores at stride 4 against labels, ADE20K's 150 classes.

use crate::bench::ops::*;
use cpu::pixel_loss::{Dims, backward, forward};
use ops::pixel_loss::{PixelMean, pixel_cross_entropy};

fn expect(v: &Values, large: [usize; 2]) -> Result<Vec<Want>> {
    let [b, h, w, k] = v.shape("z")?;
    let dim = Dims { b, small: [h, w], large, k, labeled: false };
    let (z, labels, d) = (v.get("z")?, v.indices("labels")?, v.get("dloss")?[0]);
    // exp and log are off by a few ulp
    let dz = backward(dim, z, &labels).into_iter().map(|v| d * v).collect();
    Ok(vec![near("loss", vec![forward(dim, z, &labels)], 8e-6), near("dz", dz, 1e-5)])
}

pub fn cases(c: &mut Cases) {
    let side = if c.scope.quick { 8 } else { 64 };
    for (b, side, ratio, k, timed) in [(2, 3, 5, 7, false), (1, side, 4, 150, true)] {
        let large = [side * ratio; 2];
        let pixels = b * large[0] * large[1];
        let mut draft = c.case(format!("{k} classes {side}x{side} to {}x{} x{b}", large[0], large[1]));
        if timed {
            let (z, scores) = (b * side * side * k, pixels * k);
            let forward = Floor::of(4 * z + 12 * pixels, 9 * scores, scores);
            draft = draft.floors([forward, Floor::of(8 * z + 12 * pixels, 36 * scores, 4 * scores)]);
        }
        draft.check(8, "pictures", move |v| expect(v, large)).op(move |r, fill| {
            let z = fill.leaf("z", Whole, &[b, side, side, k])?;
            let classes: Vec<u32> = (0..pixels).map(|i| [0, 3, 1, 255, 5][i / 7 % 5]).collect();
            let labels = fill.table("labels", Whole, &[b, large[0], large[1]], &classes)?;
            Ok(vec![out("loss", Whole, pixel_cross_entropy(r, &z, &labels, PixelMean::All)?)])
        });
    }
}
