//! Files of point clouds and meshes.

mod formats;
mod mesh;

pub(super) use formats::is_cloud_name;

use std::fs;
use std::path::Path;

use crate::data::sample::PointCloud;
use crate::error::DataError;

/// The points of a file, for a mesh those that number `index` of a set draws from its surface.
pub(super) fn read_cloud(path: &Path, index: usize) -> Result<PointCloud, DataError> {
    let bytes = fs::read(path).map_err(DataError::io("read", path))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let points = formats::read(&name, &bytes).and_then(|shape| shape.points(index));
    let positions = points.map_err(|reason| DataError::Decode { name: path.display().to_string(), reason })?;
    Ok(PointCloud { positions, parts: Vec::new() })
}
