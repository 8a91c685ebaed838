//! Sources and files made on the fly for tests.
use super::sample::{Rgb8, Sample};
use super::source::Source;
use crate::data::dataset::Dataset;
use crate::error::DataError;
use std::io::Write;
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

/// A zip archive whose files are deflated, but for every second one.
pub(crate) fn zip(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let (mut all, mut directory) = (Vec::new(), Vec::new());
    for (i, (name, bytes)) in files.iter().enumerate() {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        let (method, packed) = if i % 2 == 1 {
            (0u16, bytes.clone())
        } else {
            let mut deflate = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::fast());
            deflate.write_all(bytes).unwrap();
            (8, deflate.finish().unwrap())
        };
        let mut common = Vec::new();
        common.extend([20u16, 0, method, 0, 0].iter().flat_map(|v| v.to_le_bytes()));
        common.extend([crc.sum(), packed.len() as u32, bytes.len() as u32].iter().flat_map(|v| v.to_le_bytes()));
        common.extend((name.len() as u16).to_le_bytes());
        common.extend(0u16.to_le_bytes());
        directory.extend([&b"PK\x01\x02\x14\0"[..], &common, &[0; 10], &(all.len() as u32).to_le_bytes()].concat());
        directory.extend(name.as_bytes());
        all.extend([b"PK\x03\x04", &common[..], name.as_bytes(), &packed].concat());
    }
    let (count, at) = (files.len() as u16, all.len() as u32);
    all.extend(&directory);
    all.extend(b"PK\x05\x06\0\0\0\0");
    all.extend([count, count].iter().flat_map(|v| v.to_le_bytes()));
    all.extend([directory.len() as u32, at].iter().flat_map(|v| v.to_le_bytes()));
    all.extend([0, 0]);
    all
}
