//! Index tables of a mask, by which kernels gather visible tokens and scatter them back.
use crate::error::{Error, Result};

/// The mask of a batch of B images of L tokens each, as index tables. MAE has the same as `ids_keep`, `ids_restore` and
/// `mask`.
#[derive(Clone, Debug, PartialEq)]
pub struct PatchMask {
    /// Raster numbers of the visible tokens (B, V), in the order in which the encoder reads them: `ids_keep`.
    pub visible: Vec<u32>,
    /// Column of each token in its row of `visible` (B, L); `u32::MAX` for a hidden token.
    pub inverse: Vec<u32>,
    /// 1 for each token whose loss counts, else 0 (B, L): the hidden tokens, or all tokens if nothing is hidden.
    pub mask: Vec<f32>,
    /// Visible tokens per image, V; at least 1.
    pub visible_len: usize,
}

impl PatchMask {
    /// The tables of a given `mask` (B, L), 1 for hidden tokens, for an encoder that reads the L tokens in the order
    /// `scan` (see [`Order::tokens`](crate::models::Order::tokens)).
    ///
    /// Every row must hide the same number of tokens, at least one and not all.
    pub fn from_mask(mask: &[f32], scan: &[u32]) -> Result<Self> {
        let tokens = scan.len();
        if tokens == 0 || mask.is_empty() || !mask.len().is_multiple_of(tokens) {
            let expected = format!("a multiple of the {tokens} tokens of an image, not 0");
            return Err(Error::argument("the length of a mask", mask.len(), expected));
        }
        if let Some(i) = mask.iter().position(|&m| m != 0.0 && m != 1.0) {
            let got = format!("{} at row {}, token {}", mask[i], i / tokens, i % tokens);
            return Err(Error::argument("a mask value", got, "0 or 1"));
        }
        let hidden = |row: &[f32]| row.iter().filter(|&&m| m == 1.0).count();
        let first = hidden(&mask[..tokens]);
        for (b, row) in mask.chunks_exact(tokens).enumerate() {
            if hidden(row) != first {
                let got = format!("{} in row {b}", hidden(row));
                return Err(Error::argument("the number of masked tokens", got, format!("{first} as in row 0")));
            }
        }
        if first == 0 || first == tokens {
            let expected = format!("1 to {}", tokens.saturating_sub(1));
            return Err(Error::argument("the number of masked tokens", first, expected));
        }
        Ok(Self::tables(mask.to_vec(), scan))
    }

    pub(crate) fn tables(mask: Vec<f32>, scan: &[u32]) -> Self {
        let (visible, inverse) = select(&mask, scan, 0.0);
        let visible_len = visible.len() * scan.len() / mask.len().max(1);
        Self { visible, inverse, mask, visible_len }
    }

    /// The tokens whose loss counts: their raster numbers (B, M), ascending, and the column of each token among them
    /// (B, L); the counterparts of `visible` and `inverse`.
    pub fn counted(&self) -> (Vec<u32>, Vec<u32>) {
        let tokens = self.mask.len() * self.visible_len / self.visible.len().max(1);
        select(&self.mask, &(0..tokens as u32).collect::<Vec<_>>(), 1.0)
    }
}

/// The tokens of each row of `mask` whose value is `value`, in the order `scan`; and for each token in raster order its
/// column among them, or `u32::MAX`.
fn select(mask: &[f32], scan: &[u32], value: f32) -> (Vec<u32>, Vec<u32>) {
    let (mut found, mut inverse) = (Vec::with_capacity(mask.len()), vec![u32::MAX; mask.len()]);
    let tokens = scan.len().max(1);
    for (row, inverse) in mask.chunks_exact(tokens).zip(inverse.chunks_exact_mut(tokens)) {
        let chosen = scan.iter().filter(|&&t| row[t as usize] == value);
        for (column, &t) in chosen.enumerate() {
            found.push(t);
            inverse[t as usize] = column as u32;
        }
    }
    (found, inverse)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_masks_are_checked() {
        let mask = PatchMask::from_mask(&[0., 1., 1., 0., 1., 0., 0., 1.], &[0, 1, 2, 3]).unwrap();
        assert_eq!((mask.visible_len, &mask.visible[..]), (2, &[0, 3, 1, 2][..]));
        assert_eq!(mask.inverse, [0, u32::MAX, u32::MAX, 1, u32::MAX, 0, 1, u32::MAX]);
        assert_eq!(mask.counted().0, [1, 2, 0, 3]);
        assert_eq!(mask.counted().1, [u32::MAX, 0, 1, u32::MAX, 0, u32::MAX, u32::MAX, 1]);
        for (bad, tokens, hint) in [
            (&[0., 1., 0., 1., 1., 0.][..], 3, "got 2 in row 1, expected 1 as in row 0"),
            (&[0., 0.5], 2, "0.5 at row 0, token 1"),
            (&[0., 1., 0.], 2, "multiple of the 2"),
            (&[], 2, "got 0"),
            (&[1., 1.], 2, "got 2, expected 1 to 1"),
            (&[0., 0.], 2, "got 0, expected 1 to 1"),
        ] {
            let got = PatchMask::from_mask(bad, &(0..tokens).collect::<Vec<_>>());
            let error = got.expect_err(&format!("{bad:?} should be refused")).to_string();
            assert!(error.contains(hint), "{error}");
        }
    }
}
