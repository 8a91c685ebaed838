//! Images with the objects in them as COCO has them: a JSON file of annotations, and a folder of images.

use super::coco_files::{beside, folder_of, in_folder};
use super::decode::decode_upright;
use super::layout::{Found, Layout, Place};
use super::tree::Tree;
use crate::data::coco::{CocoFile, CocoImage, CocoSegmentation};
use crate::data::masks::ObjectMask;
use crate::data::sample::{ObjectBox, Rgb8, Sample};
use crate::data::source::{Annotations, Source};
use crate::data::split::Split;
use crate::error::DataError;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(crate) const LAYOUT: Layout = Layout {
    name: "COCO",
    help: "annotations/instances_train2017.json and train2017/, and the same of val2017; or any .json of that form, \
           with its images beside it or in images/",
    open,
};

/// Pixels by which a box may leave its image: annotators round.
const SLACK: f64 = 1.0;

fn open(place: &Place, split: Split) -> Found {
    let tree = Tree::disk();
    if !place.is_folder() && place.is_file_named(|name| name.ends_with(".json")) {
        return Ok(Some(Box::new(Coco::read(&tree, &beside(place.path), split, place.path)?)));
    }
    if place.is_folder() { in_tree(&tree, place.path, split) } else { Ok(None) }
}

/// The set in a folder, on a disk or in an archive.
pub(super) fn in_tree(tree: &Tree, root: &Path, split: Split) -> Found {
    let files = in_folder(tree, root);
    if files.is_empty() {
        return Ok(None);
    }
    Ok(Some(Box::new(Coco::read(tree, &files, split, root)?)))
}

/// The images of a file of annotations, and the objects in them.
struct Coco {
    json: PathBuf,
    images: PathBuf,
    file: Arc<CocoFile>,
    /// The image of each sample.
    order: Vec<usize>,
    /// The objects of each image, but for those that have no place in it.
    objects: Vec<Vec<usize>>,
    classes: Vec<String>,
    /// Class of each category.
    class_of: BTreeMap<u64, u32>,
    /// Whether masks are pixels: some object that is no crowd has run lengths, so that all are learned in one form.
    pixels: bool,
    files: BTreeMap<&'static str, PathBuf>,
    tree: Tree,
}

impl Coco {
    fn read(
        tree: &Tree, files: &BTreeMap<&'static str, PathBuf>, split: Split, root: &Path,
    ) -> Result<Self, DataError> {
        let Some(json) = files.get(split.name()) else {
            let others: Vec<String> = files.values().map(|path| path.display().to_string()).collect();
            let found = format!("found only {}", others.join(" and "));
            return Err(DataError::NoSplit { path: root.to_owned(), split: split.name(), found });
        };
        let missing = || DataError::io("read", json)(std::io::ErrorKind::NotFound.into());
        let text = tree.text(json)?.ok_or_else(missing)?;
        let file = CocoFile::parse(&text).map_err(|e| DataError::format(json, e.to_string()))?;
        if file.images.is_empty() || file.categories.is_empty() {
            let got = format!("{} images and {} categories", file.images.len(), file.categories.len());
            return Err(DataError::format(json, format!("{got}, expected at least one of each")));
        }
        let images = folder_of(tree, json, root, &file)?;
        let place: BTreeMap<u64, usize> = file.images.iter().map(|image| image.id).zip(0..).collect();
        let mut objects = vec![Vec::new(); file.images.len()];
        let (mut outside, mut beyond) = (Vec::new(), Vec::new());
        for (i, object) in file.annotations.iter().enumerate() {
            let at = place[&object.image_id];
            let CocoImage { width, height, .. } = file.images[at];
            let ([x, y, w, h], [width, height]) = (object.bbox, [width, height].map(f64::from));
            if x >= width || y >= height || x + w <= 0.0 || y + h <= 0.0 || w <= 0.0 || h <= 0.0 {
                outside.push(i);
                continue;
            }
            if x < -SLACK || y < -SLACK || x + w > width + SLACK || y + h > height + SLACK {
                beyond.push(i);
            }
            objects[at].push(i);
        }
        let told = |which: &[usize], what: &str| {
            let Some(first) = which.first().map(|i| &file.annotations[*i]) else { return };
            let CocoImage { width, height, file_name, .. } = &file.images[place[&first.image_id]];
            tracing::warn!(
                "{}: {} boxes {what}; the first is annotation {}: {:?} in {file_name}, expected [left, top, width, \
                 height] in {width} × {height} pixels",
                json.display(),
                which.len(),
                first.id,
                first.bbox
            );
        };
        told(&outside, "enclose nothing of their image and are left out");
        told(&beyond, "are partly outside of their image and are cut off");
        let whole = |i: &usize| {
            let object = &file.annotations[*i];
            let drawn = object.segmentation.as_ref().is_none_or(has_pixels);
            object.iscrowd == 0 && drawn
        };
        let mut order: Vec<usize> = (0..file.images.len()).collect();
        if split == Split::Train {
            order.retain(|image| objects[*image].iter().any(whole));
            let without = file.images.len() - order.len();
            if without > 0 {
                tracing::info!("{}: {without} images without objects are not trained on", json.display());
            }
            if order.is_empty() {
                let message = format!("{without} images, none with an object that is no crowd: nothing to learn from");
                return Err(DataError::format(json, message));
            }
        }
        order.sort_by_key(|image| file.images[*image].id);
        let is_runs = |mask: &CocoSegmentation| matches!(mask, CocoSegmentation::Runs { .. });
        let kinds = file.annotations.iter().filter(|object| object.iscrowd == 0);
        let pixels = kinds.filter_map(|object| object.segmentation.as_ref()).any(is_runs);
        let categories = file.classes();
        let classes = categories.iter().map(|category| category.name.clone()).collect();
        let class_of = categories.iter().map(|category| category.id).zip(0..).collect();
        Ok(Self {
            json: json.clone(),
            images,
            order,
            objects,
            classes,
            class_of,
            pixels,
            files: files.clone(),
            file: file.into(),
            tree: tree.clone(),
        })
    }

