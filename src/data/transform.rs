//! From a decoded image to the square that a model sees: torchvision's `Compose` for training and for evaluation.
use super::crop::{Scaler, center_crop, mirror, random_crop};
use crate::data::augment::jitter::color_jitter;
use crate::data::augment::three::three_augment;
use crate::data::augment::{Canvas, erase};
use crate::data::augmentation::Augmentation;
use crate::data::object_view::{ObjectView, SeenObjects};
use crate::data::points::CloudView;
use crate::data::sample::{Rgb8, Sample};
use crate::data::scenes::SceneView;
use crate::data::stream::Stream;
use crate::error::DataError;
use crate::models::{Config, TestView};

/// How an image becomes `size` × `size` RGB bytes. Resizing has antialiasing and is one step from the pixels of the
/// source: bicubic (PIL's `BICUBIC`, a = −½), unless a test's view has another filter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Transform {
    /// A random crop and random changes, for training.
    Train {
        /// Side of the result in pixels.
        size: u32,
        /// Which crops and changes.
        augmentation: Augmentation,
    },
    /// `Resize(⌊size / crop_ratio⌋)` of the shorter side, or of both where the view squashes, then `CenterCrop(size)`,
    /// for evaluation.
    Eval {
        /// Side of the result in pixels.
        size: u32,
        /// What is kept of an image, and the filter.
        view: TestView,
    },
    /// The patches of a point cloud, whose bytes are f32 values.
    Cloud(CloudView),
    /// A crop of an image and the class of each of its pixels, for training.
    Scene(SceneView),
    /// A crop of an image and the objects in it, for training.
    Objects(ObjectView),
}

/// Buffers that one thread reuses from image to image.
#[derive(Default)]
pub struct Scratch {
    scaler: Scaler,
    pixels: Vec<u8>,
}

impl Transform {
    /// The augmentation of MAE, [`Augmentation::PRETRAIN`].
    pub fn train(size: u32) -> Self {
        Self::Train { size, augmentation: Augmentation::PRETRAIN }
    }

    /// `Resize` of the shorter side to ⌊size / 0.875⌋, then `CenterCrop(size)`, bicubic.
    pub fn eval(size: u32) -> Self {
        Self::Eval { size, view: TestView::default() }
    }

    /// What a model sees in pretraining.
    pub fn pretraining(config: &Config, augmentation: Augmentation) -> Self {
        match &config.points {
            Some(points) => Self::Cloud(CloudView::pretraining(points)),
            None => Self::Train { size: config.image_size as u32, augmentation },
        }
    }

    /// What a classifier sees in training.
    pub fn finetuning(config: &Config, augmentation: Augmentation) -> Self {
        match &config.points {
            Some(points) => Self::Cloud(CloudView::finetuning(points)),
            None => Self::Train { size: config.image_size as u32, augmentation },
        }
    }

    /// What a model sees in evaluation.
    pub fn testing(config: &Config, view: TestView) -> Self {
        match &config.points {
            Some(points) => Self::Cloud(CloudView::test(points)),
            None => Self::Eval { size: config.image_size as u32, view },
        }
    }

