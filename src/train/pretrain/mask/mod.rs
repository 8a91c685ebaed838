//! Masks of patches: which tokens of an image are hidden from the encoder (`random_masking` in MAE).
//!
//! Tokens are numbered in raster order, row × width + column. All images of a batch hide the same number of tokens, so
//! that the visible ones form a rectangle (B, V). Within a row of it, tokens are in the order in which the encoder
//! reads them.
pub mod ratio;
pub mod tables;

pub use ratio::MaskRatio;
pub use tables::PatchMask;

use crate::data::stream::{Stream, StreamPurpose};
use crate::error::{Error, Result};
use crate::models::Order;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

/// Strategy that chooses the hidden tokens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MaskStrategy {
    /// A uniform random choice for each image, the choice of MAP and MAE. ⌈L · ratio⌉ tokens are hidden.
    #[default]
    Random,
    /// The last tokens in the order of prediction. round(L · ratio) tokens are hidden.
    Sequential,
    /// The tokens with the largest row + column, a lower right triangle; among equals the later tokens. round(L ·
    /// ratio) tokens are hidden.
    Diagonal,
}

impl MaskStrategy {
    const ALL: [Self; 3] = [Self::Random, Self::Sequential, Self::Diagonal];
}

impl fmt::Display for MaskStrategy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Random => "random",
            Self::Sequential => "sequential",
            Self::Diagonal => "diagonal",
        })
    }
}

impl FromStr for MaskStrategy {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|s| s.to_string() == name);
        found.ok_or_else(|| Error::argument("mask strategy", name, Self::ALL.map(|s| s.to_string()).join(", ")))
    }
}

/// Draws the masks of a run. A mask is a function of seed and step.
#[derive(Clone, Debug)]
pub struct Masker {
    strategy: MaskStrategy,
    ratio: MaskRatio,
    grid: (usize, usize),
    seed: u64,
    /// Tokens in the order in which a fixed strategy hides them, most hidden first.
    hide_first: Vec<u32>,
    /// Tokens in the order in which the encoder reads them.
    scan: Vec<u32>,
}

impl Masker {
    /// A masker for images of `height` × `width` tokens, which are read and predicted row by row.
    pub fn new(strategy: MaskStrategy, ratio: MaskRatio, (height, width): (usize, usize), seed: u64) -> Result<Self> {
        let tokens = height.saturating_mul(width);
        if !(2..=1 << 20).contains(&tokens) {
            let got = format!("{height} × {width}");
            return Err(Error::argument("the grid of patches to mask", got, "2 to 1048576 patches"));
        }
        ratio.check(tokens)?;
        let mut hide_first: Vec<u32> = (0..tokens as u32).rev().collect();
        if strategy == MaskStrategy::Diagonal {
            // A stable sort: of equal row + column the larger raster number stays first.
            hide_first.sort_by_key(|&t| std::cmp::Reverse(t as usize / width + t as usize % width));
        }
        let grid = (height, width);
        Ok(Self { strategy, ratio, grid, seed, hide_first, scan: Order::Rows.tokens(grid) })
    }

    /// The same masker for an encoder that reads the tokens in the order `scan`, and a decoder that predicts them in
    /// the order `prediction`.
    pub fn in_order(mut self, scan: Order, prediction: Order) -> Self {
        self.scan = scan.tokens(self.grid);
        if self.strategy == MaskStrategy::Sequential {
            self.hide_first = prediction.tokens(self.grid);
            self.hide_first.reverse();
        }
        self
    }

    /// Tokens per image, L.
    pub fn tokens(&self) -> usize {
        self.hide_first.len()
    }

    /// Whether masks depend on the seed: their share or their places are drawn.
    pub fn is_random(&self) -> bool {
        let (lo, hi) = self.ratio.bounds(self.tokens());
        lo < hi || (self.strategy == MaskStrategy::Random && hi > 0.0)
    }

    /// The mask of `batch` images at training step `step`.
    pub fn draw(&self, step: u64, batch: usize) -> PatchMask {
        self.draw_rows(step, 0..batch)
    }

    /// Those rows of [`Masker::draw`] that belong to the images `rows` of a step.
    pub fn draw_rows(&self, step: u64, rows: std::ops::Range<usize>) -> PatchMask {
        let batch = rows.len();
        let tokens = self.tokens();
        let count = self.hidden(self.ratio.draw(tokens, self.seed, step));
        if count == 0 {
            let mut all = PatchMask::tables(vec![0.0; batch * tokens], &self.scan);
            all.mask.fill(1.0);
            return all;
        }
        let mut mask = vec![0.0; batch * tokens];
        for (b, row) in rows.zip(mask.chunks_exact_mut(tokens)) {
            let mut order = self.hide_first.clone();
            if self.strategy == MaskStrategy::Random {
                Stream::new(StreamPurpose::Mask, [self.seed, step, b as u64]).choose_front(&mut order, count);
            }
            order[..count].iter().for_each(|&t| row[t as usize] = 1.0);
        }
        PatchMask::tables(mask, &self.scan)
    }

