//! Segmentation folders and folders like COCO in an archive that is read in place.

use super::layout::{Found, Place};
use super::tree::Tree;
use super::{coco, segmented};
use crate::data::split::Split;

/// The set in an archive, if it is one of images with objects or with the class of each pixel.
pub(super) fn within(place: &Place, tree: &Tree, split: Split) -> Found {
    let root = tree.root();
    match coco::in_tree(tree, &root, split)? {
        None => segmented::in_tree(tree, &root, split, place),
        found => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use crate::data::dataset::Dataset;
    use crate::data::sample::Sample;
    use crate::data::split::Split;
    use crate::data::testing::{png, put, zip};
    use std::io::Write;
    use std::path::Path;

    /// A PNG of one pixel of this value.
    fn gray(value: u8) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut encoder = png::Encoder::new(&mut bytes, 1, 1);
        encoder.set_color(png::ColorType::Grayscale);
        encoder.write_header().unwrap().write_image_data(&[value]).unwrap();
        bytes
    }

    fn tar(files: &[(&str, Vec<u8>)]) -> Vec<u8> {
        let mut builder = ::tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = ::tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, &bytes[..]).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(bytes).unwrap();
        gz.finish().unwrap()
    }

    fn open(path: &Path) -> Dataset {
        Dataset::open(path.to_str().unwrap(), Split::Train).unwrap()
    }

    #[test]
    fn segmentation_folders_in_archives() {
        let files = [
            ("set/images/training/a.png", png(1, 1, [1, 2, 3])),
            ("set/images/validation/b.png", png(1, 1, [4, 5, 6])),
            ("set/annotations/training/a.png", gray(1)),
            ("set/annotations/validation/b.png", gray(0)),
            ("set/classes.txt", b"ground\nsky\n".to_vec()),
            ("__MACOSX/set/images/training/._a.png", b"resource fork".to_vec()),
        ];
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [("s.tar", tar(&files)), ("s.tar.gz", gzip(&tar(&files))), ("s.zip", zip(&files))] {
            let path = dir.path().join(name);
            put(&path, &bytes);
            let set = open(&path);
            assert_eq!((set.len(), set.classes()), (1, &["ground", "sky"].map(String::from)[..]), "{name}");
            let Sample::Segmented(image, map) = set.sample(0).unwrap() else { panic!("no map") };
            assert_eq!((image.pixels, map.classes), (vec![1, 2, 3], vec![1]), "{name}");
            assert!(
                set.sample_name(0).ends_with(&format!("{name}/set/images/training/a.png")),
                "{}",
                set.sample_name(0)
            );
            let test = set.test_split().unwrap();
            assert_eq!((test.len(), test.image(0).unwrap().pixels), (1, vec![4, 5, 6]), "{name}");
        }
    }

    #[test]
    fn folders_like_coco_in_archives() {
        let json = |image: &str| {
            let text = r#"{"images": [{"id": 9, "file_name": "IMAGE", "width": 20, "height": 10}],
                "categories": [{"id": 3, "name": "cat"}], "annotations": [{"id": 1, "image_id": 9, "category_id": 3,
                "bbox": [2, 2, 4, 5], "area": 20, "iscrowd": 0, "segmentation": [[2, 2, 6, 2, 6, 7]]}]}"#;
            text.replace("IMAGE", image).into_bytes()
        };
        let files = [
            ("annotations/instances_train2017.json", json("a.png")),
            ("train2017/a.png", png(20, 10, [7; 3])),
            ("annotations/instances_val2017.json", json("b.png")),
            ("val2017/b.png", png(20, 10, [8; 3])),
        ];
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [("c.tar", tar(&files)), ("c.zip", zip(&files))] {
            let path = dir.path().join(name);
            put(&path, &bytes);
            let set = open(&path);
            assert_eq!((set.len(), set.classes(), set.categories()), (1, &["cat".to_owned()][..], Some(vec![Some(3)])));
            let Sample::Detected(image, objects) = set.sample(0).unwrap() else { panic!("no objects") };
            assert_eq!((image.pixels[0], objects.len(), objects[0].right), (7, 1, 6.0), "{name}");
            assert_eq!(set.test_split().unwrap().image(0).unwrap().pixels[0], 8, "{name}");
        }
    }

    #[test]
    fn damaged_and_other_zips_are_named() {
        let files =
            [("images/a.png", png(1, 1, [1; 3])), ("annotations/a.png", gray(0)), ("classes.txt", b"ground".to_vec())];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s.zip");
        let error = |bytes: &[u8]| {
            put(&path, bytes);
            Dataset::open(path.to_str().unwrap(), Split::Train).map(|set| set.sample(0).unwrap_err().to_string())
        };
        let whole = zip(&files);
        let cut = error(&whole[..whole.len() / 2]).unwrap_err().to_string();
        assert!(cut.contains("s.zip is not a whole zip") || cut.contains("s.zip: is not a whole zip"), "{cut}");
        let mut other = whole.clone();
        let at = other.windows(4).position(|w| w == b"PK\x01\x02").unwrap();
        other[at + 8] = 1;
        let locked = error(&other).unwrap_err().to_string();
        assert!(locked.contains("images/a.png encrypted") && locked.contains("zip -r"), "{locked}");
        other[at + 8] = 0;
        other[at + 10] = 93;
        assert!(error(&other).unwrap_err().to_string().contains("method 93"));
        other[at + 10] = 8;
        other[at + 16] ^= 1;
        let wrong = error(&other).unwrap();
        assert!(wrong.contains("s.zip/images/a.png") && wrong.contains("checksum"), "{wrong}");
    }
}
