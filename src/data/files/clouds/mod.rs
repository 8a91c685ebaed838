//! Point clouds and meshes on a disk: folders by class, ModelNet40 and ShapeNet-55 as they are published, and the files in
//! them.

mod formats;
mod mesh;
mod sets;

pub(crate) use formats::is_cloud_name;
pub(crate) use sets::{LAYOUT, read_cloud};
