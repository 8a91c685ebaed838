//! Training a detector, in the shape of [`finetune`](crate::train::finetune): settings and step. The host chooses boxes
//! in the middle of a step, so it waits there: a browser has nothing of this.

pub mod recipes;
pub mod settings;
pub mod step;
