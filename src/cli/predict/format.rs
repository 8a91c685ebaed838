//! Predictions as text: a table for people, JSON and CSV for programs.

use serde::Serialize;

use crate::cli::csv::field;
use crate::cli::terminal::printable;
use crate::error::{Error, Result};

/// An image, and the classes that are predicted for it, the most likely first; or why there are none.
#[derive(Debug, Serialize)]
pub struct NamedImage {
    pub file: String,
    pub predictions: Vec<NamedClass>,
    pub error: Option<String>,
}

#[derive(Debug, Serialize)]
pub struct NamedClass {
    pub class: usize,
    pub name: String,
    pub probability: f32,
}

/// Lines of text about images: some before the first image, some for each, some after the last.
#[derive(Debug, Clone, Copy)]
pub enum Format {
    /// A block for each image. Numbers of classes have so many digits. Names stand last, because nobody knows how wide
    /// a terminal draws them.
    Table { digits: usize },
    /// One array, an element on each line.
    Json,
    /// A row for each image and class.
    Csv,
}

impl Format {
    /// The line before the first image.
    pub fn head(self) -> Option<&'static str> {
        match self {
            Self::Table { .. } => None,
            Self::Json => Some("["),
            Self::Csv => Some("file,rank,class,name,probability"),
        }
    }

    /// The line after the last image.
    pub fn foot(self) -> Option<&'static str> {
        matches!(self, Self::Json).then_some("]")
    }

    /// The lines of an image, and whether it is the last one.
    pub fn lines(self, image: &NamedImage, last: bool) -> Result<Vec<String>> {
        let rows = image.predictions.iter().enumerate();
        match self {
            Self::Table { .. } if image.error.is_some() => Ok(vec![]), // stderr names it
            Self::Table { digits } => {
                let row = |(_, row): (usize, &NamedClass)| {
                    let percent = 100.0 * row.probability;
                    format!("{percent:>7.2}%  {:>digits$}  {}", row.class, printable(&row.name))
                };
                Ok(std::iter::once(printable(&image.file)).chain(rows.map(row)).collect())
            }
            Self::Json => {
                let line = serde_json::to_string(image);
                let line = line.map_err(|e| Error::Internal(format!("a prediction as JSON: {e}")))?;
                Ok(vec![line + if last { "" } else { "," }])
            }
            Self::Csv => {
                let row = |(i, row): (usize, &NamedClass)| {
                    let (file, name) = (field(&image.file), field(&row.name));
                    // `{:?}` writes a number that is next to 0 with an exponent
                    format!("{file},{},{},{name},{:?}", i + 1, row.class, row.probability)
                };
                Ok(rows.map(row).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image(file: &str, names: &[&str]) -> NamedImage {
        let class = |(class, name): (usize, &&str)| NamedClass { class, name: (*name).into(), probability: 0.25 };
        let error = names.is_empty().then(|| "torn".into());
        NamedImage { file: file.into(), predictions: names.iter().enumerate().map(class).collect(), error }
    }

    #[test]
    fn the_lines_of_each_format() {
        let (good, bad) = (image("a, \"b\".png", &["cat", "two\nlines"]), image("c.png", &[]));
        let table = Format::Table { digits: 3 };
        let shown = ["a, \"b\".png", "  25.00%    0  cat", "  25.00%    1  two\u{fffd}lines"];
        assert_eq!(table.lines(&good, false).unwrap(), shown);
        assert!(table.lines(&bad, true).unwrap().is_empty() && Format::Csv.lines(&bad, true).unwrap().is_empty());
        let rows = ["\"a, \"\"b\"\".png\",1,0,cat,0.25", "\"a, \"\"b\"\".png\",2,1,\"two\nlines\",0.25"];
        assert_eq!(Format::Csv.lines(&good, false).unwrap(), rows);
        let element = r#"{"file":"c.png","predictions":[],"error":"torn"}"#;
        assert_eq!(Format::Json.lines(&bad, true).unwrap(), [element]);
        assert_eq!(Format::Json.lines(&bad, false).unwrap(), [format!("{element},")]);
        let rare = NamedClass { class: 1, name: String::new(), probability: 1e-30 };
        let rare = NamedImage { predictions: vec![rare], ..image("d", &[]) };
        assert_eq!(Format::Csv.lines(&rare, true).unwrap(), ["d,1,1,,1e-30"]);
    }
}
