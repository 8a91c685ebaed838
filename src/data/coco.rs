//! COCO's JSON: images, categories and annotations of instances, and results of a detector.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::masks::{ObjectMask, RunLengths};
use crate::error::{Error, Result};

/// A file of annotations: `instances_val2017.json`, and any file of the same form. Fields that are not named here are
/// passed over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CocoFile {
    /// The images.
    pub images: Vec<CocoImage>,
    /// The categories of objects.
    pub categories: Vec<CocoCategory>,
    /// The objects.
    #[serde(default)]
    pub annotations: Vec<CocoAnnotation>,
}

/// An image of a [`CocoFile`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CocoImage {
    /// Its number.
    pub id: u64,
    /// Name of its file, relative to the folder of images.
    pub file_name: String,
    /// Rows.
    pub height: u32,
    /// Columns.
    pub width: u32,
}

/// A category of a [`CocoFile`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CocoCategory {
    /// Its number. Numbers may have gaps.
    pub id: u64,
    /// Its name.
    #[serde(default)]
    pub name: String,
}

/// An object of a [`CocoFile`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CocoAnnotation {
    /// Its number.
    #[serde(default)]
    pub id: u64,
    /// Number of its image.
    pub image_id: u64,
    /// Number of its category.
    pub category_id: u64,
    /// Left, top, width, height in pixels.
    pub bbox: [f64; 4],
    /// Pixels, by which objects are small, medium or large.
    #[serde(default)]
    pub area: f64,
    /// 1 for a group of objects that were not told apart. A detector is neither rewarded nor punished for what it finds
    /// there.
    #[serde(default)]
    pub iscrowd: u8,
    /// Its mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segmentation: Option<CocoSegmentation>,
}

/// What a detector found: an element of a file of results.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CocoDetection {
    /// Number of the image.
    pub image_id: u64,
    /// Number of the category.
    pub category_id: u64,
    /// Left, top, width, height in pixels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bbox: Option<[f64; 4]>,
    /// How sure the detector is: larger is surer.
    pub score: f64,
    /// Its mask.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub segmentation: Option<CocoSegmentation>,
}

/// A mask in any of COCO's forms.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CocoSegmentation {
    /// Polygons x₀, y₀, x₁, y₁, …, whose union is the mask.
    Polygons(Vec<Vec<f64>>),
    /// Run lengths.
    Runs {
        /// Height and width of the image.
        size: [u32; 2],
        /// The runs.
        counts: CocoCounts,
    },
}

/// Run lengths in either of COCO's forms.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum CocoCounts {
    /// Compressed text.
    Text(String),
    /// Numbers.
    Numbers(Vec<u32>),
}

impl CocoFile {
    /// Reads a file of annotations and checks that its parts belong together.
    ///
    /// # Errors
    /// Text that is no such JSON, with line and column; a number of an image, category or annotation that occurs twice;
    /// an annotation of an image or category that the file does not have; a box or area that is no number.
    pub fn parse(text: &str) -> Result<Self> {
        let broken = |e: serde_json::Error| Error::argument("COCO annotations", e, "images, categories, annotations");
        let file: Self = serde_json::from_str(text).map_err(broken)?;
        file.check()?;
        Ok(file)
    }

    fn check(&self) -> Result<()> {
        let images = unique("id of an image", self.images.iter().map(|image| image.id))?;
        let categories = unique("id of a category", self.categories.iter().map(|category| category.id))?;
        let mut names = BTreeMap::new();
        for CocoCategory { id, name } in &self.categories {
            let what = || format!("name of category {id}");
            if name.trim().is_empty() {
                return Err(Error::argument(what(), "none", "a name, as in {\"id\": 1, \"name\": \"cat\"}: add it"));
            }
            if let Some(other) = names.insert(name.as_str(), id) {
                let expected = format!("another than category {other} has: rename one, or give both one id");
                return Err(Error::argument(what(), format!("{name:?}"), expected));
            }
        }
        for object in &self.annotations {
            let of = |what: &str| format!("{what} of annotation {}", object.id);
            if images.binary_search(&object.image_id).is_err() {
                return Err(Error::argument(of("image_id"), object.image_id, "the id of an image of the file"));
            }
            if categories.binary_search(&object.category_id).is_err() {
                return Err(Error::argument(of("category_id"), object.category_id, "the id of a category of the file"));
            }
            if object.bbox.iter().chain([&object.area]).any(|v| !v.is_finite()) {
                return Err(Error::argument(
                    of("bbox"),
                    format!("{:?}", object.bbox),
                    "four finite numbers, and an area",
                ));
            }
        }
        Ok(())
    }

