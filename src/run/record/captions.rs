//! Pictures with words around them, as an SVG: text in any script, in the fonts of whoever looks at it.
use super::markup::{escaped, picture_address};
use crate::error::{Error, Result};
use image::{ImageFormat, RgbImage};
use std::fmt::Write;

/// Side of a picture as it is shown, and the space around each, in pixels.
const SIDE: usize = 168;
const GAP: usize = 14;
/// Height of the title above a picture, and of each bar below it.
const TITLE: usize = 18;
const BAR: usize = 20;
/// Pictures in a row, at most.
const COLUMNS: usize = 8;
/// Sides above which a picture is stored as JPEG: a PNG of it would be several times as large.
const SMALL: usize = 96;
/// Height of the text, and about how wide a letter is: fonts differ.
const FONT: f64 = 12.0;
const LETTER: f64 = 0.58;

/// A line below a picture.
#[derive(Debug, Clone, PartialEq)]
pub struct CaptionBar {
    /// What it says on the left.
    pub name: String,
    /// The part of the line that is filled, 0 to 1. It stands on the right as a percentage.
    pub share: f64,
}

/// Square pictures of one size in rows, each with a title above and bars below.
#[derive(Debug, Clone)]
pub struct CaptionedGrid {
    side: usize,
    /// The pictures as elements of the SVG, around their own origin, and how many bars each has.
    tiles: Vec<(String, usize)>,
}

impl CaptionedGrid {
    /// A grid of pictures of `side` × `side` pixels.
    pub fn new(side: usize) -> Self {
        Self { side, tiles: Vec::new() }
    }

    /// Pictures so far.
    pub fn count(&self) -> usize {
        self.tiles.len()
    }

    /// Adds a picture (side, side, 3) in sRGB bytes. Of a title that is too long the end is shown, of a name the
    /// beginning; a viewer shows the whole when the pointer rests on it.
    pub fn push(&mut self, pixels: &[u8], title: &str, bars: &[CaptionBar]) -> Result<()> {
        let image = RgbImage::from_raw(self.side as u32, self.side as u32, pixels.to_vec());
        let image = image.filter(|_| self.side > 0 && pixels.len() == self.side * self.side * 3).ok_or_else(|| {
            Error::argument("the size of a picture", format!("{} values", pixels.len()), self.side * self.side * 3)
        })?;
        let format = if self.side > SMALL { ImageFormat::Jpeg } else { ImageFormat::Png };
        let mut tile = format!(
            "<text y=\"13\" class=\"title\"><title>{}</title>{}</text>\n\
             <image y=\"{TITLE}\" width=\"{SIDE}\" height=\"{SIDE}\" href=\"{}\"/>\n",
            escaped(title),
            escaped(&end_of(title, SIDE as f64)),
            picture_address(&image, format)?,
        );
        for (i, bar) in bars.iter().enumerate() {
            let (top, filled) = (TITLE + SIDE + 4 + i * BAR, bar.share.clamp(0.0, 1.0));
            let percent = format!("{:.1}%", 100.0 * filled);
            let room = SIDE as f64 - 12.0 - width_of(&percent);
            let _ = write!(
                tile,
                "<rect y=\"{top}\" width=\"{SIDE}\" height=\"{h}\" class=\"track\"/>\
                 <rect y=\"{top}\" width=\"{w:.1}\" height=\"{h}\" class=\"share\"/>\n\
                 <text x=\"4\" y=\"{base}\"{class}><title>{name}</title>{short}</text>\
                 <text x=\"{right}\" y=\"{base}\" class=\"percent\">{percent}</text>\n",
                h = BAR - 3,
                w = SIDE as f64 * filled,
                base = top + 13,
                class = if i == 0 { " class=\"first\"" } else { "" },
                right = SIDE - 4,
                name = escaped(&bar.name),
                short = escaped(&start_of(&bar.name, room)),
            ); // writing to a string does not fail
        }
        self.tiles.push((tile, bars.len()));
        Ok(())
    }