    /// Bytes of the result.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Train { size, .. } | Self::Eval { size, .. } => *size as usize * *size as usize * 3,
            Self::Cloud(view) => view.bytes(),
            Self::Scene(view) => view.bytes(),
            Self::Objects(view) => view.bytes(),
        }
    }

    /// # Errors
    /// A size, a crop ratio or an augmentation out of range.
    pub fn check(&self) -> Result<(), DataError> {
        if let Self::Train { size, .. } | Self::Eval { size, .. } = *self
            && !(1..=4096).contains(&size)
        {
            return Err(DataError::setting("image size", size, "1 to 4096 pixels"));
        }
        match *self {
            Self::Cloud(view) => view.check(),
            Self::Scene(view) => view.check(),
            Self::Objects(view) => view.check(),
            Self::Train { augmentation, .. } => augmentation.check(),
            Self::Eval { view, .. } if view.crop_ratio > 0.0 && view.crop_ratio <= 1.0 => Ok(()),
            Self::Eval { view, .. } => Err(DataError::setting("crop ratio", view.crop_ratio, "0 < ratio ≤ 1")),
        }
    }

    /// Writes what a network reads of the sample called `name` to `out`. `own` has the random numbers of the sample,
    /// and `batch` those that all samples of a batch have in common; evaluation draws none. Returns the objects of a
    /// view for a detector.
    ///
    /// # Errors
    /// A sample of another kind than the network reads, one that makes no patches, an `out` of another length.
    pub fn show(
        &self, sample: &Sample, name: &str, [own, batch]: [&mut Stream; 2], scratch: &mut Scratch, out: &mut [u8],
    ) -> Result<Option<SeenObjects>, DataError> {
        let shown = match (sample, self) {
            (Sample::Detected(image, objects), Self::Objects(view)) => {
                let broken = |e: DataError| DataError::Decode { name: name.into(), reason: e.to_string() };
                return view.apply(image, objects, own, &mut scratch.scaler, out).map(Some).map_err(broken);
            }
            (Sample::Points(cloud), Self::Cloud(view)) => view
                .apply(&cloud.positions, own, batch, out)
                .map_err(|e| DataError::Decode { name: name.into(), reason: e.to_string() }),
            (Sample::Segmented(image, map), Self::Scene(view)) => view.apply(image, map, own, out),
            (Sample::Image(image), Self::Train { .. } | Self::Eval { .. }) => self.apply(image, own, scratch, out),
            (other, Self::Scene(_)) => Err(DataError::NoMap { name: name.into(), kind: other.kind() }),
            (other, Self::Objects(_)) => Err(DataError::NoObjects { name: name.into(), kind: other.kind() }),
            (other, _) => Err(DataError::NoCloud { name: name.into(), kind: other.kind() }),
        };
        shown.map(|()| None)
    }

    /// Writes the `size` × `size` × 3 bytes of the result to `out`. Random choices come from `s`; evaluation makes
    /// none.
    ///
    /// # Errors
    /// An image or an `out` whose length is not that of its size.
    pub fn apply(&self, image: &Rgb8, s: &mut Stream, scratch: &mut Scratch, out: &mut [u8]) -> Result<(), DataError> {
        let Scratch { scaler, pixels: spare } = scratch;
        let failed = |reason| DataError::setting("an image to resize", reason, "pixels that match its size");
        match *self {
            Self::Cloud(_) => Err(DataError::setting("a sample", "an image", "a point cloud")),
            Self::Scene(_) => Err(DataError::setting("a sample", "an image", "an image with a segmentation map")),
            Self::Objects(_) => Err(DataError::setting("a sample", "an image", "an image with boxes")),
            Self::Eval { size, view } => {
                let crop = center_crop(image.width, image.height, size, view);
                scaler.across(image, crop, view.interpolation, size, out).map_err(failed)
            }
            Self::Train { size, augmentation } => {
                let crop = random_crop(image.width, image.height, augmentation.crop_scale, augmentation.crop_aspect, s);
                scaler.inside(image, crop, size, out).map_err(failed)?;
                augmentation.change(&mut Canvas { side: size as usize, pixels: out, spare }, s);
                Ok(())
            }
        }
    }
}

