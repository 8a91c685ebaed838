//! Binary masks as run lengths: pycocotools' RLE.

use super::polygon::boundary;
use crate::error::{Error, Result};

/// A binary mask as the lengths of its runs of equal pixels, column by column from the top, the first run of zeros.
///
/// - COCO: `{"size": [height, width], "counts": …}`; pycocotools' `mask.encode`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunLengths {
    height: u32,
    width: u32,
    counts: Vec<u32>,
}

impl RunLengths {
    /// Runs as a file has them.
    ///
    /// # Errors
    /// If the runs do not add up to height · width pixels.
    pub fn new(height: u32, width: u32, counts: Vec<u32>) -> Result<Self> {
        fits(height, width)?;
        let sum: u64 = counts.iter().map(|run| u64::from(*run)).sum();
        let pixels = u64::from(height) * u64::from(width);
        if sum != pixels {
            return Err(Error::argument("runs of a mask", format!("{sum} pixels"), format!("{height} · {width}")));
        }
        Ok(Self { height, width, counts })
    }

    /// The mask of the pixels of rows that are not 0.
    ///
    /// # Errors
    /// If there are not height · width pixels.
    pub fn of_rows(height: u32, width: u32, pixels: &[u8]) -> Result<Self> {
        let (h, w) = (height as usize, width as usize);
        fits(height, width)?;
        if pixels.len() != h * w {
            return Err(Error::argument("pixels of a mask", pixels.len(), format!("{height} · {width}")));
        }
        let columns = (0..h * w).map(|i| pixels[i % h * w + i / h] != 0);
        let (mut counts, mut last) = (vec![0], false);
        for pixel in columns {
            if pixel != last {
                counts.push(0);
                last = pixel;
            }
            if let Some(run) = counts.last_mut() {
                *run += 1;
            }
        }
        Ok(Self { height, width, counts })
    }

    /// The pixels inside a polygon x₀, y₀, x₁, y₁, … as pycocotools draws it: `mask.frPyObjects`. What is outside of
    /// the image is cut off.
    ///
    /// # Errors
    /// A polygon of fewer than three corners, an odd number of coordinates, or a coordinate beyond ±100,000.
    pub fn of_polygon(height: u32, width: u32, corners: &[f64]) -> Result<Self> {
        fits(height, width)?;
        if corners.len() < 6 || !corners.len().is_multiple_of(2) {
            return Err(Error::argument("coordinates of a polygon", corners.len(), "an even number, at least 6"));
        }
        if let Some(wrong) = corners.iter().find(|v| v.is_nan() || v.abs() > 1e5) {
            return Err(Error::argument("a coordinate of a polygon", wrong, "a number within ±100,000"));
        }
        let mut ends = boundary(height, width, corners);
        ends.push(height * width);
        ends.sort_unstable();
        let mut before = 0;
        let mut runs = ends.into_iter().map(|end| end - std::mem::replace(&mut before, end));
        let mut counts = vec![runs.next().unwrap_or(0)];
        while let Some(run) = runs.next() {
            match (run, counts.last_mut()) {
                (0, Some(last)) => *last += runs.next().unwrap_or(0), // an empty run joins its neighbors
                _ => counts.push(run),
            }
        }
        Ok(Self { height, width, counts })
    }

    /// The mask in COCO's compressed text.
    ///
    /// # Errors
    /// If the text is no such mask, or not one of height · width pixels.
    pub fn of_text(height: u32, width: u32, text: &str) -> Result<Self> {
        let wrong =
            |c: char| Error::argument("runs of a mask", format!("the character {c:?}"), "COCO's characters 0 to o");
        let (mut counts, mut value, mut shift) = (Vec::<i64>::new(), 0i64, 0u32);
        for c in text.chars() {
            let bits = (c as u32).checked_sub(48).filter(|bits| *bits < 64).ok_or_else(|| wrong(c))?;
            if shift > 45 {
                return Err(Error::argument("a run of a mask", "more than ten characters", "at most ten"));
            }
            value |= i64::from(bits & 31) << shift;
            shift += 5;
            if bits & 32 != 0 {
                continue;
            }
            if bits & 16 != 0 {
                value |= -1 << shift;
            }
            if counts.len() > 2 {
                value += counts[counts.len() - 2];
            }
            counts.push(value);
            (value, shift) = (0, 0);
        }
        if shift != 0 {
            return Err(Error::argument("runs of a mask", "an end in the middle of a run", "the whole text"));
        }
        let run = |run: i64| u32::try_from(run).map_err(|_| Error::argument("a run of a mask", run, "0 to 4294967295"));
        Self::new(height, width, counts.into_iter().map(run).collect::<Result<_>>()?)
    }