    /// The text of an SVG file.
    pub fn to_svg(&self) -> String {
        let columns = (1..COLUMNS).find(|n| n * n >= self.tiles.len()).unwrap_or(COLUMNS);
        let bars = self.tiles.iter().map(|(_, bars)| *bars).max().unwrap_or(0);
        let (across, down) = (SIDE + GAP, TITLE + SIDE + 4 + bars * BAR + GAP);
        let (width, height) = (columns * across + GAP, self.tiles.len().div_ceil(columns) * down + GAP);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} \
             {height}\" font-family=\"system-ui, sans-serif\" font-size=\"{FONT}\" fill=\"#222\">\n\
             <style>.title {{ fill: #777 }} .first {{ font-weight: 600 }} .percent {{ text-anchor: end }} \
             .track {{ fill: #f2f4f7 }} .share {{ fill: #b9d3f2 }}</style>\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
        );
        for (i, (tile, _)) in self.tiles.iter().enumerate() {
            let (x, y) = (GAP + i % columns * across, GAP + i / columns * down);
            let _ = write!(svg, "<g transform=\"translate({x} {y})\">\n{tile}</g>\n");
        }
        svg + "</svg>"
    }
}

/// About how wide a text is: scripts beyond Latin, Greek and Cyrillic have wide letters, at most as wide as high.
fn width_of(text: &str) -> f64 {
    text.chars().map(|c| FONT * if c < '\u{1100}' { LETTER } else { 1.0 }).sum()
}

/// The beginning of a text that fits into `room`.
fn start_of(text: &str, room: f64) -> String {
    if width_of(text) <= room {
        return text.to_owned();
    }
    let mut short = String::new();
    for c in text.chars() {
        short.push(c);
        if width_of(&short) + FONT > room {
            short.pop();
            break;
        }
    }
    short + "…"
}

/// The end of a text that fits into `room`.
fn end_of(text: &str, room: f64) -> String {
    let turned: String = text.chars().rev().collect();
    start_of(&turned, room).chars().rev().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_fit() {
        assert_eq!(start_of("cat", 100.0), "cat");
        for text in ["a name that is longer than the picture below it", "长长长长长长长长长长长长长长长长长长长长", "…"]
        {
            for room in 0..200 {
                for short in [start_of(text, f64::from(room)), end_of(text, f64::from(room))] {
                    let fits = width_of(&short) < f64::from(room) + 1e-9; // sums in another order round differently
                    assert!(fits || short == text || short == "…", "{short}: {room}");
                }
            }
        }
        assert!(start_of("name.png", 40.0).starts_with("nam") && end_of("name.png", 40.0).ends_with(".png"));
    }

    #[test]
    fn pictures_are_in_rows() {
        let mut grid = CaptionedGrid::new(2);
        let bar = |name: &str, share| CaptionBar { name: name.into(), share };
        for i in 0..5u8 {
            let bars = [bar("<cat>", 0.75), bar("", f64::NAN), bar("dog", 7.0)];
            grid.push(&[i; 12], "a&b.png", &bars[..usize::from(i) % 4]).unwrap();
        }
        let svg = grid.to_svg();
        assert_eq!((grid.count(), svg.matches("<image").count(), svg.matches("a&amp;b.png").count()), (5, 5, 10));
        let place = |column: usize, row: usize| {
            let down = TITLE + SIDE + 4 + 3 * BAR + GAP;
            format!("translate({} {})", GAP + column * (SIDE + GAP), GAP + row * down)
        };
        assert!([(0, 0), (2, 0), (0, 1), (1, 1)].iter().all(|&(x, y)| svg.contains(&place(x, y))), "{svg}");
        assert!(svg.contains("75.0%") && svg.contains("100.0%") && !svg.contains("<cat>"), "{svg}");
        let error = grid.push(&[0; 11], "", &[]).unwrap_err().to_string();
        assert!(error.contains("got 11 values, expected 12"), "{error}");
        assert!(CaptionedGrid::new(0).push(&[], "", &[]).is_err());
        let mut large = CaptionedGrid::new(100);
        large.push(&[90; 30_000], "", &[]).unwrap();
        assert!(large.to_svg().contains("data:image/jpeg;base64,/9j/"));
    }
}
