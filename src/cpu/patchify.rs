//! Images to one row per patch (einops: b c (h p) (w q) -> b (h w) (c p q)), columns in the order of a convolution
//! weight, so that timm's PatchEmbed is a matmul. No backward: nothing asks for the gradient of an image.
//!
//! ```text
//!   rows (B·L, C·P·P), L = (H/P)·(W/P); token t = (H-index)·(W/P) + (W-index); column (c·P + py)·P + px
//!   from_u8:    images (B, H, W, C) bytes,  (v/255 - mean[c]) / std[c]
//!   from_nchw:  images (B, C, H, W), copied unchanged
//!   to_map:     rows → images (B, H, W, C); pixels of a patch without a place in inv (B, L) are 0
//! ```

/// Sizes of the operands; P divides H and W.
#[derive(Clone, Copy, Debug)]
pub struct Dims {
    /// Images B.
    pub b: usize,
    /// Height H.
    pub h: usize,
    /// Width W.
    pub w: usize,
    /// Channels C.
    pub c: usize,
    /// Side P of a patch.
    pub p: usize,
}

/// Rows of images (B, H, W, C), normalized with mean and std (C).
pub fn from_u8(dim: Dims, images: &[u8], mean: &[f64], std: &[f64]) -> Vec<f64> {
    rows(dim, |b, c, y, x| {
        let v = images[((b * dim.h + y) * dim.w + x) * dim.c + c];
        (f64::from(v) / 255.0 - mean[c]) / std[c]
    })
}

/// Rows of images (B, C, H, W).
pub fn from_nchw(dim: Dims, images: &[f64]) -> Vec<f64> {
    rows(dim, |b, c, y, x| images[((b * dim.c + c) * dim.h + y) * dim.w + x])
}

/// Images (B, H, W, C) of rows. With `inv`, patches whose entry is `u32::MAX` are 0.
pub fn to_map(dim: Dims, values: &[f64], inv: Option<&[u32]>) -> Vec<f64> {
    let Dims { h, w, c, p, .. } = dim;
    let mut image = vec![0.0; values.len()];
    let places = rows(dim, |b, k, y, x| (((b * h + y) * w + x) * c + k) as f64);
    for (i, (value, place)) in values.iter().zip(places).enumerate() {
        if inv.is_none_or(|inv| inv[i / (c * p * p)] != u32::MAX) {
            image[place as usize] = *value;
        }
    }
    image
}

/// The values `pixel(b, c, y, x)` in the order of the rows.
fn rows(dim: Dims, pixel: impl Fn(usize, usize, usize, usize) -> f64) -> Vec<f64> {
    let Dims { b, h, w, c, p } = dim;
    let mut out = Vec::with_capacity(b * c * h * w);
    for b in 0..b {
        for (row, col) in (0..h / p).flat_map(|row| (0..w / p).map(move |col| (row, col))) {
            for c in 0..c {
                for (py, px) in (0..p).flat_map(|py| (0..p).map(move |px| (py, px))) {
                    out.push(pixel(b, c, row * p + py, col * p + px));
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::close;
    use super::*;

    #[test]
    fn order_of_a_4_by_2_image() {
        let dim = Dims { b: 1, h: 4, w: 2, c: 2, p: 2 };
        let image: Vec<f64> = (0..16).map(f64::from).collect();
        let want = [0., 1., 2., 3., 8., 9., 10., 11., 4., 5., 6., 7., 12., 13., 14., 15.];
        assert_eq!(from_nchw(dim, &image), want);
        let wide = Dims { h: 2, w: 4, ..dim };
        let want = [0., 1., 4., 5., 8., 9., 12., 13., 2., 3., 6., 7., 10., 11., 14., 15.];
        assert_eq!(from_nchw(wide, &image), want);
    }

    /// Bytes normalized by the test and laid out as NCHW must give the same rows.
    #[test]
    fn bytes_agree_with_nchw() {
        let dim = Dims { b: 2, h: 6, w: 9, c: 3, p: 3 };
        let (mean, std) = ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225]);
        let bytes: Vec<u8> = (0..2 * 6 * 9 * 3).map(|i| (i * 37 % 256) as u8).collect();
        let nchw: Vec<f64> = (0..bytes.len())
            .map(|i| {
                let (b, c, yx) = (i / 54 / 3, i / 54 % 3, i % 54);
                (f64::from(bytes[(b * 54 + yx) * 3 + c]) / 255.0 - mean[c]) / std[c]
            })
            .collect();
        close("rows", &from_u8(dim, &bytes, &mean, &std), &from_nchw(dim, &nchw), 1e-15);
    }
}
