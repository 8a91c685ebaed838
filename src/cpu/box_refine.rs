//! The step between two stages of a cascade (detectron2's `CascadeROIHeads`): boxes move by their deltas, are clipped,
//! and are matched with the truths of their sample.
//!
//! ```text
//!   rois (R, 5): sample, x0, y0, x1, y1   deltas (R, 4)   sizes (B, 2): rows, columns of a picture   valid (R)
//!   truths (B, G, 5): x0, y0, x1, y1, class; absent where the class is below 0
//!   center' = center + delta/weight·side, side' = side·e^min(delta/weight, ln(1000/16)); clipped to the picture
//!   With truths, a box without an inside is no longer valid, and becomes (0, 0, 1, 1).
//!   best = the truth of the largest overlap, the first of equal ones; foreground where that reaches the threshold
//!   label = class of the best truth, or background; u32::MAX where not valid
//!   targets = the deltas from box to truth, with the next stage's weights, where foreground; else 0
//! ```

/// Left, top, right, bottom.
pub type Corners = [f64; 4];

/// ln(1000/16): sides grow at most by this factor.
pub const MOST: f64 = 4.135166556742356;

/// Constants of a step.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Weights of the deltas.
    pub weights: [f64; 4],
    /// Weights of the next stage's deltas.
    pub next: [f64; 4],
    /// Least overlap of a foreground box.
    pub threshold: f64,
    /// The label of the others.
    pub background: u32,
}

/// What a step gives, a row for each box.
#[derive(Clone, Debug, Default)]
pub struct Refined {
    /// (R, 5)
    pub rois: Vec<f64>,
    /// (R)
    pub valid: Vec<f64>,
    /// (R)
    pub foreground: Vec<f64>,
    /// (R)
    pub labels: Vec<u32>,
    /// (R, 4)
    pub targets: Vec<f64>,
}

/// Center and sides.
fn center(b: Corners) -> ([f64; 2], [f64; 2]) {
    let size = [b[2] - b[0], b[3] - b[1]];
    ([b[0] + 0.5 * size[0], b[1] + 0.5 * size[1]], size)
}

/// The box that the deltas move `b` to.
pub fn decode(b: Corners, deltas: [f64; 4], weights: [f64; 4]) -> Corners {
    let (at, size) = center(b);
    let side = |i: usize| {
        let to = at[i] + deltas[i] / weights[i] * size[i];
        let half = 0.5 * size[i] * (deltas[i + 2] / weights[i + 2]).min(MOST).exp();
        [to - half, to + half]
    };
    let [[x0, x1], [y0, y1]] = [side(0), side(1)];
    [x0, y0, x1, y1]
}

/// The deltas that move `b` to `to`.
pub fn encode(b: Corners, to: Corners, weights: [f64; 4]) -> [f64; 4] {
    let ((at, size), (there, sides)) = (center(b), center(to));
    let shift = |i: usize| weights[i] * (there[i] - at[i]) / size[i];
    let grow = |i: usize| weights[i + 2] * (sides[i] / size[i]).ln();
    [shift(0), shift(1), grow(0), grow(1)]
}

/// Intersection over union; 0 where the intersection is empty.
pub fn iou(a: Corners, b: Corners) -> f64 {
    let side = |i: usize| (a[i + 2].min(b[i + 2]) - a[i].max(b[i])).max(0.0);
    let (both, area) = (side(0) * side(1), |b: Corners| (b[2] - b[0]) * (b[3] - b[1]));
    if both > 0.0 { both / (area(a) + area(b) - both) } else { 0.0 }
}

