//! COCO's average precision, exactly as pycocotools counts it.

use std::collections::BTreeMap;

use crate::data::coco::{CocoDetection, CocoFile};
use crate::data::masks::RunLengths;
use crate::error::{Error, Result};

/// Thresholds on the overlap: 0.50, 0.55, …, 0.95.
const OVERLAPS: usize = 10;
/// Recalls at which precision is read: 0, 0.01, …, 1.
const RECALLS: usize = 101;
/// Areas in pixels, both ends included: all, small, medium, large.
const AREAS: [[f64; 2]; 4] = [[0.0, 1e10], [0.0, 1024.0], [1024.0, 9216.0], [9216.0, 1e10]];
/// Most detections of a category that are counted in an image.
const MOST: [usize; 3] = [1, 10, 100];

/// Names of [`CocoScores::stats`].
pub const COCO_STATS: [&str; 12] =
    ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"];

/// What overlaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Overlap {
    /// Boxes: `iouType="bbox"`.
    Boxes,
    /// Masks: `iouType="segm"`.
    Masks,
}

/// The twelve numbers of COCO, from 0 to 1, and the curves that they are read from.
#[derive(Clone, Debug, PartialEq)]
pub struct CocoScores {
    /// The numbers that [`COCO_STATS`] names; −1 where nothing counts.
    pub stats: [f64; 12],
    /// Precision (10 thresholds, 101 recalls, K categories) over all areas with 100 detections; −1 for categories
    /// without objects.
    pub precision: Vec<f64>,
    /// Recall (10 thresholds, K categories) likewise.
    pub recall: Vec<f64>,
}

/// An object, or what was found, of one category in one image.
struct Region {
    shape: Shape,
    area: f64,
    crowd: bool,
    score: f64,
}

enum Shape {
    Box([f64; 4]),
    Mask(RunLengths),
}

/// How the detections of a category in an image were matched, for an area.
struct Matched {
    /// By descending score, at most 100.
    scores: Vec<f64>,
    /// (threshold, detection): whether it found an object.
    found: Vec<bool>,
    /// (threshold, detection): whether it is left out.
    ignored: Vec<bool>,
    /// Objects that count.
    objects: usize,
}

/// Compares detections with a file of annotations.
///
/// A mask's area is its pixels, and a box's its width times its height, whatever else the detection says. Categories
/// and images without annotations count as in pycocotools: what is found in an image without the category is wrong.
///
/// # Errors
/// A detection in an image that the file does not have, without the box or mask that is compared, or with a score that
/// is no number; masks that do not fit their image.
pub fn coco_scores(truth: &CocoFile, detections: &[CocoDetection], overlap: Overlap) -> Result<CocoScores> {
    let mut images: Vec<(u64, [u32; 2])> = truth.images.iter().map(|i| (i.id, [i.height, i.width])).collect();
    images.sort_unstable();
    let categories: Vec<u64> = truth.classes().iter().map(|category| category.id).collect();
    let size = |image: u64| images.binary_search_by_key(&image, |i| i.0).ok().map(|at| images[at].1);
    // by category and image, so that images come in ascending order
    let mut pairs: BTreeMap<(u64, u64), [Vec<Region>; 2]> = BTreeMap::new();
    for object in &truth.annotations {
        let [height, width] = size(object.image_id).unwrap_or_default();
        let shape = match overlap {
            Overlap::Boxes => Shape::Box(object.bbox),
            Overlap::Masks => {
                let missing = || Error::argument(format!("segmentation of annotation {}", object.id), "none", "a mask");
                Shape::Mask(object.segmentation.as_ref().ok_or_else(missing)?.mask(height, width)?)
            }
        };
        let region = Region { shape, area: object.area, crowd: object.iscrowd != 0, score: 0.0 };
        pairs.entry((object.category_id, object.image_id)).or_default()[0].push(region);
    }
    for (i, found) in detections.iter().enumerate() {
        let wrong = |what: &str, got: String, expected: &str| {
            Err(Error::argument(format!("{what} of detection {i}"), got, expected.to_owned()))
        };
        let Some([height, width]) = size(found.image_id) else {
            return wrong("image_id", found.image_id.to_string(), "an image of the annotations");
        };
        if found.score.is_nan() {
            return wrong("score", "NaN".into(), "a number");
        }
        let (shape, area) = match (overlap, found.bbox, &found.segmentation) {
            (Overlap::Boxes, Some(sides), _) => (Shape::Box(sides), sides[2] * sides[3]),
            (Overlap::Masks, _, Some(mask)) => {
                let mask = mask.mask(height, width)?;
                let area = mask.area() as f64;
                (Shape::Mask(mask), area)
            }
            (Overlap::Boxes, None, _) => return wrong("bbox", "none".into(), "a box"),
            (Overlap::Masks, _, None) => return wrong("segmentation", "none".into(), "a mask"),
        };
        let region = Region { shape, area, crowd: false, score: found.score };
        pairs.entry((found.category_id, found.image_id)).or_default()[1].push(region);
    }
    let mut curves: Vec<Vec<Curve>> = Vec::new(); // by category, then area
    for category in categories {
        let of_it = pairs.range((category, 0)..=(category, u64::MAX)).map(|(_, [objects, found])| (objects, found));
        let of_it = of_it.map(|(objects, found)| Pair::new(objects, found)).collect::<Result<Vec<_>>>()?;
        let of_area = |area: &[f64; 2]| {
            let matched: Vec<Matched> = of_it.iter().map(|pair| pair.matched(*area)).collect();
            Curve::of(&matched)
        };
        curves.push(AREAS.iter().map(of_area).collect());
    }
    Ok(summary(&curves))
}

