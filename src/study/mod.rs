//! The paper's tables at a reduced scale: each cell is pretrained, fine-tuned and tested, and stands beside the paper's
//! number.

mod plot;
mod report;
mod run;
mod table;

pub use plot::plot;
pub use report::{Agreement, Scores, agreement, markdown, mean_deviation};
pub use run::{Plan, Study};
pub use table::{Budget, Cell, Changes, Table};
