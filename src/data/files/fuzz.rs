//! Damaged files of every layout: no panic, no hang, no memory beyond what the file is worth.
//!
//! The seed of a run is printed; ROWSCAN_FUZZ_SEED repeats it, ROWSCAN_FUZZ_CASES says how many files to try of each
//! layout.
use crate::data::dataset::Dataset;
use crate::data::split::Split;
use crate::data::testing::{png, put, zip};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::path::Path;
use std::time::{Duration, Instant};

/// What happens to a file.
#[derive(Clone, Debug)]
enum Damage {
    /// A byte becomes another one.
    Byte(prop::sample::Index, u8),
    /// A bit flips near the end, where Parquet has its footer.
    End(u16, u8),
    /// A number of four bytes becomes an extreme one.
    Number(prop::sample::Index, u32),
    /// The end is lost.
    Cut(prop::sample::Index),
    /// Some bytes stand twice.
    Twice(prop::sample::Index, u8),
}

impl Damage {
    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let size = bytes.len();
        match self {
            Self::Byte(at, value) => bytes[at.index(size)] = *value,
            Self::End(back, bit) => bytes[size - 1 - usize::from(*back) % size] ^= 1 << (bit % 8),
            Self::Number(at, value) => {
                let at = at.index(size);
                let end = size.min(at + 4);
                bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
            }
            Self::Cut(at) => bytes.truncate(at.index(size)),
            Self::Twice(at, count) => {
                let at = at.index(size);
                let again = bytes[at..size.min(at + usize::from(*count))].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
}

fn damage() -> impl Strategy<Value = Vec<Damage>> {
    let at = any::<prop::sample::Index>;
    let extreme = prop_oneof![Just(0), Just(u32::MAX), Just(i32::MAX as u32), Just(1 << 31), any::<u32>()];
    let one = prop_oneof![
        3 => (at(), any::<u8>()).prop_map(|(at, value)| Damage::Byte(at, value)),
        3 => (0u16..1200, any::<u8>()).prop_map(|(back, bit)| Damage::End(back, bit)),
        2 => (at(), extreme).prop_map(|(at, value)| Damage::Number(at, value)),
        1 => at().prop_map(Damage::Cut),
        1 => (at(), any::<u8>()).prop_map(|(at, count)| Damage::Twice(at, count)),
    ];
    prop::collection::vec(one, 1..5)
}

/// Memory that the process has held at most, in bytes; 0 where that is not known.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// Damages `good`, opens it as `name`, and reads some of what is in it.
fn survive(name: &str, good: &[&[u8]]) {
    let number = |name: &str, default| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_nanos() as u64);
    let seed: u64 = number("ROWSCAN_FUZZ_SEED", now);
    eprintln!("{name}: ROWSCAN_FUZZ_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config =
        Config { cases: number("ROWSCAN_FUZZ_CASES", 300) as u32, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(name);
    let before = peak();
    let which = 0..good.len();
    let tried = runner.run(&(which, damage()), |(which, damages)| {
        let mut bytes = good[which].to_vec();
        damages.iter().for_each(|damage| damage.apply(&mut bytes));
        put(&path, &bytes);
        let begun = Instant::now();
        read(&path)?;
        // ten decodings of a size as large as the limit take two seconds, and many times that beside other programs
        prop_assert!(begun.elapsed() < Duration::from_secs(60), "took {:?}", begun.elapsed());
        Ok(())
    });
    tried.unwrap_or_else(|e| panic!("{name}, ROWSCAN_FUZZ_SEED={seed}: {e}"));
    // other tests run beside this one, and the limit of one image is a gigabyte
    assert!(peak().saturating_sub(before) < 3 << 30, "{name}: memory grew from {before} to {}", peak());
}

fn read(path: &Path) -> Result<(), TestCaseError> {
    for split in [Split::Train, Split::Test] {
        let Ok(set) = Dataset::open(path.to_str().unwrap(), split) else { continue };
        for index in (0..3).chain(set.len().saturating_sub(2)..set.len()) {
            let _ = (set.label(index), set.sample_name(index));
            if let Err(error) = set.image(index) {
                prop_assert!(!error.to_string().contains("panicked"), "{error}");
            }
        }
    }
    Ok(())
}

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!("../../../tests/fixtures/data/", $name))
    };
}

#[test]
fn scenes_in_a_zip() {
    let image = png(2, 1, [1, 2, 3]);
    let json = br#"{"images": [{"id": 1, "file_name": "a.png", "width": 2, "height": 1}],
        "categories": [{"id": 3, "name": "cat"}], "annotations": [{"id": 1, "image_id": 1, "category_id": 3,
        "bbox": [0, 0, 1, 1], "area": 1, "iscrowd": 0}]}"#;
    let coco = zip(&[("instances_train2017.json", json.to_vec()), ("train2017/a.png", image.clone())]);
    let files = [("images/a.png", &image), ("annotations/a.png", &image)].map(|(name, bytes)| (name, bytes.clone()));
    let colors = [&files[..], &[("label_colors.txt", b"1 2 3 sky".to_vec())]].concat();
    survive("scenes.zip", &[&coco, &zip(&colors)]);
}