    /// The names of the classes, by rank of their category's number.
    pub fn classes(&self) -> Vec<&CocoCategory> {
        let mut categories: Vec<&CocoCategory> = self.categories.iter().collect();
        categories.sort_by_key(|category| category.id);
        categories
    }
}

/// The numbers in ascending order.
fn unique(what: &'static str, ids: impl Iterator<Item = u64>) -> Result<Vec<u64>> {
    let mut ids: Vec<u64> = ids.collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::argument(what, format!("{} twice", pair[0]), "each once")),
        None => Ok(ids),
    }
}

impl CocoSegmentation {
    /// The mask in an image of this size, in the form that it has. Polygons of fewer than three corners or of an odd
    /// number of coordinates are left out; `None` if none is left.
    ///
    /// # Errors
    /// Runs that do not fit the image.
    pub fn object_mask(&self, height: u32, width: u32) -> Result<Option<ObjectMask>> {
        match self {
            Self::Polygons(polygons) => {
                let whole = polygons.iter().filter(|corners| corners.len() >= 6 && corners.len() % 2 == 0);
                let whole: Vec<Vec<f64>> = whole.cloned().collect();
                Ok((!whole.is_empty()).then_some(ObjectMask::Polygons(whole)))
            }
            Self::Runs { .. } => Ok(Some(ObjectMask::Runs(self.mask(height, width)?))),
        }
    }

    /// The mask in an image of this size. Polygons of fewer than three corners or of an odd number of coordinates are
    /// left out.
    ///
    /// # Errors
    /// Runs that do not fit the image, coordinates that are no numbers.
    pub fn mask(&self, height: u32, width: u32) -> Result<RunLengths> {
        match self {
            Self::Polygons(_) => {
                let whole = self.object_mask(height, width)?;
                whole.unwrap_or(ObjectMask::Polygons(vec![])).runs(height, width)
            }
            Self::Runs { size, .. } if *size != [height, width] => {
                let got = format!("{} × {}", size[0], size[1]);
                Err(Error::argument("size of a mask", got, format!("{height} × {width}, the image's")))
            }
            Self::Runs { counts: CocoCounts::Text(text), .. } => RunLengths::of_text(height, width, text),
            Self::Runs { counts: CocoCounts::Numbers(runs), .. } => RunLengths::new(height, width, runs.clone()),
        }
    }
}

impl From<&RunLengths> for CocoSegmentation {
    /// Compressed text.
    fn from(mask: &RunLengths) -> Self {
        Self::Runs { size: [mask.height(), mask.width()], counts: CocoCounts::Text(mask.text()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{"info": {}, "images": [{"id": 7, "file_name": "a.jpg", "height": 4, "width": 4}],
        "categories": [{"id": 90, "name": "b"}, {"id": 3, "name": "a", "supercategory": "x"}],
        "annotations": [{"id": 1, "image_id": 7, "category_id": 3, "bbox": [0, 0, 2, 2], "area": 4, "iscrowd": 0,
            "segmentation": [[0, 0, 0, 2, 2, 2, 2, 0], [1, 1]]}]}"#;

    #[test]
    fn a_file_is_read_and_its_masks_are_drawn() {
        let file = CocoFile::parse(FILE).unwrap();
        assert_eq!(file.classes().iter().map(|c| c.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
        let mask = file.annotations[0].segmentation.as_ref().unwrap().mask(4, 4).unwrap();
        assert_eq!(mask.rows(), [1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let again = CocoSegmentation::from(&mask);
        assert_eq!(again.mask(4, 4).unwrap(), mask);
        assert!(again.mask(4, 5).unwrap_err().to_string().contains("4 × 4, expected 4 × 5"));
        let runs: CocoSegmentation = serde_json::from_str(r#"{"size": [4, 4], "counts": [0, 2, 2, 2, 10]}"#).unwrap();
        assert_eq!(runs.mask(4, 4).unwrap(), mask);
    }

    #[test]
    fn what_does_not_belong_together_is_named() {
        for (from, to, what) in [
            ("\"category_id\": 3", "\"category_id\": 4", "category_id of annotation 1: got 4"),
            ("\"image_id\": 7", "\"image_id\": 8", "image_id of annotation 1: got 8"),
            ("\"id\": 90", "\"id\": 3", "id of a category: got 3 twice"),
            ("\"name\": \"b\"", "\"nom\": \"b\"", "name of category 90: got none, expected a name"),
            ("\"name\": \"b\"", "\"name\": \"a\"", "name of category 3: got \"a\", expected another than category 90"),
            ("[0, 0, 2, 2]", "[0, 0, 2]", "line 3"),
        ] {
            let e = CocoFile::parse(&FILE.replace(from, to)).unwrap_err().to_string();
            assert!(e.contains(what), "{e}");
        }
    }
}
