//! What the values of a segmentation map mean, where the data set does not say it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// How the annotations of a segmentation folder are read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PixelLabels {
    /// Classes of a set that does not name them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub num_classes: Option<usize>,
    /// Whether the value 0 is no class and class k has the value k + 1: mmsegmentation's `reduce_zero_label`. By
    /// default only in ADE20K.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reduce_zero_label: Option<bool>,
    /// File with the color of each class, for annotations that are pictures.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub color_table: Option<PathBuf>,
}

impl PixelLabels {
    /// Whether nothing is said.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }
}
