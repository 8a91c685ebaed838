//! Tables as data: for each cell its training and the paper's accuracy. The tables are in `tables.toml`.

use serde::Deserialize;

use crate::error::{Error, Result};

/// Settings that a cell or a budget overrides, as a TOML table: one layer of [`train::options`](crate::train::options).
pub type Changes = toml::Table;

/// One table of the paper.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// Number of the table in the paper.
    pub name: String,
    /// Subject of the comparison.
    pub title: String,
    /// What is trained after the pretraining.
    #[serde(default)]
    pub task: Transfer,
    /// What the scores of a cell are. The first one is drawn, and orders the cells.
    #[serde(default = "imagenet")]
    pub measures: Vec<Measure>,
    /// Model of all cells that do not name their own.
    pub model: String,
    /// The cells, in the order of the paper.
    pub cells: Vec<Cell>,
}

/// What the cells of a table are trained for, and tested on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Transfer {
    /// Classes of images or of point clouds.
    #[default]
    Finetune,
    /// The class of each pixel.
    Segment,
    /// Boxes of objects and their masks.
    Detect,
}

/// A score by its names.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measure {
    /// What it is of in the paper.
    pub paper: String,
    /// What it is of here.
    pub here: String,
}

fn imagenet() -> Vec<Measure> {
    vec![Measure { paper: "ImageNet-1k top-1 %".into(), here: "top-1 %".into() }]
}

/// A cell: a model, its pretraining, and its scores in the paper.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// Name of the group: cells of one group are compared with each other.
    pub group: String,
    /// Name of the cell.
    pub label: String,
    /// Scores in percent, as printed in the paper, in the order of [`Table::measures`]. Those that the paper does not
    /// have are missing at the end.
    #[serde(default)]
    pub paper: Vec<f64>,
    /// Model of the cell, if it is not the table's.
    #[serde(default)]
    pub model: Option<String>,
    /// Overrides of the pretraining settings; `None` for training from scratch.
    #[serde(default)]
    pub pretrain: Option<Changes>,
    /// Overrides of the heads of a dense task.
    #[serde(default)]
    pub heads: Changes,
}

/// A budget: how much the cells of a table train.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Name for `--budget`.
    pub name: String,
    /// A line about its cost, for the list of budgets and the report.
    pub about: String,
    /// Number of seeds of each cell, unless the user gives one.
    pub seeds: u64,
    /// Overrides of the pretraining settings.
    pub pretrain: Changes,
    /// Overrides of the fine-tuning settings.
    pub finetune: Changes,
    /// Those for point clouds.
    pub clouds: CloudBudget,
    /// Those for dense tasks.
    pub scenes: SceneBudget,
}

/// How much the cells of a table of point clouds train.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CloudBudget {
    /// A line about its cost, as of the budget.
    pub about: String,
    /// Overrides of the pretraining settings.
    pub pretrain: Changes,
    /// Overrides of the fine-tuning settings.
    pub finetune: Changes,
}

/// How much the cells of a table of a dense task train.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SceneBudget {
    /// A line about its cost, as of the budget.
    pub about: String,
    /// Overrides of the pretraining settings.
    pub pretrain: Changes,
    /// Overrides of the settings of segmentation.
    pub segment: Changes,
    /// Overrides of the settings of detection.
    pub detect: Changes,
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

/// The item of `all` with this name; otherwise an error that lists the names.
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

    /// Names of the groups, in order of their first cells.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tables_are_the_paper_s_and_their_cells_distinct() {
        let all = Table::all().unwrap();
        let names: Vec<&str> = all.iter().map(|t| t.name.as_str()).collect();
        assert_eq!(names, ["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"]);
        for table in &all {
            for (i, cell) in table.cells.iter().enumerate() {
                let same = |other: &Cell| (&other.group, &other.label) == (&cell.group, &cell.label);
                assert!(!table.cells[..i].iter().any(same), "{}: {}", table.name, cell.label);
                assert!(cell.paper.len() <= table.measures.len(), "{}: {}", table.name, cell.label);
                assert!(cell.heads.is_empty() || table.task != Transfer::Finetune, "{}: {}", table.name, cell.label);
                let printed = cell.paper.iter().all(|paper| (30.0..100.0).contains(paper));
                assert!(printed, "{}: {}", table.name, cell.label);
            }
        }
        assert_eq!(Table::named("5").unwrap().groups(), ["strategy", "ratio"]);
        assert!(Table::named("12").unwrap_err().to_string().contains("one of 1, 2"));
    }
}
