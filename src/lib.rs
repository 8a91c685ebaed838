//! Masked Autoregressive Pretraining (MAP, CVPR 2025) of hybrid Mamba-Transformer vision backbones on any GPU that wgpu
//! reaches. Every operator is a WGSL compute shader with a hand-written backward, composed by a tiny tape.
//!
//! Launching is recording: operators append to a recording, a [`Program`](gpu::Program) plans its memory, builds
//! everything once and replays it every step.
//!
//! ```no_run
//! use rowscan::gpu::{Gpu, Options};
//! use rowscan::ops::{activation::gelu, reduce::mean};
//! use rowscan::tape::{Grads, Tape, Var};
//! use rowscan::tensor::Tensor;
//!
//! fn main() -> rowscan::Result<()> {
//!     let g = Gpu::open_blocking(&Options::default())?;
//!     let x = Var::leaf(Tensor::from_slice(&g, &[3], &[-1.0, 0.0, 1.0])?);
//!     let mut t = Tape::new();
//!     let y = gelu(&g, &mut t, &x)?;
//!     let loss = mean(&g, &mut t, &y)?;
//!     let grads = t.backward(&g, &loss, Grads::default())?;
//!     println!("loss {:?}", loss.data.to_vec(&g)?);
//!     println!("dx {:?}", grads.get(&x).map(|dx| dx.to_vec(&g)).transpose()?);
//!     Ok(())
//! }
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`gpu`] | adapters, kernels as data, recordings, memory plans, programs; the only module that names wgpu |
//! | [`tensor`], [`tape`] | shaped views of GPU memory; what to launch to get gradients |
//! | [`ops`], [`cpu`] | operators, and each of them again in plain Rust as the oracle |
//! | [`nn`], [`models`] | layers and parameters; backbones, classifiers, MAP and MAE |
//! | [`train`] | data, masks, the step, the loop, checkpoints (files and threads: feature `native`) |
//! | `study` | the paper's tables at a reduced scale (feature `native`) |
//! | `check`, `bench`, `cli` | conformance fixtures; oracle, floor and clock; the command line (feature `native`) |
#![warn(missing_docs)]

#[cfg(feature = "blocking")]
pub mod bench;
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
#[cfg(feature = "native")]
pub mod study;
pub mod tape;
pub mod tensor;
pub mod train;

pub use error::{Error, Result};
