//! Weights that come from elsewhere: another size, another library, another method.

pub mod adapt;
pub mod hugging_face;
pub mod kind;
