//! Data sets that a user of the library defines: a `Source` of segmentation maps, boxes or points works with
//! [`Dataset`] and the loader, without a change in src/data.

use std::sync::Arc;

use rowscan::data::{
    Cursor, DataError, Dataset, EpochOrder, Loader, LoaderOptions, ObjectBox, PointCloud, Rgb8, Sample,
    SegmentationMap, Source, Transform,
};

/// Sample 3 of every source is broken.
const BROKEN: usize = 3;
const COUNT: usize = 8;

fn names(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

/// An image in which every byte is `index`.
fn gray(index: usize) -> Rgb8 {
    Rgb8 { width: 4, height: 2, pixels: vec![index as u8; 4 * 2 * 3] }
}

fn torn(name: String) -> DataError {
    DataError::Decode { name, reason: "the file is torn".into() }
}

/// Semantic segmentation: an image and the class of every pixel.
struct Street {
    classes: Vec<String>,
}

impl Source for Street {
    fn len(&self) -> usize {
        COUNT
    }
    fn name(&self, index: usize) -> String {
        format!("street/{index}.png")
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        if index == BROKEN {
            return Err(torn(self.name(index)));
        }
        let mut map = SegmentationMap { width: 4, height: 2, classes: vec![0; 8] };
        map.classes[index % 8] = 1;
        map.classes[(index + 1) % 8] = SegmentationMap::IGNORED;
        Ok(Sample::Segmented(gray(index), map))
    }
}

/// Detection: sample i holds i boxes. `image` reads an image without its boxes.
struct Harbor {
    classes: Vec<String>,
}

impl Source for Harbor {
    fn len(&self) -> usize {
        COUNT
    }
    fn name(&self, index: usize) -> String {
        format!("harbor.json: image {index}")
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        // sample 3 has its right edge left of its left edge
        let right = if index == BROKEN { 0.0 } else { 3.5 };
        let object = |i| ObjectBox { left: 1.0, top: 0.5, right, bottom: 2.0, class: i % 2, ..ObjectBox::default() };
        Ok(Sample::Detected(self.image(index)?, (0..index as u32).map(object).collect()))
    }
    fn image(&self, index: usize) -> Result<Rgb8, DataError> {
        Ok(gray(index))
    }
}

/// Point clouds with one class each, and no images.
struct Chairs {
    classes: Vec<String>,
}

impl Source for Chairs {
    fn len(&self) -> usize {
        COUNT
    }
    fn name(&self, index: usize) -> String {
        format!("chairs/{index}.ply")
    }
    fn classes(&self) -> &[String] {
        &self.classes
    }
    fn label(&self, index: usize) -> Option<u32> {
        (index < COUNT).then_some(index as u32 % 2)
    }
    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        assert_ne!(index, BROKEN, "a reader that panics");
        let positions = (0..=index).map(|i| [i as f32, 0.5, -1.0]).collect();
        Ok(Sample::Points(PointCloud { positions, parts: vec![0; index + 1] }))
    }
}

fn street() -> Dataset {
    Dataset::new("street", Street { classes: names(&["road", "car"]) }).unwrap()
}

fn harbor() -> Dataset {
    Dataset::new("harbor", Harbor { classes: names(&["ship", "crane"]) }).unwrap()
}

fn chairs() -> Dataset {
    Dataset::new("chairs", Chairs { classes: names(&["stool", "throne"]) }).unwrap()
}

#[test]
fn samples_arrive_with_all_that_belongs_to_them() {
    let Sample::Segmented(image, map) = street().sample(5).unwrap() else { panic!("not segmented") };
    assert_eq!((image, map.classes), (gray(5), vec![0, 0, 0, 0, 0, 1, SegmentationMap::IGNORED, 0]));
    let Sample::Detected(image, boxes) = harbor().sample(2).unwrap() else { panic!("not detected") };
    assert_eq!((image, boxes.len(), boxes[1].class, boxes[1].right), (gray(2), 2, 1, 3.5));
    let Sample::Detected(_, boxes) = harbor().sample(0).unwrap() else { panic!("not detected") };
    assert!(boxes.is_empty());
    let Sample::Points(cloud) = chairs().sample(1).unwrap() else { panic!("no points") };
    assert_eq!((cloud.positions, chairs().label(1)), (vec![[0.0, 0.5, -1.0], [1.0, 0.5, -1.0]], Some(1)));
}

#[test]
fn broken_samples_are_named_replaced_and_counted() {
    for (set, says) in [
        (street(), "street/3.png: the file is torn"),
        (harbor(), "harbor.json: image 3: box 0 is [1.0, 0.5, 0.0, 2.0], expected left ≤ right"),
        (chairs(), "chairs/3.ply: the decoder panicked"),
    ] {
        let error = set.sample(BROKEN).unwrap_err().to_string();
        assert!(error.starts_with(says), "{error}");
        for _ in 0..2 {
            let (found, sample) = set.good_sample(BROKEN).unwrap();
            assert_eq!((found, sample), (BROKEN + 1, set.sample(BROKEN + 1).unwrap()));
        }
        assert_eq!((set.skipped(), set.len()), (1, COUNT));
        let past = set.sample(COUNT).unwrap_err().to_string();
        assert!(past.contains("sample index is 8, expected below 8"), "{past}");
    }
}

