//! Tables as data: what each cell trains, and what the paper printed for it. `tables.toml` holds the paper's.

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::error::{Error, Result};

/// Named values over defaults: keys of settings.
pub type Changes = Map<String, Value>;

/// One table of the paper.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Its number.
    pub name: String,
    /// What it compares.
    pub title: String,
    /// Model of the cells that name none.
    pub model: String,
    /// The cells, in the order of the paper.
    pub cells: Vec<Cell>,
}

/// One row: a model, how it is pretrained, and the paper's figure.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// Cells of one group are compared with each other.
    pub group: String,
    /// The row's name.
    pub label: String,
    /// Top-1 accuracy on ImageNet-1k in percent, as the paper prints it.
    pub paper: f64,
    /// Model, if another than the table's.
    #[serde(default)]
    pub model: Option<String>,
    /// Pretraining settings to change; without them the cell starts from scratch.
    #[serde(default)]
    pub pretrain: Option<Changes>,
}

/// How much a cell trains: the scale at which a table is run.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// What it is asked for by.
    pub name: String,
    /// What it takes.
    pub about: String,
    /// Seeds of each cell unless the user says how many.
    pub seeds: u64,
    /// Pretraining settings to change.
    pub pretrain: Changes,
    /// Fine-tuning settings to change.
    pub finetune: Changes,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    table: Vec<Table>,
    budget: Vec<Budget>,
}

fn file() -> Result<File> {
    toml::from_str(include_str!("tables.toml")).map_err(|e| Error::file("tables.toml", e.message()))
}

/// The one of this name.
fn named<T>(what: &str, mut all: Vec<T>, name: &str, name_of: fn(&T) -> &str) -> Result<T> {
    match all.iter().position(|it| name_of(it) == name) {
        Some(at) => Ok(all.swap_remove(at)),
        None => {
            let known: Vec<_> = all.iter().map(name_of).collect();
            Err(Error::argument(what.to_owned(), format!("`{name}`"), format!("one of {}", known.join(", "))))
        }
    }
}

impl Budget {
    /// Every budget.
    pub fn all() -> Result<Vec<Self>> {
        Ok(file()?.budget)
    }

    /// The budget of this name.
    pub fn named(name: &str) -> Result<Self> {
        named("budget", Self::all()?, name, |budget| &budget.name)
    }
}

impl Table {
    /// Every table of the paper that can be run.
    pub fn all() -> Result<Vec<Self>> {
        Ok(file()?.table)
    }

    /// The table of this number.
    pub fn named(name: &str) -> Result<Self> {
        named("table", Self::all()?, name, |table| &table.name)
    }

    /// The groups, in order of their first cell.
    pub fn groups(&self) -> Vec<&str> {
        let mut groups: Vec<&str> = Vec::new();
        for cell in &self.cells {
            if !groups.contains(&cell.group.as_str()) {
                groups.push(&cell.group);
            }
        }
        groups
    }
}

/// `base` with the named values changed.
///
/// # Errors
/// A key that `base` does not have, or a value of another type.
pub fn changed<T>(what: &str, base: &T, changes: &Changes) -> Result<T>
where
    T: serde::Serialize + serde::de::DeserializeOwned,
{
    let broken = |e: serde_json::Error| Error::argument(what.to_owned(), e, "keys and values of its kind");
    let mut value = serde_json::to_value(base).map_err(broken)?;
    for (key, new) in changes {
        match value.get_mut(key) {
            Some(old) => *old = new.clone(),
            None => return Err(Error::argument(what.to_owned(), format!("the key `{key}`"), "a key it has")),
        }
    }
    serde_json::from_value(value).map_err(broken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_paper_has_seven_tables_of_distinct_cells() {
        let all = Table::all().unwrap();
        assert_eq!(all.iter().map(|t| t.name.as_str()).collect::<Vec<_>>(), ["1", "2", "3", "4", "5", "6", "7"]);
        for table in &all {
            for (i, cell) in table.cells.iter().enumerate() {
                let same = |other: &Cell| (&other.group, &other.label) == (&cell.group, &cell.label);
                assert!(!table.cells[..i].iter().any(same), "{}: {}", table.name, cell.label);
                assert!((50.0..100.0).contains(&cell.paper), "{}: {}", table.name, cell.label);
            }
        }
        assert_eq!(Table::named("5").unwrap().groups(), ["strategy", "ratio"]);
        assert!(Table::named("12").unwrap_err().to_string().contains("one of 1, 2"));
    }
}
