//! Data sets as the packages of the field write them: WebDataset and Parquet of Hugging Face. Files made by the
//! packages lie in tests/fixtures/data, and where Python has the packages they make them again here.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rowscan::data::{Cursor, Dataset, ImageBatch, Loader, LoaderOptions, Split, Transform};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn open(path: &Path, split: Split) -> Dataset {
    Dataset::open(path.to_str().unwrap(), split).unwrap_or_else(|e| panic!("{e}"))
}

fn error(path: &Path, split: Split) -> String {
    Dataset::open(path.to_str().unwrap(), split).map(|set| panic!("{set:?}")).unwrap_or_else(|e| e.to_string())
}

/// Checks that a set holds the images `wanted` of tests/fixtures/data_sets.py in this order, with class i mod 3.
#[track_caller]
fn holds(set: &Dataset, wanted: &[u32]) {
    assert_eq!(set.len(), wanted.len(), "{set:?}");
    for (index, &i) in wanted.iter().enumerate() {
        let image = set.image(index).unwrap_or_else(|e| panic!("{e}"));
        let color = [i * 20, 255 - i * 20, 7].map(|v| v as u8);
        assert_eq!(
            (image.width, image.height, &image.pixels[..3]),
            (8 + i, 8, &color[..]),
            "{}",
            set.sample_name(index)
        );
        assert_eq!(set.label(index), Some(i % 3), "{}", set.sample_name(index));
    }
    assert!(set.image(wanted.len()).is_err());
}

fn all() -> Vec<u32> {
    (0..12).collect()
}

#[test]
fn shards_of_webdataset() {
    shards(&fixtures().join("data/webdataset"));
}

fn shards(folder: &Path) {
    let (train, pattern) = (open(folder, Split::Train), folder.join("train-{000000..000002}.tar"));
    holds(&train, &all());
    assert_eq!(train.classes(), ["0", "1", "2"]);
    assert!(train.sample_name(5).ends_with("train-000001.tar: part/00005.png"), "{}", train.sample_name(5));
    holds(&open(&pattern, Split::Train), &all());
    for test in [open(folder, Split::Test), open(&pattern, Split::Test), train.test_split().unwrap()] {
        holds(&test, &[2, 1]);
    }
    holds(&open(&folder.join("train-000001.tar"), Split::Train), &[4, 5, 6, 7]);
    holds(&open(&folder.join("val-000000.tar"), Split::Test), &[2, 1]);
    let gone = error(&folder.join("train-{000000..000004}.tar"), Split::Train);
    assert!(gone.contains("2 of the 5 files of the pattern are missing, the first is"), "{gone}");
}

#[test]
fn parquet_of_hugging_face() {
    let folder = fixtures().join("data");
    hub(&folder.join("hub"));
    parquets(&folder.join("parquet"));
}

fn hub(folder: &Path) {
    let train = open(folder, Split::Train);
    holds(&train, &all());
    assert_eq!(train.classes(), ["cat", "dog", "owl"]);
    for i in 0..12 {
        let (file, row) = if i < 7 { (0, i) } else { (1, i - 7) };
        let wanted = format!("train-0000{file}-of-00002.parquet: row {row}");
        assert!(train.sample_name(i).ends_with(&wanted), "{}", train.sample_name(i));
    }
    holds(&open(&folder.join("train-{00000..00001}-of-00002.parquet"), Split::Train), &all());
    holds(&train.test_split().unwrap(), &[2, 1]); // validation before test
    let unknown = open(&folder.join("test-00000-of-00001.parquet"), Split::Test);
    assert_eq!((unknown.len(), unknown.label(0)), (2, None));
    let told = unknown.require_labels().unwrap_err().to_string();
    assert!(told.contains("the test split of") && told.contains("all its classes are -1"), "{told}");
}

fn parquets(folder: &Path) {
    for name in ["none", "snappy", "gzip", "zstd", "lz4", "pages", "plain", "index", "flat", "text", "dictionary"] {
        let set = open(&folder.join(format!("{name}.parquet")), Split::Train);
        holds(&set, &all());
        let classes = if ["flat", "index"].contains(&name) { ["0", "1", "2"] } else { ["cat", "dog", "owl"] };
        assert_eq!(set.classes(), classes, "{name}");
    }
    let brotli = folder.join("brotli.parquet");
    assert!(error(&brotli, Split::Train).contains("packed with Brotli, which is not read: write it with snappy"));
    let unlabeled = open(&folder.join("unlabeled.parquet"), Split::Train);
    let told = unlabeled.require_labels().unwrap_err().to_string();
    assert!(told.contains("no column is called label") && told.contains("it has image"), "{told}");
    let mixed = error(folder, Split::Train);
    assert!(mixed.contains("has other classes or another column of them than") || mixed.contains("Brotli"), "{mixed}");
}

/// A file that cannot be read for a while, as on a disk of a network.
#[test]
fn errors_of_reading_are_not_kept() {
    let good = std::fs::read(fixtures().join("data/parquet/pages.parquet")).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.parquet");
    for read_before in [false, true] {
        std::fs::write(&path, &good).unwrap();
        let set = open(&path, Split::Train);
        if read_before {
            set.image(0).unwrap(); // where the pages lie is known now
        }
        std::fs::write(&path, b"PAR1").unwrap();
        for _ in 0..2 {
            let error = set.image(11).unwrap_err().to_string();
            assert!(error.contains("a.parquet") && error.contains("past the end of the file at 4"), "{error}");
        }
        std::fs::write(&path, &good).unwrap();
        holds(&set, &all());
    }
}

/// Shuffled batches are the same for any number of threads, and from any batch on.
#[test]
fn batches_of_any_layout_go_on_bit_for_bit() {
    let folder = fixtures().join("data");
    for spec in [folder.join("webdataset"), folder.join("hub"), folder.join("parquet/pages.parquet")] {
        let set = Arc::new(open(&spec, Split::Train));
        let take = |threads, cursor, count| -> Vec<ImageBatch> {
            let options = LoaderOptions { seed: 7, threads, ..LoaderOptions::new(5, Transform::train(8)) };
            Loader::train(set.clone(), &options, cursor).unwrap().take(count).map(Result::unwrap).collect()
        };
        let whole = take(1, Cursor::default(), 6);
        for batch in &whole {
            assert!(batch.samples.iter().zip(&batch.labels).all(|(i, label)| *i as u32 % 3 == *label));
        }
        for from in 0..6 {
            assert_eq!(take(3, whole[from].cursor, 6 - from), whole[from..], "{} from {from}", spec.display());
        }
        let mut seen: Vec<usize> = whole[..2].iter().flat_map(|batch| batch.samples.clone()).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 10, "an epoch shows no image twice");
    }
}

#[test]
fn what_the_packages_write_today_is_read() {
    let python = std::env::var("ROWSCAN_PYTHON").unwrap_or_else(|_| "python3".into());
    let has = Command::new(&python).args(["-c", "import PIL, pyarrow, webdataset"]).output();
    if !has.is_ok_and(|ran| ran.status.success()) {
        eprintln!("SKIPPED: {python} has no pillow, pyarrow and webdataset; pip install them, or set ROWSCAN_PYTHON");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let ran = Command::new(&python).arg(fixtures().join("data_sets.py")).arg(dir.path()).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    shards(&dir.path().join("webdataset"));
    hub(&dir.path().join("hub"));
    parquets(&dir.path().join("parquet"));
}