impl Augmentation {
    /// Everything after the crop.
    fn change(&self, c: &mut Canvas, s: &mut Stream) {
        if s.chance(self.hflip) {
            mirror(c.pixels, c.side);
        }
        if self.three_augment {
            three_augment(c, s);
        }
        match self.aa {
            Some(aa) => aa.apply(c, s),
            None if self.color_jitter > 0.0 => color_jitter(c, self.color_jitter, s),
            None => {}
        }
        if self.reprob > 0.0 && s.chance(self.reprob) {
            erase(c.pixels, c.side, s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::rand_augment::RandAugment;
    use crate::data::stream::StreamPurpose;

    fn apply(t: Transform, image: &Rgb8, sample: u64) -> Vec<u8> {
        let mut out = vec![0; t.bytes()];
        let mut stream = Stream::new(StreamPurpose::Augment, [1, 2, sample]);
        t.apply(image, &mut stream, &mut Scratch::default(), &mut out).unwrap();
        out
    }

    /// Red grows to the right, green downwards.
    fn ramp(width: u32, height: u32) -> Rgb8 {
        let at = |i: u32, n: u32| (i * 255 / (n - 1).max(1)) as u8;
        let rows = (0..height).flat_map(|y| (0..width).flat_map(move |x| [at(x, width), at(y, height), 9]));
        Rgb8 { width, height, pixels: rows.collect() }
    }

    #[test]
    fn the_whole_image_at_its_size_is_itself() {
        let image = ramp(32, 32);
        let same = apply(Transform::Eval { size: 32, view: TestView::crop(1.0) }, &image, 0);
        assert_eq!(same, image.pixels);
        for (w, h) in [(1, 1), (1, 700), (700, 3), (33, 47)] {
            apply(Transform::eval(24), &ramp(w, h), 0);
        }
        for (width, height) in [(1000, 10), (10, 1000), (1, 1)] {
            apply(Transform::train(16), &ramp(width, height), 0);
        }
    }

    #[test]
    fn shrinking_averages_instead_of_skipping() {
        // A checkerboard of single pixels becomes gray. Without antialiasing it would stay black and white.
        let pixels = (0..64 * 64).flat_map(|i| [if (i / 64 + i % 64) % 2 == 0 { 0 } else { 255 }; 3]).collect();
        let image = Rgb8 { width: 64, height: 64, pixels };
        let out = apply(Transform::Eval { size: 8, view: TestView::crop(1.0) }, &image, 0);
        assert!(out.iter().all(|&p| (120..136).contains(&p)), "{out:?}");
    }

    #[test]
    fn bad_settings_are_named() {
        let error = |t: Transform| t.check().unwrap_err().to_string();
        assert!(error(Transform::train(0)).starts_with("image size is 0"));
        assert!(error(Transform::Eval { size: 8, view: TestView::crop(1.5) }).contains("1.5"));
        let augmentation = Augmentation { crop_scale: (0.5, 0.2), ..Augmentation::PRETRAIN };
        assert!(error(Transform::Train { size: 8, augmentation }).contains("crop scale"));
    }

    proptest::proptest! {
        /// Any image through any augmentation: nothing panics, and equal streams give equal bytes, whatever the buffers
        /// held before.
        #[test]
        fn any_image_takes_any_augmentation(
            width in 1u32..70, height in 1u32..70, size in 1u32..40, sample: u64,
            operations in 0usize..9, which in 0usize..3,
            magnitude in 0.0f64..=10.0, increasing: bool, jitter in 0.0f64..=1.0, low in 0.001f64..1.0,
        ) {
            let aa = RandAugment { magnitude, operations, deviation: 3.0, increasing };
            let augmentation = Augmentation {
                crop_scale: (low, 1.0),
                aa: (which == 1).then_some(aa),
                three_augment: which == 2,
                color_jitter: jitter,
                reprob: 1.0,
                ..Augmentation::PRETRAIN
            };
            let (transform, image) = (Transform::Train { size, augmentation }, ramp(width, height));
            transform.check().unwrap();
            let mut scratch = Scratch::default();
            let [first, second] = [(); 2].map(|()| {
                let mut out = vec![99; (size * size * 3) as usize];
                let mut stream = Stream::new(StreamPurpose::Augment, [1, 2, sample]);
                transform.apply(&image, &mut stream, &mut scratch, &mut out).unwrap();
                (out, stream.unit())
            });
            assert_eq!(first, second);
        }
    }
}
