//! Decodes image files to RGB pixels: PIL's `Image.open(…).convert("RGB")`.
use super::jpeg::{is_jpeg, jpeg_end};
use crate::data::sample::Rgb8;
use crate::error::DataError;
use image::{DynamicImage, ImageDecoder, ImageReader, Limits};
use std::io::Cursor;
use std::sync::LazyLock;

/// Whether the last component of `path` has the extension of an image that [`decode`] reads, and is not hidden.
pub(crate) fn is_image_name(path: &str) -> bool {
    const KNOWN: [&str; 15] =
        ["jpg", "jpeg", "jpe", "jfif", "jif", "png", "bmp", "gif", "webp", "ppm", "pgm", "pbm", "pnm", "tif", "tiff"];
    let name = path.rsplit('/').next().unwrap_or_default();
    let Some((stem, extension)) = name.rsplit_once('.') else { return false };
    !stem.is_empty() && !name.starts_with('.') && KNOWN.iter().any(|k| extension.eq_ignore_ascii_case(k))
}

/// Decodes `bytes` by their content, whatever the file is called.
///
/// Gray becomes three equal channels, 16 bits become 8, a transparent pixel lies over white, and of an animation the
/// first frame is taken. EXIF rotation is ignored, as in the usual ImageNet pipelines. A JPEG that ends early is an
/// error: a decoder would fill the rest with gray, and a model would train on it. What follows a JPEG, such as the
/// movie of a motion photo, is not looked at. `name` is for the error.
pub(crate) fn decode(name: &str, bytes: &[u8]) -> Result<Rgb8, DataError> {
    decode_within(name, bytes, *MOST, false)
}

/// [`decode`] with EXIF rotation: coordinates in annotations are those of the image as it is shown.
pub(crate) fn decode_upright(name: &str, bytes: &[u8]) -> Result<Rgb8, DataError> {
    decode_within(name, bytes, *MOST, true)
}

fn decode_within(name: &str, bytes: &[u8], most: u64, upright: bool) -> Result<Rgb8, DataError> {
    let failed = |reason: String| DataError::Decode { name: name.to_owned(), reason };
    let bytes = match is_jpeg(bytes).then(|| jpeg_end(bytes)) {
        None => bytes,
        Some(Some(end)) => &bytes[..end],
        Some(None) => return Err(failed("the JPEG ends before its end marker".to_owned())),
    };
    let reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| failed(e.to_string()))?;
    let mut decoder = reader.into_decoder().map_err(|e| failed(e.to_string()))?;
    let ((width, height), needed) = (decoder.dimensions(), decoder.total_bytes());
    if width == 0 || height == 0 {
        return Err(failed(format!("is {width} × {height} pixels")));
    }
    if needed > most {
        let (got, most) = (needed.div_ceil(MB), most / MB);
        let advice = format!("shrink it, or set {MOST_NAME}={got} in the environment");
        return Err(failed(format!(
            "is {width} × {height} pixels, {got} MB decoded, expected at most {most} MB: {advice}"
        )));
    }
    let mut limits = Limits::default();
    limits.max_alloc = Some(needed.max(MB * 512)); // what a decoder needs besides, which is less than the image
    decoder.set_limits(limits).map_err(|e| failed(e.to_string()))?;
    let turned = if upright { decoder.orientation().ok() } else { None };
    let mut image = DynamicImage::from_decoder(decoder).map_err(|e| failed(e.to_string()))?;
    if let Some(turned) = turned {
        image.apply_orientation(turned);
    }
    let (width, height) = (image.width(), image.height());
    let pixels = if image.color().has_alpha() { over_white(image) } else { image.into_rgb8().into_raw() };
    Ok(Rgb8 { width, height, pixels })
}

const MB: u64 = 1_000_000;

/// The environment variable that holds the most megabytes of a decoded image.
const MOST_NAME: &str = "ROWSCAN_MAX_IMAGE_MB";

