//! Point clouds: their geometry.

mod geometry;

pub use geometry::{farthest_points, nearest_points, unit_sphere};
