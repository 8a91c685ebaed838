//! A PNG of pictures in rows and columns, such as `original | masked | reconstruction`.
use super::atomic::write_atomic;
use crate::error::{Error, Result};
use image::{ImageFormat, RgbImage};
use std::io::Cursor;
use std::path::Path;

/// Pixels between panels.
pub(crate) const LINE: usize = 2;
const LINE_COLOUR: u8 = 255;

/// One picture of a grid, height × width × 3.
#[derive(Clone, Copy, Debug)]
pub enum Panel<'a> {
    /// Bytes in sRGB.
    Rgb8(&'a [u8]),
    /// Numbers from 0, black, to 1. Numbers outside are clamped; NaN is black.
    F32(&'a [f32]),
}

/// Rows of pictures, all of one size and the same number in each row.
#[derive(Clone, Debug)]
pub struct PictureGrid {
    width: usize,
    height: usize,
    columns: usize,
    rows: usize,
    pixels: Vec<u8>,
}

impl PictureGrid {
    /// An empty grid of `columns` pictures of `width` × `height` pixels.
    pub fn new(width: usize, height: usize, columns: usize) -> Result<Self> {
        if width == 0 || height == 0 || columns == 0 {
            let got = format!("{columns} columns of {width} × {height}");
            return Err(Error::argument("the grid of pictures", got, "at least 1 column of 1 × 1"));
        }
        Ok(Self { width, height, columns, rows: 0, pixels: Vec::new() })
    }

    /// Adds a row below the others.
    pub fn push_row(&mut self, panels: &[Panel<'_>]) -> Result<()> {
        if panels.len() != self.columns {
            return Err(Error::argument("the number of pictures in a row", panels.len(), self.columns.to_string()));
        }
        let size = self.width * self.height * 3;
        let mut bytes = Vec::with_capacity(panels.len());
        for (i, panel) in panels.iter().enumerate() {
            let panel = match *panel {
                Panel::Rgb8(p) => p.to_vec(),
                Panel::F32(p) => p.iter().map(|v| (v.clamp(0.0, 1.0) * 255.0 + 0.5) as u8).collect(),
            };
            if panel.len() != size {
                let got = format!("{} values in column {i}", panel.len());
                let expected = format!("{size} ({} × {} × 3)", self.height, self.width);
                return Err(Error::argument("the size of a picture", got, expected));
            }
            bytes.push(panel);
        }
        if self.rows > 0 {
            self.pixels.extend(std::iter::repeat_n(LINE_COLOUR, self.full_width() * LINE * 3));
        }
        for y in 0..self.height {
            for (i, panel) in bytes.iter().enumerate() {
                if i > 0 {
                    self.pixels.extend([LINE_COLOUR; LINE * 3]);
                }
                self.pixels.extend_from_slice(&panel[y * self.width * 3..][..self.width * 3]);
            }
        }
        self.rows += 1;
        Ok(())
    }

    fn full_width(&self) -> usize {
        self.columns * (self.width + LINE) - LINE
    }

    /// Writes the grid as a PNG file, replacing `path` atomically.
    pub fn save(&self, path: &Path) -> Result<()> {
        if self.rows == 0 {
            return Err(Error::argument("the grid of pictures", "without rows", "at least one row"));
        }
        let height = self.rows * (self.height + LINE) - LINE;
        let image = RgbImage::from_raw(self.full_width() as u32, height as u32, self.pixels.clone());
        let image = image.ok_or_else(|| Error::file(path, "the grid does not fill its size"))?;
        let mut png = Cursor::new(Vec::new());
        image.write_to(&mut png, ImageFormat::Png).map_err(|e| Error::file(path, e.to_string()))?;
        write_atomic(path, png.get_ref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panels_and_separators_are_where_they_belong() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("grid.png");
        let mut grid = PictureGrid::new(3, 2, 2).unwrap();
        let bytes: Vec<u8> = (0..18).collect();
        let floats = [0.0, 1.0, 0.5, -4.0, 7.0, f32::NAN].repeat(3);
        grid.push_row(&[Panel::Rgb8(&bytes), Panel::F32(&floats)]).unwrap();
        grid.push_row(&[Panel::F32(&floats), Panel::Rgb8(&bytes)]).unwrap();
        grid.save(&path).unwrap();
        let image = image::open(&path).unwrap().into_rgb8();
        assert_eq!(image.dimensions(), (8, 6));
        let at = |x, y| image.get_pixel(x, y).0;
        assert_eq!((at(0, 0), at(2, 1)), ([0, 1, 2], [15, 16, 17]));
        assert_eq!((at(3, 0), at(4, 5), at(0, 2), at(7, 3)), ([255; 3], [255; 3], [255; 3], [255; 3]));
        assert_eq!((at(5, 0), at(6, 0)), ([0, 255, 128], [0, 255, 0]));
        assert_eq!((at(0, 4), at(5, 4), at(7, 5)), ([0, 255, 128], [0, 1, 2], [15, 16, 17]));
    }

    #[test]
    fn wrong_sizes_are_named() {
        let mut grid = PictureGrid::new(2, 2, 1).unwrap();
        let error = grid.push_row(&[Panel::Rgb8(&[0; 11])]).unwrap_err().to_string();
        assert!(error.contains("11 values in column 0") && error.contains("12 (2 × 2 × 3)"), "{error}");
        assert!(grid.push_row(&[]).unwrap_err().to_string().contains("got 0, expected 1"));
        assert!(grid.save(Path::new("x.png")).unwrap_err().to_string().contains("without rows"));
        assert!(PictureGrid::new(0, 2, 1).is_err());
    }
}
