//! Masked Autoregressive Pretraining (MAP, CVPR 2025) of hybrid Mamba-Transformer vision backbones on any GPU that wgpu
//! reaches. Every operator is a WGSL compute shader with a hand-written backward, composed by a tiny tape.
//!
//! Launching is recording: operators append to a [`Recorder`](tape::Recorder), a [`Program`](gpu::Program) plans its
//! memory, builds everything once and replays it every step. [`Recorder::run`](gpu::Recording::run) runs it once.
//!
//! ```no_run
//! use rowscan::ops::{activation::gelu, reduce::mean};
//! use rowscan::prelude::*;
//!
//! fn main() -> rowscan::Result<()> {
//!     let g = Gpu::open_blocking(&Options::default())?;
//!     let x = Var::leaf(Tensor::from_slice(&g, &[3], &[-1.0, 0.0, 1.0])?);
//!     let mut r = Recorder::new(&g);
//!     let y = gelu(&mut r, &x)?;
//!     let loss = mean(&mut r, &y)?;
//!     let grads = r.backward(&loss, Grads::default())?;
//!     r.run()?;
//!     println!("loss {:?}", loss.data.to_vec(&g)?);
//!     println!("dx {:?}", grads.get(&x).map(|dx| dx.to_vec(&g)).transpose()?);
//!     Ok(())
//! }
//! ```
//!
//! | module | what it holds |
//! |---|---|
//! | [`prelude`] | what most programs import at once |
//! | [`gpu`] | adapters, kernels as data, recordings, memory plans, programs; the only module that names wgpu |
//! | [`tensor`], [`tape`] | shaped views of GPU memory; the recorder, and what to launch to get gradients |
//! | [`ops`], [`cpu`] | operators, and each of them again in plain Rust as the oracle |
//! | [`nn`], [`models`] | layers and parameters; backbones, classifiers, MAP and MAE |
//! | [`data`] | data sets, augmentation, order (folders, archives and threads: feature `files`) |
//! | [`train`], [`infer`] | one training step with its settings and masks; what a trained model is asked |
//! | [`session`], `run` | training without files; runs over data sets with records and checkpoints (feature `files`) |
//! | `bench`, `conformance`, `study`, `cli` | the program: oracle, floor and clock; fixtures; the paper's tables; the
//! command line (feature `cli`) |

#[cfg(feature = "blocking")]
pub mod bench;
#[cfg(feature = "cli")]
pub mod cli;
#[cfg(feature = "cli")]
pub mod conformance;
pub mod cpu;
pub mod data;
#[cfg(feature = "blocking")]
#[doc(hidden)]
pub mod doctest;
pub mod error;
#[cfg(feature = "files")]
mod files;
pub mod gpu;
pub mod infer;
pub mod models;
pub mod nn;
pub mod ops;
#[cfg(feature = "files")]
pub mod run;
pub mod session;
#[cfg(feature = "cli")]
pub mod study;
pub mod tape;
pub mod tensor;
pub mod train;
mod zip;

pub use error::{Error, Result};

/// What most programs use: device, tensor, recorder, models, data sets and settings. Operators are imported by name,
/// from [`ops`], and so are [`Error`] and [`Result`].
///
/// ```
/// use rowscan::prelude::*;
/// ```
pub mod prelude {
    pub use crate::data::{Augmentation, Cursor, Dataset, Source, Split};
    #[cfg(feature = "files")]
    pub use crate::data::{Loader, LoaderOptions, Transform};
    pub use crate::gpu::{AdapterChoice, Gpu, Options, Precision, Program};
    pub use crate::models::{Classifier, Config, Encoder, Pretext};
    pub use crate::nn::Params;
    pub use crate::tape::{Grads, Recorder, Var};
    pub use crate::tensor::Tensor;
    pub use crate::train::finetune::settings::FinetuneSettings;
    pub use crate::train::pretrain::{settings::PretrainSettings, step::Pretrainer};
    pub use crate::train::settings::RunSettings;
}