    /// COCO's compressed text: groups of five bits, the lowest first, of each run minus the one two before it.
    pub fn text(&self) -> String {
        let mut text = String::new();
        for (i, run) in self.counts.iter().enumerate() {
            let before = if i > 2 { self.counts[i - 2] } else { 0 };
            let mut value = i64::from(*run) - i64::from(before);
            loop {
                let bits = (value & 31) as u8;
                value >>= 5;
                let more = if bits & 16 != 0 { value != -1 } else { value != 0 };
                text.push(char::from(bits + if more { 32 } else { 0 } + 48));
                if !more {
                    break;
                }
            }
        }
        text
    }

    /// Rows of the image.
    pub fn height(&self) -> u32 {
        self.height
    }

    /// Columns of the image.
    pub fn width(&self) -> u32 {
        self.width
    }

    /// The runs, the first one of zeros.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// 1 for each pixel of the mask and 0 for the others, row by row.
    pub fn rows(&self) -> Vec<u8> {
        let (h, w) = (self.height as usize, self.width as usize);
        let (mut rows, mut i) = (vec![0; h * w], 0);
        for (run, count) in self.counts.iter().enumerate() {
            for _ in 0..*count {
                rows[i % h * w + i / h] = (run % 2) as u8;
                i += 1;
            }
        }
        rows
    }

    /// Pixels of the mask.
    pub fn area(&self) -> u64 {
        self.counts.iter().skip(1).step_by(2).map(|run| u64::from(*run)).sum()
    }

    /// Left, top, width and height of the smallest box around the mask. A run that goes on in the next column counts as
    /// high as the image, as in pycocotools. Zeros for an empty mask.
    pub fn bounds(&self) -> [u32; 4] {
        let (mut low, mut high) = ([u32::MAX; 2], [0; 2]);
        let mut end = 0;
        for pair in self.counts.as_chunks::<2>().0 {
            let first = end + pair[0];
            end = first + pair[1];
            if pair[1] == 0 {
                continue;
            }
            let [begin, last] = [first, end - 1].map(|i| [i / self.height, i % self.height]);
            let tall = if begin[0] < last[0] { [0, self.height - 1] } else { [begin[1], last[1]] };
            low = [low[0].min(begin[0]), low[1].min(tall[0])];
            high = [high[0].max(last[0]), high[1].max(tall[1])];
        }
        if low[0] == u32::MAX { [0; 4] } else { [low[0], low[1], high[0] - low[0] + 1, high[1] - low[1] + 1] }
    }

    /// The pixels that are in either mask.
    ///
    /// # Errors
    /// Masks of images of different sizes.
    pub fn union(&self, other: &Self) -> Result<Self> {
        self.expect_size(other)?;
        let (mut counts, mut last) = (vec![0], false);
        self.walk(other, |length, [a, b]| {
            if (a || b) != last {
                counts.push(0);
                last = a || b;
            }
            if let Some(run) = counts.last_mut() {
                *run += length;
            }
        });
        Ok(Self { height: self.height, width: self.width, counts })
    }

    /// Pixels that are in both masks over those in either. If `other` is a crowd, over those of this mask.
    ///
    /// # Errors
    /// Masks of images of different sizes.
    pub fn iou(&self, other: &Self, crowd: bool) -> Result<f64> {
        self.expect_size(other)?;
        let (mut both, mut either) = (0u64, 0u64);
        self.walk(other, |length, [a, b]| {
            both += if a && b { u64::from(length) } else { 0 };
            either += if a || b { u64::from(length) } else { 0 };
        });
        let over = if crowd { self.area() } else { either };
        Ok(if both == 0 { 0.0 } else { both as f64 / over as f64 })
    }

