//! Every operator family against its oracle, then against the clock and its floor. The cases are here once: `cargo bench`
//! runs them under criterion, `rowscan bench` without a checkout. How to read the table: `benches/README.md`.
//!
//! ```text
//! Scope ──► Case ──► Built (programs, named tensors) ──► check against the oracle ──► Clock ──► Row, in units of the Roof
//! ```

pub mod case;
pub mod check;
pub mod clock;
pub mod dump;
pub mod fill;
pub mod ops;
pub mod report;
pub mod roof;
pub mod run;
pub mod scope;
pub mod trace;

pub use case::{Built, Case, Direction};
pub use clock::Clock;
pub use report::{Outcome, Report, Row};
pub use roof::Roof;
pub use run::run;
pub use scope::Scope;
