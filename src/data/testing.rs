//! Sources and files made on the fly for tests.
use super::sample::{Rgb8, Sample};
use super::source::Source;
use crate::data::dataset::Dataset;
use crate::error::DataError;
use std::path::Path;

/// `count` tiny images. Every byte of sample i is i. The decoder fails on those in `broken` and panics on those in
/// `panics`.
pub(crate) struct Stub {
    pub count: usize,
    pub broken: Vec<usize>,
    pub panics: Vec<usize>,
}

impl Stub {
    pub fn dataset(self) -> Dataset {
        Dataset::new("stub", self).expect("at least one sample")
    }
}

impl Source for Stub {
    fn len(&self) -> usize {
        self.count
    }
    fn classes(&self) -> &[String] {
        &[]
    }
    fn label(&self, index: usize) -> Option<u32> {
        Some(index as u32)
    }
    fn name(&self, index: usize) -> String {
        format!("stub/{index}")
    }
    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        assert!(!self.panics.contains(&index), "a decoder bug");
        if self.broken.contains(&index) {
            return Err(DataError::Decode { name: self.name(index), reason: "broken".into() });
        }
        Ok(Rgb8 { width: 8, height: 8, pixels: vec![index as u8; 8 * 8 * 3] }.into())
    }
}

/// The bytes of a PNG of one color.
pub(crate) fn png(width: u32, height: u32, rgb: [u8; 3]) -> Vec<u8> {
    let mut bytes = std::io::Cursor::new(Vec::new());
    let image = image::RgbImage::from_pixel(width, height, image::Rgb(rgb));
    image.write_to(&mut bytes, image::ImageFormat::Png).unwrap();
    bytes.into_inner()
}

/// Writes a file, and makes the folders above it.
pub(crate) fn put(path: &Path, bytes: &[u8]) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}
