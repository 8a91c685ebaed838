//! Words and pictures inside of HTML and SVG.
use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use image::{ImageFormat, RgbImage};

use crate::error::{Error, Result};

/// A text inside of an element or of an attribute: without what is taken for markup, or is not allowed at all.
pub(crate) fn escaped(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\n' => safe.push('\n'),
            '\u{fffe}' | '\u{ffff}' => safe.push('\u{fffd}'),
            c if c.is_control() => safe.push('\u{fffd}'),
            c => safe.push(c),
        }
    }
    safe
}

/// The address of a PNG or JPEG that stands in the text itself.
pub(crate) fn address(bytes: &[u8], format: ImageFormat) -> String {
    format!("data:{};base64,{}", format.to_mime_type(), STANDARD.encode(bytes))
}

/// [`address`] of a picture that is still pixels.
///
/// # Errors
/// A picture that the format cannot hold.
pub(crate) fn picture_address(pixels: &RgbImage, format: ImageFormat) -> Result<String> {
    let mut bytes = Cursor::new(Vec::new());
    pixels.write_to(&mut bytes, format).map_err(|e| Error::Internal(format!("a picture as {format:?}: {e}")))?;
    Ok(address(bytes.get_ref(), format))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_no_markup() {
        let safe = "a&lt;b&gt; &amp; &quot;c&quot;\u{fffd}[0m\u{fffd}\n ü";
        assert_eq!(escaped("a<b> & \"c\"\u{1b}[0m\u{ffff}\n ü"), safe);
    }

    #[test]
    fn addresses_hold_the_bytes() {
        assert_eq!(address(b"foob", ImageFormat::Png), "data:image/png;base64,Zm9vYg==");
        let pixels = RgbImage::from_pixel(100, 100, image::Rgb([90; 3]));
        assert!(picture_address(&pixels, ImageFormat::Jpeg).unwrap().starts_with("data:image/jpeg;base64,/9j/"));
    }
}
