//! What all processes must have in common before they train together.

use super::processes::World;
use crate::error::{Error, Result};

/// Something that must be the same in all processes, and its value here: (`settings.lr`, `0.001`).
pub type Item = (String, String);

/// A JSON object as items, one for each field; what is inside of a field is one value.
fn fields(of: &str, value: &serde_json::Value) -> Vec<Item> {
    match value {
        serde_json::Value::Object(fields) => {
            fields.iter().map(|(name, value)| (format!("{of}.{name}"), value.to_string())).collect()
        }
        other => vec![(of.to_owned(), other.to_string())],
    }
}

impl World {
    /// [`Item`]s of a structure, one for each of its fields.
    ///
    /// # Errors
    /// A structure that is no JSON.
    pub fn items(of: &str, value: &impl serde::Serialize) -> Result<Vec<Item>> {
        let value = serde_json::to_value(value).map_err(|e| Error::Internal(format!("{of} as JSON: {e}")))?;
        Ok(fields(of, &value))
    }

    /// Compares what all processes have.
    ///
    /// # Errors
    /// The first difference, and between whom; the same in every process.
    pub fn agree(&self, mine: &[Item]) -> Result<()> {
        if self.size() == 1 {
            return Ok(());
        }
        let json = serde_json::to_vec(mine).map_err(|e| Error::Internal(format!("items as JSON: {e}")))?;
        let all = self.gather(json)?;
        let read = |bytes: &Vec<u8>| serde_json::from_slice::<Vec<Item>>(bytes).unwrap_or_default();
        let all: Vec<Vec<Item>> = all.iter().map(read).collect();
        let Some((first, others)) = all.split_first() else { return Ok(()) };
        for (rank, other) in others.iter().enumerate() {
            if let Some((what, was, is)) = difference(first, other) {
                let (one, two) = (self.name(0), self.name(rank + 1));
                return Err(Error::Ranks(format!("the ranks differ in {what}: {was} on {one}, {is} on {two}")));
            }
        }
        Ok(())
    }
}

/// The first item that is not the same: its name and both values.
fn difference(first: &[Item], other: &[Item]) -> Option<(String, String, String)> {
    let value = |items: &[Item], name: &str| {
        items.iter().find(|(n, _)| n == name).map_or("nothing".to_owned(), |(_, value)| value.clone())
    };
    let names = first.iter().chain(other).map(|(name, _)| name);
    let mut both = names.map(|name| (name.clone(), value(first, name), value(other, name)));
    both.find(|(_, was, is)| was != is)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_difference_is_named() {
        let items = |lr: f64| World::items("settings", &serde_json::json!({ "epochs": 3, "lr": lr })).unwrap();
        assert_eq!(difference(&items(0.1), &items(0.1)), None);
        let found = difference(&items(0.1), &items(0.2));
        assert_eq!(found, Some(("settings.lr".into(), "0.1".into(), "0.2".into())));
        let found = difference(&items(0.1), &items(0.1)[..1]);
        assert_eq!(found, Some(("settings.lr".into(), "0.1".into(), "nothing".into())));
    }
}
