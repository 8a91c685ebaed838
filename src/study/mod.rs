//! Studies: the paper's tables reproduced at a reduced scale. Each cell is pretrained, fine-tuned and tested, and its
//! scores are printed beside the paper's.

mod plan;
mod plot;
mod report;
mod run;
mod table;

pub use plan::{CellPlan, CellTraining, Study};
pub use plot::plot;
pub use report::{CellCost, CellScores, Difference, differences, markdown, mean_deviation};
pub use table::{Budget, Cell, Changes, CloudBudget, Measure, SceneBudget, Table, Transfer};
