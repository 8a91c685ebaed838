//! The GPU runtime: adapters, buffers, kernels as data, recordings, memory plans, programs. It is the only module that
//! uses wgpu, and it uses neither the tape nor an operator nor a model.
//!
//! ```text
//! launch* ──► Recording ──► Plan (bytes, slots) ──► Program (buffers, bind groups, uniforms) ──► replay, replay, …
//! ```

mod adapter;
#[cfg(feature = "blocking")]
mod block_on;
mod buffer;
mod caps;
mod choice;
mod counters;
mod device;
#[cfg(feature = "files")]
mod disk;
#[cfg(not(feature = "files"))]
#[path = "no_disk.rs"]
mod disk;
mod dtype;
mod dx12;
mod fault;
#[cfg(feature = "files")]
mod inspect;
mod kernel;
mod launch;
mod live;
mod llvmpipe;
mod lock;
#[cfg(not(target_arch = "wasm32"))]
mod noop;
mod open;
mod pipeline;
mod plan;
mod program;
mod record;
mod scalars;
mod selftest;
mod transfer;
mod work;

pub use adapter::{AdapterChoice, Options};
pub use buffer::{Arena, Class, Operand, View};
pub use caps::{Caps, Tiers};
pub use choice::{Choice, Const};
pub use counters::CounterReading;
pub use device::Gpu;
#[cfg(feature = "files")]
#[doc(hidden)]
pub use disk::module;
pub use dtype::DType;
#[cfg(feature = "files")]
pub use inspect::{LaunchTime, NotFinite};
pub(crate) use kernel::wgsl;
pub use kernel::{Access, Bind, Element, Grid, Kernel, Needs, read, update, write};
pub use plan::{Plan, human_bytes};
pub use program::Program;
pub use record::{Launch, Phase, Precision, Recording};
pub use scalars::{Field, Scalars};
pub(crate) use scalars::{Scalar, params, scalars};
#[doc(hidden)]
pub use selftest::KERNELS as SELFTEST_KERNELS;
pub use transfer::Readback;
pub use work::{LaunchArgs, Work};
