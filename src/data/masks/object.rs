//! The pixels of an object, in the form in which they are known.

use super::clip::{clipped, hull};
use super::runs::RunLengths;
use super::target::{bitmap_target, polygon_target};
use crate::error::Result;
use crate::models::dense::boxes::Region;

/// Sides of a box up to this many pixels enclose nothing.
const LEAST: f64 = 1e-5;

/// The pixels of an object.
#[derive(Clone, Debug, PartialEq)]
pub enum ObjectMask {
    /// Polygons x₀, y₀, x₁, y₁, …, whose union it is; each of at least three corners.
    Polygons(Vec<Vec<f64>>),
    /// Pixels of the whole image.
    Runs(RunLengths),
}

/// How the pixels of an image became those of a view of it: mirrored, resized, cut out.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    /// Whether it was mirrored.
    pub flip: bool,
    /// Rows and columns before and after it was resized.
    pub resized: [[usize; 2]; 2],
    /// Row and column of the resized image where the view begins.
    pub offset: [usize; 2],
    /// Rows and columns of the view.
    pub size: [usize; 2],
}

impl Placement {
    /// The place of a point x, y of the image.
    fn of(&self, [x, y]: [f64; 2]) -> [f64; 2] {
        let [before, after] = self.resized;
        let scale = |axis: usize| after[axis] as f64 / before[axis] as f64;
        let x = if self.flip { before[1] as f64 - x } else { x };
        [x * scale(1) - self.offset[1] as f64, y * scale(0) - self.offset[0] as f64]
    }

    /// The view as a box.
    fn window(&self) -> Region {
        [0.0, 0.0, self.size[1] as f64, self.size[0] as f64]
    }

    /// What the view shows of a box; `None` if that is nothing.
    pub fn corners(&self, [left, top, right, bottom]: Region) -> Option<Region> {
        let ([a, b], [c, d]) = (self.of([left, top]), self.of([right, bottom]));
        let [_, _, width, height] = self.window();
        let x = |v: f64| v.clamp(0.0, width);
        let y = |v: f64| v.clamp(0.0, height);
        solid([x(a.min(c)), y(b.min(d)), x(a.max(c)), y(b.max(d))])
    }

    /// What the view shows of a mask, and the box around that; `None` if that is nothing.
    ///
    /// # Errors
    /// A view of no pixels.
    pub fn mask(&self, mask: &ObjectMask) -> Result<Option<(Region, ObjectMask)>> {
        match mask {
            ObjectMask::Polygons(parts) => {
                let place = |part: &Vec<f64>| -> Vec<f64> {
                    part.as_chunks::<2>().0.iter().flat_map(|point| self.of(*point)).collect()
                };
                let parts: Vec<Vec<f64>> = parts.iter().map(place).collect();
                let Some(around) = hull(&parts, self.window()).and_then(solid) else { return Ok(None) };
                let cut = parts.iter().map(|part| clipped(part, self.window())).filter(|part| !part.is_empty());
                let cut: Vec<Vec<f64>> = cut.collect();
                Ok((!cut.is_empty()).then_some((around, ObjectMask::Polygons(cut))))
            }
            ObjectMask::Runs(runs) => {
                let (pixels, width) = (runs.rows(), runs.width() as usize);
                let [before, after] = self.resized;
                let source = |i: usize, axis: usize| {
                    let at = (2 * (i + self.offset[axis]) + 1) * before[axis] / (2 * after[axis]); // PIL's NEAREST
                    if axis == 1 && self.flip { before[1] - 1 - at } else { at }
                };
                let [rows, cols] = self.size;
                let columns: Vec<usize> = (0..cols).map(|col| source(col, 1)).collect();
                let row = |row: usize| {
                    let from = source(row, 0) * width;
                    columns.iter().map(move |col| from + col)
                };
                let seen: Vec<u8> = (0..rows).flat_map(row).map(|at| pixels[at]).collect();
                let seen = RunLengths::of_rows(rows as u32, cols as u32, &seen)?;
                Ok(bounds(&seen).map(|around| (around, ObjectMask::Runs(seen))))
            }
        }
    }
}

/// A box that encloses something.
fn solid(b: Region) -> Option<Region> {
    (b[2] - b[0] > LEAST && b[3] - b[1] > LEAST).then_some(b)
}

