//! What the values and colors of an annotation mean: from a PNG to the class of each pixel.

use super::color_table::ColorTable;
use super::tree::Tree;
use crate::data::labels::PixelLabels;
use crate::data::sample::SegmentationMap;
use crate::error::DataError;
use std::fs;
use std::path::{Path, PathBuf};

/// ADE20K's classes, one a line.
const ADE20K: &str = include_str!("../ade20k.txt");
/// The file with the names of classes, one a line.
const NAMES: &str = "classes.txt";
/// Files with names and colors of classes, of which the first counts.
const COLORS: [&str; 3] = ["label_colors.txt", "colors.txt", "colors.json"];

/// The classes, and what says which one a pixel has.
pub(super) struct Classes {
    pub names: Vec<String>,
    /// Whether 0 is no class, and class k has the value k + 1: mmsegmentation's `reduce_zero_label`.
    from_one: bool,
    colors: Option<ColorTable>,
}

impl Classes {
    /// Names from a table of colors, the file beside the images, ADE20K's, or numbers.
    pub fn of(tree: &Tree, root: &Path, is_ade: bool, labels: &PixelLabels) -> Result<Self, DataError> {
        let PixelLabels { num_classes, reduce_zero_label, color_table } = labels;
        let from_one = reduce_zero_label.unwrap_or(is_ade);
        let lines = |text: &str| -> Vec<String> {
            text.lines().map(str::trim).filter(|line| !line.is_empty()).map(str::to_owned).collect()
        };
        let path = root.join(NAMES);
        let named = tree.text(&path)?.map(|text| lines(&text));
        let colors = Self::colors(tree, root, color_table.as_deref())?;
        let (place, names) = match (&colors, named, num_classes) {
            (Some((place, table)), Some(names), _) if names != table.names => {
                let expected = format!("those of {} in its order, or only one of the two files", place.display());
                return Err(DataError::format(&path, format!("names other classes, expected {expected}")));
            }
            (Some((place, table)), _, _) => (place.clone(), table.names.clone()),
            (None, Some(names), _) => (path, names),
            (None, None, _) if is_ade => ("ADE20K".into(), lines(ADE20K)),
            (None, None, Some(count)) => ("num_classes".into(), (0..*count).map(|i| format!("class {i}")).collect()),
            (None, None, None) => {
                let message = "no such file, expected the names of the classes, one a line, in the order of their \
                               values; or give their number (`num_classes`)";
                return Err(DataError::format(&path, message.to_owned()));
            }
        };
        if !(1..=255).contains(&names.len()) {
            return Err(DataError::format(&place, format!("names {} classes, expected 1 to 255", names.len())));
        }
        if let Some(count) = num_classes.filter(|count| *count != names.len()) {
            return Err(DataError::setting(
                "num_classes",
                count,
                format!("{}, as {} has", names.len(), place.display()),
            ));
        }
        if from_one && colors.is_some() {
            let expected = "false with a color table: call the color `void` that is no class".to_owned();
            return Err(DataError::setting("reduce_zero_label", true, expected));
        }
        Ok(Self { names, from_one, colors: colors.map(|(_, table)| table) })
    }

    /// The table of colors that is named, or that lies beside the images.
    fn colors(tree: &Tree, root: &Path, named: Option<&Path>) -> Result<Option<(PathBuf, ColorTable)>, DataError> {
        if let Some(path) = named {
            let text = fs::read_to_string(path).map_err(DataError::io("read", path))?;
            return Ok(Some((path.to_owned(), ColorTable::parse(path, &text)?)));
        }
        for path in COLORS.map(|name| root.join(name)) {
            if let Some(text) = tree.text(&path)? {
                return Ok(Some((path.clone(), ColorTable::parse(&path, &text)?)));
            }
        }
        Ok(None)
    }

