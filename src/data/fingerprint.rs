//! Which images a data set lists, in which order and with which labels, as a few hashes: enough to tell whether a set
//! that lies somewhere else now is the same.

use serde::{Deserialize, Serialize};

use super::dataset::Dataset;

/// Parts of a listing that have a hash of their own, so that a difference has a place.
const PARTS: usize = 16;

/// Hashes of a listing. The folder that all names begin with is left out, so that a set may move.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fingerprint {
    /// A hash, in hexadecimal digits, for each of up to 16 parts of the listing in order.
    parts: Vec<String>,
}

/// The images `from..to` of a set of `images` that belong to one part.
fn part(index: usize, images: usize) -> std::ops::Range<usize> {
    index * images / PARTS..(index + 1) * images / PARTS
}

/// Length in bytes of what all names begin with, up to a separator: a folder, or an archive.
fn common(names: &[String]) -> usize {
    let Some(first) = names.first() else { return 0 };
    let mut len = first.len();
    for name in names {
        let same = first.bytes().zip(name.bytes()).take_while(|(a, b)| a == b).count();
        len = len.min(same);
    }
    first.as_bytes()[..len].iter().rposition(|b| b"/\\: ".contains(b)).map_or(0, |at| at + 1)
}

impl Fingerprint {
    /// The fingerprint of a data set. It reads names and labels, and no image.
    pub fn of(data: &Dataset) -> Self {
        let names: Vec<String> = (0..data.len()).map(|i| data.sample_name(i)).collect();
        let skip = common(&names);
        let hash = |range: std::ops::Range<usize>| {
            // FNV-1a, 64 bits
            let mut hash = 0xcbf2_9ce4_8422_2325u64;
            let mut eat = |bytes: &[u8]| {
                bytes.iter().for_each(|b| hash = (hash ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3));
            };
            for index in range {
                // two systems may write the same path with another separator
                eat(names[index][skip..].replace('\\', "/").as_bytes());
                eat(&[0]);
                eat(&data.label(index).map_or(u64::MAX, u64::from).to_le_bytes());
            }
            format!("{hash:016x}")
        };
        Self { parts: (0..PARTS).map(|index| hash(part(index, names.len()))).collect() }
    }

    /// Where the listing of `now`, whose fingerprint is `other`, first differs from this one. Both have as many images.
    pub fn difference(&self, other: &Self, now: &Dataset) -> Option<String> {
        let at = self.parts.iter().zip(&other.parts).position(|(a, b)| a != b)?;
        let range = part(at, now.len());
        let (first, last) = (range.start, range.end.saturating_sub(1));
        let names = format!("now `{}` to `{}`", now.sample_name(first), now.sample_name(last));
        Some(format!("among its images {first} to {last} are others, or others' labels: {names}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{DataError, Sample, Source};

    struct Named(Vec<(&'static str, u32)>, Vec<String>);

    impl Source for Named {
        fn len(&self) -> usize {
            self.0.len()
        }
        fn name(&self, index: usize) -> String {
            self.0[index].0.into()
        }
        fn classes(&self) -> &[String] {
            &self.1
        }
        fn label(&self, index: usize) -> Option<u32> {
            self.0.get(index).map(|(_, label)| *label)
        }
        fn sample(&self, _: usize) -> Result<Sample, DataError> {
            Ok(crate::data::Rgb8 { width: 1, height: 1, pixels: vec![0; 3] }.into())
        }
    }

    fn set(listing: &[(&'static str, u32)]) -> Dataset {
        Dataset::new("set", Named(listing.to_vec(), vec!["a".into(), "b".into()])).unwrap()
    }

    #[test]
    fn a_set_may_move_but_not_change() {
        let was = set(&[("old/place/a/1.png", 0), ("old/place/a/2.png", 0), ("old/place/b/1.png", 1)]);
        let print = Fingerprint::of(&was);
        for moved in [
            [("/new/a/1.png", 0), ("/new/a/2.png", 0), ("/new/b/1.png", 1)],
            [("set.tar: a/1.png", 0), ("set.tar: a/2.png", 0), ("set.tar: b/1.png", 1)],
            [("C:\\new\\a\\1.png", 0), ("C:\\new\\a\\2.png", 0), ("C:\\new\\b\\1.png", 1)],
        ] {
            assert_eq!(Fingerprint::of(&set(&moved)), print, "{moved:?}");
        }
        for other in [
            [("new/a/1.png", 0), ("new/a/3.png", 0), ("new/b/1.png", 1)],
            [("new/a/1.png", 0), ("new/a/2.png", 1), ("new/b/1.png", 1)],
            [("new/a/2.png", 0), ("new/a/1.png", 0), ("new/b/1.png", 1)],
        ] {
            let other = set(&other);
            let told = print.difference(&Fingerprint::of(&other), &other).unwrap();
            assert!(told.contains("are others") && told.contains("new/a/"), "{told}");
        }
        assert_eq!(print.difference(&print, &was), None);
    }
}