    /// Every number of visible tokens that [`Masker::draw`] can return: a single one for a fixed ratio. Buffers are
    /// sized by the largest.
    pub fn all_visible_lengths(&self) -> RangeInclusive<usize> {
        let (lo, hi) = self.ratio.bounds(self.tokens());
        self.tokens() - self.hidden(hi)..=self.tokens() - self.hidden(lo)
    }

    /// Number of hidden tokens at a `ratio`, rounded as the strategy says. At least one token is visible, and above a
    /// ratio of 0 at least one is hidden.
    fn hidden(&self, ratio: f64) -> usize {
        let tokens = self.tokens();
        let exact = tokens as f64 * ratio;
        let count = match self.strategy {
            // Floating point: 100 · 0.55 is 55.000000000000007, and ⌈ ⌉ should give 55.
            MaskStrategy::Random => (exact - 1e-9).ceil(),
            MaskStrategy::Sequential | MaskStrategy::Diagonal => exact.round(),
        };
        (count as usize).clamp(usize::from(ratio > 0.0), tokens - 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: (usize, usize) = (14, 14);

    fn masker(strategy: MaskStrategy, ratio: f64) -> Masker {
        Masker::new(strategy, MaskRatio::Fixed(ratio), GRID, 11).unwrap()
    }

    fn hidden(mask: &PatchMask) -> usize {
        (mask.inverse.len() - mask.visible.len()) / (mask.visible.len() / mask.visible_len)
    }

    /// Checks that the three tables of a mask agree.
    fn check(mask: &PatchMask, batch: usize) {
        let (tokens, v) = (mask.inverse.len() / batch, mask.visible_len);
        assert_eq!((mask.visible.len(), mask.mask.len()), (batch * v, batch * tokens));
        for b in 0..batch {
            let row = &mask.visible[b * v..][..v];
            assert!(row.windows(2).all(|w| w[0] < w[1]), "raster order");
            for t in 0..tokens {
                match mask.inverse[b * tokens + t] {
                    u32::MAX => assert_eq!(mask.mask[b * tokens + t], 1.0),
                    column => assert_eq!(row[column as usize] as usize, t),
                }
            }
        }
    }

    #[test]
    fn half_of_196_is_98() {
        let m = masker(MaskStrategy::Random, 0.5);
        let mask = m.draw(4, 3);
        check(&mask, 3);
        assert_eq!((mask.visible_len, hidden(&mask)), (98, 98));
        assert_eq!(mask, m.draw(4, 3));
        assert_eq!(mask.mask[..2 * 196], m.draw(4, 2).mask);
        assert_ne!(mask.mask[..196], mask.mask[196..392]);
        assert_ne!(mask, m.draw(5, 3));
    }

    #[test]
    fn random_masks_are_uniform_over_positions() {
        let m = masker(MaskStrategy::Random, 0.25);
        let mut counts = [0u32; 196];
        for (i, &v) in m.draw(0, 8000).mask.iter().enumerate() {
            counts[i % 196] += v as u32;
        }
        // Expected 2000 each with a standard deviation of 39; allowed are six of them.
        assert!(counts.iter().all(|&c| c.abs_diff(2000) < 234), "{counts:?}");
    }

    #[test]
    fn counts_round_as_the_strategy_says() {
        for (strategy, ratio, count) in [
            (MaskStrategy::Random, 0.3, 59),
            (MaskStrategy::Sequential, 0.3, 59),
            (MaskStrategy::Random, 0.45, 89),
            (MaskStrategy::Diagonal, 0.45, 88),
            (MaskStrategy::Random, 0.75, 147),
            (MaskStrategy::Sequential, 1e-5, 1),
            (MaskStrategy::Random, 0.9999, 195),
        ] {
            let m = masker(strategy, ratio);
            assert_eq!(hidden(&m.draw(0, 1)), count, "{strategy} {ratio}");
            assert_eq!(m.all_visible_lengths(), 196 - count..=196 - count);
        }
        for count in [1, 20, 40, 60, 100, 140, 195] {
            let m = Masker::new(MaskStrategy::Random, MaskRatio::Count(count), GRID, 0).unwrap();
            assert_eq!(hidden(&m.draw(0, 1)), count);
        }
        let hundred = Masker::new(MaskStrategy::Random, MaskRatio::Fixed(0.55), (10, 10), 0).unwrap();
        assert_eq!(hidden(&hundred.draw(0, 1)), 55);
    }

    #[test]
    fn sequential_hides_the_end_and_diagonal_the_lower_right() {
        let mask = masker(MaskStrategy::Sequential, 0.25).draw(0, 2);
        check(&mask, 2);
        assert_eq!(mask.visible[..147], (0..147).collect::<Vec<u32>>());
        let mask = masker(MaskStrategy::Diagonal, 0.5).draw(0, 1);
        check(&mask, 1);
        // 91 tokens have row + column of at least 14. The other 7 of 98 are the later ones of the 14 with a sum of 13.
        for t in 0..196 {
            let (row, column) = (t / 14, t % 14);
            let expected = row + column > 13 || row + column == 13 && row >= 7;
            assert_eq!(mask.mask[t] == 1.0, expected, "token {t}");
        }
        let wide = Masker::new(MaskStrategy::Diagonal, MaskRatio::Fixed(0.5), (2, 4), 0).unwrap().draw(0, 1);
        assert_eq!(wide.mask, [0., 0., 0., 1., 0., 1., 1., 1.]);
    }

    #[test]
    fn columns_are_read_and_hidden_as_columns() {
        let new = |strategy, scan, prediction| {
            let m = Masker::new(strategy, MaskRatio::Count(3), (2, 4), 0).unwrap();
            m.in_order(scan, prediction).draw(0, 1)
        };
        // 0 1 2 3
        // 4 5 6 7: by columns 0 4 1 5 2 6 3 7
        let mask = new(MaskStrategy::Sequential, Order::Columns, Order::Columns);
        assert_eq!(mask.visible, [0, 4, 1, 5, 2]);
        assert_eq!(mask.inverse, [0, 2, 4, u32::MAX, 1, 3, u32::MAX, u32::MAX]);
        let mask = new(MaskStrategy::Sequential, Order::Columns, Order::Rows);
        assert_eq!(mask.visible, [0, 4, 1, 2, 3]);
        // the same tokens are hidden whatever the encoder's order
        let (rows, columns) = (
            new(MaskStrategy::Random, Order::Rows, Order::Rows),
            new(MaskStrategy::Random, Order::Columns, Order::Rows),
        );
        assert_eq!(rows.mask, columns.mask);
        assert!(rows.visible.is_sorted() && rows.visible != columns.visible);
        let rank = Order::Columns.ranks((2, 4));
        assert!(columns.visible.is_sorted_by_key(|&t| rank[t as usize]));
    }

    #[test]
    fn ratio_zero_shows_all_and_counts_all() {
        for strategy in MaskStrategy::ALL {
            let mask = masker(strategy, 0.0).draw(0, 2);
            assert_eq!((mask.visible_len, &mask.mask[..]), (196, &[1.0; 392][..]));
            assert_eq!(mask.inverse[196..], (0..196).collect::<Vec<u32>>());
        }
    }

    #[test]
    fn lengths_of_drawn_ratios_stay_in_their_range() {
        let m = Masker::new(MaskStrategy::Random, MaskRatio::MAP_REPO, GRID, 3).unwrap();
        assert_eq!(m.all_visible_lengths(), 58..=137);
        let lengths: Vec<usize> = (0..400).map(|step| m.draw(step, 1).visible_len).collect();
        assert!(lengths.iter().all(|v| m.all_visible_lengths().contains(v)));
        assert!(lengths.iter().min() < Some(&65) && lengths.iter().max() > Some(&130));
    }

    #[test]
    fn settings_are_read_and_checked() {
        for s in MaskStrategy::ALL {
            assert_eq!(s.to_string().parse::<MaskStrategy>().unwrap(), s);
        }
        let error = "rand".parse::<MaskStrategy>().unwrap_err().to_string();
        assert!(error.contains("got rand, expected random, sequential, diagonal"), "{error}");
        let new = |ratio, grid| Masker::new(MaskStrategy::Random, ratio, grid, 0).err().map(|e| e.to_string());
        for bad in [1.0, -0.1, 1.5, f64::NAN] {
            assert!(new(MaskRatio::Fixed(bad), GRID).unwrap().contains("mask_ratio: got"));
        }
        assert!(new(MaskRatio::Fixed(0.5), (1, 1)).unwrap().contains("1 × 1"));
        assert!(new(MaskRatio::Count(196), GRID).unwrap().contains("mask_tokens: got 196"));
        assert!(new(MaskRatio::Count(0), GRID).is_none());
        let drawn = |mean, std, lo, hi| new(MaskRatio::TruncatedNormal { mean, std, lo, hi }, GRID);
        assert!(drawn(0.5, 0.0, 0.3, 0.7).unwrap().contains("spread"));
        assert!(drawn(0.8, 0.1, 0.3, 0.7).is_some() && drawn(0.5, 0.1, 0.0, 0.7).is_some());
        assert!(drawn(0.5, 0.1, 0.3, 1.0).is_some() && drawn(0.4, 0.001, 0.3, 0.7).is_none());
    }
}
