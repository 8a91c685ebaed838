//! PyTorch files (`.pth`, `.pt`, `.bin`) without Python: what `torch.save` wrote, as named tensors.
//!
//! A PyTorch file is a pickle, a program for Python's unpickling machine, beside the bytes of the tensors. Nothing of
//! it is executed here: [`pickle`] knows the few instructions and classes that files of weights have, builds plain
//! values of them, and refuses every other by name. Memory is bounded by the size of the file.

mod build;
mod globals;
mod legacy;
mod pickle;
mod state_dict;
mod tensors;
mod values;
mod zip;

use super::format::Kind;
use crate::nn::Weights;

/// Why a file cannot be read.
pub(super) type Reason = String;
type Result<T> = std::result::Result<T, Reason>;

/// The tensors of a PyTorch file.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct StateDict {
    /// By name, as f32.
    pub weights: Weights,
    /// What was left out, a sentence each: other dictionaries of tensors, tensors of integers.
    pub left_out: Vec<String>,
    /// The names of the tensors of integers.
    pub integers: Vec<String>,
}

/// Reads the tensors of the bytes of a PyTorch file, in the zip form or in the one before PyTorch 1.6. `key` names the
/// dictionary to take, as in `torch.load(file)[key]`, with dots between the keys of nested ones; without it `model` or
/// `state_dict` is taken, or what else holds the tensors.
///
/// # Errors
/// The reason: a file that is cut off, an instruction or a class that files of weights do not have, tensors outside of
/// their storage, no dictionary of tensors or several.
pub fn read_pytorch(bytes: &[u8], key: Option<&str>) -> Result<StateDict> {
    let kind = Kind::of(bytes);
    let file = match kind {
        Kind::Zip => zip::read(bytes)?,
        Kind::Pickle if legacy::is_legacy(bytes) => legacy::read(bytes)?,
        Kind::Pickle => {
            return Err("is a pickle, but not of torch.save: load it in Python and save its tensors".into());
        }
        _ => return Err(kind.explain(bytes)),
    };
    let (dictionary, left_out) = state_dict::choose(&file.values, key)?;
    tensors::load(&file, &dictionary, left_out, bytes.len())
}
#[cfg(test)]
pub(crate) mod fuzz;
#[cfg(test)]
mod tests;
