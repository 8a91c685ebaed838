//! Class names: checks that a data set has those that a model expects, and numbers them as the model does.
use super::cursor::Runs;
use super::imagenet;
use super::sample::{Rgb8, Sample};
use super::source::{Annotations, Source};
use crate::data::dataset::Dataset;
use crate::error::DataError;
use std::collections::BTreeMap;
use std::sync::Arc;

impl Dataset {
    /// The class names.
    ///
    /// # Errors
    /// [`DataError::NoLabels`].
    pub fn require_labels(&self) -> Result<&[String], DataError> {
        if self.classes().is_empty() {
            let name = match self.split {
                Some(split) => format!("the {split} split of {}", self.spec()),
                None => self.spec().to_owned(),
            };
            let why = self.source.unlabeled().unwrap_or_else(|| "nothing says which classes its images have".into());
            return Err(DataError::NoLabels { name, why });
        }
        Ok(self.classes())
    }

    /// The class names, after a check that there are `count`: one for each output of a classifier.
    ///
    /// # Errors
    /// [`DataError::NoLabels`]; [`DataError::Classes`] with both counts.
    pub fn require_classes(&self, count: usize) -> Result<&[String], DataError> {
        let classes = self.require_labels()?;
        if classes.len() != count {
            let reason = format!("it has {} ({}), the model has {count}", classes.len(), some(classes));
            return Err(DataError::Classes { name: self.spec().to_owned(), reason });
        }
        Ok(classes)
    }

    /// The same samples with the class numbers of another set, whose names are `classes`: a model that was trained on
    /// that set knows classes by number only. A class of ImageNet may be named by its WordNet id (`n01440764`) in one
    /// set and by its name (`tench`, or all of `tench, Tinca tinca`) in the other.
    ///
    /// # Errors
    /// [`DataError::NoLabels`]; [`DataError::Classes`] with the names that `classes` lacks.
    pub fn numbered_as(self, classes: &[String]) -> Result<Self, DataError> {
        if self.counts_like_imagenet(classes) {
            tracing::warn!("{}: its classes are numbers, which are taken for those of ImageNet", self.spec());
            let numbers = (0..self.classes().len() as u32).collect();
            let source = Renumbered { whole: self.source, classes: classes.to_vec(), numbers };
            return Ok(Self { source: Arc::new(source), ..self });
        }
        let wanted: BTreeMap<Key, u32> = keys(classes).into_iter().zip(0..).collect();
        let numbers: Vec<_> = keys(self.require_labels()?).iter().map(|key| wanted.get(key).copied()).collect();
        let foreign = self.classes().iter().zip(&numbers).filter(|(_, number)| number.is_none());
        let foreign: Vec<String> = foreign.map(|(name, _)| name.clone()).collect();
        if !foreign.is_empty() {
            let reason = format!("{} not among the {} expected ({})", some(&foreign), classes.len(), some(classes));
            return Err(DataError::Classes { name: self.spec().to_owned(), reason });
        }
        let numbers = numbers.into_iter().flatten().collect();
        let source = Renumbered { whole: self.source, classes: classes.to_vec(), numbers };
        Ok(Self { source: Arc::new(source), ..self })
    }
}

impl Dataset {
    /// Whether `classes` are ImageNet's in their order, and this set names its own by numbers from 0, as WebDataset
    /// does.
    fn counts_like_imagenet(&self, classes: &[String]) -> bool {
        let own = self.classes();
        let numbers = own.iter().enumerate().all(|(i, name)| *name == i.to_string());
        let all = imagenet::synsets().len();
        let official = classes.len() == all && imagenet::labels(classes).into_iter().eq((0..all).map(Some));
        !own.is_empty() && own.len() <= classes.len() && numbers && official
    }
}

/// Two names with equal keys are the same class.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Key<'a> {
    ImageNet(usize),
    Name(&'a str),
}

fn keys(names: &[String]) -> Vec<Key<'_>> {
    let key = |(name, label): (_, Option<usize>)| label.map_or(Key::Name(name), Key::ImageNet);
    names.iter().map(String::as_str).zip(imagenet::labels(names)).map(key).collect()
}

/// The first five names, and how many follow.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let first = names[..names.len().min(SHOWN)].join(", ");
    match names.len().checked_sub(SHOWN) {
        None | Some(0) => first,
        Some(more) => format!("{first} and {more} more"),
    }
}

/// A set with other class numbers: number k of `whole` is `numbers[k]` here, a position in `classes`.
struct Renumbered {
    whole: Arc<dyn Source>,
    classes: Vec<String>,
    numbers: Vec<u32>,
}

impl Renumbered {
    /// The numbers of categories in the order of the new classes; `None` for one that the set does not have.
    fn renumbered(&self, own: &[Option<u64>]) -> Vec<Option<u64>> {
        let mut categories = vec![None; self.classes.len()];
        for (category, number) in own.iter().zip(&self.numbers) {
            categories[*number as usize] = *category;
        }
        categories
    }
}

