//! patchify: images of 224×224 to rows of 16×16×3, from bytes and from pixels.

use rowscan::cpu::patchify::{Dims, from_nchw, from_u8};
use rowscan::ops::patchify;

use super::*;

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];

fn validate(g: &Gpu) {
    let dim @ Dims { b, h, w, c, p } = Dims { b: 2, h: 64, w: 32, c: 3, p: 16 };
    let mut random = Random::new(1);
    let (pixels, words) = (random.normal(b * c * h * w), random.below(b * c * h * w / 4, u32::MAX));
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    let attempt = || -> Result<_> {
        let (images, packed) =
            (Tensor::from_slice(g, &[b, c, h, w], &pixels)?, Tensor::from_indices(g, &[words.len()], &words)?);
        let rows = patchify::from_u8(g, &packed, [b, h, w], p, MEAN, STD)?.to_vec(g)?;
        Ok((rows, patchify::from_nchw(g, &images, p)?.to_vec(g)?))
    };
    let (bytes_out, pixels_out) = attempt().unwrap_or_else(|e| panic!("{e}"));
    // up to 4.4 and 2.1, each rounded, and their sum; pixels are moved, not computed
    close("from_u8", &bytes_out, &from_u8(dim, &bytes, &wide(&MEAN), &wide(&STD)), Tol { rel: 0.0, abs: 1e-6 });
    close("from_nchw", &pixels_out, &from_nchw(dim, &wide(&pixels)), Tol { rel: 0.0, abs: 0.0 });
}

pub fn bench(b: &mut Bench) {
    b.family("patchify", validate);
    let size = 224;
    for n in [1, b.batch()] {
        let numbers = n * size * size * 3;
        b.launches(&format!("u8 {size}x{n}"), Floor::bytes(5 * numbers), |x| {
            patchify::from_u8(x.g, &x.words(numbers / 4)?, [n, size, size], 16, MEAN, STD)
        });
        b.launches(&format!("nchw {size}x{n}"), Floor::bytes(8 * numbers), |x| {
            patchify::from_nchw(x.g, &x.normal(&[n, 3, size, size])?, 16)
        });
    }
}
