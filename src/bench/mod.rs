//! Benchmarks. Each case launches one operator, compares it with its oracle, times it, and divides the time by its
//! floor (the roofline time). `cargo bench` runs the cases under criterion; `rowscan bench` runs the same cases without
//! a checkout of the repository. `benches/README.md` explains the table.
//!
//! ```text
//! Scope ──► Case ──► Built (programs, named tensors) ──► check against the oracle ──► Clock ──► BenchRow, in units of
//! the Roof
//! ```

pub mod case;
pub mod check;
pub mod inputs;
pub mod ops;
pub mod oracle;
#[cfg(feature = "cli")]
pub mod runner;
pub mod selection;

pub use case::{Built, Case, Direction};
pub use selection::Scope;
