//! Fine-tuning, in the shape of [`pretrain`](crate::train::pretrain): settings, inputs and step. Beside them the
//! recipes of the literature and the mixing of images.

pub mod inputs;
pub mod mixup;
pub mod recipes;
pub mod settings;
pub mod step;
