//! The oracle: every operator again in plain Rust with f64 arithmetic, forward and backward. Imports std only, so it
//! cannot inherit a bug of the GPU side.
