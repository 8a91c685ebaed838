//! Affine maps with bicubic interpolation, as PIL's `Image.transform` and `Image.rotate`. PIL's cubic has a = −1 here
//! (its `resize` has a = −½), truncates instead of rounding, and fills with one color where the source ends.
use crate::data::augment::Canvas;

/// Where a pixel of the result comes from. The center (x', y') of a pixel of the result lies in the source at
/// x = m₀·x' + m₁·y' + m₂, y = m₃·x' + m₄·y' + m₅.
type Matrix = [f64; 6];

/// Moves each row by `factor` times its distance from the top.
pub fn shear_x(c: &mut Canvas, factor: f64, fill: [u8; 3]) {
    transform(c, [1.0, factor, 0.0, 0.0, 1.0, 0.0], fill);
}

/// Moves each column by `factor` times its distance from the left.
pub fn shear_y(c: &mut Canvas, factor: f64, fill: [u8; 3]) {
    transform(c, [1.0, 0.0, 0.0, factor, 1.0, 0.0], fill);
}

/// Moves the image to the left by `share` of its side.
pub fn translate_x(c: &mut Canvas, share: f64, fill: [u8; 3]) {
    let pixels = share * c.side as f64;
    transform(c, [1.0, 0.0, pixels, 0.0, 1.0, 0.0], fill);
}

/// Moves the image upwards by `share` of its side.
pub fn translate_y(c: &mut Canvas, share: f64, fill: [u8; 3]) {
    let pixels = share * c.side as f64;
    transform(c, [1.0, 0.0, 0.0, 0.0, 1.0, pixels], fill);
}

/// Turns the image counter-clockwise around its center.
pub fn rotate(c: &mut Canvas, degrees: f64, fill: [u8; 3]) {
    let (sin, cos) = (-degrees.to_radians()).sin_cos();
    let center = c.side as f64 / 2.0;
    let (x, y) = (center - cos * center - sin * center, center + sin * center - cos * center);
    transform(c, [cos, sin, x, -sin, cos, y], fill);
}

fn transform(c: &mut Canvas, m: Matrix, fill: [u8; 3]) {
    c.save();
    let side = c.side;
    let limit = side as f64;
    let source: &[u8] = c.spare;
    for (row, line) in c.pixels.chunks_exact_mut(side * 3).enumerate() {
        let y = row as f64 + 0.5;
        for (column, out) in line.chunks_exact_mut(3).enumerate() {
            let x = column as f64 + 0.5;
            let (x, y) = (m[0] * x + m[1] * y + m[2], m[3] * x + m[4] * y + m[5]);
            if (0.0..limit).contains(&x) && (0.0..limit).contains(&y) {
                sample(source, side, x - 0.5, y - 0.5, out);
            } else {
                out.copy_from_slice(&fill);
            }
        }
    }
}

/// The color of the source at (`x`, `y`), where (0, 0) is the center of the first pixel. Beyond its edges the source
/// repeats its outermost pixels.
#[inline]
fn sample(source: &[u8], side: usize, x: f64, y: f64, out: &mut [u8]) {
    let (left, top) = (x.floor(), y.floor());
    let (dx, dy) = (x - left, y - top);
    let inside = |first: f64, k: usize| (first as isize + k as isize - 1).clamp(0, side as isize - 1) as usize;
    let columns: [usize; 4] = std::array::from_fn(|k| inside(left, k) * 3);
    let rows: [usize; 4] = std::array::from_fn(|k| inside(top, k) * side * 3);
    let pixel = |row: usize, column: usize| -> [f64; 3] {
        let bytes = &source[rows[row] + columns[column]..][..3];
        std::array::from_fn(|channel| f64::from(bytes[channel]))
    };
    // At a whole position the cubic gives the pixel itself, so that its neighbors need not be read.
    let across = |row: usize| match dx == 0.0 {
        true => pixel(row, 1),
        false => cubic(std::array::from_fn(|k| pixel(row, k)), dx),
    };
    let value = if dy == 0.0 { across(1) } else { cubic(std::array::from_fn(across), dy) };
    out.iter_mut().zip(value).for_each(|(v, value)| *v = value as u8);
}

/// The cubic through four pixels in a row, at the distance `d` in [0, 1) from the second to the third.
#[inline]
fn cubic(v: [[f64; 3]; 4], d: f64) -> [f64; 3] {
    std::array::from_fn(|c| {
        let p1 = v[2][c] - v[0][c];
        let p2 = 2.0 * (v[0][c] - v[1][c]) + v[2][c] - v[3][c];
        let p3 = -v[0][c] + v[1][c] - v[2][c] + v[3][c];
        v[1][c] + d * (p1 + d * (p2 + d * p3))
    })
}
