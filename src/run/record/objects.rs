//! The objects that were found in an image: their pixels in colors, their boxes, names and scores.

use super::markup::{escaped, picture_address};
use super::overlay::{picture, shown_scale};
use crate::data::Rgb8;
use crate::error::{Error, Result};
use crate::infer::class_color::{COVER, class_color};
use crate::infer::detect::FoundObject;
use image::ImageFormat;
use std::fmt::Write;

/// Height of a name, and about how wide a letter of it is.
const FONT: f64 = 12.0;
const LETTER: f64 = 0.6;

/// An image and the objects in it.
#[derive(Debug, Clone, Copy)]
pub struct ObjectPicture<'a> {
    /// The image.
    pub image: &'a Rgb8,
    /// Objects in it.
    pub objects: &'a [FoundObject],
    /// Names of the classes.
    pub names: &'a [String],
}

impl ObjectPicture<'_> {
    /// An SVG: the image under the pixels of its objects, the surest in front, and the box of each with name and score.
    ///
    /// # Errors
    /// Masks of another size than the image.
    pub fn to_svg(&self) -> Result<String> {
        let Rgb8 { width, height, .. } = *self.image;
        let mut pixels = self.image.pixels.clone();
        for object in self.objects.iter().rev() {
            let Some(mask) = &object.mask else { continue };
            let rows = mask.rows();
            if 3 * rows.len() != pixels.len() {
                return Err(Error::argument("pixels of a mask", rows.len(), pixels.len() / 3));
            }
            let color = class_color(object.class);
            for (pixel, _) in pixels.as_chunks_mut::<3>().0.iter_mut().zip(rows).filter(|(_, inside)| *inside == 1) {
                for (channel, color) in pixel.iter_mut().zip(color) {
                    *channel = (f32::from(*channel) * (1.0 - COVER) + f32::from(color) * COVER).round() as u8;
                }
            }
        }
        let scale = shown_scale(width, height);
        let [w, h] = [width, height].map(|side| (f64::from(side) * scale).round().max(1.0));
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{w}\" height=\"{h}\" viewBox=\"0 0 {w} {h}\" \
             font-family=\"system-ui, sans-serif\" font-size=\"{FONT}\">\n\
             <image width=\"{w}\" height=\"{h}\" href=\"{}\"/>\n",
            picture_address(&picture(pixels, width, height)?, ImageFormat::Png)?,
        );
        for object in self.objects.iter().rev() {
            let ([left, top, right, bottom], [r, g, b]) =
                (object.corners.map(|v| v * scale), class_color(object.class));
            let name = self.names.get(object.class).map_or("", String::as_str);
            let text = format!("{name} {:.0}%", 100.0 * object.score);
            let wide = FONT * LETTER * text.chars().count() as f64 + 6.0;
            let (x, y) = (left.min(w - wide).max(0.0), if top < FONT + 4.0 { top } else { top - FONT - 4.0 });
            let _ = writeln!(
                svg,
                "<rect x=\"{left:.1}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill=\"none\" \
                 stroke=\"rgb({r},{g},{b})\" stroke-width=\"2\"/>\
                 <rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{wide:.1}\" height=\"{:.1}\" fill=\"rgb({r},{g},{b})\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#000\">{}</text>",
                right - left,
                bottom - top,
                FONT + 4.0,
                x + 3.0,
                y + FONT,
                escaped(&text),
            ); // writing to a string does not fail
        }
        svg.push_str("</svg>\n");
        Ok(svg)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::masks::RunLengths;

    #[test]
    fn objects_have_names_scores_and_boxes() {
        let image = Rgb8 { width: 4, height: 2, pixels: vec![100; 24] };
        let mask = RunLengths::new(2, 4, vec![2, 4, 2]).unwrap();
        let object = FoundObject { corners: [1.0, 0.0, 3.0, 2.0], score: 0.754, class: 1, mask: Some(mask) };
        let names = ["cat", "a<b"].map(String::from);
        let picture = ObjectPicture { image: &image, objects: std::slice::from_ref(&object), names: &names };
        let svg = picture.to_svg().unwrap();
        assert!(svg.contains("a&lt;b 75%") && svg.contains("x=\"60.0\" y=\"0.0\" width=\"120.0\""), "{svg}");
        let other = Rgb8 { width: 2, height: 2, pixels: vec![100; 12] };
        let wrong = ObjectPicture { image: &other, ..picture };
        assert!(wrong.to_svg().unwrap_err().to_string().contains("pixels of a mask: got 8, expected 4"));
    }
}
