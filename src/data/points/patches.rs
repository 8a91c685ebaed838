//! A cloud as overlapping patches of points.

use super::geometry::{farthest_points, nearest_points};
use crate::error::{Error, Result};

/// A cloud as patches: each a center, and the points next to it relative to the center.
#[derive(Clone, Debug, PartialEq)]
pub struct PointPatches {
    /// Index of each center in the cloud (G).
    pub center_index: Vec<u32>,
    /// The centers (G).
    pub centers: Vec<[f32; 3]>,
    /// Index of each patch's points in the cloud (G, K), by distance.
    pub members: Vec<u32>,
    /// The points of each patch minus its center (G, K).
    pub patches: Vec<[f32; 3]>,
}

impl PointPatches {
    /// `groups` patches of `size` points: centers by farthest point sampling from point 0 on, and the points nearest to
    /// each. `Group` of Point-BERT, Point-MAE and Mamba3D.
    ///
    /// # Errors
    /// A cloud of fewer points than patches or than points of a patch, and a coordinate that is no finite number.
    pub fn new(points: &[[f32; 3]], groups: usize, size: usize) -> Result<Self> {
        let least = groups.max(size);
        if points.len() < least {
            let expected = format!("at least {least}, for {groups} patches of {size} points");
            return Err(Error::argument("points of a cloud", points.len(), expected));
        }
        if let Some(i) = points.iter().position(|point| point.iter().any(|v| !v.is_finite())) {
            return Err(Error::argument(format!("point {i} of a cloud"), format!("{:?}", points[i]), "finite numbers"));
        }
        let center_index = farthest_points(points, groups, 0, true);
        let centers: Vec<[f32; 3]> = center_index.iter().map(|i| points[*i as usize]).collect();
        let members = nearest_points(points, &centers, size);
        let relative = |(i, member): (usize, &u32)| {
            let (point, center) = (points[*member as usize], centers[i / size]);
            std::array::from_fn(|axis| point[axis] - center[axis])
        };
        let patches = members.iter().enumerate().map(relative).collect();
        Ok(Self { center_index, centers, members, patches })
    }

    /// Each patch as a network reads it: its points relative to its center, and the center. (G, 3K + 3)
    pub fn packed(&self) -> Vec<f32> {
        let size = self.patches.len() / self.centers.len().max(1);
        let patches = self.patches.chunks(size.max(1)).zip(&self.centers);
        patches.flat_map(|(points, center)| points.iter().chain([center]).flatten().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patches_are_relative_to_their_centers() {
        let points = [[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [5.0, 0.0, 0.0], [4.5, 0.0, 0.0]];
        let cloud = PointPatches::new(&points, 2, 2).unwrap();
        assert_eq!(cloud.center_index, [0, 2]);
        assert_eq!(cloud.members, [0, 1, 2, 3]);
        assert_eq!(cloud.patches, [[0.0; 3], [1.0, 0.0, 0.0], [0.0; 3], [-0.5, 0.0, 0.0]]);
        assert_eq!(cloud.packed()[..9], [0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0]);
    }

    #[test]
    fn what_makes_no_patches_is_named() {
        let points = [[1.0, 0.0, 0.0], [f32::NAN, 0.0, 0.0]];
        let e = PointPatches::new(&points, 1, 3).unwrap_err().to_string();
        assert!(e.contains("points of a cloud: got 2, expected at least 3"), "{e}");
        let e = PointPatches::new(&points, 1, 1).unwrap_err().to_string();
        assert!(e.contains("point 1 of a cloud: got [NaN, 0.0, 0.0]"), "{e}");
    }
}