    /// Calls `each` with every stretch in which neither mask changes: its length, and whether it is in each mask.
    fn walk(&self, other: &Self, mut each: impl FnMut(u32, [bool; 2])) {
        let runs = [&self.counts, &other.counts];
        let mut at = [0; 2];
        let mut left = runs.map(|runs| runs.first().copied().unwrap_or(0));
        loop {
            for i in 0..2 {
                while left[i] == 0 && at[i] + 1 < runs[i].len() {
                    at[i] += 1;
                    left[i] = runs[i][at[i]];
                }
            }
            let length = left[0].min(left[1]);
            if length == 0 {
                return;
            }
            each(length, at.map(|run| run % 2 == 1));
            left = left.map(|left| left - length);
        }
    }

    fn expect_size(&self, other: &Self) -> Result<()> {
        let size = |mask: &Self| format!("{} × {}", mask.height, mask.width);
        let same = self.height == other.height && self.width == other.width;
        if same { Ok(()) } else { Err(Error::argument("size of a mask", size(other), size(self))) }
    }
}

/// Refuses a size whose pixels cannot be counted.
fn fits(height: u32, width: u32) -> Result<()> {
    let fine = height.checked_mul(width).is_some_and(|pixels| pixels > 0);
    if fine {
        Ok(())
    } else {
        Err(Error::argument("size of a mask", format!("{height} × {width}"), "1 to 2³² pixels"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_and_runs() {
        let runs = RunLengths::new(22, 34, vec![0, 5, 3, 40, 700]).unwrap();
        assert_eq!(runs.text(), "053S1ie0");
        assert_eq!(RunLengths::of_text(22, 34, "053S1ie0").unwrap(), runs);
        assert_eq!(runs.area(), 45);
        for (text, what) in
            [("053S1ie", "middle of a run"), ("05 3", "' '"), ("05", "5 pixels"), ("oooooooooooo0", "ten")]
        {
            let e = RunLengths::of_text(22, 34, text).unwrap_err().to_string();
            assert!(e.contains(what), "{text}: {e}");
        }
    }

    #[test]
    fn a_square_is_drawn_as_in_coco() {
        let square = RunLengths::of_polygon(6, 6, &[1.0, 1.0, 1.0, 4.0, 4.0, 4.0, 4.0, 1.0]).unwrap();
        assert_eq!(square.counts(), [7, 3, 3, 3, 3, 3, 14]);
        assert_eq!(square.text(), "733000;");
        assert_eq!((square.area(), square.bounds()), (9, [1, 1, 3, 3]));
        assert_eq!(RunLengths::of_rows(6, 6, &square.rows()).unwrap(), square);
    }

    #[test]
    fn masks_are_joined_and_compared() {
        let row = |pixels: [u8; 4]| RunLengths::of_rows(1, 4, &pixels).unwrap();
        let (a, b) = (row([1, 1, 0, 0]), row([0, 1, 1, 0]));
        assert_eq!(a.union(&b).unwrap(), row([1, 1, 1, 0]));
        assert_eq!(a.iou(&b, false).unwrap(), 1.0 / 3.0);
        assert_eq!(a.iou(&b, true).unwrap(), 0.5);
        assert_eq!(a.iou(&row([0; 4]), false).unwrap(), 0.0);
        assert_eq!(row([0; 4]).bounds(), [0; 4]);
        assert!(a.union(&RunLengths::of_rows(2, 2, &[0; 4]).unwrap()).is_err());
    }

    #[test]
    fn what_is_no_polygon_is_named() {
        for (corners, what) in
            [(&[0.0; 4][..], "got 4"), (&[0.0; 7], "got 7"), (&[f64::NAN; 6], "NaN"), (&[1e6; 6], "1000000")]
        {
            let e = RunLengths::of_polygon(5, 5, corners).unwrap_err().to_string();
            assert!(e.contains(what), "{e}");
        }
    }
}
