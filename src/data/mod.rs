//! Data sets: samples from folders, archives, binary files, a generator or code of your own; their order; and batches
//! of augmented images. src/data/README.md describes the room and how to add to it.

mod augment;
mod augmentation;
mod classes;
pub mod coco;
mod crop;
mod cursor;
mod dataset;
#[cfg(feature = "files")]
mod files;
mod fingerprint;
pub mod imagenet;
mod labels;
pub mod masks;
mod memory;
mod object_view;
mod place;
pub mod points;
mod rand_augment;
mod sample;
mod scenes;
mod shapes;
mod source;
mod split;
pub mod stream;
mod subset;
mod synthetic;
#[cfg(test)]
pub(crate) mod testing;
mod transform;

pub use crate::error::DataError;
pub use augmentation::Augmentation;
pub use cursor::{Cursor, EpochOrder, Runs, Visit};
pub use dataset::Dataset;
#[cfg(feature = "files")]
pub use files::{ImageBatch, LAYOUTS, Layout, Loader, LoaderOptions, layout_names, load_sample, rescan};
pub use fingerprint::Fingerprint;
pub use labels::PixelLabels;
pub use object_view::{ObjectView, SeenObjects, whole_view};
pub use place::Place;
pub use rand_augment::RandAugment;
pub use sample::{ObjectBox, PointCloud, Rgb8, Sample, SegmentationMap};
pub use scenes::{SceneView, resized};
pub use source::{Annotations, Source};
pub use split::Split;
pub use transform::{Scratch, Transform};
