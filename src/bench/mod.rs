//! Every operator family against its oracle, then against the clock and its floor. The cases are here once: `cargo bench`
//! runs them under criterion, `rowscan bench` without a checkout. How to read the table: `benches/README.md`.
//!
//! ```text
//! Scope ──► Case ──► Built (programs, named tensors) ──► check against the oracle ──► Clock ──► Row, in units of the Roof
//! ```

pub mod case;
pub mod check;
#[cfg(feature = "native")]
pub mod clock;
#[cfg(feature = "native")]
pub mod dump;
pub mod fill;
pub mod ops;
#[cfg(feature = "native")]
pub mod report;
#[cfg(feature = "native")]
pub mod roof;
#[cfg(feature = "native")]
pub mod run;
pub mod scope;
#[cfg(feature = "native")]
pub mod step;
#[cfg(feature = "native")]
pub mod trace;

pub use case::{Built, Case, Direction};
#[cfg(feature = "native")]
pub use clock::Clock;
#[cfg(feature = "native")]
pub use report::{Outcome, Report, Row};
#[cfg(feature = "native")]
pub use roof::Roof;
#[cfg(feature = "native")]
pub use run::run;
pub use scope::Scope;
