//! What it takes to be a layout: a way in which a data set lies on a disk.

use std::cell::{Cell, OnceCell};
use std::fs::Metadata;
use std::path::Path;
use std::sync::Arc;

use super::cache::Cache;
use super::index::listed;
use super::walk::Files;
use crate::data::labels::PixelLabels;
use crate::data::source::Source;
use crate::data::split::Split;
use crate::error::DataError;

/// A way in which a data set can be given to [`Dataset::open`](crate::data::Dataset::open).
#[derive(Clone, Copy)]
pub struct Layout {
    /// A few words: what `--data` is told to be.
    pub name: &'static str,
    /// What has to lie where, in one line.
    pub help: &'static str,
    /// Opens the split of the set at a place, if the place has this layout.
    pub(crate) open: fn(&Place, Split) -> Found,
}

/// A set; none if the place has another layout; an error if it has this one but cannot be read.
pub(crate) type Found = Result<Option<Box<dyn Source>>, DataError>;

/// What the user named, looked at once for all layouts.
pub(crate) struct Place<'a> {
    /// The words of the user.
    pub spec: &'a str,
    /// The same as a path.
    pub path: &'a Path,
    /// What lies there.
    pub metadata: std::io::Result<Metadata>,
    labels: PixelLabels,
    /// Whether a layout has asked what values of maps mean.
    asked: Cell<bool>,
    /// What lies below it, once a layout has asked.
    listing: OnceCell<Result<Arc<Files>, DataError>>,
}

impl<'a> Place<'a> {
    /// With what values of segmentation maps mean.
    pub fn of(spec: &'a str, labels: PixelLabels) -> Self {
        let path = Path::new(spec);
        let metadata = std::fs::metadata(path);
        Self { spec, path, metadata, labels, asked: Cell::new(false), listing: OnceCell::new() }
    }

    /// What values of segmentation maps mean.
    pub fn labels(&self) -> &PixelLabels {
        self.asked.set(true);
        &self.labels
    }

    /// Refuses what was said about labels, if no layout has asked.
    pub fn expect_asked(&self) -> Result<(), DataError> {
        if self.labels.is_default() || self.asked.get() {
            return Ok(());
        }
        let what = match &self.labels {
            PixelLabels { num_classes: Some(_), .. } => "num_classes",
            PixelLabels { reduce_zero_label: Some(_), .. } => "reduce_zero_label",
            PixelLabels { .. } => "color_table",
        };
        let expected = "none: it is for folders of images and annotations";
        Err(DataError::setting(what, format!("a value for {}", self.spec), expected))
    }

    /// Everything below this folder; nothing if it is none. The folder is searched once for all layouts.
    pub fn below(&self) -> Result<Arc<Files>, DataError> {
        if !self.is_folder() {
            return Ok(Arc::default());
        }
        self.listing.get_or_init(|| listed(self.path, &Cache::of_user()).map(Arc::new)).clone()
    }

    pub fn is_folder(&self) -> bool {
        self.metadata.as_ref().is_ok_and(Metadata::is_dir)
    }

    /// Whether it is a file (or a device, or a pipe) whose name `fits`; it is asked in lower case.
    pub fn is_file_named(&self, fits: impl FnOnce(&str) -> bool) -> bool {
        self.metadata.as_ref().is_ok_and(|found| !found.is_dir()) && fits(&self.file_name())
    }

    /// The last part of the path in lower case.
    pub fn file_name(&self) -> String {
        self.path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase()
    }
}