#[test]
fn samples_that_contradict_themselves_are_broken() {
    /// A source of this one sample.
    struct One(Sample, Vec<String>);
    impl Source for One {
        fn len(&self) -> usize {
            1
        }
        fn name(&self, _: usize) -> String {
            "one".into()
        }
        fn classes(&self) -> &[String] {
            &self.1
        }
        fn sample(&self, _: usize) -> Result<Sample, DataError> {
            Ok(self.0.clone())
        }
    }
    let map = |width, classes: &[u16]| {
        Sample::Segmented(gray(0), SegmentationMap { width, height: 2, classes: classes.to_vec() })
    };
    let boxed = |change: fn(&mut ObjectBox)| {
        let mut object = ObjectBox { right: 1.0, bottom: 1.0, ..ObjectBox::default() };
        change(&mut object);
        Sample::Detected(gray(0), vec![object])
    };
    let points = |positions: &[[f32; 3]], parts: &[u16]| {
        Sample::Points(PointCloud { positions: positions.to_vec(), parts: parts.to_vec() })
    };
    for (sample, says) in [
        (Sample::Image(Rgb8 { width: 4, height: 2, pixels: vec![0; 8] }), "8 bytes for 4 × 2 pixels"),
        (map(3, &[0; 6]), "a segmentation map of 3 × 2 pixels, its image has 4 × 2"),
        (map(4, &[0; 7]), "a segmentation map of 7 values for 4 × 2 pixels"),
        (map(4, &[2; 8]), "a pixel of class 2, the set has 2 classes"),
        (boxed(|object| object.left = f64::NAN), "box 0 is [NaN"),
        (boxed(|object| object.class = 2), "box 0 has class 2, the set has 2 classes"),
        (points(&[], &[]), "a point cloud without points"),
        (points(&[[0.0; 3]], &[0, 0]), "1 points, but 2 parts"),
        (points(&[[0.0, f32::INFINITY, 0.0]], &[]), "point 0 is [0.0, inf, 0.0]"),
    ] {
        let set = Dataset::new("one", One(sample, names(&["a", "b"]))).unwrap();
        let error = set.sample(0).unwrap_err().to_string();
        assert!(error.starts_with("one: ") && error.contains(says), "{error}");
        assert!(matches!(set.good_sample(0), Err(DataError::AllBroken { .. })));
    }
}

#[test]
fn every_set_can_be_ordered_cut_down_and_renumbered() {
    for set in [street(), harbor(), chairs()] {
        let order = EpochOrder::train(set.len(), 1, 4, 7);
        let mut visited: Vec<_> = order.order(0).iter().map(|visit| set.sample_name(visit.sample)).collect();
        assert_ne!(order.order(0), order.order(1));
        visited.sort();
        assert_eq!(visited, (0..COUNT).map(|i| set.sample_name(i)).collect::<Vec<_>>());
        // `limited(4)` of eight samples takes every other one
        let (fifth, spec) = (set.sample(4).unwrap(), set.spec().to_owned());
        let half = set.limited(4).unwrap();
        assert_eq!((half.len(), half.sample(2).unwrap(), half.spec()), (4, fifth, &*spec));
        let error = half.limited(5).unwrap_err().to_string();
        assert!(error.contains("5, expected 0 for all, or 1 to 4"), "{error}");
    }
    let set = street().numbered_as(&names(&["car", "tree", "road"])).unwrap();
    let Sample::Segmented(_, map) = set.sample(0).unwrap() else { panic!("not segmented") };
    assert_eq!(map.classes[..3], [0, SegmentationMap::IGNORED, 2]);
    let set = harbor().numbered_as(&names(&["quay", "crane", "ship"])).unwrap();
    let Sample::Detected(_, boxes) = set.sample(2).unwrap() else { panic!("not detected") };
    assert_eq!((boxes[0].class, boxes[1].class), (2, 1));
    assert_eq!(chairs().numbered_as(&names(&["throne", "stool"])).unwrap().label(0), Some(1));
}

#[test]
fn images_are_trained_on_without_their_masks_and_points_are_refused() {
    let options = LoaderOptions { threads: 1, ..LoaderOptions::new(4, Transform::train(8)) };
    for set in [street(), harbor()] {
        let set = Arc::new(set);
        let batch = Loader::train(set.clone(), &options, Cursor::default()).unwrap().next().unwrap().unwrap();
        let bytes = 8 * 8 * 3;
        assert!(batch.images.chunks(bytes).zip(&batch.samples).all(|(image, &i)| image.iter().all(|v| *v == i as u8)));
    }
    let set = Arc::new(chairs());
    let error = Loader::train(set, &options, Cursor::default()).unwrap().next().unwrap().unwrap_err();
    assert!(matches!(error, DataError::NoImage { .. }), "{error}");
    let text = error.to_string();
    assert!(text.contains("chairs/") && text.ends_with("is a point cloud, expected an image"), "{text}");
    // a point cloud is not a broken image: no sample is skipped in search of an image
    let set = chairs();
    assert!(matches!(set.good_image(0), Err(DataError::NoImage { .. })));
    assert_eq!(set.skipped(), 0);
}

#[test]
fn a_source_without_samples_is_refused() {
    struct Nothing;
    impl Source for Nothing {
        fn len(&self) -> usize {
            0
        }
        fn name(&self, index: usize) -> String {
            index.to_string()
        }
        fn sample(&self, _: usize) -> Result<Sample, DataError> {
            Ok(gray(0).into())
        }
    }
    let error = Dataset::new("nothing", Nothing).unwrap_err().to_string();
    assert!(error.contains("the number of samples is 0, expected at least 1 (nothing)"), "{error}");
}