    fn at(&self, index: usize) -> &CocoImage {
        &self.file.images[self.order[index]]
    }
}

/// Whether a mask has a polygon of three corners, or is of another form.
fn has_pixels(mask: &CocoSegmentation) -> bool {
    match mask {
        CocoSegmentation::Polygons(parts) => parts.iter().any(|part| part.len() >= 6 && part.len() % 2 == 0),
        CocoSegmentation::Runs { .. } => true,
    }
}

impl Source for Coco {
    fn len(&self) -> usize {
        self.order.len()
    }

    fn name(&self, index: usize) -> String {
        self.images.join(&self.at(index).file_name).display().to_string()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn test_split(&self) -> Option<Result<Box<dyn Source>, DataError>> {
        let set = Self::read(&self.tree, &self.files, Split::Test, &self.json);
        Some(set.map(|set| Box::new(set) as Box<dyn Source>))
    }

    fn annotations(&self) -> Option<Annotations> {
        let images: Vec<CocoImage> = (0..self.len()).map(|i| self.at(i).clone()).collect();
        let of_image = |image: &usize| self.objects[*image].iter().map(|i| self.file.annotations[*i].clone());
        let annotations = self.order.iter().flat_map(of_image).collect();
        let categories = self.categories()?;
        let file = CocoFile { images, categories: self.file.categories.clone(), annotations };
        Some(Annotations { file, categories })
    }

    fn categories(&self) -> Option<Vec<Option<u64>>> {
        Some(self.file.classes().iter().map(|category| Some(category.id)).collect())
    }

    fn unlabeled(&self) -> Option<String> {
        Some("its images have objects, not a class; train on them with `rowscan detect`".into())
    }

    fn image(&self, index: usize) -> Result<Rgb8, DataError> {
        let (path, wanted) = (self.images.join(&self.at(index).file_name), self.at(index));
        let name = path.display().to_string();
        let image = decode_upright(&name, &self.tree.read(&path)?)?;
        if (image.width, image.height) != (wanted.width, wanted.height) {
            let (got, expected) = (image.width, image.height);
            let reason = format!(
                "is {got} × {expected} pixels, expected {} × {} as in {}: its boxes would not fit",
                wanted.width,
                wanted.height,
                self.json.display()
            );
            return Err(DataError::Decode { name, reason });
        }
        Ok(image)
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let image = self.image(index)?;
        let (width, height) = (image.width, image.height);
        let mut objects = Vec::new();
        for object in self.objects[self.order[index]].iter().map(|i| &self.file.annotations[*i]) {
            let broken = |e: crate::error::Error| DataError::Decode {
                name: self.name(index),
                reason: format!("annotation {} of {}: {e}", object.id, self.json.display()),
            };
            let mask = match &object.segmentation {
                None => None,
                Some(mask) => match mask.object_mask(height, width).map_err(broken)? {
                    None => continue, // no polygon is left
                    Some(ObjectMask::Polygons(parts)) if self.pixels => {
                        let runs = ObjectMask::Polygons(parts).runs(height, width).map_err(broken)?;
                        Some(ObjectMask::Runs(runs))
                    }
                    mask => mask,
                },
            };
            let [x, y, w, h] = object.bbox;
            let within = |v: f64, most: u32| v.clamp(0.0, f64::from(most));
            objects.push(ObjectBox {
                left: within(x, width),
                top: within(y, height),
                right: within(x + w, width),
                bottom: within(y + h, height),
                class: self.class_of[&object.category_id],
                crowd: object.iscrowd != 0,
                mask,
            });
        }
        Ok(Sample::Detected(image, objects))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::Dataset;
    use crate::data::files::coco_files::FEW;
    use crate::data::testing::{png, put};

    /// Two images of 20 × 10 pixels, one without objects, and a third whose file is missing.
    const TRAIN: &str = r#"{"images": [
        {"id": 9, "file_name": "b.png", "width": 20, "height": 10},
        {"id": 4, "file_name": "a.png", "width": 20, "height": 10},
        {"id": 7, "file_name": "none.png", "width": 20, "height": 10},
        {"id": 12, "file_name": "gone.png", "width": 20, "height": 10}],
        "categories": [{"id": 90, "name": "cup"}, {"id": 3, "name": "cat"}],
        "annotations": [
        {"id": 1, "image_id": 9, "category_id": 3, "bbox": [2, 1, 4, 5], "area": 20, "iscrowd": 0,
            "segmentation": [[2, 1, 6, 1, 6, 6, 2, 6], [1, 1, 2, 2]]},
        {"id": 2, "image_id": 9, "category_id": 90, "bbox": [0, 0, 20, 10], "area": 50, "iscrowd": 1,
            "segmentation": {"size": [10, 20], "counts": [0, 50, 150]}},
        {"id": 3, "image_id": 4, "category_id": 90, "bbox": [15, 5, 20, 5], "area": 25, "iscrowd": 0,
            "segmentation": [[15, 5, 20, 5, 20, 10, 15, 10]]},
        {"id": 4, "image_id": 4, "category_id": 90, "bbox": [30, 5, 5, 5], "area": 25, "iscrowd": 0},
        {"id": 5, "image_id": 12, "category_id": 3, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0},
        {"id": 6, "image_id": 4, "category_id": 3, "bbox": [1, 1, 5, 5], "area": 25, "iscrowd": 0,
            "segmentation": [[1, 1]]}]}"#;

