//! Fine-tuning: its settings, recipes, mixed images and step.

pub mod mixup;
pub mod recipes;
pub mod settings;
pub mod step;
