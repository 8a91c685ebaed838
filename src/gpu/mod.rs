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
mod fault;
#[cfg(feature = "files")]
mod inspect;
mod kernel;
mod launch;
mod live;
mod lock;
mod open;
mod pipeline;
mod plan;
mod program;
mod record;
mod selftest;
mod transfer;
mod work;

pub use adapter::{AdapterChoice, Options};
pub use buffer::{Arena, Class, Operand, View};
pub use caps::{Caps, Tiers};
pub use choice::{Choice, Const};
pub use counters::CounterReading;
pub use device::Gpu;
pub use dtype::DType;
#[cfg(feature = "files")]
pub use inspect::{LaunchTime, NotFinite};
pub use kernel::{Access, Bind, Element, Field, Grid, Kernel, Needs, Scalars, read, update, write};
pub(crate) use kernel::{params, wgsl};
pub use plan::{Plan, human_bytes};
pub use program::Program;
pub use record::{Launch, Phase, Precision, Recording};
pub use selftest::KERNELS as SELFTEST_KERNELS;
pub use transfer::Readback;
pub use work::{LaunchArgs, Work};
