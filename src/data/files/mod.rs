//! Data sets on disk: layouts, decoders, and threads that prepare batches.

mod augment;
mod batch;
mod cifar;
mod crop;
mod decode;
mod folder;
mod idx;
mod listing;
mod loader;
mod open;
mod single;
mod tar;
mod transform;
mod worker;

pub use batch::Batch;
pub use loader::{Loader, LoaderOptions};
pub use single::load_image;
pub use transform::{Scratch, Transform};
