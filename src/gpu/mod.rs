//! The GPU runtime: adapters, buffers, kernels as data, recordings, memory plans, programs. The only module that names
//! wgpu; it knows no tape, no operator and no model.
//!
//! ```text
//! launch* ──► Recording ──► Plan (bytes, slots) ──► Program (buffers, bind groups, uniforms) ──► replay, replay, …
//! ```

mod adapter;
mod buffer;
mod caps;
#[cfg(feature = "native")]
mod choices;
mod counters;
mod device;
mod fault;
mod kernel;
mod launch;
mod pipeline;
#[cfg(feature = "native")]
mod pipeline_cache;
mod plan;
mod program;
mod readback;
mod record;
mod selftest;
#[cfg(feature = "blocking")]
mod suspend;
#[cfg(feature = "native")]
mod trace;
mod work;

pub use adapter::{AdapterChoice, Options};
pub use buffer::{Arena, Class, View};
pub use caps::{Caps, Tiers};
pub use counters::CounterReading;
pub use device::Gpu;
pub use kernel::{Bind, Field, Grid, Kernel, Params};
pub(crate) use kernel::{params, wgsl};
pub use launch::{PhaseGuard, PrecisionGuard, ScopeGuard};
pub use plan::{Plan, human_bytes};
pub use program::{LaunchTime, Program};
pub use readback::Readback;
pub use record::{Launch, Phase, Precision, Recording};
pub use selftest::KERNELS as SELFTEST_KERNELS;
#[cfg(feature = "native")]
pub use trace::NotFinite;
pub use work::Work;
