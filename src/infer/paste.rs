//! Masks of boxes, from the small grid of a mask head to the pixels of the picture.

/// Left, top, right, bottom.
type Corners = [f64; 4];

/// Boxes of a network's input in the pixels of the picture, clipped to it, and for each whether it still has an inside.
/// `from` and `to` are [rows, columns].
///
/// - detectron2: the first half of `detector_postprocess`.
pub fn on_picture(boxes: &[Corners], from: [usize; 2], to: [usize; 2]) -> Vec<(Corners, bool)> {
    let [down, across] = [0, 1].map(|axis| to[axis] as f64 / from[axis] as f64);
    let (rows, cols) = (to[0] as f64, to[1] as f64);
    let moved = |b: &Corners| {
        let x = |v: f64| (v * across).clamp(0.0, cols);
        let y = |v: f64| (v * down).clamp(0.0, rows);
        let b = [x(b[0]), y(b[1]), x(b[2]), y(b[3])];
        (b, b[2] > b[0] && b[3] > b[1])
    };
    boxes.iter().map(moved).collect()
}

/// The mask (rows, columns) of 0 and 1 of a box, from the probabilities (`side`, `side`) of the cells of its grid:
/// interpolated at the centers of pixels, 0 beyond the outermost cells, and 1 from `least` on.
///
/// - detectron2: `paste_masks_in_image(mask, box, (rows, columns), threshold=least)`.
pub fn pasted(
    probabilities: &[f32], side: usize, [left, top, right, bottom]: Corners, [rows, cols]: [usize; 2], least: f64,
) -> Vec<u8> {
    let place = |i: usize, low: f64, high: f64| (i as f64 + 0.5 - low) / (high - low) * side as f64 - 0.5;
    let mut mask = vec![0; rows * cols];
    // nothing reaches further than half a cell beyond the box
    let reach = |low: f64, high: f64, n: usize| {
        let cell = (high - low) / side as f64;
        ((low - cell).floor().max(0.0) as usize).min(n)..((high + cell).ceil().max(0.0) as usize).min(n)
    };
    for y in reach(top, bottom, rows) {
        let v = place(y, top, bottom);
        for x in reach(left, right, cols) {
            let u = place(x, left, right);
            mask[y * cols + x] = u8::from(interpolated(probabilities, side, u, v) >= least);
        }
    }
    mask
}

/// The value between the four cells around (u, v); cells outside of the grid are 0.
fn interpolated(grid: &[f32], side: usize, u: f64, v: f64) -> f64 {
    let at = |x: f64, y: f64| {
        let inside = x >= 0.0 && y >= 0.0 && x < side as f64 && y < side as f64;
        if inside { f64::from(grid[y as usize * side + x as usize]) } else { 0.0 }
    };
    let (x, y) = (u.floor(), v.floor());
    let (right, low) = (u - x, v - y);
    let line = |y: f64| at(x, y) * (1.0 - right) + at(x + 1.0, y) * right;
    line(y) * (1.0 - low) + line(y + 1.0) * low
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boxes_are_scaled_and_clipped() {
        let found = on_picture(&[[1.0, 2.0, 30.0, 4.0], [20.0, 0.0, 25.0, 4.0]], [10, 20], [20, 10]);
        assert_eq!(found, [([0.5, 4.0, 10.0, 8.0], true), ([10.0, 0.0, 10.0, 8.0], false)]);
    }

    #[test]
    fn a_full_grid_fills_its_box() {
        let mask = pasted(&[1.0; 4], 2, [1.0, 1.0, 3.0, 3.0], [4, 4], 0.5);
        let want = [0, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0];
        assert_eq!(mask, want);
        // the right column only; outside of the picture nothing is drawn
        let mask = pasted(&[0.0, 1.0, 0.0, 1.0], 2, [-2.0, -2.0, 2.0, 2.0], [2, 2], 0.5);
        assert_eq!(mask, [1, 1, 1, 1]);
    }
}
