//! Images with the class of each pixel: generated scenes, and what a segmentation network sees of any.

mod photometric;
mod synthetic;
mod view;

pub(crate) use synthetic::SyntheticScenes;
pub use view::{SceneView, resized};
