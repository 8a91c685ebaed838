//! Boxes on the host, in f64: anchors, matching with truths, sampling, deltas, and proposals.

use super::nms::{Corners, nms};
use crate::error::{Error, Result};

/// Left, top, right, bottom in pixels of the picture; a pixel i covers [i, i + 1).
pub type Region = [f64; 4];

/// ln(1000/16): deltas let sides grow at most by this factor.
const MOST_GROWTH: f64 = 4.135166556742356;

fn area(b: &Region) -> f64 {
    (b[2] - b[0]) * (b[3] - b[1])
}

/// Intersection over union of a truth and a box; 0 where the intersection is empty. The order of the sums is that of
/// detectron2's `pairwise_iou`, so that equal overlaps are equal here too.
pub fn overlap(truth: &Region, b: &Region) -> f64 {
    let side = |i: usize| (truth[i + 2].min(b[i + 2]) - truth[i].max(b[i])).max(0.0);
    let both = side(0) * side(1);
    if both > 0.0 { both / (area(truth) + area(b) - both) } else { 0.0 }
}

/// The deltas that move `from` to `to`: shifts of the center in sides, and logarithms of the growth of the sides, times
/// `weights`.
///
/// - detectron2: `Box2BoxTransform(weights).get_deltas(from, to)`.
pub fn encode(from: &Region, to: &Region, weights: &[f64; 4]) -> [f64; 4] {
    let size = |b: &Region, i: usize| b[i + 2] - b[i];
    let center = |b: &Region, i: usize| b[i] + 0.5 * size(b, i);
    let shift = |i: usize| weights[i] * (center(to, i) - center(from, i)) / size(from, i);
    let grow = |i: usize| weights[i + 2] * (size(to, i) / size(from, i)).ln();
    [shift(0), shift(1), grow(0), grow(1)]
}

/// The box that deltas move `from` to. A side grows at most by 1000/16.
///
/// - detectron2: `Box2BoxTransform(weights).apply_deltas(deltas, from)`.
pub fn decode(from: &Region, deltas: &[f64; 4], weights: &[f64; 4]) -> Region {
    let side = |i: usize| {
        let size = from[i + 2] - from[i];
        let center = deltas[i] / weights[i] * size + (from[i] + 0.5 * size);
        let half = 0.5 * ((deltas[i + 2] / weights[i + 2]).min(MOST_GROWTH).exp() * size);
        [center - half, center + half]
    };
    let [[left, right], [top, bottom]] = [side(0), side(1)];
    [left, top, right, bottom]
}

/// The part of a box inside a picture of these rows and columns.
pub fn clipped(b: &Region, [rows, cols]: [f64; 2]) -> Region {
    [b[0].clamp(0.0, cols), b[1].clamp(0.0, rows), b[2].clamp(0.0, cols), b[3].clamp(0.0, rows)]
}

/// Anchors of a pyramid: boxes of fixed sizes and shapes around each cell.
#[derive(Debug, Clone, PartialEq)]
pub struct Anchors {
    /// Stride of each level.
    pub strides: Vec<f64>,
    /// Sides of the squares of each level.
    pub sizes: Vec<Vec<f64>>,
    /// Height over width, for each size.
    pub ratios: Vec<f64>,
    /// Where in a cell anchors are centered, in strides: 0 is its corner.
    pub offset: f64,
}

impl Anchors {
    /// ViTDet's, for levels of these strides: a size of 8 strides a level and three shapes.
    pub fn vitdet(strides: &[f64]) -> Self {
        let strides = strides.to_vec();
        let sizes = strides.iter().map(|stride| vec![8.0 * stride]).collect();
        Self { strides, sizes, ratios: vec![0.5, 1.0, 2.0], offset: 0.0 }
    }

    /// Anchors of a cell, the same in each level.
    pub fn per_cell(&self) -> usize {
        self.sizes.first().map_or(0, Vec::len) * self.ratios.len()
    }

