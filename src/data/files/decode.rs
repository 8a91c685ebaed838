//! Decodes image files to RGB pixels: PIL's `Image.open(…).convert("RGB")`.
use crate::data::sample::Rgb8;
use crate::error::DataError;
use image::{DynamicImage, ImageReader};
use std::io::Cursor;

/// Whether the last component of `path` has the extension of an image that [`decode`] reads, and is not hidden.
pub(crate) fn is_image_name(path: &str) -> bool {
    const KNOWN: [&str; 13] =
        ["jpg", "jpeg", "jpe", "png", "bmp", "gif", "webp", "ppm", "pgm", "pbm", "pnm", "tif", "tiff"];
    let name = path.rsplit('/').next().unwrap_or_default();
    let Some((stem, extension)) = name.rsplit_once('.') else { return false };
    !stem.is_empty() && !name.starts_with('.') && KNOWN.iter().any(|k| extension.eq_ignore_ascii_case(k))
}

/// Decodes `bytes` by their content, whatever the file is called.
///
/// Gray becomes three equal channels, 16 bits become 8, a transparent pixel lies over white, and of an animation the
/// first frame is taken. EXIF rotation is ignored, as in the usual ImageNet pipelines. A JPEG that ends early is an
/// error: a decoder would fill the rest with gray, and a model would train on it. `name` is for the error.
pub(crate) fn decode(name: &str, bytes: &[u8]) -> Result<Rgb8, DataError> {
    let failed = |reason: String| DataError::Decode { name: name.to_owned(), reason };
    if jpeg_is_cut(bytes) {
        return Err(failed("the JPEG ends before its end marker".to_owned()));
    }
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| failed(e.to_string()))?;
    let image = reader.decode().map_err(|e| failed(e.to_string()))?;
    let (width, height) = (image.width(), image.height());
    if width == 0 || height == 0 {
        return Err(failed(format!("is {width} × {height} pixels")));
    }
    let pixels = if image.color().has_alpha() { over_white(image) } else { image.into_rgb8().into_raw() };
    Ok(Rgb8 { width, height, pixels })
}

/// Whether a JPEG is cut off: no end marker (ff d9) comes after its last start of a scan (ff da). Looking for any end
/// marker would not do, because an embedded thumbnail has one of its own. The data of a scan contains neither marker.
fn jpeg_is_cut(bytes: &[u8]) -> bool {
    if !bytes.starts_with(&[0xff, 0xd8]) {
        return false;
    }
    let end = bytes.windows(2).rposition(|pair| pair == [0xff, 0xd9]);
    end.is_none_or(|end| bytes[end..].windows(2).any(|pair| pair == [0xff, 0xda]))
}

fn over_white(image: DynamicImage) -> Vec<u8> {
    let rgba = image.into_rgba8();
    let mut out = Vec::with_capacity(rgba.len() / 4 * 3);
    for pixel in rgba.as_raw().chunks_exact(4) {
        let alpha = u32::from(pixel[3]);
        out.extend(pixel[..3].iter().map(|&c| ((u32::from(c) * alpha + 255 * (255 - alpha) + 127) / 255) as u8));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::ImageFormat;

    fn encode(image: DynamicImage, format: ImageFormat) -> Vec<u8> {
        let mut bytes = Cursor::new(Vec::new());
        image.write_to(&mut bytes, format).unwrap();
        bytes.into_inner()
    }

    #[test]
    fn transparency_goes_over_white_and_gray_is_replicated() {
        let rgba = image::RgbaImage::from_raw(3, 1, vec![9, 9, 9, 0, 10, 20, 30, 255, 0, 100, 200, 51]).unwrap();
        let got = decode("a", &encode(rgba.into(), ImageFormat::Png)).unwrap();
        assert_eq!(got.pixels, [255, 255, 255, 10, 20, 30, 204, 224, 244]);
        let gray = image::GrayImage::from_raw(2, 1, vec![7, 200]).unwrap();
        let got = decode("a", &encode(gray.into(), ImageFormat::Png)).unwrap();
        assert_eq!(got, Rgb8 { width: 2, height: 1, pixels: vec![7, 7, 7, 200, 200, 200] });
        let deep = image::ImageBuffer::<image::Luma<u16>, _>::from_raw(1, 1, vec![0xABCDu16]).unwrap();
        let got = decode("a", &encode(deep.into(), ImageFormat::Png)).unwrap();
        assert_eq!(got.pixels, [0xAB; 3]);
    }

    #[test]
    fn content_counts_not_the_name_and_errors_name_the_file() {
        let png = encode(DynamicImage::new_rgb8(4, 3), ImageFormat::Png);
        assert_eq!(decode("odd.jpg", &png).unwrap().height, 3);
        for bytes in [&b""[..], b"not an image", &png[..40]] {
            let error = decode("dir/odd.jpg", bytes).unwrap_err().to_string();
            assert!(error.starts_with("dir/odd.jpg: "), "{error}");
        }
    }

    #[test]
    fn a_jpeg_that_ends_early_is_broken() {
        let noise =
            image::RgbImage::from_fn(64, 64, |x, y| image::Rgb([(x * y) as u8, (x * 37) as u8, (y * 91) as u8]));
        let mut bytes = encode(noise.into(), ImageFormat::Jpeg);
        assert_eq!(decode("a", &bytes).unwrap().width, 64);
        let error = decode("a", &bytes[..bytes.len() * 2 / 3]).unwrap_err().to_string();
        assert!(error.contains("ends before its end marker"), "{error}");
        bytes.extend(b"left over by a camera");
        assert!(decode("a", &bytes).is_ok());
        // The end marker of a thumbnail does not count for the image around it.
        assert!(jpeg_is_cut(b"\xff\xd8 \xff\xda thumb \xff\xd9 \xff\xda image"));
    }

    #[test]
    fn image_names() {
        for name in ["a.jpg", "a.b.JPEG", "./x.Png", "d.e/y.webp"] {
            assert!(is_image_name(name), "{name}");
        }
        for name in [".jpg", "d/._a.jpg", "a.txt", "jpg", "d.png/x", "a.jpg.txt"] {
            assert!(!is_image_name(name), "{name}");
        }
    }
}