/// Bytes that the pixels of one image may take, so that a few bytes of a hostile file cannot take all memory. Each
/// decoding thread holds one image at a time, and what is kept of it while it is resized. The default holds an image of
/// 18,000 × 18,000 pixels.
static MOST: LazyLock<u64> = LazyLock::new(|| {
    let set = std::env::var(MOST_NAME).ok();
    match set.as_ref().map(|text| text.trim().parse::<u64>()) {
        None => 1000 * MB,
        Some(Ok(most @ 1..=1_000_000)) => most * MB,
        Some(_) => {
            let got = set.unwrap_or_default();
            tracing::warn!("{MOST_NAME} is {got}, expected 1 to 1000000 megabytes: 1000 are taken");
            1000 * MB
        }
    }
});

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
    use crate::data::stream::{Stream, StreamPurpose};
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
    }

    #[test]
    fn what_follows_a_jpeg_changes_no_pixel() {
        let progressive = include_bytes!("../../../tests/fixtures/data/progressive.jpg").to_vec();
        let gradient = image::RgbImage::from_fn(40, 30, |x, y| image::Rgb([x as u8 * 6, y as u8 * 8, 90]));
        for whole in [progressive, encode(gradient.into(), ImageFormat::Jpeg)] {
            let plain = decode("a", &whole).unwrap();
            let mut random = Stream::new(StreamPurpose::Augment, [3; 3]);
            let movie: Vec<u8> = (0..1_000_000).map(|_| random.below(256) as u8).collect();
            for tail in [&b"\xff\xda"[..], b"\xff\xd9", b"\xff\xd8\xff\xe0", &movie, &whole] {
                assert_eq!(decode("a", &[&whole, tail].concat()).unwrap(), plain);
                let cut = decode("a", &[&whole[..whole.len() - 9], tail].concat()).map(|_| ());
                let error = cut.err().map(|error| error.to_string()).unwrap_or_default();
                // A bare end marker behind a cut image cannot be told from the image's own.
                assert!(tail == b"\xff\xd9" || error.contains("ends before its end marker"), "{error}");
            }
        }
    }

    #[test]
    fn an_image_beyond_the_limit_is_refused_with_what_to_do() {
        let png = encode(DynamicImage::new_rgb8(2000, 1000), ImageFormat::Png);
        let error = decode_within("big.png", &png, 5_000_000, false).unwrap_err().to_string();
        let expected = "big.png: is 2000 × 1000 pixels, 6 MB decoded, expected at most 5 MB: shrink it, or set \
                        ROWSCAN_MAX_IMAGE_MB=6 in the environment";
        assert_eq!(error, expected);
        assert_eq!(decode_within("big.png", &png, 6_000_000, false).unwrap().width, 2000);
        // 16,384 × 16,384 pixels fit the default; this one claims as many in few bytes, and is refused as cut.
        let mut huge = encode(DynamicImage::new_luma8(1, 1), ImageFormat::Png);
        huge[16..24].copy_from_slice(&[0, 0, 0x40, 0, 0, 0, 0x40, 0]);
        let checksum = crc32(&huge[12..29]);
        huge[29..33].copy_from_slice(&checksum.to_be_bytes());
        let error = decode("huge.png", &huge).unwrap_err().to_string();
        assert!(!error.contains("limit") && error.starts_with("huge.png: "), "{error}");
    }

    fn crc32(bytes: &[u8]) -> u32 {
        let mut crc = flate2::Crc::new();
        crc.update(bytes);
        crc.sum()
    }

    #[test]
    fn image_names() {
        for name in ["a.jpg", "a.b.JPEG", "./x.Png", "d.e/y.webp", "z.jfif"] {
            assert!(is_image_name(name), "{name}");
        }
        for name in [".jpg", "d/._a.jpg", "a.txt", "jpg", "d.png/x", "a.jpg.txt"] {
            assert!(!is_image_name(name), "{name}");
        }
    }
}
