//! Point clouds: their geometry, the patches that networks read, pictures, and generated solids.

mod geometry;
mod patches;
pub mod picture;
mod solids;
mod synthetic;
mod view;

pub use geometry::{farthest_points, nearest_points, unit_sphere};
pub use patches::PointPatches;
pub(crate) use synthetic::SyntheticClouds;
pub use view::{CloudView, PointChoice};
