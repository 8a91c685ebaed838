//! Point clouds: their geometry, and the patches that networks read.

mod geometry;
mod patches;

pub use geometry::{farthest_points, nearest_points, unit_sphere};
pub use patches::PointPatches;