    /// The anchors of each level for maps of these rows and columns: by row, column, size and ratio.
    pub fn of(&self, maps: &[[usize; 2]]) -> Vec<Vec<Region>> {
        let level = |((stride, sizes), [rows, cols]): ((&f64, &Vec<f64>), &[usize; 2])| {
            let shape = |size: f64, ratio: f64| {
                let w = (size * size / ratio).sqrt();
                let h = ratio * w;
                [-w / 2.0, -h / 2.0, w / 2.0, h / 2.0]
            };
            let shapes: Vec<Region> =
                sizes.iter().flat_map(|size| self.ratios.iter().map(|ratio| shape(*size, *ratio))).collect();
            let place = |i: usize| (i as f64 + self.offset) * stride;
            let cells = (0..rows * cols).map(|i| (place(i % cols), place(i / cols)));
            cells.flat_map(|(x, y)| shapes.iter().map(move |b| [x + b[0], y + b[1], x + b[2], y + b[3]])).collect()
        };
        self.strides.iter().zip(&self.sizes).zip(maps).map(level).collect()
    }
}

/// How boxes are matched with truths by their overlap: detectron2's `Matcher`.
#[derive(Debug, Clone, PartialEq)]
pub struct Matcher {
    /// Overlaps from which on the next label counts, ascending.
    pub thresholds: Vec<f64>,
    /// A label more than thresholds: 1 for objects, 0 for background, −1 for neither.
    pub labels: Vec<i8>,
    /// Whether each truth also makes the boxes that overlap it most objects.
    pub low_quality: bool,
}

/// The truth that each box overlaps most, and its label.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Matches {
    /// Index of the truth, the first of equal ones; 0 where there is none.
    pub truth: Vec<usize>,
    /// Label of the box.
    pub label: Vec<i8>,
}

impl Matcher {
    /// That of region proposals.
    pub fn proposals() -> Self {
        Self { thresholds: vec![0.3, 0.7], labels: vec![0, -1, 1], low_quality: true }
    }

    /// That of a stage of a cascade.
    pub fn stage(threshold: f64) -> Self {
        Self { thresholds: vec![threshold], labels: vec![0, 1], low_quality: false }
    }

    /// Matches boxes with the truths of their picture. Without truths all boxes have the first label. A truth that no
    /// box overlaps makes none an object.
    pub fn of(&self, truths: &[Region], boxes: &[Region]) -> Matches {
        let first = self.labels.first().copied().unwrap_or(0);
        if truths.is_empty() {
            return Matches { truth: vec![0; boxes.len()], label: vec![first; boxes.len()] };
        }
        let mut most = vec![0.0f64; truths.len()];
        let mut matches = Matches::default();
        for b in boxes {
            let mut best = (0, -1.0);
            for (i, truth) in truths.iter().enumerate() {
                let found = overlap(truth, b);
                most[i] = most[i].max(found);
                if found > best.1 {
                    best = (i, found);
                }
            }
            let reached = self.thresholds.iter().take_while(|least| best.1 >= **least).count();
            matches.truth.push(best.0);
            matches.label.push(self.labels.get(reached).copied().unwrap_or(first));
        }
        if self.low_quality {
            for (b, label) in boxes.iter().zip(&mut matches.label) {
                if truths.iter().zip(&most).any(|(truth, most)| *most > 0.0 && overlap(truth, b) == *most) {
                    *label = 1;
                }
            }
        }
        matches
    }
}

/// A sample of boxes: at most `count`, of which at most `fraction` are objects.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoxSampler {
    /// Boxes of a picture.
    pub count: usize,
    /// Most of them that are objects, as a share.
    pub fraction: f64,
}

impl BoxSampler {
    /// Indices of objects and of background, those with the smallest keys, by ascending key. Keys are drawn uniformly,
    /// one for each box; so the sample is too.
    pub fn draw(&self, labels: &[i8], keys: &[f64]) -> [Vec<usize>; 2] {
        let of = |wanted: i8, most: usize| {
            let mut found: Vec<usize> = (0..labels.len().min(keys.len())).filter(|i| labels[*i] == wanted).collect();
            found.sort_by(|a, b| keys[*a].total_cmp(&keys[*b])); // stable
            found.truncate(most);
            found
        };
        let objects = of(1, (self.count as f64 * self.fraction) as usize);
        let background = of(0, self.count - objects.len());
        [objects, background]
    }
}

/// How proposals are chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ProposalOptions {
    /// Most candidates of a level, by score.
    pub before: usize,
    /// Most proposals of a picture.
    pub after: usize,
    /// Of two candidates of a level that overlap more, the better stays.
    pub overlap: f64,
    /// Sides up to this many pixels are left out.
    pub least_side: f64,
}

/// Candidates of a level of one picture.
#[derive(Debug, Clone, Copy)]
pub struct Candidates<'a> {
    /// Anchors of the level.
    pub anchors: &'a [Region],
    /// A score each.
    pub scores: &'a [f32],
    /// Four deltas each.
    pub deltas: &'a [f32],
}

