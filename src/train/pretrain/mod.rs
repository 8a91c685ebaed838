//! Pretraining: settings, masks, inputs and step.

pub mod inputs;
pub mod mask;
pub mod settings;
pub mod step;
