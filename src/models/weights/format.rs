//! What a file is, by its first bytes: people give all sorts of files where weights are expected.

use std::fmt;

/// Kinds of files that are met where weights are expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A zip archive: PyTorch since 1.6, numpy's `.npz`.
    Zip,
    /// A pickle: PyTorch before 1.6.
    Pickle,
    /// What Git leaves in place of a large file that was not downloaded.
    GitLfs,
    /// JSON, such as the index of a sharded model.
    Json,
    /// A page of a web site.
    Html,
    /// A tar archive: PyTorch before 0.2.
    Tar,
    /// A gzip file.
    Gzip,
    /// HDF5: Keras.
    Hdf5,
    /// llama.cpp's format.
    Gguf,
    /// A file without any byte.
    Empty,
    /// A safetensors file, whole or not, or none of these.
    Safetensors,
}

impl Kind {
    /// The kind of a file with these first bytes.
    pub fn of(bytes: &[u8]) -> Self {
        // a safetensors file begins with the length of its JSON header
        if bytes.get(8) == Some(&b'{') && bytes[7] == 0 {
            return Self::Safetensors;
        }
        let text = bytes[..bytes.len().min(64)].trim_ascii_start();
        let starts = |with: &[u8]| text.get(..with.len()).is_some_and(|head| head.eq_ignore_ascii_case(with));
        match bytes {
            [] => Self::Empty,
            [b'P', b'K', 3 | 5, 4 | 6, ..] => Self::Zip,
            [0x80, 0..=5, ..] => Self::Pickle,
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x89, b'H', b'D', b'F', ..] => Self::Hdf5,
            [b'G', b'G', b'U', b'F', ..] => Self::Gguf,
            _ if starts(b"version https://git-lfs") => Self::GitLfs,
            _ if starts(b"<!doctype") || starts(b"<html") || starts(b"<?xml") => Self::Html,
            _ if starts(b"{") || starts(b"[") => Self::Json,
            _ if bytes.get(257..262) == Some(b"ustar") => Self::Tar,
            _ => Self::Safetensors,
        }
    }

    /// Why a file of this kind, with these bytes, is none of named tensors, and what to do.
    pub fn explain(self, bytes: &[u8]) -> String {
        match self {
            Self::Zip | Self::Pickle => format!("is {self}, not a safetensors file: import it, which reads those"),
            Self::GitLfs => {
                let text = String::from_utf8_lossy(&bytes[..bytes.len().min(1024)]);
                let size = text.lines().find_map(|line| line.strip_prefix("size "));
                let size = size.map_or_else(String::new, |size| format!(" of {} bytes", size.trim()));
                format!("is {self}, which stands for a file{size} that was not downloaded: run `git lfs pull`")
            }
            Self::Json => {
                let index = String::from_utf8_lossy(bytes).contains("\"weight_map\"");
                let what = if index { "import the index or its folder" } else { "give the file of the weights" };
                format!("is {self}, not weights: {what}")
            }
            Self::Html => format!("is {self}, not weights: download the file itself, not the page about it"),
            Self::Tar => {
                format!("is {self}: unpack it, or if PyTorch before 0.2 wrote it, load and save it with a newer one")
            }
            Self::Gzip => format!("is {self}: unpack it with gunzip"),
            Self::Hdf5 | Self::Gguf => format!("is {self}: save the weights as safetensors"),
            Self::Empty => "is empty, not a whole safetensors file: the download failed".into(),
            Self::Safetensors => "is not a whole safetensors file, and no PyTorch file".into(),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Zip => "a zip archive, as PyTorch's",
            Self::Pickle => "a pickle, as PyTorch's before 1.6",
            Self::GitLfs => "a pointer of Git LFS",
            Self::Json => "JSON",
            Self::Html => "a web page",
            Self::Tar => "a tar archive",
            Self::Gzip => "a gzip file",
            Self::Hdf5 => "an HDF5 file",
            Self::Gguf => "a GGUF file",
            Self::Empty => "an empty file",
            Self::Safetensors => "a safetensors file",
        })
    }
}