impl<'a> Candidates<'a> {
    /// Those of one picture of a batch, by level: `said` are scores (B, n) and deltas (B, n, 4) of each level.
    pub fn of_picture(anchors: &'a [Vec<Region>], said: &'a [[Vec<f32>; 2]], sample: usize) -> Vec<Self> {
        let level = |(anchors, [scores, deltas]): (&'a Vec<Region>, &'a [Vec<f32>; 2])| {
            let n = anchors.len();
            Self { anchors, scores: &scores[sample * n..][..n], deltas: &deltas[4 * sample * n..][..4 * n] }
        };
        anchors.iter().zip(said).map(level).collect()
    }
}

/// The boxes of a picture that may hold objects, by descending score, and their scores.
///
/// - detectron2: `find_top_rpn_proposals`.
///
/// # Errors
/// In training, if a box is not finite: the network has diverged. Otherwise such boxes are left out.
pub fn proposals(
    levels: &[Candidates<'_>], size: [f64; 2], options: &ProposalOptions, training: bool,
) -> Result<(Vec<Corners>, Vec<f32>)> {
    let (mut boxes, mut scores, mut groups) = (Vec::new(), Vec::new(), Vec::new());
    for (level, candidates) in levels.iter().enumerate() {
        let mut order: Vec<usize> = (0..candidates.scores.len()).collect();
        order.sort_by(|a, b| candidates.scores[*b].total_cmp(&candidates.scores[*a])); // stable
        for i in order.into_iter().take(options.before) {
            let deltas: [f64; 4] = std::array::from_fn(|k| f64::from(candidates.deltas[4 * i + k]));
            let b = decode(&candidates.anchors[i], &deltas, &[1.0; 4]);
            if !b.iter().all(|v| v.is_finite()) || !candidates.scores[i].is_finite() {
                if training {
                    let got = format!("{b:?} of score {}", candidates.scores[i]);
                    return Err(Error::argument("a proposal", got, "finite numbers; training has diverged"));
                }
                continue;
            }
            let b = clipped(&b, size);
            if b[2] - b[0] > options.least_side && b[3] - b[1] > options.least_side {
                boxes.push(b.map(|v| v as f32));
                scores.push(candidates.scores[i]);
                groups.push(level as u32);
            }
        }
    }
    let mut kept = nms(&boxes, &scores, &groups, options.overlap as f32);
    kept.truncate(options.after);
    Ok(kept.into_iter().map(|i| (boxes[i], scores[i])).unzip())
}

/// What is found in a picture.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DetectedBox {
    /// Left, top, right, bottom.
    pub corners: Corners,
    /// Probability of the class.
    pub score: f32,
    /// Index of the class.
    pub class: usize,
}

