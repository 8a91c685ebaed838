//! Timing and reporting of cases, for `rowscan bench` and `cargo bench`.

pub mod clock;
pub mod dump;
pub mod exchange;
pub mod report;
pub mod roof;
pub mod run;
pub mod step;
pub mod support;
pub mod throughput;
pub mod trace;

pub use clock::Clock;
pub use report::{BenchReport, BenchRow, Outcome};
pub use roof::Roof;
pub use run::run;
pub use throughput::{Throughput, throughput};
