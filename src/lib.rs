//! Masked Autoregressive Pretraining of hybrid Mamba-Transformer vision backbones on any GPU.
pub mod cpu;
#[cfg(feature = "native")]
pub mod train;
