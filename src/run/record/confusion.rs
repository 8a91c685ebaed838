//! A confusion matrix as a PNG: a row for each true class, a column for each predicted one.
use super::atomic::write_atomic;
use crate::error::{Error, Result};
use image::{ImageFormat, Rgb, RgbImage};
use std::io::Cursor;
use std::path::Path;

/// Side of the picture in pixels, approximately; a class gets at least one pixel.
const SIDE: usize = 720;
/// Pixels of a digit's dot, and of the margin with the numbers of the classes.
const DOT: u32 = 2;
const MARGIN: u32 = 40;
const INK: Rgb<u8> = Rgb([40, 40, 40]);

/// Dots of each digit, 3 × 5. A row of dots is three bits, the left dot the highest; rows follow from top to bottom.
const DIGITS: [[u8; 5]; 10] = [
    [7, 5, 5, 5, 7],
    [2, 6, 2, 2, 7],
    [7, 1, 7, 4, 7],
    [7, 1, 7, 1, 7],
    [5, 5, 7, 1, 1],
    [7, 4, 7, 1, 7],
    [7, 4, 7, 5, 7],
    [7, 1, 1, 1, 1],
    [7, 5, 7, 5, 7],
    [7, 5, 7, 1, 7],
];

/// Draws `counts` (K, K), whose rows are the true classes, as a PNG file. A field is the darker the larger its share of
/// its row. Up to 20 classes each field shows that share in percent; up to 100 classes the margin shows their numbers.
pub fn confusion_matrix(path: &Path, counts: &[u64], classes: usize) -> Result<()> {
    if classes == 0 || counts.len() != classes * classes {
        let got = format!("{} counts", counts.len());
        return Err(Error::argument("the confusion matrix", got, format!("{classes} × {classes}, at least 1")));
    }
    let cell = (SIDE / classes).max(1) as u32;
    let margin = if classes <= 100 { MARGIN } else { 0 };
    let side = margin + cell * classes as u32;
    let mut image = RgbImage::from_pixel(side + 1, side + 1, Rgb([255; 3]));
    for (row, line) in counts.chunks_exact(classes).enumerate() {
        let total = line.iter().sum::<u64>().max(1);
        for (column, &count) in line.iter().enumerate() {
            let share = count as f64 / total as f64;
            let (x, y) = (margin + column as u32 * cell, margin + row as u32 * cell);
            fill(&mut image, (x, y), cell, shade(share, row == column));
            if classes <= 20 && count > 0 {
                let ink = if share > 0.5 { Rgb([255; 3]) } else { INK };
                write(&mut image, (x + cell / 2, y + cell / 2), (100.0 * share).round() as u64, ink);
            }
        }
        if margin > 0 && (classes <= 40 || row % 5 == 0) {
            let middle = margin + row as u32 * cell + cell / 2;
            write(&mut image, (margin / 2, middle), row as u64, INK);
            write(&mut image, (middle, margin / 2), row as u64, INK);
        }
    }
    let mut png = Cursor::new(Vec::new());
    image.write_to(&mut png, ImageFormat::Png).map_err(|e| Error::file(path, e.to_string()))?;
    write_atomic(path, png.get_ref())
}

/// Color of a field: white for a share of 0; blue on the diagonal, red elsewhere.
fn shade(share: f64, right: bool) -> Rgb<u8> {
    let full = if right { [31.0, 92.0, 170.0] } else { [190.0, 50.0, 30.0] };
    // a square root, so that small shares of errors are visible
    let depth = if right { share } else { share.sqrt() };
    Rgb(full.map(|c: f64| (255.0 + (c - 255.0) * depth).round() as u8))
}

/// A filled square. Where there is room, its right and lower edges are left to the background as a line.
fn fill(image: &mut RgbImage, (left, top): (u32, u32), cell: u32, color: Rgb<u8>) {
    let inner = if cell > 6 { cell - 1 } else { cell };
    for y in top..top + inner {
        for x in left..left + inner {
            image.put_pixel(x, y, color);
        }
    }
}

/// A number centered at a point.
fn write(image: &mut RgbImage, (x, y): (u32, u32), number: u64, ink: Rgb<u8>) {
    let digits: Vec<usize> = number.to_string().bytes().map(|b| usize::from(b - b'0')).collect();
    let (width, height) = (DOT * (4 * digits.len() as u32 - 1), DOT * 5);
    let (left, top) = (x.saturating_sub(width / 2), y.saturating_sub(height / 2));
    for (place, digit) in digits.into_iter().enumerate() {
        for (row, bits) in DIGITS[digit].into_iter().enumerate() {
            for column in (0..3u32).filter(|column| bits >> (2 - column) & 1 == 1) {
                let (x, y) = (left + DOT * (4 * place as u32 + column), top + DOT * row as u32);
                for (dx, dy) in (0..DOT).flat_map(|dy| (0..DOT).map(move |dx| (dx, dy))) {
                    if x + dx < image.width() && y + dy < image.height() {
                        image.put_pixel(x + dx, y + dy, ink);
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn right_is_blue_and_wrong_is_red() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("confusion.png");
        confusion_matrix(&path, &[3, 1, 0, 0], 2).unwrap();
        let image = image::open(&path).unwrap().into_rgb8();
        let (cell, at) = (SIDE as u32 / 2, |x: u32, y: u32| image.get_pixel(x, y).0);
        let corner = |row: u32, column: u32| at(MARGIN + column * cell + 1, MARGIN + row * cell + 1);
        let [r, _, b] = corner(0, 0);
        assert!(b > r, "75 percent right");
        let [r, _, b] = corner(0, 1);
        assert!(r > b, "25 percent wrong");
        assert_eq!((corner(1, 0), corner(1, 1)), ([255; 3], [255; 3]), "no image of the second class");
        // the upper left dot of the 7 of 75 is inked
        let middle = (MARGIN + cell / 2, MARGIN + cell / 2);
        assert_eq!(at(middle.0 - 7, middle.1 - 5), [255; 3]);
        for classes in [1, 20, 21, 100, 101, 1000] {
            let mut counts = vec![0; classes * classes];
            counts[classes - 1] = 9;
            confusion_matrix(&path, &counts, classes).unwrap();
        }
        assert!(confusion_matrix(&path, &[1, 2], 2).is_err());
        assert!(confusion_matrix(&path, &[], 0).is_err());
    }
}