impl Source for Renumbered {
    fn len(&self) -> usize {
        self.whole.len()
    }

    fn classes(&self) -> &[String] {
        &self.classes
    }

    fn label(&self, index: usize) -> Option<u32> {
        self.numbers.get(self.whole.label(index)? as usize).copied()
    }

    fn runs(&self) -> Runs {
        self.whole.runs()
    }

    fn unlabeled(&self) -> Option<String> {
        self.whole.unlabeled()
    }

    fn name(&self, index: usize) -> String {
        self.whole.name(index)
    }

    fn annotations(&self) -> Option<Annotations> {
        let Annotations { file, categories } = self.whole.annotations()?;
        Some(Annotations { file, categories: self.renumbered(&categories) })
    }

    fn categories(&self) -> Option<Vec<Option<u64>>> {
        Some(self.renumbered(&self.whole.categories()?))
    }

    fn test_split(&self) -> Option<Result<Box<dyn Source>, DataError>> {
        self.whole.test_split()
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let mut sample = self.whole.sample(index)?;
        let numbered = sample.renumber(&self.numbers);
        numbered.map_err(|reason| DataError::Decode { name: self.name(index), reason })?;
        Ok(sample)
    }

    fn image(&self, index: usize) -> Result<Rgb8, DataError> {
        self.whole.image(index)
    }
}

#[cfg(all(test, feature = "files"))]
mod tests {
    use crate::data::split::Split;
    use crate::data::testing::{png, put};
    use crate::data::*;

    fn set(folders: &[&str]) -> Dataset {
        let dir = tempfile::tempdir().unwrap();
        for folder in folders {
            put(&dir.path().join(folder).join("1.png"), &png(2, 2, [0; 3]));
        }
        Dataset::open(dir.path().to_str().unwrap(), Split::Train).unwrap()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn labels_follow_the_names() {
        let set = set(&["cat", "dog", "n01443537", "tench"]);
        assert_eq!(set.require_classes(4).unwrap().len(), 4);
        let wanted = names(&["dog", "n01440764", "bird", "goldfish", "cat"]);
        let set = set.numbered_as(&wanted).unwrap();
        assert_eq!((0..4).map(|i| set.label(i)).collect::<Option<Vec<_>>>().unwrap(), [4, 0, 3, 1]);
        assert_eq!((set.classes(), set.label(4)), (&wanted[..], None));
    }

    #[test]
    fn numbers_are_those_of_imagenet_where_a_model_has_its_classes() {
        let official: Vec<String> = imagenet::synsets().iter().map(|synset| synset.wnid.to_owned()).collect();
        let of = |folders: &[&str], classes: &[String]| {
            let set = set(folders).numbered_as(classes)?;
            Ok::<_, DataError>((0..set.len()).filter_map(|i| set.label(i)).collect::<Vec<_>>())
        };
        assert_eq!(of(&["0", "1", "2"], &official).unwrap(), [0, 1, 2]);
        let long: Vec<String> = imagenet::synsets().iter().map(|s| format!("{}, Latin", s.name)).collect();
        assert_eq!(of(&["0", "1", "2"], &long).unwrap(), [0, 1, 2]);
        // a model of synsets on images with the names of Hugging Face, and the other way round
        assert_eq!(of(&["goldfish, Carassius auratus", "tench, Tinca tinca"], &official).unwrap(), [1, 0]);
        assert_eq!(of(&["n01440764", "n02012849", "n03126707"], &long).unwrap(), [0, 134, 517]);
        assert!(of(&["0", "2"], &official).is_err(), "a class 1 is missing, so these are names");
        assert!(of(&["0", "1"], &names(&["cat", "dog"])).is_err());
        assert!(of(&["0", "1"], &official[1..]).is_err());
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let error = set(&["cat", "dog"]).numbered_as(&names(&["cat", "wolf"])).unwrap_err().to_string();
        assert!(error.contains("dog not among the 2 expected (cat, wolf)"), "{error}");
        let error = set(&["a", "b", "c", "d", "e", "f", "g"]).require_classes(10).unwrap_err().to_string();
        assert!(error.contains("has 7 (a, b, c, d, e and 2 more), the model has 10"), "{error}");
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("1.png"), &png(2, 2, [0; 3]));
        let flat = || Dataset::open(dir.path().to_str().unwrap(), Split::Train).unwrap();
        assert!(flat().require_labels().unwrap_err().to_string().contains("has no labels"));
        assert!(matches!(flat().require_classes(2), Err(DataError::NoLabels { .. })));
        assert!(matches!(flat().numbered_as(&[]), Err(DataError::NoLabels { .. })));
    }
}