    /// The classes of an annotation: width, height, and the class of each pixel.
    pub fn read(&self, name: &str, bytes: &[u8]) -> Result<(u32, u32, Vec<u16>), DataError> {
        let failed = |reason: String| DataError::Decode { name: name.to_owned(), reason };
        let at = |i: usize, width: u32| format!("the pixel {}, {}", i % width as usize, i / width as usize);
        if let Some(table) = &self.colors
            && let Some((width, height, colors)) = rgb(name, bytes)?
        {
            let mut classes = Vec::with_capacity(colors.len() / 3);
            let mut last = None;
            for (i, color) in colors.as_chunks::<3>().0.iter().enumerate() {
                let class = match last {
                    Some((known, class)) if known == *color => class,
                    _ => table.class(*color).ok_or_else(|| {
                        let ([r, g, b], place) = (*color, at(i, width));
                        failed(format!("{place} has the color {r} {g} {b}, expected one of the table of colors"))
                    })?,
                };
                last = Some((*color, class));
                classes.push(class);
            }
            return Ok((width, height, classes));
        }
        let (width, height, values) = indices(name, bytes)?;
        let (count, first) = (self.names.len() as u16, u16::from(self.from_one));
        let class = |(i, value): (usize, &u8)| match u16::from(*value) {
            255 => Ok(SegmentationMap::IGNORED),
            0 if self.from_one => Ok(SegmentationMap::IGNORED),
            value if value - first < count => Ok(value - first),
            value => {
                let none = if self.from_one { "0 or 255" } else { "255" };
                let allowed = format!("expected {first} to {}, or {none} for no class", count - 1 + first);
                Err(failed(format!("{} has the value {value}, {allowed}: the set has {count} classes", at(i, width))))
            }
        };
        Ok((width, height, values.iter().enumerate().map(class).collect::<Result<_, _>>()?))
    }
}

/// The colors of a PNG of 8 bits that has red, green and blue, perhaps with an opacity, which does not count: width,
/// height, and three bytes for each pixel. `None` for one of one channel.
fn rgb(name: &str, bytes: &[u8]) -> Result<Option<(u32, u32, Vec<u8>)>, DataError> {
    let failed = |reason: String| DataError::Decode { name: name.to_owned(), reason };
    let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(|e| failed(format!("no PNG of classes: {e}")))?;
    let (width, height) = (reader.info().width, reader.info().height);
    let channels = match (reader.info().color_type, reader.info().bit_depth) {
        (png::ColorType::Rgb, png::BitDepth::Eight) => 3,
        (png::ColorType::Rgba, png::BitDepth::Eight) => 4,
        _ => return Ok(None), // one channel, or an error that names the kind
    };
    let size = reader.output_buffer_size().ok_or_else(|| failed(format!("is {width} × {height} pixels")))?;
    let mut pixels = vec![0; size];
    reader.next_frame(&mut pixels).map_err(|e| failed(e.to_string()))?;
    Ok(Some((width, height, pixels.chunks(channels).flat_map(|pixel| [pixel[0], pixel[1], pixel[2]]).collect())))
}

/// The values of a PNG of one channel: width, height, and a byte for each pixel. Of a palette the index counts, not the
/// color.
pub(crate) fn indices(name: &str, bytes: &[u8]) -> Result<(u32, u32, Vec<u8>), DataError> {
    let failed = |reason: String| DataError::Decode { name: name.to_owned(), reason };
    let mut decoder = png::Decoder::new(std::io::Cursor::new(bytes));
    decoder.set_transformations(png::Transformations::IDENTITY);
    let mut reader = decoder.read_info().map_err(|e| failed(format!("no PNG of classes: {e}")))?;
    let (width, height) = (reader.info().width, reader.info().height);
    let (kind, depth) = (reader.info().color_type, reader.info().bit_depth as usize);
    if !matches!(kind, png::ColorType::Grayscale | png::ColorType::Indexed) || depth > 8 {
        let expected = "expected one channel of up to 8 bits, the number of the class of each pixel; colors need a \
                        label_colors.txt in the set, or `color_table`";
        return Err(failed(format!("is {kind:?} of {depth} bits, {expected}")));
    }
    let size = reader.output_buffer_size().ok_or_else(|| failed(format!("is {width} × {height} pixels")))?;
    let mut packed = vec![0; size];
    let frame = reader.next_frame(&mut packed).map_err(|e| failed(e.to_string()))?;
    let mask = ((1u16 << depth) - 1) as u8;
    let value = |i: usize| {
        let (row, bit) = (i / width as usize, i % width as usize * depth);
        packed[row * frame.line_size + bit / 8] >> (8 - depth - bit % 8) & mask
    };
    Ok((width, height, (0..width as usize * height as usize).map(value).collect()))
}
