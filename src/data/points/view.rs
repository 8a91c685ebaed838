//! From a cloud to what a network sees of it: which points, how they are moved, and their patches.

use super::geometry::{farthest_points, unit_sphere};
use super::patches::PointPatches;
use crate::data::stream::Stream;
use crate::error::{DataError, Result};
use crate::models::Points;

/// How the points of a cloud are chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointChoice {
    /// At random, as in pretraining.
    Random,
    /// Farthest point sampling of a few more, and of these the same ones for all clouds of a batch, as in fine-tuning
    /// and voting.
    FarthestThenRandom,
    /// Farthest point sampling, as in evaluation.
    Farthest,
}

/// How a cloud becomes the patches of a batch.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CloudView {
    /// Points that are chosen.
    pub count: usize,
    /// Patches.
    pub groups: usize,
    /// Points of a patch.
    pub group_size: usize,
    /// How points are chosen.
    pub choice: PointChoice,
    /// Whether a cloud is turned about its y axis by a random angle.
    pub rotate: bool,
    /// Whether each axis is stretched by 2/3 to 3/2 and moved by up to 0.2.
    pub stretch: bool,
}

impl CloudView {
    /// What a network of these sizes is tested on.
    pub fn test(points: &Points) -> Self {
        let Points { count, groups, group_size, .. } = *points;
        Self { count, groups, group_size, choice: PointChoice::Farthest, rotate: false, stretch: false }
    }

    /// MAP's augmentation of pretraining: a rotation, then scale and translation.
    pub fn pretraining(points: &Points) -> Self {
        Self { choice: PointChoice::Random, rotate: true, stretch: true, ..Self::test(points) }
    }

    /// The augmentation of fine-tuning: scale and translation. Objects of ModelNet stand upright, and are not turned.
    pub fn finetuning(points: &Points) -> Self {
        Self { choice: PointChoice::FarthestThenRandom, stretch: true, ..Self::test(points) }
    }

    /// Points that a fine-tuning or a vote chooses among: 1200 for 1024, 2400 for 2048, 4800 for 4096, and all 8192.
    pub fn among(count: usize) -> usize {
        if count >= 8192 { count } else { count * 1200 / 1024 }
    }

    /// Bytes of a cloud in a batch.
    pub fn bytes(&self) -> usize {
        4 * self.groups * 3 * (self.group_size + 1)
    }

    /// Refuses sizes that make no patches.
    ///
    /// # Errors
    /// More patches, or points of a patch, than points.
    pub fn check(&self) -> Result<(), DataError> {
        let least = self.groups.max(self.group_size);
        let fine = (least..=1 << 20).contains(&self.count) && self.groups > 0 && self.group_size > 0;
        if fine {
            Ok(())
        } else {
            Err(DataError::setting("points of a cloud", self.count, format!("{least} to 1048576")))
        }
    }

    /// Writes the patches of a cloud (G, 3K + 3) as f32 to `out`. `own` has the random numbers of the cloud, and
    /// `batch` those that all clouds of a batch have in common. A cloud of fewer points than `count` shows some of them
    /// twice.
    ///
    /// # Errors
    /// A cloud of fewer points than there are patches or points in a patch, a coordinate that is no finite number, an
    /// `out` of another length.
    pub fn apply(&self, cloud: &[[f32; 3]], own: &mut Stream, batch: &mut Stream, out: &mut [u8]) -> Result<()> {
        let least = self.groups.max(self.group_size);
        if cloud.len() < least {
            let expected = format!("at least {least}, for {} patches of {} points", self.groups, self.group_size);
            return Err(crate::Error::argument("points of a cloud", cloud.len(), expected));
        }
        let mut points = self.chosen(cloud, own, batch);
        if self.rotate {
            let (sin, cos) = own.range(0.0, std::f64::consts::TAU).sin_cos();
            for [x, _, z] in &mut points {
                let (from_x, from_z) = (f64::from(*x), f64::from(*z));
                (*x, *z) = ((from_x * cos - from_z * sin) as f32, (from_x * sin + from_z * cos) as f32);
            }
        }
        if self.stretch {
            let (scale, shift) = Self::stretching(own);
            points.iter_mut().for_each(|p| *p = std::array::from_fn(|axis| p[axis] * scale[axis] + shift[axis]));
        }
        let packed = PointPatches::new(&points, self.groups, self.group_size)?.packed();
        let bytes: &[u8] = bytemuck::cast_slice(&packed);
        if bytes.len() != out.len() {
            return Err(crate::Error::argument("bytes of a cloud in a batch", out.len(), bytes.len()));
        }
        out.copy_from_slice(bytes);
        Ok(())
    }

