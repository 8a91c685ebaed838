//! What a detector sees of an image in training: the large-scale jitter of detectron2's ViTDet, and the anchors that
//! region proposals learn from, which depend on the objects alone.

use serde::{Deserialize, Serialize};

use super::crop::{Scaler, mirror};
use crate::data::imagenet::MEAN;
use crate::data::masks::Placement;
use crate::data::sample::{ObjectBox, Rgb8};
use crate::data::stream::Stream;
use crate::error::DataError;
use crate::models::dense::Detection;
use crate::models::dense::boxes::{BoxSampler, Matcher, Region};

/// An image in another size and a crop of it, `size`² pixels of three bytes, padded on the right and below.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ObjectView {
    /// Side of the view in pixels.
    pub size: u32,
    /// Side of the patches of the network, from which the anchors follow.
    pub patch: u32,
    /// Longer side of the image over that of the view, lowest and highest.
    pub scale: (f64, f64),
    /// Probability of a mirror image.
    pub hflip: f64,
    /// Objects that a view shows at most: the largest.
    pub truths: usize,
    /// Anchors that are sampled.
    pub anchors: usize,
}

/// The objects of a view, and what its anchors should say of them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SeenObjects {
    /// Rows and columns of the image in the view; the rest is padding.
    pub size: [u32; 2],
    /// Objects in pixels of the view, without crowds.
    pub objects: Vec<ObjectBox>,
    /// Smaller objects beyond [`ObjectView::truths`].
    pub left_out: usize,
    /// Sampled anchors, by their numbers over all levels: those of an object, with its number, and background.
    pub anchors: (Vec<(usize, usize)>, Vec<usize>),
}

impl ObjectView {
    /// Bytes of a view.
    pub fn bytes(&self) -> usize {
        3 * self.size as usize * self.size as usize
    }

    /// # Errors
    /// A size, a scale or a probability out of range.
    pub fn check(&self) -> Result<(), DataError> {
        if !(1..=4096).contains(&self.size) || self.patch == 0 {
            return Err(DataError::setting("image size", self.size, "1 to 4096 pixels"));
        }
        let (low, high) = self.scale;
        if !(low > 0.0 && low <= high && high <= 16.0) {
            return Err(DataError::setting("scale", format!("{low},{high}"), "0 < lowest ≤ highest ≤ 16"));
        }
        if !(0.0..=1.0).contains(&self.hflip) {
            return Err(DataError::setting("hflip", self.hflip, "0 to 1"));
        }
        Ok(())
    }

    /// Writes a view to `out`, and returns its objects. Random choices come from `s`.
    ///
    /// # Errors
    /// An `out` of another length, a mask that cannot be drawn.
    pub(crate) fn apply(
        &self, image: &Rgb8, objects: &[ObjectBox], s: &mut Stream, scaler: &mut Scaler, out: &mut [u8],
    ) -> Result<SeenObjects, DataError> {
        if out.len() != self.bytes() {
            return Err(DataError::setting("bytes of a view", out.len(), self.bytes().to_string()));
        }
        let side = self.size as usize;
        let before = [image.height as usize, image.width as usize];
        let flip = s.chance(self.hflip);
        let after = self.scaled(before, s.range(self.scale.0, self.scale.1));
        let share = s.unit(); // one for both axes
        let offset = after.map(|n| (share * n.saturating_sub(side) as f64).round_ties_even() as usize);
        let size = after.map(|n| n.min(side));
        let mut pixels =
            scaler.whole(image, after).map_err(|e| DataError::setting("an image to resize", e, "pixels"))?;
        if flip {
            mirror(&mut pixels, after[1]);
        }
        padded(&pixels, after[1], offset, size, side, out);
        let place = Placement { flip, resized: [before, after], offset, size };
        let mut seen = SeenObjects { size: size.map(|n| n as u32), ..SeenObjects::default() };
        for object in objects.iter().filter(|object| !object.crowd) {
            let wrong = |e: crate::error::Error| DataError::setting("the mask of an object", e, "pixels of the image");
            let found = match &object.mask {
                Some(mask) => place.mask(mask).map_err(wrong)?.map(|(corners, mask)| (corners, Some(mask))),
                None => place.corners(object.corners()).map(|corners| (corners, None)),
            };
            if let Some(([left, top, right, bottom], mask)) = found {
                seen.objects.push(ObjectBox { left, top, right, bottom, class: object.class, crowd: false, mask });
            }
        }
        if seen.objects.len() > self.truths {
            let area = |b: &ObjectBox| (b.right - b.left) * (b.bottom - b.top);
            seen.objects.sort_by(|a, b| area(b).total_cmp(&area(a))); // stable
            seen.left_out = seen.objects.len() - self.truths;
            seen.objects.truncate(self.truths);
        }
        seen.anchors = self.sampled(&seen.objects, s);
        Ok(seen)
    }

