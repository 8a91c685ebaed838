//! parts: adds up partial sums, of one tensor or of many in one launch. Maths: `shaders/parts.wgsl`.

mod join;
mod sum;

pub use join::join;
pub use sum::{KERNELS, Rows, sum_many, sum_parts};
