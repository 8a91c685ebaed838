//! From zeros and ones to the index tables that gather and scatter tokens.
use crate::train::data::DataError;

/// The visible and hidden tokens of a batch of B images of L tokens each.
#[derive(Clone, Debug, PartialEq)]
pub struct Mask {
    /// (B, V) numbers of the tokens the encoder sees, ascending in each row.
    pub visible: Vec<u32>,
    /// (B, L) column of a token in its row of `visible`, or `u32::MAX` where it is hidden.
    pub inverse: Vec<u32>,
    /// (B, L) 1 where the loss counts, else 0: the hidden tokens, or all tokens if nothing is hidden.
    pub mask: Vec<f32>,
    /// V, at least 1.
    pub visible_len: usize,
}

impl Mask {
    /// The tables that belong to `mask` (B, `tokens`), 1 where a token is hidden, else 0.
    ///
    /// Every row must hide the same number of tokens, at least one and not all.
    pub fn from_mask(mask: &[f32], tokens: usize) -> Result<Self, DataError> {
        if tokens == 0 || mask.is_empty() || !mask.len().is_multiple_of(tokens) {
            let expected = format!("a multiple of the {tokens} tokens of an image, not 0");
            return Err(DataError::setting("the length of a mask", mask.len(), expected));
        }
        if let Some(i) = mask.iter().position(|&m| m != 0.0 && m != 1.0) {
            let got = format!("{} at row {}, token {}", mask[i], i / tokens, i % tokens);
            return Err(DataError::setting("a mask value", got, "0 or 1"));
        }
        let hidden = |row: &[f32]| row.iter().filter(|&&m| m == 1.0).count();
        let first = hidden(&mask[..tokens]);
        for (b, row) in mask.chunks_exact(tokens).enumerate() {
            if hidden(row) != first {
                let got = format!("{} in row {b}", hidden(row));
                return Err(DataError::setting("the number of masked tokens", got, format!("{first} as in row 0")));
            }
        }
        if first == 0 || first == tokens {
            let expected = format!("1 to {}", tokens.saturating_sub(1));
            return Err(DataError::setting("the number of masked tokens", first, expected));
        }
        Ok(Self::tables(mask.to_vec(), tokens))
    }

    pub(super) fn tables(mask: Vec<f32>, tokens: usize) -> Self {
        let (mut visible, mut inverse) = (Vec::with_capacity(mask.len()), Vec::with_capacity(mask.len()));
        let mut visible_len = 0;
        for row in mask.chunks_exact(tokens) {
            visible_len = 0;
            for (t, &m) in row.iter().enumerate() {
                if m == 0.0 {
                    visible.push(t as u32);
                    inverse.push(visible_len as u32);
                    visible_len += 1;
                } else {
                    inverse.push(u32::MAX);
                }
            }
        }
        Self { visible, inverse, mask, visible_len }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_masks_are_checked() {
        let mask = Mask::from_mask(&[0., 1., 1., 0., 1., 0., 0., 1.], 4).unwrap();
        assert_eq!((mask.visible_len, &mask.visible[..]), (2, &[0, 3, 1, 2][..]));
        assert_eq!(mask.inverse, [0, u32::MAX, u32::MAX, 1, u32::MAX, 0, 1, u32::MAX]);
        for (bad, tokens, hint) in [
            (&[0., 1., 0., 1., 1., 0.][..], 3, "is 2 in row 1, expected 1 as in row 0"),
            (&[0., 0.5], 2, "0.5 at row 0, token 1"),
            (&[0., 1., 0.], 2, "multiple of the 2"),
            (&[], 2, "is 0"),
            (&[1., 1.], 2, "is 2, expected 1 to 1"),
            (&[0., 0.], 2, "is 0, expected 1 to 1"),
        ] {
            let got = Mask::from_mask(bad, tokens);
            let error = got.expect_err(&format!("{bad:?} should be refused")).to_string();
            assert!(error.contains(hint), "{error}");
        }
    }
}