    fn objects(set: &Dataset, i: usize) -> Vec<ObjectBox> {
        let Sample::Detected(_, objects) = set.sample(i).unwrap() else { panic!("no objects") };
        objects
    }

    #[test]
    fn a_folder_like_coco() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        put(&at("annotations/instances_train2017.json"), TRAIN.as_bytes());
        put(&at("annotations/captions_train2017.json"), b"{}");
        for name in ["a", "b", "none"] {
            put(&at(&format!("train2017/{name}.png")), &png(20, 10, [1, 2, 3]));
        }
        let spec = dir.path().to_str().unwrap();
        let set = Dataset::open(spec, Split::Train).unwrap();
        assert_eq!((set.len(), set.classes()), (3, &["cat", "cup"].map(String::from)[..]), "none.png has no objects");
        let first = objects(&set, 0); // of image 4: one box is outside, one has no polygon
        assert_eq!(first.len(), 1);
        assert_eq!((first[0].corners(), first[0].class), ([15.0, 5.0, 20.0, 10.0], 1), "cut off at the border");
        let second = objects(&set, 1);
        assert_eq!((second[0].class, second[0].crowd, second[1].crowd), (0, false, true));
        assert_eq!(second[0].mask, Some(ObjectMask::Polygons(vec![vec![2.0, 1.0, 6.0, 1.0, 6.0, 6.0, 2.0, 6.0]])));
        let error = set.sample(2).unwrap_err().to_string();
        assert!(error.contains("gone.png"), "{error}");
        assert_eq!(set.good_objects(2).unwrap().0, 0);
        let Annotations { file, categories } = set.annotations().unwrap();
        assert_eq!(file.images.iter().map(|image| image.id).collect::<Vec<_>>(), [4, 9, 12]);
        assert_eq!(categories, [Some(3), Some(90)]);
        let half = set.limited(1).unwrap().annotations().unwrap();
        assert!(half.file.annotations.iter().all(|object| object.image_id == 4), "{half:?}");
        let other = set.numbered_as(&["cup", "dog", "cat"].map(String::from)).unwrap();
        assert_eq!(other.annotations().unwrap().categories, [Some(90), None, Some(3)]);
        assert_eq!(objects(&other, 1)[0].class, 2);
        let error = Dataset::open(spec, Split::Test).unwrap_err().to_string();
        assert!(error.contains("no test split") && error.contains("instances_train2017.json"), "{error}");
    }

    #[test]
    fn any_file_of_that_form() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        // a run length of an object makes all masks pixels
        put(&at("set_train.json"), TRAIN.replace("\"iscrowd\": 1", "\"iscrowd\": 0").as_bytes());
        put(&at("set_val.json"), TRAIN.as_bytes());
        for name in ["a", "b", "none", "gone"] {
            put(&at(&format!("images/{name}.png")), &png(20, 10, [1, 2, 3]));
        }
        let set = Dataset::open(at("set_train.json").to_str().unwrap(), Split::Train).unwrap();
        let second = objects(&set, 1);
        let Some(ObjectMask::Runs(runs)) = &second[0].mask else { panic!("{second:?}") };
        assert_eq!(runs.area(), 20);
        let test = set.test_split().unwrap();
        assert_eq!(test.len(), 4, "a test counts images without objects too");
        put(&at("images/a.png"), &png(10, 10, [1, 2, 3]));
        let error = test.sample(0).unwrap_err().to_string();
        assert!(error.contains("is 10 × 10 pixels, expected 20 × 10"), "{error}");
    }

    #[test]
    fn annotations_are_found_where_tools_write_them() {
        for (json, images) in [
            ("_annotations.coco.json", ""),
            ("Annotations_2017/any_train.json", "images"),
            ("labels/instances_train.json", "images"),
            ("train/instancesonly_filtered_train.json", "train/images"),
            ("train/_annotations.coco.json", "train"), // beside images
            ("train2017/instances_train2017.json", "train2017"),
        ] {
            let dir = tempfile::tempdir().unwrap();
            put(&dir.path().join(json), TRAIN.as_bytes());
            for i in 0..2 * FEW {
                put(&dir.path().join(images).join(format!("{i}.png")), b"");
            }
            put(&dir.path().join(images).join("b.png"), &png(20, 10, [1, 2, 3]));
            let set =
                Dataset::open(dir.path().to_str().unwrap(), Split::Train).unwrap_or_else(|e| panic!("{json}: {e}"));
            assert_eq!(objects(&set, 1).len(), 2, "{json}");
        }
    }

    /// What lies among images is not found, because images are not listed.
    #[test]
    fn folders_of_classes_are_not_listed() {
        let entry = |at: &Path, i: usize| put(&at.join(format!("{i}.png")), &png(2, 2, [1, 2, 3]));
        let dir = tempfile::tempdir().unwrap();
        let (many_images, many_classes) = (dir.path().join("images"), dir.path().join("classes"));
        (0..FEW).for_each(|i| entry(&many_images.join("a"), i));
        put(&many_images.join("a/instances_of_a.json"), b"{}");
        entry(&many_images.join("b"), 0);
        (0..=FEW).for_each(|i| entry(&many_classes.join(i.to_string()), i));
        put(&many_classes.join("0/annotations.json"), b"{}");
        for (set, images, classes) in [(many_images, FEW + 1, 2), (many_classes, FEW + 1, FEW + 1)] {
            let set = Dataset::open(set.to_str().unwrap(), Split::Train).unwrap();
            assert_eq!((set.len(), set.classes().len()), (images, classes));
        }
    }

    #[test]
    fn what_is_wrong_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let json = dir.path().join("a.json");
        put(&dir.path().join("a.png"), &png(20, 10, [1, 2, 3]));
        let error = |text: &str| {
            put(&json, text.as_bytes());
            Dataset::open(json.to_str().unwrap(), Split::Train).unwrap_err().to_string()
        };
        for (text, words) in [
            (TRAIN[..300].to_owned(), &["a.json", "line"][..]),
            (TRAIN.replace("\"name\": \"cup\"", "\"id2\": 1"), &["a.json", "name of category 90", "add it"]),
            (TRAIN.replace("\"category_id\": 3", "\"category_id\": 5"), &["category_id of annotation 1: got 5"]),
            (TRAIN.replace(".png", ".jpg"), &["none of its images is found, such as b.jpg", "images"]),
            (TRAIN.replace("\"iscrowd\": 0", "\"iscrowd\": 1"), &["none with an object that is no crowd"]),
            (r#"{"images": [], "categories": []}"#.into(), &["0 images and 0 categories"]),
        ] {
            let error = error(&text);
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }
}