    /// Factor and offset of each axis.
    pub fn stretching(own: &mut Stream) -> ([f32; 3], [f32; 3]) {
        let scale = std::array::from_fn(|_| own.range(2.0 / 3.0, 3.0 / 2.0) as f32);
        (scale, std::array::from_fn(|_| own.range(-0.2, 0.2) as f32))
    }

    /// `count` points of the cloud, moved to the unit sphere.
    fn chosen(&self, cloud: &[[f32; 3]], own: &mut Stream, batch: &mut Stream) -> Vec<[f32; 3]> {
        let some = |index: &[u32]| index.iter().map(|i| cloud[*i as usize]).collect::<Vec<[f32; 3]>>();
        let mut points = match self.choice {
            PointChoice::Random => {
                let mut index: Vec<u32> = (0..cloud.len() as u32).collect();
                own.choose_front(&mut index, self.count);
                some(&index[..self.count.min(index.len())])
            }
            PointChoice::Farthest | PointChoice::FarthestThenRandom => cloud.to_vec(),
        };
        unit_sphere(&mut points);
        if self.choice != PointChoice::Random && points.len() > self.count {
            let random = self.choice == PointChoice::FarthestThenRandom;
            let among = if random { Self::among(self.count).min(points.len()) } else { self.count };
            let far = farthest_points(&points, among, 0, true);
            let mut order: Vec<usize> = (0..far.len()).collect();
            if random {
                batch.choose_front(&mut order, self.count);
            }
            points = order.iter().take(self.count).map(|at| points[far[*at] as usize]).collect();
        }
        let own_points = points.len();
        (own_points..self.count).for_each(|i| points.push(points[i % own_points]));
        points
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::stream::StreamPurpose;

    fn streams(sample: u64) -> [Stream; 2] {
        [Stream::new(StreamPurpose::Augment, [1, 2, sample]), Stream::new(StreamPurpose::Cloud, [1, 2, 3])]
    }

    fn cloud(points: usize) -> Vec<[f32; 3]> {
        let mut s = Stream::new(StreamPurpose::Synthetic, [5, 0, 0]);
        (0..points).map(|_| std::array::from_fn(|_| s.range(-1.0, 1.0) as f32)).collect()
    }

    #[test]
    fn a_view_of_any_cloud_has_its_length() {
        let points = Points { count: 32, groups: 8, group_size: 4, ..Points::default() };
        for view in [CloudView::test(&points), CloudView::pretraining(&points), CloudView::finetuning(&points)] {
            view.check().unwrap();
            for count in [8, 32, 33, 500] {
                let [first, second] = [(); 2].map(|()| {
                    let (mut out, [mut own, mut batch]) = (vec![7; view.bytes()], streams(9));
                    view.apply(&cloud(count), &mut own, &mut batch, &mut out).unwrap();
                    out
                });
                assert_eq!(first, second);
                let values: Vec<f32> = bytemuck::pod_collect_to_vec(&first);
                assert!(values.iter().all(|v| v.abs() < 4.0), "{view:?} {count}");
            }
        }
    }

    #[test]
    fn what_makes_no_patches_is_named() {
        let view = CloudView::test(&Points { count: 32, groups: 8, group_size: 4, ..Points::default() });
        let (mut out, [mut own, mut batch]) = (vec![0; view.bytes()], streams(0));
        for few in [0, 7] {
            let e = view.apply(&cloud(few), &mut own, &mut batch, &mut out).unwrap_err().to_string();
            assert!(e.contains(&format!("points of a cloud: got {few}, expected at least 8, for 8 patches")), "{e}");
        }
        let e = CloudView { count: 7, ..view }.check().unwrap_err().to_string();
        assert!(e.contains("points of a cloud is 7, expected 8 to"), "{e}");
    }
}
