//! Data sets on a disk: layouts, decoding, and the threads that prepare batches.

mod archive;
mod batch;
mod cache;
mod cifar;
mod cloud_sets;
mod clouds;
mod coco;
mod coco_files;
mod color_table;
mod contents;
mod decode;
mod folder;
#[cfg(test)]
mod fuzz;
mod generated;
mod idx;
mod image_archive;
mod index;
mod jpeg;
mod layout;
mod layouts;
mod links;
mod list;
mod listing;
mod loader;
mod numbering;
mod open_files;
mod packed;
mod parquet;
mod pixel_classes;
mod scene_archive;
mod segmented;
mod shards;
mod single;
mod tar;
mod tree;
mod walk;
mod webdataset;
mod worker;
mod zip;

pub use batch::ImageBatch;
pub use cache::rescan;
pub use layout::Layout;
pub use layouts::{LAYOUTS, layout_names};
pub use loader::{Loader, LoaderOptions};
pub use single::load_sample;