/// Objects and detections of one category in one image.
struct Pair<'a> {
    objects: &'a [Region],
    /// By descending score, at most 100.
    found: Vec<&'a Region>,
    /// (detection, object)
    overlaps: Vec<Vec<f64>>,
}

impl<'a> Pair<'a> {
    fn new(objects: &'a [Region], found: &'a [Region]) -> Result<Self> {
        let mut found: Vec<&Region> = found.iter().collect();
        found.sort_by(|a, b| b.score.total_cmp(&a.score));
        found.truncate(MOST[2]);
        let of_one = |found: &&Region| objects.iter().map(|object| found.overlap(object)).collect();
        Ok(Self { objects, overlaps: found.iter().map(of_one).collect::<Result<_>>()?, found })
    }

    /// Gives each detection, the surest first, the object that it overlaps most and that no other has, at each
    /// threshold.
    fn matched(&self, [least, most]: [f64; 2]) -> Matched {
        let outside = |region: &Region| region.area < least || region.area > most;
        let ignored: Vec<bool> = self.objects.iter().map(|object| object.crowd || outside(object)).collect();
        let mut order: Vec<usize> = (0..self.objects.len()).collect();
        order.sort_by_key(|i| ignored[*i]); // stable: first those that count
        let mut matched = Matched {
            scores: self.found.iter().map(|found| found.score).collect(),
            found: Vec::new(),
            ignored: Vec::new(),
            objects: ignored.iter().filter(|ignored| !**ignored).count(),
        };
        for threshold in 0..OVERLAPS {
            let mut taken = vec![false; self.objects.len()];
            for (found, overlaps) in self.found.iter().zip(&self.overlaps) {
                let mut best = overlap_at(threshold).min(1.0 - 1e-10);
                let mut at = None;
                for i in order.iter().copied() {
                    if taken[i] && !self.objects[i].crowd {
                        continue;
                    }
                    if ignored[i] && at.is_some_and(|held: usize| !ignored[held]) {
                        break; // one that counts is held, and only ignored ones follow
                    }
                    if overlaps[i] >= best {
                        best = overlaps[i];
                        at = Some(i);
                    }
                }
                if let Some(i) = at {
                    taken[i] = true;
                }
                matched.found.push(at.is_some());
                matched.ignored.push(at.map_or_else(|| outside(found), |i| ignored[i]));
            }
        }
        matched
    }
}

impl Region {
    /// Intersection over union, over the detection alone if the object is a crowd.
    fn overlap(&self, object: &Self) -> Result<f64> {
        match (&self.shape, &object.shape) {
            (Shape::Box(a), Shape::Box(b)) => {
                let side = |i: usize| (a[i] + a[i + 2]).min(b[i] + b[i + 2]) - a[i].max(b[i]);
                let (width, height) = (side(0), side(1));
                if width <= 0.0 || height <= 0.0 {
                    return Ok(0.0);
                }
                let (both, own) = (width * height, a[2] * a[3]);
                Ok(both / if object.crowd { own } else { own + b[2] * b[3] - both })
            }
            (Shape::Mask(a), Shape::Mask(b)) => a.iou(b, object.crowd),
            _ => Ok(0.0),
        }
    }
}

/// Threshold number `i`, with numpy's rounding.
fn overlap_at(i: usize) -> f64 {
    if i + 1 == OVERLAPS { 0.95 } else { i as f64 * ((0.95 - 0.5) / 9.0) + 0.5 }
}

/// Recall number `i`, likewise.
fn recall_at(i: usize) -> f64 {
    if i + 1 == RECALLS { 1.0 } else { i as f64 * 0.01 }
}

/// Precision (threshold, recall) with 100 detections, and recall (threshold) for each of [`MOST`], of one category and
/// area; `None` without objects.
struct Curve(Option<Points>);
/// Precision and recalls of a [`Curve`].
type Points = (Vec<f64>, [Vec<f64>; 3]);

