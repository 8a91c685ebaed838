//! The map of an embedding: features laid out by their first two principal components, as a picture and as a table.

use std::path::{Path, PathBuf};

use image::imageops::{FilterType, resize};
use image::{ImageFormat, RgbImage};

use super::csv::field;
use crate::error::{Error, Result};
use crate::infer::class_color::class_color;
use crate::infer::pca::PrincipalComponents;
use crate::run::record::markup::{escaped, picture_address};
use crate::run::record::{LineFile, write_atomic};

/// Side of the picture, and the margin around the points.
const SIDE: f64 = 1100.0;
const MARGIN: f64 = 46.0;

/// Side of a thumbnail.
const THUMB: u32 = 48;

/// Rows that the components are computed from, and points of the picture, at most. The table has all.
const FITTED: usize = 10_000;
const DRAWN: usize = 4000;

/// Classes that the legend names, at most.
const NAMED: usize = 24;

/// What a map shows.
pub struct Embedding<'a> {
    /// (N, D)
    pub features: &'a [f32],
    pub width: usize,
    /// Names of the N samples.
    pub names: &'a [String],
    /// Classes of the samples; empty without labels.
    pub labels: &'a [i64],
    /// Names of the classes.
    pub classes: &'a [String],
    /// What the features are of, for the title.
    pub title: &'a str,
}

/// Refuses files that a map cannot be: the picture is an SVG, and the table stands beside it.
///
/// # Errors
/// Another ending.
pub fn table_beside(picture: &Path) -> Result<PathBuf> {
    if picture.extension().is_none_or(|end| !end.eq_ignore_ascii_case("svg")) {
        return Err(Error::argument(
            "--map",
            picture.display(),
            "a file that ends in .svg; a .csv is written beside it",
        ));
    }
    Ok(picture.with_extension("csv"))
}