/// The detections of a picture, by descending score: of each class the boxes whose probability is above `least`, of
/// two that overlap more than `overlap` the better, at most `count` in all.
///
/// `probabilities` are those of the classes and of the background, for each box.
///
/// - detectron2: `fast_rcnn_inference_single_image`.
pub fn detections(
    boxes: &[Corners], probabilities: &[f32], least: f64, overlap: f64, count: usize,
) -> Vec<DetectedBox> {
    let columns = probabilities.len().checked_div(boxes.len()).unwrap_or(0);
    let mut found = Vec::new();
    for (corners, row) in boxes.iter().zip(probabilities.chunks(columns.max(1))) {
        let finite = corners.iter().chain(row).all(|v| v.is_finite());
        let classes = row.iter().take(columns.saturating_sub(1)).enumerate();
        let sure = classes.filter(|(_, p)| finite && f64::from(**p) > least);
        found.extend(sure.map(|(class, score)| DetectedBox { corners: *corners, score: *score, class }));
    }
    let corners: Vec<Corners> = found.iter().map(|d| d.corners).collect();
    let scores: Vec<f32> = found.iter().map(|d| d.score).collect();
    let classes: Vec<u32> = found.iter().map(|d| d.class as u32).collect();
    let mut kept = nms(&corners, &scores, &classes, overlap as f32);
    kept.truncate(count);
    kept.into_iter().map(|i| found[i]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anchors_lie_on_corners_of_cells() {
        let anchors = Anchors { strides: vec![4.0], sizes: vec![vec![2.0]], ratios: vec![1.0, 4.0], offset: 0.0 };
        let all = &anchors.of(&[[1, 2]])[0];
        assert_eq!(all[..2], [[-1.0, -1.0, 1.0, 1.0], [-0.5, -2.0, 0.5, 2.0]]);
        assert_eq!(all[2], [3.0, -1.0, 5.0, 1.0]);
        let maps = [256, 128, 64, 32, 16].map(|side| [side; 2]);
        assert_eq!(
            Anchors::vitdet(&[4.0, 8.0, 16.0, 32.0, 64.0]).of(&maps).iter().map(Vec::len).sum::<usize>(),
            261_888
        );
    }

    #[test]
    fn matches_and_low_quality() {
        let truths = [[0.0, 0.0, 4.0, 4.0], [100.0, 100.0, 104.0, 104.0]];
        let boxes = [[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 2.0], [90.0, 90.0, 101.0, 101.0], [50.0, 0.0, 51.0, 1.0]];
        let found = Matcher::proposals().of(&truths, &boxes);
        assert_eq!(found.truth, [0, 0, 1, 0]);
        assert_eq!(found.label, [1, -1, 1, 0]); // the third is the best that the second truth has
        let found = Matcher::stage(0.5).of(&truths, &boxes);
        assert_eq!(found.label, [1, 1, 0, 0]);
        assert_eq!(Matcher::proposals().of(&[], &boxes), Matches { truth: vec![0; 4], label: vec![0; 4] });
        // a truth that nothing overlaps
        assert_eq!(Matcher::proposals().of(&[[70.0, 70.0, 71.0, 71.0]], &boxes).label, [0; 4]);
    }

    #[test]
    fn samples_have_the_smallest_keys() {
        let labels = [1, 0, 1, -1, 0, 1, 0];
        let keys = [0.9, 0.5, 0.1, 0.0, 0.2, 0.3, 0.4];
        let draw = |count, fraction| BoxSampler { count, fraction }.draw(&labels, &keys);
        assert_eq!(draw(4, 0.5), [vec![2, 5], vec![4, 6]]);
        assert_eq!(draw(100, 0.25), [vec![2, 5, 0], vec![4, 6, 1]]);
        assert_eq!(draw(3, 0.25), [vec![], vec![4, 6, 1]]);
    }

    #[test]
    fn deltas_there_and_back() {
        let (a, b, w) = ([1.0, 2.0, 5.0, 10.0], [2.0, 0.0, 12.0, 9.0], [10.0, 10.0, 5.0, 5.0]);
        let back = decode(&a, &encode(&a, &b, &w), &w);
        assert!(back.iter().zip(b).all(|(x, y)| (x - y).abs() < 1e-12), "{back:?}");
    }

    #[test]
    fn proposals_are_the_best_of_each_level() {
        let anchors = [[0.0, 0.0, 10.0, 10.0], [1.0, 0.0, 11.0, 10.0], [20.0, 0.0, 30.0, 10.0], [-9.0, 0.0, -2.0, 5.0]];
        let level = Candidates { anchors: &anchors, scores: &[0.5, 0.9, 0.1, 2.0], deltas: &[0.0; 16] };
        let options = ProposalOptions { before: 4, after: 3, overlap: 0.7, least_side: 0.0 };
        let (boxes, scores) = proposals(&[level, level], [40.0, 40.0], &options, true).unwrap();
        assert_eq!(scores, [0.9, 0.9, 0.1]);
        assert_eq!(boxes[0], [1.0, 0.0, 11.0, 10.0]);
        let level = Candidates { deltas: &[f32::NAN; 16], ..level };
        assert!(proposals(&[level], [40.0, 40.0], &options, true).unwrap_err().to_string().contains("a proposal"));
        assert_eq!(proposals(&[level], [40.0, 40.0], &options, false).unwrap().0.len(), 0);
    }

    #[test]
    fn detections_are_suppressed_by_class() {
        let boxes = [[0.0, 0.0, 10.0, 10.0], [0.0, 0.0, 10.0, 9.0]];
        let found = detections(&boxes, &[0.6, 0.3, 0.1, 0.7, 0.1, 0.2], 0.2, 0.5, 9);
        let seen: Vec<_> = found.iter().map(|d| (d.class, d.score)).collect();
        assert_eq!(seen, [(0, 0.7), (1, 0.3)]);
        assert_eq!(detections(&[], &[], 0.2, 0.5, 9), []);
    }
}
