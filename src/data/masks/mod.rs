//! Masks of objects: as runs, as COCO stores them, as polygons, and as the small grids that a network learns.

mod clip;
mod object;
mod polygon;
mod runs;
mod target;

pub use object::{ObjectMask, Placement};
pub use runs::RunLengths;
pub use target::{bitmap_target, polygon_target};