impl Embedding<'_> {
    fn len(&self) -> usize {
        self.names.len()
    }

    fn class(&self, sample: usize) -> Option<usize> {
        self.labels.get(sample).and_then(|label| usize::try_from(*label).ok())
    }

    fn class_name(&self, sample: usize) -> &str {
        self.class(sample).and_then(|class| self.classes.get(class)).map_or("", String::as_str)
    }

    /// Writes the picture and the table beside it. `thumbnail` gives the pixels of a sample, side × side × 3, and is
    /// asked only for those that have room; one that cannot be read is a point.
    ///
    /// # Errors
    /// No sample; features that are not finite; files that cannot be written.
    pub fn write(&self, picture: &Path, mut thumbnail: impl FnMut(usize) -> Option<RgbImage>) -> Result<()> {
        let table = table_beside(picture)?;
        let fitted: Vec<f32> = spread(self.len(), FITTED).flat_map(|i| self.row(i).iter().copied()).collect();
        let components = PrincipalComponents::of(&fitted, self.width, 2.min(self.width))?;
        let places: Vec<[f64; 2]> = (0..self.len())
            .map(|i| {
                let place = components.place(self.row(i));
                [place[0], place.get(1).copied().unwrap_or(0.0)]
            })
            .collect();
        let mut lines = LineFile::begin(&table)?;
        lines.line("name,class,pc1,pc2")?;
        for (i, [x, y]) in places.iter().enumerate() {
            lines.line(&format!("{},{},{x},{y}", field(&self.names[i]), field(self.class_name(i))))?;
        }
        lines.finish()?;
        let svg = self.picture(&places, &components.shares, &mut thumbnail)?;
        write_atomic(picture, svg.as_bytes())
    }

    fn row(&self, i: usize) -> &[f32] {
        &self.features[i * self.width..][..self.width]
    }

    fn picture(
        &self, places: &[[f64; 2]], shares: &[f64], thumbnail: &mut impl FnMut(usize) -> Option<RgbImage>,
    ) -> Result<String> {
        let legend = if self.labels.is_empty() || self.classes.len() > NAMED { 0.0 } else { 220.0 };
        let range = |axis: usize| {
            let values = places.iter().map(|place| place[axis]);
            values.fold((f64::MAX, f64::MIN), |(low, high), v| (low.min(v), high.max(v)))
        };
        let (across, up) = (range(0), range(1));
        // one scale for both axes, so that distances are distances
        let extent = (across.1 - across.0).max(up.1 - up.0).max(f64::MIN_POSITIVE);
        let inner = SIDE - 2.0 * MARGIN;
        let at = |[x, y]: [f64; 2]| {
            let (middle_x, middle_y) = ((across.0 + across.1) / 2.0, (up.0 + up.1) / 2.0);
            (SIDE / 2.0 + (x - middle_x) / extent * inner, SIDE / 2.0 - (y - middle_y) / extent * inner)
        };
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"system-ui, sans-serif\" \
             font-size=\"15\">\n<style>.paper {{ fill: #fff }} text {{ fill: #222 }}\n\
             @media (prefers-color-scheme: dark) {{ .paper {{ fill: #14171b }} text {{ fill: #ddd }} }}</style>\n\
             <rect class=\"paper\" width=\"100%\" height=\"100%\"/>\n\
             <text x=\"{MARGIN}\" y=\"26\" font-size=\"18\">{}</text>\n",
            SIDE + legend,
            SIDE + 40.0,
            escaped(self.title)
        );
        svg.push_str("<g transform=\"translate(0 20)\">\n");
        let (mut points, mut pictures, mut taken) = (String::new(), String::new(), Vec::<(f64, f64)>::new());
        let room = f64::from(THUMB) + 4.0;
        for i in spread(self.len(), DRAWN) {
            let (x, y) = at(places[i]);
            let color = self.class(i).map_or_else(|| "#1f5caa".to_owned(), color);
            let title = format!("<title>{}</title>", escaped(&self.label(i)));
            let free = taken.iter().all(|(a, b)| (a - x).abs() >= room || (b - y).abs() >= room);
            let shown = if free { thumbnail(i) } else { None };
            match shown {
                Some(pixels) => {
                    taken.push((x, y));
                    let (left, top, side) = (x - f64::from(THUMB) / 2.0, y - f64::from(THUMB) / 2.0, THUMB);
                    pictures.push_str(&format!(
                        "<g>{title}<rect x=\"{:.1}\" y=\"{:.1}\" width=\"{s}\" height=\"{s}\" fill=\"{color}\"/><image \
                         x=\"{left:.1}\" y=\"{top:.1}\" width=\"{side}\" height=\"{side}\" href=\"{}\"/></g>\n",
                        left - 2.0,
                        top - 2.0,
                        picture_address(&resize(&pixels, THUMB, THUMB, FilterType::Triangle), ImageFormat::Png)?,
                        s = side + 4,
                    ));
                }
                None => points.push_str(&format!(
                    "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"4\" fill=\"{color}\" fill-opacity=\"0.75\">{title}\
                     </circle>\n"
                )),
            }
        }
        svg.push_str(&points);
        svg.push_str(&pictures);
        svg.push_str("</g>\n");
        let percent = |i: usize| 100.0 * shares.get(i).copied().unwrap_or(0.0);
        svg.push_str(&format!(
            "<text x=\"{MARGIN}\" y=\"{}\">across: first principal component, {:.1} % of the variance; up: second, \
             {:.1} %; {} of {} samples</text>\n",
            SIDE + 28.0,
            percent(0),
            percent(1),
            self.len().min(DRAWN),
            self.len()
        ));
        if legend > 0.0 {
            for (i, name) in self.classes.iter().enumerate() {
                let y = 60.0 + 26.0 * i as f64;
                let short: String = name.chars().take(24).collect();
                svg.push_str(&format!(
                    "<circle cx=\"{:.0}\" cy=\"{:.0}\" r=\"6\" fill=\"{}\"/><text x=\"{:.0}\" y=\"{y:.0}\">{}</text>\n",
                    SIDE + 6.0,
                    y - 5.0,
                    color(i),
                    SIDE + 20.0,
                    escaped(&short)
                ));
            }
        }
        svg.push_str("</svg>\n");
        Ok(svg)
    }

    /// What a pointer reads of a sample.
    fn label(&self, sample: usize) -> String {
        match self.class_name(sample) {
            "" => self.names[sample].clone(),
            class => format!("{class}: {}", self.names[sample]),
        }
    }
}

