//! Masked Autoregressive Pretraining of hybrid Mamba-Transformer vision backbones on any GPU.
#![warn(missing_docs)]

#[cfg(feature = "native")]
pub mod check;
#[cfg(feature = "native")]
pub mod cli;
pub mod cpu;
pub mod error;
pub mod gpu;
pub mod models;
pub mod nn;
pub mod ops;
pub mod tape;
pub mod tensor;
#[cfg(feature = "native")]
pub mod train;

pub use error::{Error, Result};
