//! Weights made elsewhere: for another image size, by another library, by another method.

pub mod adapt;
pub mod hugging_face;
pub mod kind;
