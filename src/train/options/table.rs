//! A layer as a TOML table: what `--config` reads, and what a run records about itself.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::{Error, Result};

/// Reads one layer from a TOML table. `place` names the table in errors; `known` lists the names of all options, or is
/// empty. Keys and words may have hyphens or underscores: `map_repo` is `map-repo`.
///
/// # Errors
/// An unknown key, a value of the wrong type, or a word that is not in the list. The error names the key, the place,
/// and what is expected.
pub fn read_table<A>(place: &str, table: &toml::Table, known: &[&str]) -> Result<A>
where
    A: Serialize + DeserializeOwned,
{
    use toml::Value;
    // one key at a time: within a flattened struct, serde's errors do not name the key
    let read = |key: &str, value: Value| A::deserialize(Value::Table([(key.to_string(), value)].into_iter().collect()));
    let mut layer = toml::Table::new();
    for (key, value) in table {
        let (key, what) = (key.replace('_', "-"), format!("`{key}` in {place}"));
        let words = value.as_str().map(|word| [word.replace('-', "_"), word.replace('_', "-")].map(Value::String));
        let spellings = [value.clone()].into_iter().chain(words.into_iter().flatten());
        let mut results = spellings.map(|value| read(&key, value.clone()).map(|found| (found, value)));
        let first = results.next();
        let found = match first {
            Some(Err(e)) => results.find_map(|r| r.ok()).ok_or(e),
            Some(found) => found,
            None => continue,
        };
        let (found, value) = found.map_err(|e| Error::argument(what.clone(), value, e.message().trim()))?;
        // an argument struct writes only what it was given: if nothing is left of a key, it is not one of its own
        if toml::Table::try_from(&found).is_ok_and(|left| left.is_empty()) {
            return Err(match known {
                [] => Error::argument(what, "an unknown key", "the name of an option"),
                known => Error::unknown(format!("an option in {place}"), &key, known.iter().copied()),
            });
        }
        layer.insert(key, value);
    }
    A::deserialize(Value::Table(layer))
        .map_err(|e| Error::argument(place.to_owned(), e.message().trim(), "options with values of their kind"))
}

/// The resolved options as the text of a TOML file that [`read_table`] reads.
pub fn to_toml(options: &impl Serialize) -> Result<String> {
    toml::to_string(options).map_err(|e| Error::Internal(format!("options as TOML: {e}")))
}
