//! Images inside a zip archive, read in place.

use super::contents::Contents;
use super::image_archive;
use super::layout::{Found, Layout, Place};
use crate::data::split::Split;

/// An image folder in one file.
pub(crate) const LAYOUT: Layout = Layout {
    name: "zip",
    help: "a .zip of an image folder, a segmentation folder or a folder like COCO, read in place",
    open,
};

fn open(place: &Place, split: Split) -> Found {
    match place.is_file_named(|name| name.ends_with(".zip")) {
        true => image_archive::within(place, Contents::zip(place.path)?, split).map(Some),
        false => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use crate::data::dataset::Dataset;
    use crate::data::split::Split;
    use crate::data::testing::{png, put, zip};
    use crate::error::DataError;
    use std::path::Path;

    fn open(path: &Path, bytes: &[u8], split: Split) -> Result<Dataset, DataError> {
        put(path, bytes);
        Dataset::open(path.to_str().unwrap(), split)
    }

    /// Where the record of file `index` begins in the directory.
    fn record(bytes: &[u8], index: usize) -> usize {
        let mut records = bytes.windows(4).enumerate().filter(|(_, record)| record == b"PK\x01\x02");
        records.nth(index).unwrap().0
    }

    /// Makes file `index` a symbolic link, as Unix stores it: what it says are the bytes of the file.
    fn to_link(bytes: &mut [u8], index: usize) {
        let at = record(bytes, index);
        bytes[at + 5] = 3;
        bytes[at + 40..at + 42].copy_from_slice(&0o120_777u16.to_le_bytes());
    }

    #[test]
    fn members_are_found_as_in_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("set.ZIP");
        let bytes = zip(&[
            ("set/", Vec::new()),
            ("set/train/b/1.png", png(5, 4, [255, 0, 0])),
            ("set/train/a/2.png", png(4, 4, [0, 0, 255])),
            ("__MACOSX/set/train/a/._2.png", b"resource fork".to_vec()),
            ("set/val/b/3.png", png(4, 4, [9; 3])),
            ("set/README", b"text".to_vec()),
        ]);
        let set = open(&path, &bytes, Split::Train).unwrap();
        assert_eq!((set.len(), set.label(0), set.label(1)), (2, Some(0), Some(1)));
        assert_eq!((set.image(0).unwrap().pixels[2], set.image(1).unwrap().width), (255, 5));
        assert!(set.sample_name(0).ends_with("set.ZIP: set/train/a/2.png"), "{}", set.sample_name(0));
        for test in [open(&path, &bytes, Split::Test).unwrap(), set.limited(1).unwrap().test_split().unwrap()] {
            assert_eq!((test.len(), test.label(0), test.image(0).unwrap().pixels[0]), (1, Some(1), 9));
        }
        let flat = zip(&[("b.png", png(2, 2, [2; 3])), ("a.png", png(1, 1, [1; 3])), (".c.png", Vec::new())]);
        let set = open(&path, &flat, Split::Train).unwrap();
        assert_eq!((set.len(), set.label(0), set.image(1).unwrap().width), (2, None, 2));
        let none = open(&path, &flat, Split::Test).unwrap_err().to_string();
        assert!(none.contains("no test split"), "{none}");
        for without in [zip(&[("data_batch_1.bin", b"x".to_vec())]), zip(&[])] {
            assert!(matches!(open(&path, &without, Split::Train), Err(DataError::Empty { .. })));
        }
    }

    #[test]
    fn links_count_as_what_they_lead_to() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("set.zip");
        let of = |target: &str| {
            let files = [("a/0.png", png(3, 3, [50; 3])), ("b/0.png", target.as_bytes().to_vec())];
            let mut bytes = zip(&files);
            to_link(&mut bytes, 1);
            open(&path, &bytes, Split::Train)
        };
        let set = of("../a/0.png").unwrap();
        assert_eq!((set.len(), set.label(1), set.image(1).unwrap().pixels[0]), (2, Some(1), 50));
        for (target, hint) in [
            ("../gone.png", "b/0.png is a link to ../gone.png, which is not in the archive"),
            (&"x".repeat(4097), "b/0.png as a link of 4097 bytes"),
        ] {
            let error = of(target).unwrap_err().to_string();
            assert!(error.contains("set.zip") && error.contains(hint), "{error}");
        }
    }

    #[test]
    fn damaged_archives_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("set.zip");
        let whole =
            zip(&[("a/0.png", png(3, 3, [1; 3])), ("a/1.png", png(3, 3, [2; 3])), ("b/2.png", png(3, 3, [3; 3]))]);
        for bytes in [&whole[..whole.len() - 1], &whole[..whole.len() / 2], &whole[40..], b"<html>no such file</html>"]
        {
            let error = open(&path, bytes, Split::Train).unwrap_err().to_string();
            assert!(error.contains("set.zip") && error.contains("not a whole zip archive"), "{error}");
        }
        // what is wrong with one image is told when it is read, and training goes on without it
        let mut wrong = whole.clone();
        let at = record(&whole, 1);
        wrong[at + 16] ^= 1;
        let set = open(&path, &wrong, Split::Train).unwrap();
        let error = set.image(1).unwrap_err().to_string();
        assert!(error.contains("set.zip: a/1.png") && error.contains("checksum"), "{error}");
        assert_eq!((set.good_image(1).unwrap().0, set.skipped()), (2, 1));
        for (field, value, hint) in [(8, 1, "a/1.png encrypted"), (10, 93, "a/1.png packed by method 93")] {
            let mut other = whole.clone();
            other[at + field] = value;
            let error = open(&path, &other, Split::Train).unwrap_err().to_string();
            assert!(error.contains(hint) && error.contains("zip -r"), "{error}");
        }
    }
}
