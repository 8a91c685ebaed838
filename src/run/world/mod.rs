//! The processes of a run. Alone there is one; an MPI launcher starts several, each with a GPU, which share the
//! micro-batches of every step. `README.md` in the folder above says what that promises.

mod agree;
mod exchange;
mod mpi;
mod processes;
mod sum;
mod threads;
mod transport;
mod weights;

pub use agree::Item;
pub use exchange::GradientExchange;
pub use mpi::Launched;
pub use processes::{Exchanged, PATIENCE, World};
pub use threads::Threads;
pub use transport::{Alone, Transport};