impl Curve {
    fn of(images: &[Matched]) -> Self {
        let objects: usize = images.iter().map(|image| image.objects).sum();
        if objects == 0 {
            return Self(None);
        }
        let mut precision = Vec::new();
        let recall = MOST.map(|most| {
            let mut order: Vec<(usize, usize)> = Vec::new();
            for (i, image) in images.iter().enumerate() {
                order.extend((0..image.scores.len().min(most)).map(|found| (i, found)));
            }
            order.sort_by(|a, b| images[b.0].scores[b.1].total_cmp(&images[a.0].scores[a.1]));
            let recall = |threshold: usize| {
                let (mut right, mut wrong) = (0.0, 0.0);
                let mut points = Vec::new(); // recall and precision behind each detection
                for (i, found) in order.iter().copied() {
                    let at = threshold * images[i].scores.len() + found;
                    if !images[i].ignored[at] {
                        let hit = images[i].found[at];
                        right += f64::from(u8::from(hit));
                        wrong += f64::from(u8::from(!hit));
                    }
                    points.push([right / objects as f64, right / (right + wrong + f64::EPSILON)]);
                }
                if most == MOST[2] {
                    // the best precision at this recall or a larger one
                    let mut best = 0.0f64;
                    for point in points.iter_mut().rev() {
                        best = best.max(point[1]);
                        point[1] = best;
                    }
                    precision.extend((0..RECALLS).map(|i| {
                        let at = points.partition_point(|point| point[0] < recall_at(i));
                        points.get(at).map_or(0.0, |point| point[1])
                    }));
                }
                points.last().map_or(0.0, |point| point[0])
            };
            (0..OVERLAPS).map(recall).collect()
        });
        Self(Some((precision, recall)))
    }
}

/// The twelve numbers of the curves (category, area).
fn summary(curves: &[Vec<Curve>]) -> CocoScores {
    let mean = |values: Vec<f64>| {
        if values.is_empty() { -1.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
    };
    let all = |area: usize| curves.iter().filter_map(move |areas| areas[area].0.as_ref());
    let precision = |area: usize, threshold: Option<usize>| {
        let of_one = |(precision, _): &(Vec<f64>, _)| match threshold {
            Some(t) => precision[t * RECALLS..(t + 1) * RECALLS].to_vec(),
            None => precision.clone(),
        };
        mean(all(area).flat_map(of_one).collect())
    };
    let recall = |area: usize, most: usize| mean(all(area).flat_map(|(_, recall)| recall[most].clone()).collect());
    let half = (0..OVERLAPS).find(|i| overlap_at(*i) == 0.5);
    let three_quarters = (0..OVERLAPS).find(|i| overlap_at(*i) == 0.75);
    let each = |row: &dyn Fn(&Points) -> f64| {
        curves.iter().map(|areas| areas[0].0.as_ref().map_or(-1.0, row)).collect::<Vec<f64>>()
    };
    CocoScores {
        stats: [
            precision(0, None),
            precision(0, half),
            precision(0, three_quarters),
            precision(1, None),
            precision(2, None),
            precision(3, None),
            recall(0, 0),
            recall(0, 1),
            recall(0, 2),
            recall(1, 2),
            recall(2, 2),
            recall(3, 2),
        ],
        precision: (0..OVERLAPS * RECALLS).flat_map(|i| each(&|curve| curve.0[i])).collect(),
        recall: (0..OVERLAPS).flat_map(|i| each(&|curve| curve.1[2][i])).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::coco::{CocoAnnotation, CocoCategory, CocoImage};

    fn truth() -> CocoFile {
        let object = |id, bbox: [f64; 4]| CocoAnnotation {
            id,
            image_id: 1,
            category_id: 5,
            bbox,
            area: bbox[2] * bbox[3],
            iscrowd: 0,
            segmentation: None,
        };
        CocoFile {
            images: vec![CocoImage { id: 1, file_name: "a".into(), height: 100, width: 100 }],
            categories: vec![CocoCategory { id: 5, name: "a".into() }],
            annotations: vec![object(1, [0.0, 0.0, 10.0, 10.0]), object(2, [50.0, 50.0, 40.0, 40.0])],
        }
    }

    fn found(bbox: [f64; 4], score: f64) -> CocoDetection {
        CocoDetection { image_id: 1, category_id: 5, bbox: Some(bbox), score, segmentation: None }
    }

    #[test]
    fn one_of_two_objects_is_found() {
        let scores = coco_scores(&truth(), &[found([0.0, 0.0, 10.0, 10.0], 0.9)], Overlap::Boxes).unwrap();
        // precision 1 at the 51 recalls up to 0.5, of 101
        assert!((scores.stats[0] - 51.0 / 101.0).abs() < 1e-12, "{:?}", scores.stats);
        let near = |at: usize, want: f64| assert!((scores.stats[at] - want).abs() < 1e-12, "{:?}", scores.stats);
        near(3, 1.0); // the small one
        near(4, 0.0); // the medium one
        near(5, -1.0); // no large one
        near(8, 0.5);
    }

    #[test]
    fn what_cannot_be_compared_is_named() {
        let detection = found([0.0; 4], f64::NAN);
        let e = coco_scores(&truth(), std::slice::from_ref(&detection), Overlap::Boxes).unwrap_err().to_string();
        assert!(e.contains("score of detection 0: got NaN"), "{e}");
        let elsewhere = CocoDetection { image_id: 2, score: 0.0, ..detection };
        let e = coco_scores(&truth(), &[elsewhere], Overlap::Boxes).unwrap_err().to_string();
        assert!(e.contains("image_id of detection 0: got 2"), "{e}");
        let e = coco_scores(&truth(), &[], Overlap::Masks).unwrap_err().to_string();
        assert!(e.contains("segmentation of annotation 1"), "{e}");
    }
}
