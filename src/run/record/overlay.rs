//! The classes of the pixels of an image: as a PNG of numbers, and as colors over the image with a legend.

use super::markup::{escaped, picture_address};
use crate::data::Rgb8;
use crate::error::{Error, Result};
use crate::infer::class_color::{COVER, class_color};
use image::{GrayImage, ImageFormat, RgbImage};
use std::fmt::Write;
use std::io::Cursor;

/// Sides of the shown picture, least and most, in pixels.
const SHOWN: (u32, u32) = (240, 960);
/// Width of the legend and height of its lines.
const LEGEND: u32 = 220;
const LINE: usize = 22;

/// An image and the class of each pixel.
#[derive(Debug, Clone, Copy)]
pub struct Overlay<'a> {
    /// The image.
    pub image: &'a Rgb8,
    /// Its pixels' classes, row by row.
    pub classes: &'a [u16],
    /// Names of the classes.
    pub names: &'a [String],
}

/// Pixels as an image.
pub(super) fn picture(pixels: Vec<u8>, width: u32, height: u32) -> Result<RgbImage> {
    let image = RgbImage::from_raw(width, height, pixels);
    image.ok_or_else(|| Error::Internal("an overlay that does not fill its size".into()))
}

/// Pixels of a shown picture for one of the image.
pub(super) fn shown_scale(width: u32, height: u32) -> f64 {
    f64::from(width.max(height).clamp(SHOWN.0, SHOWN.1)) / f64::from(width.max(height))
}

impl Overlay<'_> {
    fn expect_pixels(&self) -> Result<()> {
        let pixels = self.image.width as usize * self.image.height as usize;
        match self.classes.len() == pixels && self.image.pixels.len() == 3 * pixels && pixels > 0 {
            true => Ok(()),
            false => Err(Error::argument("classes of an image", self.classes.len(), format!("{pixels}, at least 1"))),
        }
    }

    /// A gray PNG whose values are the classes.
    ///
    /// # Errors
    /// Not as many classes as pixels, or one above 255.
    pub fn index_png(&self) -> Result<Vec<u8>> {
        self.expect_pixels()?;
        let byte = |class: &u16| {
            u8::try_from(*class).map_err(|_| Error::argument("a class in a PNG of one byte", class, "up to 255"))
        };
        let values = self.classes.iter().map(byte).collect::<Result<Vec<u8>>>()?;
        let image = GrayImage::from_raw(self.image.width, self.image.height, values);
        let mut bytes = Cursor::new(Vec::new());
        let written = image.map(|image| image.write_to(&mut bytes, ImageFormat::Png));
        match written {
            Some(Ok(())) => Ok(bytes.into_inner()),
            failed => Err(Error::Internal(format!("a map as PNG: {failed:?}"))),
        }
    }

    /// An SVG: the image under the colors of its classes, and a line of the legend for each class in it, the largest
    /// first.
    ///
    /// # Errors
    /// Not as many classes as pixels.
    pub fn to_svg(&self) -> Result<String> {
        self.expect_pixels()?;
        let mixed = |(pixel, class): (&[u8; 3], &u16)| {
            let color = class_color(usize::from(*class));
            std::array::from_fn::<u8, 3, _>(|c| {
                (f32::from(pixel[c]) * (1.0 - COVER) + f32::from(color[c]) * COVER).round() as u8
            })
        };
        let pixels: Vec<u8> = self.image.pixels.as_chunks::<3>().0.iter().zip(self.classes).flat_map(mixed).collect();
        let (width, height) = (self.image.width, self.image.height);
        let image = picture(pixels, width, height)?;
        let mut counts = vec![0usize; self.names.len()];
        self.classes.iter().for_each(|class| {
            if let Some(count) = counts.get_mut(usize::from(*class)) {
                *count += 1;
            }
        });
        let mut seen: Vec<usize> = (0..counts.len()).filter(|class| counts[*class] > 0).collect();
        seen.sort_by_key(|class| std::cmp::Reverse(counts[*class])); // stable
        let scale = shown_scale(width, height);
        let [w, h] = [width, height].map(|side| (f64::from(side) * scale).round().max(1.0) as u32);
        let total = h.max((seen.len() * LINE + 8) as u32);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{total}\" viewBox=\"0 0 {0} {total}\" \
             font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#222\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
             <image width=\"{w}\" height=\"{h}\" href=\"{1}\"/>\n",
            w + LEGEND,
            picture_address(&image, ImageFormat::Png)?,
        );
        for (line, class) in seen.into_iter().enumerate() {
            let ([r, g, b], y) = (class_color(class), line * LINE + 6);
            let percent = 100.0 * counts[class] as f64 / self.classes.len() as f64;
            let _ = writeln!(
                svg,
                "<rect x=\"{x}\" y=\"{y}\" width=\"14\" height=\"14\" fill=\"rgb({r},{g},{b})\"/>\
                 <text x=\"{at}\" y=\"{base}\">{name}  {percent:.1}%</text>",
                x = w + 12,
                at = w + 34,
                base = y + 12,
                name = escaped(&self.names[class]),
            ); // writing to a string does not fail
        }
        svg.push_str("</svg>\n");
        Ok(svg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_colors() {
        let image = Rgb8 { width: 2, height: 2, pixels: vec![100; 12] };
        let names = ["ground", "a<b"].map(String::from);
        let overlay = Overlay { image: &image, classes: &[0, 1, 1, 1], names: &names };
        let png = image::load_from_memory(&overlay.index_png().unwrap()).unwrap();
        assert_eq!(png.into_luma8().into_raw(), [0, 1, 1, 1]);
        let svg = overlay.to_svg().unwrap();
        let (first, second) = (svg.find("a&lt;b  75.0%").unwrap(), svg.find("ground  25.0%").unwrap());
        assert!(first < second, "the largest first");
        let wrong = Overlay { classes: &[0, 1], ..overlay };
        assert!(wrong.to_svg().unwrap_err().to_string().contains("classes of an image: got 2, expected 4"));
        assert!(Overlay { classes: &[0, 1, 1, 300], ..overlay }.index_png().is_err());
    }
}
