//! Training a segmentation network, in the shape of [`finetune`](crate::train::finetune): settings and step.

pub mod recipes;
pub mod settings;
pub mod step;
