//! The generated set as a layout: a name in place of a path.

use super::layout::{Found, Layout, Place};
use crate::data::split::Split;
use crate::data::synthetic::Synthetic;

/// Side of the images in pixels: larger than what a crop is resized to.
const SIDE: usize = 96;

/// `synthetic` and `synthetic:N`, even if a folder has that name.
pub(crate) const LAYOUT: Layout = Layout {
    name: "synthetic[:N]",
    help: "N generated images (2048) of 96 × 96 pixels in ten classes; N / 4 in the test split",
    open,
};

fn open(place: &Place, split: Split) -> Found {
    match place.spec == "synthetic" || place.spec.starts_with("synthetic:") {
        true => Ok(Some(Box::new(Synthetic::parse(place.spec, SIDE, split)?))),
        false => Ok(None),
    }
}
