//! What can go wrong with a data set, in words a user can act on.

use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An error of a data set: finding it, reading it, decoding its samples, making batches of them.
#[derive(Debug, Clone, thiserror::Error)]
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
        source: Arc<std::io::Error>,
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
    /// The set exists, but not the split that was asked for.
    #[error("{} has no {split} split: {found}", .path.display())]
    NoSplit {
        /// The set.
        path: PathBuf,
        /// The split that was asked for: "train" or "test".
        split: &'static str,
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
    /// A point cloud is asked for, and the sample is something else.
    #[error("{name} is {kind}, expected a point cloud: a model on point clouds reads nothing else")]
    NoCloud {
        /// The sample.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// The class of each pixel is asked for, and the sample has none.
    #[error("{name} is {kind}, expected an image with a segmentation map")]
    NoMap {
        /// The sample.
        name: String,
        /// What it is.
        kind: &'static str,
    },
    /// Objects are asked for, and the sample has none to speak of: they were not annotated.
    #[error("{name} is {kind}, expected an image with boxes: a detector learns from nothing else")]
    NoObjects {
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
        "{name} has no labels: {why}; put images into one folder per class, or into files named like \
         n01440764_1.JPEG, or give a layout that stores labels"
    )]
    NoLabels {
        /// The set, or which split of it.
        name: String,
        /// What is there instead of labels.
        why: String,
    },
    /// The classes of a set are not those that are expected.
    #[error("the classes of {name} do not fit: {reason}")]
    Classes {
        /// The set.
        name: String,
        /// Which are there and which were expected.
        reason: String,
    },
    /// A training epoch would not fill one step.
    #[error("{name} has {images} images an epoch, fewer than {}", step_and_advice(*images, *batch_size, *accum_iter))]
    TooFew {
        /// The set.
        name: String,
        /// How many images an epoch takes.
        images: usize,
        /// How many images the GPU takes at once.
        batch_size: usize,
        /// How many such batches make a step.
        accum_iter: usize,
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
        move |source| Self::Io { action, path: path.to_owned(), source: Arc::new(source) }
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

/// What a step takes, and the largest settings with which an epoch of `images` fills one.
fn step_and_advice(images: usize, batch_size: usize, accum_iter: usize) -> String {
    match (accum_iter, images.checked_div(accum_iter).unwrap_or(images)) {
        (..=1, _) => format!("one batch of {batch_size}; use `batch_size` {images} or less"),
        (_, 0) => format!(
            "one step of {accum_iter} batches of {batch_size}; use `accum_iter` {images} or less with `batch_size` 1"
        ),
        (_, most) => format!("one step of {accum_iter} batches of {batch_size}; use `batch_size` {most} or less"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::error::Error as _;

    #[test]
    fn too_few_images_name_settings_that_work() {
        let says = |images, batch_size, accum_iter| {
            DataError::TooFew { name: "set".into(), images, batch_size, accum_iter }.to_string()
        };
        let plain = "set has 8 images an epoch, fewer than one batch of 9; use `batch_size` 8 or less";
        assert_eq!(says(8, 9, 1), plain);
        let parts = "set has 256 images an epoch, fewer than one step of 8 batches of 64; use `batch_size` 32 or less";
        assert_eq!(says(256, 64, 8), parts);
        assert!(says(5, 1, 8).ends_with("use `accum_iter` 5 or less with `batch_size` 1"), "{}", says(5, 1, 8));
    }

    #[test]
    fn the_reason_of_the_system_is_kept() {
        let refused = std::io::Error::from(std::io::ErrorKind::PermissionDenied);
        let error = crate::Error::from(DataError::io("read", Path::new("set/1.png"))(refused));
        let data = error.source().expect("the data error");
        let io = data.source().and_then(|e| e.downcast_ref::<Arc<std::io::Error>>()).expect("the system's");
        assert_eq!(io.kind(), std::io::ErrorKind::PermissionDenied);
        assert_eq!(error.to_string(), data.to_string());
    }
}