/// The box around the pixels of a mask; `None` if there are none.
fn bounds(mask: &RunLengths) -> Option<Region> {
    let (rows, width) = (mask.rows(), mask.width() as usize);
    let mut found: Option<[usize; 4]> = None;
    for at in (0..rows.len()).filter(|at| rows[*at] != 0) {
        let (x, y) = (at % width, at / width);
        let [left, top, right, bottom] = found.unwrap_or([x, y, x, y]);
        found = Some([left.min(x), top.min(y), right.max(x), bottom.max(y)]);
    }
    found.map(|[left, top, right, bottom]| [left as f64, top as f64, right as f64 + 1.0, bottom as f64 + 1.0])
}

impl ObjectMask {
    /// The part inside a box as `side`×`side` cells of 0 and 1, row by row: what a mask head should say of the box.
    ///
    /// # Errors
    /// Coordinates that are no numbers, or far outside of any image.
    pub fn target(&self, corners: Region, side: u32) -> Result<Vec<u8>> {
        match self {
            Self::Polygons(parts) => polygon_target(parts, corners, side),
            Self::Runs(runs) => {
                let size = [runs.height() as usize, runs.width() as usize];
                bitmap_target(&runs.rows(), size, corners, side as usize)
            }
        }
    }

    /// Its pixels in an image of this size.
    ///
    /// # Errors
    /// Coordinates that are no numbers, or far outside of any image.
    pub fn runs(&self, height: u32, width: u32) -> Result<RunLengths> {
        match self {
            Self::Runs(runs) => Ok(runs.clone()),
            Self::Polygons(parts) => {
                let mut mask = RunLengths::new(height, width, vec![height.saturating_mul(width)])?;
                for part in parts {
                    mask = mask.union(&RunLengths::of_polygon(height, width, part)?)?;
                }
                Ok(mask)
            }
        }
    }

    /// The box around its pixels; `None` if it has none.
    pub fn bounds(&self) -> Option<Region> {
        match self {
            Self::Runs(runs) => bounds(runs),
            Self::Polygons(parts) => hull(parts, [f64::MIN, f64::MIN, f64::MAX, f64::MAX]).and_then(solid),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Mirrored, twice as large, cut to the right two thirds.
    const VIEW: Placement = Placement { flip: true, resized: [[4, 6], [8, 12]], offset: [2, 4], size: [6, 8] };

    #[test]
    fn polygons_and_pixels_go_the_same_way() {
        let square = ObjectMask::Polygons(vec![vec![1.0, 1.0, 3.0, 1.0, 3.0, 4.0, 1.0, 4.0]]);
        let pixels = ObjectMask::Runs(square.runs(4, 6).unwrap());
        let want = [2.0, 0.0, 6.0, 6.0];
        let (around, seen) = VIEW.mask(&square).unwrap().unwrap();
        assert_eq!((around, VIEW.corners([1.0, 1.0, 3.0, 4.0])), (want, Some(want)));
        let (again, runs) = VIEW.mask(&pixels).unwrap().unwrap();
        assert_eq!((again, seen.runs(6, 8).unwrap()), (want, runs.runs(6, 8).unwrap()));
        assert_eq!((seen.bounds(), runs.bounds()), (Some(want), Some(want)));
        let cells = [0.0, 0.0, 8.0, 6.0];
        assert_eq!(seen.target(cells, 4).unwrap(), [0, 1, 1, 0].repeat(4));
        assert_eq!(runs.target(cells, 4).unwrap(), [0, 1, 1, 0].repeat(4));
    }

    #[test]
    fn what_a_view_does_not_show_is_gone() {
        let left = ObjectMask::Polygons(vec![vec![5.0, 0.0, 6.0, 0.0, 6.0, 4.0, 5.0, 4.0]]); // mirrored, left of it
        assert_eq!(VIEW.mask(&left).unwrap(), None);
        assert_eq!(VIEW.mask(&ObjectMask::Runs(left.runs(4, 6).unwrap())).unwrap(), None);
        assert_eq!(VIEW.corners([5.0, 0.0, 6.0, 4.0]), None);
        let empty = ObjectMask::Runs(RunLengths::new(4, 6, vec![24]).unwrap());
        assert_eq!(empty.bounds(), None);
    }
}
