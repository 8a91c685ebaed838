//! Every operator family against its oracle, then against the clock and its floor. The cases are here once: `cargo
//! bench` runs them under criterion, `rowscan bench` without a checkout. How to read the table: `benches/README.md`.
//!
//! ```text
//! Scope ──► Case ──► Built (programs, named tensors) ──► check against the oracle ──► Clock ──► Row, in units of the
//! Roof
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