    /// Rows and columns of an image whose longer side is `ratio` views.
    fn scaled(&self, [rows, cols]: [usize; 2], ratio: f64) -> [usize; 2] {
        let factor = f64::from(self.size) * ratio / rows.max(cols) as f64;
        [rows, cols].map(|n| ((n as f64 * factor).round_ties_even() as usize).max(1))
    }

    /// Sampled anchors of the objects, and of the background.
    fn sampled(&self, objects: &[ObjectBox], s: &mut Stream) -> (Vec<(usize, usize)>, Vec<usize>) {
        let grid = (self.size / self.patch) as usize;
        let detection = Detection { anchors: self.anchors, ..Detection::default() };
        let anchors: Vec<Region> = detection.anchors(self.patch as usize).of(&Detection::maps([grid; 2])).concat();
        let truths: Vec<Region> = objects.iter().map(ObjectBox::corners).collect();
        let matches = Matcher::proposals().of(&truths, &anchors);
        let keys: Vec<f64> = anchors.iter().map(|_| s.unit()).collect();
        let sampler: BoxSampler = detection.anchor_sampler();
        let [objects, background] = sampler.draw(&matches.label, &keys);
        (objects.into_iter().map(|i| (i, matches.truth[i])).collect(), background)
    }
}

/// An image as a detector sees it in a test: its longer side is `side` pixels, and it is padded to a square. Returns
/// also rows and columns of the image in there.
///
/// # Errors
/// An image whose pixels are not those of its size.
pub fn whole_view(image: &Rgb8, side: usize) -> Result<(Vec<u8>, [usize; 2]), DataError> {
    let before = [image.height as usize, image.width as usize];
    let factor = side as f64 / before[0].max(before[1]) as f64;
    let size = before.map(|n| ((n as f64 * factor + 0.5) as usize).clamp(1, side));
    let failed = |e| DataError::setting("an image to resize", e, "pixels that match its size");
    let pixels = Scaler::default().whole(image, size).map_err(failed)?;
    let mut out = vec![0; 3 * side * side];
    padded(&pixels, size[1], [0, 0], size, side, &mut out);
    Ok((out, size))
}