#[test]
fn images_in_a_zip() {
    let files = ["s/train/a/0.png", "s/train/b/0.png", "s/val/b/1.png"].map(|name| (name, png(3, 3, [9; 3])));
    let mut links = zip(&[("a/0.png", png(3, 3, [9; 3])), ("b/0.png", b"../a/0.png".to_vec())]);
    let at = links.windows(4).rposition(|record| record == b"PK\x01\x02").unwrap();
    links[at + 5] = 3;
    links[at + 41] = 0xa1;
    survive("set.zip", &[&zip(&files), &links]);
}

#[test]
fn jpeg() {
    let progressive = fixture!("progressive.jpg");
    let mut baseline = std::io::Cursor::new(Vec::new());
    let gradient = image::RgbImage::from_fn(33, 20, |x, y| image::Rgb([x as u8 * 7, y as u8 * 12, 40]));
    gradient.write_to(&mut baseline, image::ImageFormat::Jpeg).unwrap();
    let tail = [&progressive[..], b"\0\0\0\x18ftypmp42\xff\xd9\xff\xda", &baseline.get_ref()[..50]].concat();
    let images = [&progressive[..], baseline.get_ref(), &tail].map(|bytes| in_tar("a.jpg", bytes));
    survive("jpeg.tar", &images.each_ref().map(Vec::as_slice));
}

/// An archive with one file.
fn in_tar(name: &str, bytes: &[u8]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    builder.append_data(&mut header, name, bytes).unwrap();
    builder.into_inner().unwrap()
}

#[test]
fn archives() {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, kind, target) in [
        ("s/a/0.png", tar::EntryType::Regular, ""),
        ("s/b/0.png", tar::EntryType::Regular, ""),
        ("s/b/1.png", tar::EntryType::Symlink, "../a/0.png"),
        ("s/c", tar::EntryType::Symlink, "b"),
        ("s/d/0.png", tar::EntryType::Link, "s/a/0.png"),
    ] {
        let bytes = if target.is_empty() { png(3, 3, [9; 3]) } else { Vec::new() };
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(bytes.len() as u64);
        if target.is_empty() {
            builder.append_data(&mut header, name, &bytes[..]).unwrap();
        } else {
            builder.append_link(&mut header, name, target).unwrap();
        }
    }
    let links = builder.into_inner().unwrap();
    survive("set.tar", &[&links, fixture!("webdataset/train-000000.tar"), fixture!("webdataset/val-000000.tar")]);
}

#[test]
fn idx() {
    let sizes: Vec<u8> = [3u32, 4, 4].iter().flat_map(|size| size.to_be_bytes()).collect();
    let plain = [&[0, 0, 8, 3][..], &sizes, &[7; 48]].concat();
    survive("train-images-idx3-ubyte", &[&plain]);
}

#[test]
fn cifar() {
    survive("data_batch_1.bin", &[&vec![3; 2 * 3073], &vec![3; 3 * 3074]]);
}

#[test]
fn parquet() {
    survive(
        "set.parquet",
        &[
            fixture!("hub/train-00000-of-00002.parquet"),
            fixture!("parquet/none.parquet"),
            fixture!("parquet/gzip.parquet"),
            fixture!("parquet/zstd.parquet"),
            fixture!("parquet/lz4.parquet"),
            fixture!("parquet/pages.parquet"),
            fixture!("parquet/plain.parquet"),
            fixture!("parquet/dictionary.parquet"),
        ],
    );
}

#[test]
fn lists() {
    survive("list.txt", &[b"a.png 0\nb c.png 1\n\"d.png\"\t2\n", "\u{feff}ä.png,ö\nb.png,x\n".as_bytes()]);
}

/// The annotations are damaged; the image that they name is no image, so that what follows it is never reached.
#[test]
fn annotations() {
    let file = r#"{"images": [{"id": 1, "file_name": "coco.json", "width": 20, "height": 10}],
        "categories": [{"id": 3, "name": "cat"}], "annotations": [
        {"id": 1, "image_id": 1, "category_id": 3, "bbox": [2, 1, 4, 5], "area": 20,
            "segmentation": [[2, 1, 6, 1, 6, 6]]},
        {"id": 2, "image_id": 1, "category_id": 3, "bbox": [0, 0, 9, 9], "area": 50, "iscrowd": 1,
            "segmentation": {"size": [10, 20], "counts": [0, 50, 150]}}]}"#;
    survive("coco.json", &[file.as_bytes()]);
}
