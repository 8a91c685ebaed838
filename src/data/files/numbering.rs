//! From what is written beside images to labels: class numbers stay, class names are sorted and counted.
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// The largest class number, so that a wrong one does not make millions of names.
const LARGEST: u64 = 999_999;

/// A class as a file gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub(crate) enum Class {
    Number(u64),
    Name(String),
}

impl Class {
    /// A whole number is a class number, anything else a name.
    pub fn of_text(text: &str) -> Self {
        let text = text.trim();
        text.parse().map_or_else(|_| Self::Name(text.to_owned()), Self::Number)
    }
}

/// Labels and class names of a set.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Numbering {
    /// A label for each sample; empty if there are none.
    pub labels: Vec<u32>,
    /// Class names; a label is a position in them.
    pub classes: Vec<String>,
    /// Why there are no labels.
    pub unlabeled: Option<String>,
}

/// The methods of [`Source`](crate::data::Source) about classes, of a set with a field `numbering`.
macro_rules! by_numbering {
    () => {
        fn classes(&self) -> &[String] {
            &self.numbering.classes
        }

        fn unlabeled(&self) -> Option<String> {
            self.numbering.unlabeled.clone()
        }

        fn label(&self, index: usize) -> Option<u32> {
            self.numbering.labels.get(index).copied()
        }
    };
}
pub(super) use by_numbering;

impl Numbering {
    pub fn none(why: String) -> Self {
        Self { unlabeled: Some(why), ..Self::default() }
    }
}

/// The labels of samples with these classes. Numbers are labels as they stand, named by `names` or else by themselves.
/// If one class is a name, all are, and a label is a position in their sorted names.
///
/// # Errors
/// A number without a name, in words that begin with the sample, which `sample` names.
pub(crate) fn numbered(
    classes: Vec<Class>, names: Option<Vec<String>>, sample: impl Fn(usize) -> String,
) -> Result<Numbering, String> {
    let numbers: Option<Vec<u64>> =
        classes.iter().map(|class| if let Class::Number(n) = class { Some(*n) } else { None }).collect();
    if let Some(numbers) = numbers {
        let most = names.as_ref().map_or(LARGEST + 1, |names| names.len() as u64);
        if let Some(at) = numbers.iter().position(|&n| n >= most) {
            let got = numbers[at];
            return Err(format!("{} is of class {got}, expected 0 to {}", sample(at), most.saturating_sub(1)));
        }
        let largest = numbers.iter().max().map_or(0, |n| n + 1);
        let classes = names.unwrap_or_else(|| (0..largest).map(|n| n.to_string()).collect());
        return Ok(Numbering { labels: numbers.into_iter().map(|n| n as u32).collect(), classes, unlabeled: None });
    }
    let text = |class: Class| match class {
        Class::Number(n) => n.to_string(),
        Class::Name(name) => name,
    };
    let texts: Vec<String> = classes.into_iter().map(text).collect();
    let sorted: BTreeSet<&String> = texts.iter().collect();
    let number: BTreeMap<&String, u32> = sorted.iter().copied().zip(0..).collect();
    let labels = texts.iter().map(|text| number[text]).collect();
    Ok(Numbering { labels, classes: sorted.into_iter().cloned().collect(), unlabeled: None })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stay_and_names_are_sorted() {
        let of = |texts: &[&str], names: Option<&[&str]>| {
            let names = names.map(|names| names.iter().map(|name| name.to_string()).collect());
            numbered(texts.iter().map(|text| Class::of_text(text)).collect(), names, |i| format!("sample {i}"))
        };
        let is = |got: Result<Numbering, String>, labels: &[u32], classes: &[&str]| {
            let got = got.unwrap();
            assert_eq!((&got.labels[..], got.unlabeled), (labels, None));
            assert!(got.classes.iter().eq(classes), "{:?}", got.classes);
        };
        is(of(&["2", "0\n"], None), &[2, 0], &["0", "1", "2"]);
        is(of(&["1", "0"], Some(&["cat", "dog"])), &[1, 0], &["cat", "dog"]);
        is(of(&["dog", " cat ", "dog"], None), &[1, 0, 1], &["cat", "dog"]);
        is(of(&["9", "x"], None), &[0, 1], &["9", "x"]);
        assert_eq!(of(&["0", "2"], Some(&["a", "b"])).unwrap_err(), "sample 1 is of class 2, expected 0 to 1");
        assert_eq!(of(&["4000000000"], None).unwrap_err(), "sample 0 is of class 4000000000, expected 0 to 999999");
        is(of(&["-1"], None), &[0], &["-1"]);
    }
}
