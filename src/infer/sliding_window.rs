//! Scores of a large image from windows of the size that a network was trained on (mmsegmentation's `slide` mode).

use crate::error::{Error, Result};

/// A map (rows, columns, channels) of scores.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreMap {
    /// Rows and columns.
    pub size: [usize; 2],
    /// Channels of a cell.
    pub channels: usize,
    /// rows · columns · channels values, the channels of a cell side by side.
    pub values: Vec<f32>,
}

impl ScoreMap {
    /// A map of these values.
    ///
    /// # Errors
    /// If there are not as many values as the sizes say, or none.
    pub fn new(size: [usize; 2], channels: usize, values: Vec<f32>) -> Result<Self> {
        let wanted = size[0] * size[1] * channels;
        if wanted == 0 || values.len() != wanted {
            let expected = format!("{} · {} · {channels}, at least 1", size[0], size[1]);
            return Err(Error::argument("values of a map of scores", values.len(), expected));
        }
        Ok(Self { size, channels, values })
    }

    /// The map in another size: `F.interpolate(mode="bilinear", align_corners=False)`.
    ///
    /// # Errors
    /// A size without cells.
    pub fn resized(&self, size: [usize; 2]) -> Result<Self> {
        let c = self.channels;
        let taps =
            [0, 1].map(|axis| (0..size[axis]).map(|at| taps(at, self.size[axis], size[axis])).collect::<Vec<_>>());
        let mut values = Vec::with_capacity(size[0] * size[1] * c);
        for ([top, bottom], down) in &taps[0] {
            for ([left, right], across) in &taps[1] {
                for channel in 0..c {
                    let at = |y: usize, x: usize| self.values[(y * self.size[1] + x) * c + channel];
                    let mix = |a: f32, b: f32, share: f32| a * (1.0 - share) + b * share;
                    let [above, below] = [*top, *bottom].map(|y| mix(at(y, *left), at(y, *right), *across));
                    values.push(mix(above, below, *down));
                }
            }
        }
        Self::new(size, c, values)
    }

    /// The upper left part of the map.
    ///
    /// # Errors
    /// A part without cells, or one that is larger than the map.
    pub fn cut(self, size: [usize; 2]) -> Result<Self> {
        if size == self.size {
            return Ok(self);
        }
        if size[0] > self.size[0] || size[1] > self.size[1] {
            return Err(Error::argument(
                "a part of a map of scores",
                format!("{size:?}"),
                format!("in {:?}", self.size),
            ));
        }
        let rows = self.values.chunks(self.size[1] * self.channels).take(size[0]);
        let values = rows.flat_map(|row| row[..size[1] * self.channels].iter().copied()).collect();
        Self::new(size, self.channels, values)
    }

    /// The channel with the highest score of each cell, row by row; of equal ones the first.
    pub fn best(&self) -> Vec<u16> {
        let best = |cell: &[f32]| (1..cell.len()).fold(0, |best, i| if cell[i] > cell[best] { i } else { best });
        self.values.chunks(self.channels).map(|cell| best(cell) as u16).collect()
    }
}

/// The two cells that a cell of a resized axis lies between, and the share of the second.
pub(super) fn taps(at: usize, from: usize, to: usize) -> ([usize; 2], f32) {
    let place = ((at as f64 + 0.5) * from as f64 / to as f64 - 0.5).max(0.0);
    let first = (place as usize).min(from - 1);
    ([first, (first + 1).min(from - 1)], (place - first as f64) as f32)
}

/// Top, left, bottom and right of the windows that cover an image, row by row. The last window of a row or column is
/// pushed back inside; an image that is smaller than a window has one of its own size.
///
/// # Errors
/// A window or stride of 0, or a stride above the window, which would leave gaps.
pub fn windows(image: [usize; 2], window: [usize; 2], stride: [usize; 2]) -> Result<Vec<[usize; 4]>> {
    for axis in [0, 1] {
        if stride[axis] == 0 || stride[axis] > window[axis] {
            let expected = format!("1 to {}, the window", window[axis]);
            return Err(Error::argument("stride of the windows", stride[axis], expected));
        }
    }
    let along = |axis: usize| {
        let count = (image[axis].saturating_sub(window[axis])).div_ceil(stride[axis]) + 1;
        (0..count).map(move |i| {
            let end = (i * stride[axis] + window[axis]).min(image[axis]);
            [end.saturating_sub(window[axis]), end]
        })
    };
    Ok(along(0).flat_map(|[top, bottom]| along(1).map(move |[left, right]| [top, left, bottom, right])).collect())
}

