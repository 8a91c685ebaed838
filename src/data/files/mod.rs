//! Data sets on a disk: layouts, decoding, augmentation, and the threads that prepare batches.

mod augment;
mod batch;
mod cifar;
mod crop;
mod decode;
mod folder;
mod generated;
mod idx;
mod layout;
mod layouts;
mod listing;
mod loader;
mod single;
mod tar;
mod transform;
mod worker;

pub use batch::ImageBatch;
pub use layout::Layout;
pub use layouts::{LAYOUTS, layout_names};
pub use loader::{Loader, LoaderOptions};
pub use single::load_image;
pub use transform::{Scratch, Transform};
