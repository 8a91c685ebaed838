//! Weights made elsewhere: for another image size, by another library, by another method.

pub mod adapt;
pub mod format;
pub mod hugging_face;
pub mod kind;
pub mod prefix;
pub mod pytorch;
