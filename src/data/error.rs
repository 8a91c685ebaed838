//! What can go wrong with data, settings and records, in words a user can act on.
use crate::data::split::Split;
use std::path::Path;
use std::path::PathBuf;

/// An error of the data side: reading a set, building batches, settings of masks and schedules, writing records.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DataError {
    /// The operating system refused a file operation.
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        /// What was tried, as a verb: "read", "create".
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why it failed.
        source: std::io::Error,
    },
    /// Nothing lies at the given place.
    #[error("no data set at {}; {layouts}", .path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
        /// What could have been there.
        layouts: String,
    },
    /// The place exists, but holds no image of any layout.
    #[error("no images in {}; {layouts}", .path.display())]
    Empty {
        /// The file or folder searched.
        path: PathBuf,
        /// What could have been there.
        layouts: String,
    },
    /// A file of a kind that is not read.
    #[error("{} is {what}; {advice}", .path.display())]
    Unsupported {
        /// The file.
        path: PathBuf,
        /// What it appears to be.
        what: String,
        /// What to do instead.
        advice: String,
    },
    /// A file of a known kind whose content is wrong.
    #[error("{}: {message}", .path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was found and what was expected.
        message: String,
    },
    /// The set exists, but not the half that was asked for.
    #[error("{} has no {split} split: {found}", .path.display())]
    NoSplit {
        /// The set.
        path: PathBuf,
        /// The half that was asked for.
        split: Split,
        /// What is there instead.
        found: String,
    },
    /// One image could not be decoded.
    #[error("{name}: {reason}")]
    Decode {
        /// The image.
        name: String,
        /// What the decoder said.
        reason: String,
    },
    /// An image is asked for, and the sample is something else.
    #[error("{name} is {kind}, expected an image")]
    NoImage {
        /// The sample.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// Every image of the set is broken.
    #[error("none of the {count} images of {name} could be decoded; the last one tried: {last}")]
    AllBroken {
        /// The set.
        name: String,
        /// How many images it has.
        count: usize,
        /// The error of one of them.
        last: String,
    },
    /// Labels are needed, and the set has none.
    #[error(
        "{name} has no labels; images in one folder per class have them, and sets that store them beside the images"
    )]
    NoLabels {
        /// The set.
        name: String,
    },
    /// The classes of a set are not those that are expected.
    #[error("the classes of {name} do not fit: {reason}")]
    Classes {
        /// The set.
        name: String,
        /// Which are there and which were expected.
        reason: String,
    },
    /// A training epoch would not fill one batch.
    #[error(
        "{name} has {images} images an epoch, fewer than one batch of {batch_size}; use --batch-size {images} or less"
    )]
    TooFew {
        /// The set.
        name: String,
        /// How many images an epoch takes.
        images: usize,
        /// How many one batch takes.
        batch_size: usize,
    },
    /// A setting has a value that cannot work.
    #[error("{name} is {got}, expected {expected}")]
    Setting {
        /// The setting.
        name: &'static str,
        /// Its value.
        got: String,
        /// Which values work.
        expected: String,
    },
    /// The thread that prepares batches ended on its own.
    #[error("the thread that prepares batches of {name} stopped: {reason}")]
    Stopped {
        /// The set.
        name: String,
        /// What is known about why.
        reason: String,
    },
}

impl DataError {
    /// For `map_err`: an [`DataError::Io`] that says what was tried on which path.
    pub fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// A setting with a value that cannot work.
    pub fn setting(name: &'static str, got: impl ToString, expected: impl Into<String>) -> Self {
        Self::Setting { name, got: got.to_string(), expected: expected.into() }
    }

    /// A file whose content is wrong.
    pub fn format(path: &Path, message: impl Into<String>) -> Self {
        Self::Format { path: path.to_owned(), message: message.into() }
    }
}

impl From<DataError> for crate::error::Error {
    fn from(error: DataError) -> Self {
        match error {
            DataError::Setting { name, got, expected } => Self::argument(name, got, expected),
            other => Self::Data(other.to_string()),
        }
    }
}