/// A step. Without truths (G = 0) boxes only move.
pub fn refine(step: Step, rois: &[f64], deltas: &[f64], sizes: &[f64], valid: &[f64], truths: &[f64]) -> Refined {
    let mut out = Refined::default();
    let matched = !truths.is_empty();
    let each = truths.len() / (sizes.len() / 2);
    let boxes = rois.as_chunks::<5>().0.iter().zip(deltas.as_chunks::<4>().0);
    for (r, (&[first, x0, y0, x1, y1], &delta)) in boxes.enumerate() {
        let sample = first as usize;
        let moved = decode([x0, y0, x1, y1], delta, step.weights);
        let (rows, cols) = (sizes[2 * sample], sizes[2 * sample + 1]);
        let clip = |i: usize, most: f64| moved[i].clamp(0.0, most);
        let mut b = [clip(0, cols), clip(1, rows), clip(2, cols), clip(3, rows)];
        let is_valid = valid[r] != 0.0 && (!matched || (b[2] > b[0] && b[3] > b[1]));
        if !is_valid {
            b = [0.0, 0.0, 1.0, 1.0];
        }
        let mut best: Option<(f64, [f64; 4], f64)> = None;
        for &[x0, y0, x1, y1, class] in truths[sample * each..][..each].as_chunks::<5>().0 {
            let overlap = iou(b, [x0, y0, x1, y1]);
            if class >= 0.0 && best.is_none_or(|(most, ..)| overlap > most) {
                best = Some((overlap, [x0, y0, x1, y1], class));
            }
        }
        let best = best.filter(|(overlap, ..)| is_valid && *overlap >= step.threshold);
        out.rois.extend([first, b[0], b[1], b[2], b[3]]);
        out.valid.push(f64::from(u8::from(is_valid)));
        out.foreground.push(f64::from(u8::from(best.is_some())));
        out.labels.push(match best {
            Some((.., class)) => class as u32,
            None if is_valid => step.background,
            None => u32::MAX,
        });
        out.targets.extend(best.map_or([0.0; 4], |(_, truth, _)| encode(b, truth, step.next)));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const STEP: Step = Step { weights: [1.0; 4], next: [10.0, 10.0, 5.0, 5.0], threshold: 0.5, background: 80 };

    #[test]
    fn deltas_there_and_back() {
        let (a, b) = ([1.0, 2.0, 5.0, 10.0], [2.0, 0.0, 12.0, 9.0]);
        let back = decode(a, encode(a, b, STEP.next), STEP.next);
        assert!(back.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-12), "{back:?}");
        let far = decode([0.0, 0.0, 16.0, 16.0], [0.0, 0.0, 9.0, 9.0], [1.0; 4]);
        assert!((far[2] - far[0] - 1000.0).abs() < 1e-9, "{far:?}");
        assert_eq!(iou([0.0, 0.0, 2.0, 2.0], [1.0, 0.0, 3.0, 2.0]), 1.0 / 3.0);
    }

    #[test]
    fn boxes_match_are_background_or_vanish() {
        let rois = [0.0, 0.0, 0.0, 4.0, 4.0].repeat(3);
        // as it is; out of the picture; shifted by a side
        let deltas = [[0.0; 4], [-3.0, 0.0, 0.0, 0.0], [1.0, 0.0, 0.0, 0.0]].concat();
        let truths = [[0.0, 0.0, 4.0, 5.0, 7.0], [0.0, 0.0, 4.0, 4.0, -1.0]].concat();
        let out = refine(STEP, &rois, &deltas, &[20.0, 30.0], &[1.0; 3], &truths);
        assert_eq!(out.labels, [7, u32::MAX, 80]);
        assert_eq!((out.valid, out.foreground), (vec![1.0, 0.0, 1.0], vec![1.0, 0.0, 0.0]));
        assert_eq!(
            out.rois,
            [[0.0, 0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 0.0, 1.0, 1.0], [0.0, 4.0, 0.0, 8.0, 4.0]].concat()
        );
        assert_eq!(out.targets[1], 10.0 * 0.5 / 4.0);
        let out = refine(STEP, &rois, &deltas, &[20.0, 30.0], &[1.0; 3], &[]);
        assert_eq!(out.rois[5..10], [0.0, 0.0, 0.0, 0.0, 4.0]); // without truths an empty box stays
    }
}
