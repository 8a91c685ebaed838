//! The generated set as a layout: a name in place of a path.

use super::layout::{Found, Layout, Place};
use crate::data::points::SyntheticClouds;
use crate::data::scenes::SyntheticScenes;
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

/// `synthetic-clouds` and `synthetic-clouds:N`, likewise.
pub(crate) const CLOUDS: Layout = Layout {
    name: "synthetic-clouds[:N]",
    help: "N generated point clouds (2048) of solids in twelve classes; N / 4 in the test split",
    open: open_clouds,
};

fn open_clouds(place: &Place, split: Split) -> Found {
    match place.spec == "synthetic-clouds" || place.spec.starts_with("synthetic-clouds:") {
        true => Ok(Some(Box::new(SyntheticClouds::parse(place.spec, split)?))),
        false => Ok(None),
    }
}

/// `synthetic-objects` and `synthetic-objects:N`, likewise.
pub(crate) const OBJECTS: Layout = Layout {
    name: "synthetic-objects[:N]",
    help: "N generated scenes (2048) of several shapes with box and mask of each; N / 4 in the test split",
    open: open_objects,
};

fn open_objects(place: &Place, split: Split) -> Found {
    match place.spec == "synthetic-objects" || place.spec.starts_with("synthetic-objects:") {
        true => Ok(Some(Box::new(SyntheticScenes::of_objects(place.spec, split)?))),
        false => Ok(None),
    }
}

/// `synthetic-scenes` and `synthetic-scenes:N`, likewise.
pub(crate) const SCENES: Layout = Layout {
    name: "synthetic-scenes[:N]",
    help: "N generated scenes (2048) of several shapes with the class of each pixel; N / 4 in the test split",
    open: open_scenes,
};

fn open_scenes(place: &Place, split: Split) -> Found {
    match place.spec == "synthetic-scenes" || place.spec.starts_with("synthetic-scenes:") {
        true => Ok(Some(Box::new(SyntheticScenes::parse(place.spec, split)?))),
        false => Ok(None),
    }
}
