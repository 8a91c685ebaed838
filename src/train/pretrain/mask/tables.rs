//! From zeros and ones to the index tables that gather and scatter tokens.
use crate::error::{Error, Result};

/// The visible and hidden tokens of a batch of B images of L tokens each.
#[derive(Clone, Debug, PartialEq)]
pub struct Mask {
    /// (B, V) raster numbers of the tokens the encoder sees, in the order in which it reads them.
    pub visible: Vec<u32>,
    /// (B, L) column of a token in its row of `visible`, or `u32::MAX` where it is hidden.
    pub inverse: Vec<u32>,
    /// (B, L) 1 where the loss counts, else 0: the hidden tokens, or all tokens if nothing is hidden.
    pub mask: Vec<f32>,
    /// V, at least 1.
    pub visible_len: usize,
}

impl Mask {
    /// The tables that belong to `mask` (B, L), 1 where a token is hidden, else 0, for an encoder that reads the tokens in
    /// the order `scan` (L), as [`Order::tokens`](crate::models::Order::tokens) gives it.
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

    /// (B, M) raster numbers of the tokens whose loss counts, ascending, and (B, L) their columns: as `visible` and `inverse`.
    pub fn counted(&self) -> (Vec<u32>, Vec<u32>) {
        let tokens = self.mask.len() * self.visible_len / self.visible.len().max(1);
        select(&self.mask, &(0..tokens as u32).collect::<Vec<_>>(), 1.0)
    }
}

/// The tokens of each row of `mask` that have this value, in the order `scan`, and their columns in raster order.
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
        let mask = Mask::from_mask(&[0., 1., 1., 0., 1., 0., 0., 1.], &[0, 1, 2, 3]).unwrap();
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
            let got = Mask::from_mask(bad, &(0..tokens).collect::<Vec<_>>());
            let error = got.expect_err(&format!("{bad:?} should be refused")).to_string();
            assert!(error.contains(hint), "{error}");
        }
    }
}