/// Copies a part of `pixels`, whose rows have `stride` pixels, into the upper left of a square. The rest is 0 once it
/// is normalized.
fn padded(pixels: &[u8], stride: usize, offset: [usize; 2], size: [usize; 2], side: usize, out: &mut [u8]) {
    let mean = MEAN.map(|v| (255.0 * v).round() as u8);
    for (row, line) in out.chunks_exact_mut(3 * side).enumerate() {
        let shown = if row < size[0] { 3 * size[1] } else { 0 };
        if shown > 0 {
            let from = 3 * ((row + offset[0]) * stride + offset[1]);
            line[..shown].copy_from_slice(&pixels[from..from + shown]);
        }
        line[shown..].as_chunks_mut::<3>().0.iter_mut().for_each(|pixel| *pixel = mean);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::masks::ObjectMask;
    use crate::data::stream::StreamPurpose;

    const VIEW: ObjectView = ObjectView { size: 64, patch: 16, scale: (1.0, 1.0), hflip: 0.0, truths: 3, anchors: 32 };

    /// Black, with a bright box of 20 × 10 pixels from (30, 8).
    fn picture() -> (Rgb8, Vec<ObjectBox>) {
        let pixel =
            |i: usize| if (30..50).contains(&(i % 96)) && (8..18).contains(&(i / 96)) { [255; 3] } else { [0; 3] };
        let image = Rgb8 { width: 96, height: 48, pixels: (0..96 * 48).flat_map(pixel).collect() };
        let corners = vec![30.0, 8.0, 50.0, 8.0, 50.0, 18.0, 30.0, 18.0];
        let mask = Some(ObjectMask::Polygons(vec![corners]));
        let object = ObjectBox { left: 30.0, top: 8.0, right: 50.0, bottom: 18.0, class: 2, crowd: false, mask };
        (image, vec![object.clone(), ObjectBox { crowd: true, ..object }])
    }

    fn seen(view: ObjectView, i: u64) -> (Vec<u8>, SeenObjects) {
        let (image, objects) = picture();
        let mut out = vec![1; view.bytes()];
        let mut s = Stream::new(StreamPurpose::Augment, [1, 2, i]);
        let seen = view.apply(&image, &objects, &mut s, &mut Scaler::default(), &mut out).unwrap();
        (out, seen)
    }

    #[test]
    fn boxes_stay_on_their_pixels() {
        let jittered = ObjectView { scale: (0.5, 2.0), hflip: 0.5, ..VIEW };
        let mut shown = 0;
        for i in 0..40 {
            let (pixels, seen) = seen(jittered, i);
            let bright = |x: usize, y: usize| pixels[3 * (64 * y + x)] > 127;
            let all: Vec<[usize; 2]> = (0..4096).map(|i| [i % 64, i / 64]).filter(|[x, y]| bright(*x, *y)).collect();
            // the padding is gray, less than half
            let Some(object) = seen.objects.first() else {
                assert!(all.len() < 4, "{i}: {} bright pixels of no object", all.len());
                continue;
            };
            let around = [0, 1].map(|axis| {
                let of = || all.iter().map(|at| at[axis] as f64);
                [of().fold(f64::MAX, f64::min), of().fold(0.0, f64::max) + 1.0]
            });
            let [[left, right], [top, bottom]] = around;
            let near = |a: f64, b: f64| (a - b).abs() < 1.3;
            let fits = near(left, object.left) && near(right, object.right) && near(top, object.top);
            assert!(fits && near(bottom, object.bottom), "{i}: {around:?} {object:?}");
            let mask = object.mask.as_ref().unwrap().runs(seen.size[0], seen.size[1]).unwrap();
            let inside = mask.rows().iter().filter(|v| **v == 1).count();
            assert!(inside.abs_diff(all.len()) * 4 < all.len() + 40, "{i}: {inside} of {}", all.len());
            shown += 1;
        }
        assert!(shown > 20, "{shown}");
        assert_eq!(seen(jittered, 7), seen(jittered, 7));
    }

    #[test]
    fn views_are_padded_and_anchors_sampled() {
        let (pixels, seen) = seen(VIEW, 3);
        assert_eq!(seen.size, [32, 64]);
        assert_eq!(pixels[3 * 64 * 32..][..3], [124, 116, 104]);
        assert_eq!(seen.objects.len(), 1, "a crowd is no truth");
        let (objects, background) = &seen.anchors;
        assert!(!objects.is_empty() && objects.len() + background.len() == 32, "{:?}", seen.anchors);
        let anchors = Detection::default().anchors(16).of(&Detection::maps([4; 2])).concat();
        let truth = seen.objects[0].corners();
        let overlap = |i: usize| crate::models::dense::boxes::overlap(&truth, &anchors[i]);
        let best = (0..anchors.len()).map(overlap).fold(0.0, f64::max);
        assert!(objects.iter().all(|(i, _)| overlap(*i) == best || overlap(*i) >= 0.7));
        assert!(background.iter().all(|i| overlap(*i) < 0.3));
    }

    #[test]
    fn the_largest_objects_stay() {
        let (image, mut objects) = picture();
        objects[1] = ObjectBox { left: 0.0, top: 0.0, right: 96.0, bottom: 48.0, class: 1, ..ObjectBox::default() };
        let one = ObjectView { truths: 1, ..VIEW };
        let (mut s, mut out) = (Stream::new(StreamPurpose::Augment, [0; 3]), vec![0; VIEW.bytes()]);
        let seen = one.apply(&image, &objects, &mut s, &mut Scaler::default(), &mut out).unwrap();
        assert_eq!((seen.objects.len(), seen.objects[0].class, seen.left_out), (1, 1, 1));
    }

    #[test]
    fn tests_see_the_whole_image() {
        let (pixels, size) = whole_view(&picture().0, 48).unwrap();
        assert_eq!((size, pixels.len()), ([24, 48], 3 * 48 * 48));
        assert_eq!(pixels[3 * (6 * 48 + 20)], 255);
        assert_eq!(pixels[3 * (24 * 48)..][..3], [124, 116, 104]);
    }

    #[test]
    fn what_cannot_be_is_named() {
        let error = |view: ObjectView| view.check().unwrap_err().to_string();
        assert!(error(ObjectView { size: 0, ..VIEW }).contains("image size"));
        assert!(error(ObjectView { scale: (2.0, 1.0), ..VIEW }).contains("scale"));
        assert!(error(ObjectView { hflip: 2.0, ..VIEW }).contains("hflip"));
    }
}
