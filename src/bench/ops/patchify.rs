//! patchify: images of 224×224 to one row per patch of 16×16×3, from u8 images and from f32 pixels, and back.

use crate::bench::ops::*;
use cpu::patchify::{Dims, from_nchw, from_u8, to_map};
use ops::patchify;

const MEAN: [f32; 3] = [0.485, 0.456, 0.406];
const STD: [f32; 3] = [0.229, 0.224, 0.225];
const SIDE: usize = 16;

fn dims(v: &Values, size: usize) -> Dims {
    Dims { b: v.picked.len(), h: size, w: size, c: 3, p: SIDE }
}

fn expect_u8(v: &Values, size: usize) -> Result<Vec<Want>> {
    let bytes: Vec<u8> = v.indices("words")?.iter().flat_map(|word| word.to_le_bytes()).collect();
    let rows = from_u8(dims(v, size), &bytes, &MEAN.map(f64::from), &STD.map(f64::from));
    // rounding errors of a product up to 4.4, of a shift up to 2.1, and of their sum
    Ok(vec![want("rows", rows, Tol { rel: 0.0, abs: 1e-6 })])
}

fn expect_nchw(v: &Values, size: usize) -> Result<Vec<Want>> {
    Ok(vec![want("rows", from_nchw(dims(v, size), v.get("pixels")?), Tol::EXACT)])
}

fn expect_map(v: &Values, size: usize) -> Result<Vec<Want>> {
    Ok(vec![want("image", to_map(dims(v, size), v.get("patches")?, Some(&v.indices("inv")?)), Tol::EXACT)])
}

pub fn cases(c: &mut Cases) {
    let size = 224;
    for n in c.scope.batches() {
        let (image, numbers) = (size * size * 3, n * size * size * 3);
        let case = c.case(format!("u8 {size}x{n}")).floor(Floor::bytes(5 * numbers));
        case.check(2, "images", move |v| expect_u8(v, size)).launches(move |r, x| {
            let words = x.words("words", Axis(0), &[n, image / 4])?.reshape(&[numbers / 4])?;
            Ok(vec![result("rows", Axis(0), patchify::from_u8(r, &words, [n, size, size], SIDE, MEAN, STD)?)])
        });
        let case = c.case(format!("nchw {size}x{n}")).floor(Floor::bytes(8 * numbers));
        case.check(2, "images", move |v| expect_nchw(v, size)).launches(move |r, x| {
            let pixels = x.normal("pixels", Axis(0), &[n, 3, size, size])?;
            Ok(vec![result("rows", Axis(0), patchify::from_nchw(r, &pixels, SIDE)?)])
        });
        let case = c.case(format!("to map {size}x{n}")).floor(Floor::bytes(8 * numbers));
        case.check(2, "images", move |v| expect_map(v, size)).launches(move |r, x| {
            let side = size / SIDE;
            let patches = x.normal("patches", Axis(0), &[n, side * side, 3 * SIDE * SIDE])?;
            let hidden: Vec<u32> = (0..n * side * side).map(|i| if i * 7 % 3 == 0 { u32::MAX } else { 0 }).collect();
            let inv = x.table("inv", Axis(0), &[n, side * side], &hidden)?;
            Ok(vec![result("image", Axis(0), patchify::to_map(r, &patches, Some(&inv), [side; 2])?)])
        });
    }
}
