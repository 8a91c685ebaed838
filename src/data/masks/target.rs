//! What a mask head should say of a box: the object's mask inside of it, on a small grid.

use super::runs::RunLengths;
use crate::error::{Error, Result};

/// The part of an object inside a box, as `side`×`side` cells of 0 and 1, row by row. `parts` are the object's polygons
/// x₀, y₀, x₁, y₁, …, whose union it is.
///
/// - detectron2: `rasterize_polygons_within_box`.
///
/// # Errors
/// Those of [`RunLengths::of_polygon`].
pub fn polygon_target(parts: &[Vec<f64>], [left, top, right, bottom]: [f64; 4], side: u32) -> Result<Vec<u8>> {
    let scale = |low: f64, high: f64| f64::from(side) / (high - low).max(0.1);
    let (across, down) = (scale(left, right), scale(top, bottom));
    let mut union: Option<RunLengths> = None;
    for part in parts {
        let place = |(i, v): (usize, &f64)| if i % 2 == 0 { (v - left) * across } else { (v - top) * down };
        let moved: Vec<f64> = part.iter().enumerate().map(place).collect();
        let mask = RunLengths::of_polygon(side, side, &moved)?;
        union = Some(match union {
            Some(union) => union.union(&mask)?,
            None => mask,
        });
    }
    Ok(union.map_or_else(|| vec![0; (side * side) as usize], |union| union.rows()))
}

/// [`polygon_target`] of an object that is given as a mask of [rows, columns], row by row: the mask is pooled as boxes
/// are pooled from maps, with a sample for each pixel, and a cell counts from ½ on.
///
/// - detectron2: `BitMasks.crop_and_resize`.
///
/// # Errors
/// If there are not rows · columns pixels, or none.
pub fn bitmap_target(mask: &[u8], [rows, cols]: [usize; 2], corners: [f64; 4], side: usize) -> Result<Vec<u8>> {
    if mask.len() != rows * cols || mask.is_empty() {
        return Err(Error::argument("pixels of a mask", mask.len(), format!("{rows} · {cols}, at least 1")));
    }
    let down = taps(corners[1], corners[3], side, rows);
    let across = taps(corners[0], corners[2], side, cols);
    let mut target = Vec::with_capacity(side * side);
    for down in &down {
        for across in &across {
            let line = |y: usize| across.iter().map(|(x, w)| w * f64::from(mask[y * cols + x])).sum::<f64>();
            let share: f64 = down.iter().map(|(y, w)| w * line(*y)).sum();
            target.push(u8::from(share >= 0.5));
        }
    }
    Ok(target)
}

/// For each of `bins` of an axis from `low` to `high`, the cells of a side of `n` that it reads, with their weights.
fn taps(low: f64, high: f64, bins: usize, n: usize) -> Vec<Vec<(usize, f64)>> {
    let (start, bin) = (low - 0.5, (high - low) / bins as f64);
    let count = bin.ceil().max(0.0) as usize;
    let of_bin = |p: usize| {
        let mut taps = Vec::new();
        for i in 0..count {
            let at = start + p as f64 * bin + (i as f64 + 0.5) * bin / count as f64;
            if !(-1.0..=n as f64).contains(&at) {
                continue;
            }
            let at = at.max(0.0);
            let (cell, part) = (at as usize, at.fract());
            let one = 1.0 / count as f64;
            match cell + 1 < n {
                true => taps.extend([(cell, (1.0 - part) * one), (cell + 1, part * one)]),
                false => taps.push((n - 1, one)),
            }
        }
        taps
    };
    (0..bins).map(of_bin).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_around_its_object_is_full() {
        let square = [vec![2.0, 3.0, 10.0, 3.0, 10.0, 11.0, 2.0, 11.0]];
        assert_eq!(polygon_target(&square, [2.0, 3.0, 10.0, 11.0], 4).unwrap(), [1; 16]);
        // the box's right half, and nothing at all
        let right = polygon_target(&square, [-6.0, 3.0, 10.0, 11.0], 4).unwrap();
        assert_eq!(right, [0, 0, 1, 1].repeat(4));
        assert_eq!(polygon_target(&[], [0.0, 0.0, 4.0, 4.0], 2).unwrap(), [0; 4]);
        assert!(polygon_target(&[vec![1.0, 2.0]], [0.0, 0.0, 4.0, 4.0], 2).is_err());
    }

    #[test]
    fn bitmaps_are_pooled() {
        let mask: Vec<u8> = (0..8 * 6).map(|i| u8::from(i % 6 >= 3)).collect(); // the right half of 8 rows
        assert_eq!(bitmap_target(&mask, [8, 6], [0.0, 0.0, 6.0, 8.0], 2).unwrap(), [0, 1, 0, 1]);
        assert_eq!(bitmap_target(&mask, [8, 6], [3.0, 1.0, 5.0, 7.0], 3).unwrap(), [1; 9]);
        assert_eq!(bitmap_target(&mask, [8, 6], [4.0, 4.0, 4.0, 4.0], 2).unwrap(), [0; 4]); // empty
        assert!(bitmap_target(&mask, [8, 7], [0.0; 4], 2).is_err());
    }
}
