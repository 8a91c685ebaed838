//! Images that the caller has decoded, such as those that a browser page was given.
use super::sample::{Rgb8, Sample};
use super::source::Source;
use crate::error::DataError;

/// Images in the order they were given, without labels.
pub(crate) struct Memory {
    name: String,
    images: Vec<Rgb8>,
}

impl Memory {
    /// Refuses an image that has not as many pixels as its size says.
    pub fn new(name: &str, images: Vec<Rgb8>) -> Result<Self, DataError> {
        if let Some(got) = images.iter().find_map(Rgb8::fault) {
            return Err(DataError::setting("the size of an image", got, "three bytes per pixel, at least one pixel"));
        }
        Ok(Self { name: name.to_owned(), images })
    }
}

impl Source for Memory {
    fn len(&self) -> usize {
        self.images.len()
    }

    fn classes(&self) -> &[String] {
        &[]
    }

    fn label(&self, _: usize) -> Option<u32> {
        None
    }

    fn name(&self, index: usize) -> String {
        format!("{}, image {index}", self.name)
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        Ok(self.images[index].clone().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::Dataset;

    #[test]
    fn given_images_are_checked_and_given_back() {
        let image = |side: u32, bytes: usize| Rgb8 { width: side, height: side, pixels: vec![7; bytes] };
        let set = Dataset::from_images("photos", vec![image(2, 12), image(1, 3)]).unwrap();
        assert_eq!((set.len(), set.label(0), set.image(1).unwrap()), (2, None, image(1, 3)));
        assert_eq!(set.sample_name(1), "photos, image 1");
        for (bad, hint) in [
            (vec![], "is 0, expected at least 1"),
            (vec![image(2, 12), image(2, 11)], "11 bytes for 2 × 2 pixels"),
            (vec![image(0, 0)], "at least one pixel"),
        ] {
            let error = Dataset::from_images("photos", bad).unwrap_err().to_string();
            assert!(error.contains(hint), "{error}");
        }
    }
}