/// The scores of an image of `size` from those of its [`windows`], in their order: the mean of all that cover a pixel.
/// A window's scores are resized to the window first.
///
/// # Errors
/// Not as many maps as windows, maps of different channels, or a pixel that no window covers.
pub fn merged(size: [usize; 2], windows: &[[usize; 4]], scores: &[ScoreMap]) -> Result<ScoreMap> {
    let channels = scores.first().map_or(0, |map| map.channels);
    if scores.len() != windows.len() || scores.iter().any(|map| map.channels != channels) {
        let expected = format!("{} with {channels} channels, one for each window", windows.len());
        return Err(Error::argument("maps of scores", scores.len(), expected));
    }
    let mut sum = vec![0.0; size[0] * size[1] * channels];
    let mut covered = vec![0u32; size[0] * size[1]];
    for ([top, left, bottom, right], map) in windows.iter().zip(scores) {
        let inside = top < bottom && left < right && *bottom <= size[0] && *right <= size[1];
        if !inside {
            let got = format!("{:?}", [top, left, bottom, right]);
            return Err(Error::argument("a window", got, format!("inside {} × {}", size[0], size[1])));
        }
        let map = map.resized([bottom - top, right - left])?;
        for (row, values) in (*top..*bottom).zip(map.values.chunks((right - left) * channels)) {
            let first = row * size[1] + left;
            sum[first * channels..][..values.len()].iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
            covered[first..first + right - left].iter_mut().for_each(|count| *count += 1);
        }
    }
    if let Some(gap) = covered.iter().position(|count| *count == 0) {
        let at = format!("none at row {}, column {}", gap / size[1], gap % size[1]);
        return Err(Error::argument("windows", at, "windows that cover the image"));
    }
    for (cell, count) in sum.chunks_mut(channels).zip(&covered) {
        cell.iter_mut().for_each(|value| *value /= *count as f32);
    }
    ScoreMap::new(size, channels, sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_window_is_pushed_back() {
        assert_eq!(windows([5, 6], [4, 4], [3, 3]).unwrap(), [[0, 0, 4, 4], [0, 2, 4, 6], [1, 0, 5, 4], [1, 2, 5, 6]]);
        assert_eq!(windows([2, 3], [4, 4], [3, 3]).unwrap(), [[0, 0, 2, 3]]);
        assert!(windows([5, 5], [4, 4], [5, 1]).unwrap_err().to_string().contains("got 5, expected 1 to 4"));
    }

    #[test]
    fn pixels_of_two_windows_get_their_mean() {
        let map = |value: f32| ScoreMap::new([1, 1], 1, vec![value]).unwrap();
        let whole = merged([1, 3], &[[0, 0, 1, 2], [0, 1, 1, 3]], &[map(1.0), map(3.0)]).unwrap();
        assert_eq!(whole.values, [1.0, 2.0, 3.0]);
        let e = merged([1, 3], &[[0, 0, 1, 2]], &[map(1.0)]).unwrap_err().to_string();
        assert!(e.contains("none at row 0, column 2"), "{e}");
        assert!(merged([1, 3], &[], &[map(1.0)]).is_err());
        assert!(merged([1, 3], &[[0, 0, 1, 4]], &[map(1.0)]).is_err());
    }

    /// As `F.interpolate` of [0, 1] to four and of [0, 1, 2, 3] to two cells.
    #[test]
    fn maps_are_resized_as_in_pytorch() {
        let map = |values: &[f32]| ScoreMap::new([1, values.len()], 1, values.to_vec()).unwrap();
        assert_eq!(map(&[0.0, 1.0]).resized([1, 4]).unwrap().values, [0.0, 0.25, 0.75, 1.0]);
        assert_eq!(map(&[0.0, 1.0, 2.0, 3.0]).resized([1, 2]).unwrap().values, [0.5, 2.5]);
        assert!(map(&[0.0]).resized([0, 1]).is_err());
        assert_eq!(ScoreMap::new([1, 2], 2, vec![1.0, 1.0, 0.0, 2.0]).unwrap().best(), [0, 1]);
    }
}
