//! Masks of objects: as runs, as COCO stores them, and as polygons.

mod polygon;
mod runs;

pub use runs::RunLengths;
