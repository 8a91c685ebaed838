//! Files of point clouds and meshes.

mod formats;
mod mesh;
mod prepared;

pub(super) use formats::is_cloud_name;

use std::path::Path;

use super::cache::Cache;
use crate::data::points::farthest_points;
use crate::data::sample::PointCloud;
use crate::data::stream::{Stream, StreamPurpose};
use crate::error::DataError;

/// The points of a file, for a mesh those that number `index` of a set draws from its surface. Of more than `most`
/// points, that many of farthest point sampling, which starts from a random one.
pub(super) fn read_cloud(path: &Path, index: usize, most: usize) -> Result<PointCloud, DataError> {
    let prepare = |bytes: &[u8]| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let points = formats::read(&name, bytes).and_then(|shape| shape.points(index));
        let points = points.map_err(|reason| DataError::Decode { name: path.display().to_string(), reason })?;
        if points.len() <= most {
            return Ok(points);
        }
        let start = Stream::new(StreamPurpose::Surface, [index as u64, 0, 0]).below(points.len() as u64) as usize;
        let far = farthest_points(&points, most, start, false);
        Ok(far.iter().map(|i| points[*i as usize]).collect())
    };
    let kind = if most == usize::MAX { "all" } else { "farthest" };
    let positions = prepared::points(&Cache::of_clouds(), path, (kind, index), prepare)?;
    Ok(PointCloud { positions, parts: Vec::new() })
}