/// At most `most` of `count` numbers, evenly spread.
fn spread(count: usize, most: usize) -> impl Iterator<Item = usize> {
    let taken = count.min(most);
    (0..taken).map(move |i| i * count / taken)
}

/// The color of class i, as segmentation has it.
fn color(class: usize) -> String {
    let [r, g, b] = class_color(class);
    format!("#{r:02x}{g:02x}{b:02x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_lie_where_their_features_do() {
        let dir = tempfile::tempdir().unwrap();
        let picture = dir.path().join("map.svg");
        // two far clusters of three: what has no room is a point
        let features: Vec<f32> = (0..6).flat_map(|i| [if i < 3 { 0.0 } else { 10.0 }, i as f32 * 0.01, 1.0]).collect();
        let names: Vec<String> = (0..6).map(|i| format!("a<{i}>, \"b\".png")).collect();
        let classes = ["cat".to_owned(), "dog".to_owned()];
        let embedding = Embedding {
            features: &features,
            width: 3,
            names: &names,
            labels: &[0, 0, 0, 1, 1, 1],
            classes: &classes,
            title: "x & y",
        };
        let mut asked = Vec::new();
        embedding
            .write(&picture, |i| {
                asked.push(i);
                (i != 1).then(|| RgbImage::from_pixel(8, 8, image::Rgb([9, 9, 9])))
            })
            .unwrap();
        let svg = std::fs::read_to_string(&picture).unwrap();
        assert_eq!((svg.matches("<image ").count(), svg.matches("r=\"4\"").count()), (2, 4));
        assert_eq!(asked, [0, 3], "a thumbnail is asked for where there is room");
        assert!(
            svg.contains("x &amp; y") && svg.contains("cat: a&lt;0&gt;") && svg.contains("100.0 % of the variance")
        );
        let table = std::fs::read_to_string(dir.path().join("map.csv")).unwrap();
        let rows: Vec<&str> = table.lines().collect();
        assert_eq!((rows[0], rows.len()), ("name,class,pc1,pc2", 7));
        assert!(rows[1].starts_with("\"a<0>, \"\"b\"\".png\",cat,-"), "{}", rows[1]);
        let x = |row: &str| row.rsplit(',').nth(1).unwrap().parse::<f64>().unwrap();
        assert!((x(rows[6]) - x(rows[1]) - 10.0).abs() < 0.01, "{table}");
    }

    #[test]
    fn one_sample_and_one_number_have_a_map() {
        let dir = tempfile::tempdir().unwrap();
        let names = ["a".to_owned()];
        let one = Embedding { features: &[2.0], width: 1, names: &names, labels: &[], classes: &[], title: "t" };
        one.write(&dir.path().join("one.svg"), |_| None).unwrap();
        let svg = std::fs::read_to_string(dir.path().join("one.svg")).unwrap();
        assert!(svg.contains("1 of 1 samples") && !svg.contains("NaN"), "{svg}");
        assert!(table_beside(Path::new("map.png")).unwrap_err().to_string().contains("ends in .svg"));
    }

    #[test]
    fn a_part_is_spread_over_the_whole() {
        assert_eq!(spread(10, 4).collect::<Vec<_>>(), [0, 2, 5, 7]);
        assert_eq!(spread(3, 4).collect::<Vec<_>>(), [0, 1, 2]);
        assert_eq!(spread(0, 4).count(), 0);
    }
}
