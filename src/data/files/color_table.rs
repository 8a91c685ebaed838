//! Tables of classes and their colors, for annotations that are pictures: text as of CamVid, or JSON.

use crate::data::sample::SegmentationMap;
use crate::error::DataError;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

/// Names, in any case, of colors that are no class.
const NO_CLASS: [&str; 5] = ["void", "ignore", "ignored", "unlabeled", "unlabelled"];

/// Names of classes, and the class of each color.
#[derive(Debug, Clone)]
pub(crate) struct ColorTable {
    /// Names in the order of the file.
    pub names: Vec<String>,
    classes: BTreeMap<[u8; 3], u16>,
}

impl ColorTable {
    /// Reads the text of the file at `path`: JSON if its name says so, else a color and a name on each line.
    pub fn parse(path: &Path, text: &str) -> Result<Self, DataError> {
        let is_json = path.extension().is_some_and(|ending| ending.eq_ignore_ascii_case("json"));
        let rows = if is_json {
            let form = "expected {\"road\": [128, 64, 128], …} or [{\"name\": \"road\", \"color\": [128, 64, 128]}, …]";
            let rows = serde_json::from_str::<Rows>(text);
            rows.map_err(|e| DataError::format(path, format!("is no table of colors: {e}; {form}")))?.0
        } else {
            lines(path, text)?
        };
        let (mut names, mut classes) = (Vec::<String>::new(), BTreeMap::new());
        for (name, color) in rows {
            let class = if NO_CLASS.iter().any(|word| name.eq_ignore_ascii_case(word)) {
                SegmentationMap::IGNORED
            } else if let Some(found) = names.iter().position(|known| *known == name) {
                found as u16 // one class may have several colors
            } else {
                names.push(name.clone());
                names.len() as u16 - 1
            };
            if let Some(other) = classes.insert(color, class).filter(|other| *other != class) {
                let other = names.get(usize::from(other)).map_or("no class", |name| name);
                let [r, g, b] = color;
                let message = format!("gives the color {r} {g} {b} to {other} and to {name}; expected one class each");
                return Err(DataError::format(path, message));
            }
        }
        if !(1..=255).contains(&names.len()) {
            return Err(DataError::format(path, format!("names {} classes, expected 1 to 255", names.len())));
        }
        Ok(Self { names, classes })
    }

    /// The class of a color, perhaps none; `None` for a color that is not in the table.
    pub fn class(&self, color: [u8; 3]) -> Option<u16> {
        self.classes.get(&color).copied()
    }
}

/// The rows of a text: `128 64 128 road` or `road,128,64,128`, in any order of rows. A line of `#` says nothing, and
/// neither does a head such as `name,r,g,b`.
fn lines(path: &Path, text: &str) -> Result<Vec<(String, [u8; 3])>, DataError> {
    let mut rows = Vec::new();
    for (i, line) in text.lines().enumerate() {
        let parts: Vec<&str> =
            line.split([',', ';', ' ', '\t']).map(str::trim).filter(|part| !part.is_empty()).collect();
        let is_head = i == 0 && parts.iter().rev().map(|part| part.to_ascii_lowercase()).take(3).eq(["b", "g", "r"]);
        if parts.is_empty() || line.starts_with('#') || is_head {
            continue;
        }
        let color = |parts: &[&str]| -> Option<[u8; 3]> {
            let [r, g, b] = parts else { return None };
            Some([r.parse().ok()?, g.parse().ok()?, b.parse().ok()?])
        };
        let (from, to) = (parts.len().min(3), parts.len().saturating_sub(3));
        let row = match (color(&parts[..from]), color(&parts[to..])) {
            (Some(color), _) if parts.len() > 3 => Some((parts[3..].join(" "), color)),
            (_, Some(color)) if parts.len() > 3 => Some((parts[..to].join(" "), color)),
            _ => None,
        };
        let Some(row) = row else {
            let expected = "expected three numbers from 0 to 255 and a name, such as `128 64 128 road`";
            return Err(DataError::format(path, format!("line {}: got `{}`, {expected}", i + 1, line.trim())));
        };
        rows.push(row);
    }
    Ok(rows)
}

/// Rows of JSON in the order of the file.
struct Rows(Vec<(String, [u8; 3])>);

#[derive(Deserialize)]
struct Row {
    name: String,
    color: [u8; 3],
}

impl<'de> Deserialize<'de> for Rows {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Both;

        impl<'de> Visitor<'de> for Both {
            type Value = Rows;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("names and colors")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Rows, A::Error> {
                let mut rows = Vec::new();
                while let Some(Row { name, color }) = list.next_element()? {
                    rows.push((name, color));
                }
                Ok(Rows(rows))
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Rows, A::Error> {
                let mut rows = Vec::new();
                while let Some(row) = map.next_entry()? {
                    rows.push(row);
                }
                Ok(Rows(rows))
            }
        }

        from.deserialize_any(Both)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table(name: &str, text: &str) -> Result<ColorTable, String> {
        ColorTable::parse(Path::new(name), text).map_err(|e| e.to_string())
    }

    #[test]
    fn text_and_json_in_their_forms() {
        for (name, text) in [
            ("a.txt", "# colors\n128 64 128\troad\n0 0 0 Void\n\n10 20 30 traffic light\n1 2 3 road\n"),
            ("a.csv", "name,r,g,b\nroad, 128,64,128\nvoid,0,0,0\ntraffic light,10,20,30\nroad,1,2,3"),
            (
                "a.json",
                r#"[{"name": "road", "color": [128, 64, 128]}, {"name": "unlabeled", "color": [0, 0, 0]},
                {"name": "traffic light", "color": [10, 20, 30]}, {"name": "road", "color": [1, 2, 3]}]"#,
            ),
        ] {
            let table = table(name, text).unwrap();
            assert_eq!(table.names, ["road", "traffic light"], "{name}");
            let classes = [[128, 64, 128], [1, 2, 3], [10, 20, 30], [0, 0, 0], [9, 9, 9]].map(|c| table.class(c));
            assert_eq!(classes, [Some(0), Some(0), Some(1), Some(SegmentationMap::IGNORED), None], "{name}");
        }
        // in the order of the file, not of the alphabet
        assert_eq!(table("b.JSON", r#"{"sky": [1, 1, 1], "car": [2, 2, 2]}"#).unwrap().names, ["sky", "car"]);
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, text, words) in [
            ("a.txt", "1 2 3 road\n1 2 300 sky", &["a.txt", "line 2", "`1 2 300 sky`", "128 64 128 road"][..]),
            ("a.txt", "1 2 3 road\n4 5 6", &["line 2", "a name"]),
            ("a.txt", "1 2 3 road\n1 2 3 sky", &["color 1 2 3", "to road and to sky"]),
            ("a.txt", "0 0 0 void", &["names 0 classes", "1 to 255"]),
            ("a.json", r#"{"road": [1, 2]}"#, &["a.json", "no table of colors", "line 1"]),
            ("a.json", "[1, 2]", &["expected {\"road\": [128, 64, 128], …}"]),
        ] {
            let error = table(name, text).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }
}
