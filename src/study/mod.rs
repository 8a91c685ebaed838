//! The paper's tables at a reduced size: every cell pretrained, fine-tuned and tested, beside the figure of the paper.

mod plot;
mod report;
mod run;
mod table;

pub use plot::plot;
pub use report::{Agreement, Scores, agreement, markdown, mean_deviation};
pub use run::{Plan, Study};
pub use table::{Budget, Cell, Changes, Table};
