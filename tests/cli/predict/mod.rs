//! `predict`: what a classifier sees in images, as a table, as JSON, as CSV and as a picture.

mod refuse;

use std::path::{Path, PathBuf};

use rowscan::run::checkpoint;
use rowscan::train::about::About;
use serde_json::Value;

use super::finetune::{TAUGHT, stripes};
use super::weights::{VIT, drawn, pictures, vit, write};
use super::{Ran, names, program, rowscan, run, skip};

/// A classifier of three classes with these names, tested on the middle half of an image.
fn classifier(folder: &Path, classes: [&str; 3]) {
    let classes = Some(classes.map(String::from).to_vec());
    let about = About { classes, crop_ratio: Some(0.5), ..About::default() };
    checkpoint::save_about(folder, &vit(), &drawn(&vit(), 7), &about).unwrap();
}

fn predict(checkpoint: &Path, args: &[&str], images: &[PathBuf]) -> Ran {
    let mut command = program();
    command.args(["predict", "--checkpoint"]).arg(checkpoint).args(args).args(images);
    run(command)
}

/// The elements of the printed array.
fn json(ran: Ran) -> Vec<Value> {
    serde_json::from_str(&ran.ok().out).unwrap()
}

/// (class, probability) of each prediction.
fn classes(image: &Value) -> Vec<(u64, f64)> {
    let of = |p: &Value| (p["class"].as_u64().unwrap(), p["probability"].as_f64().unwrap());
    image["predictions"].as_array().unwrap().iter().map(of).collect()
}

/// Pictures of noise with these names, in the folder `dir`.
fn noise(dir: &Path, names: &[&str]) -> Vec<PathBuf> {
    let mut random = crate::common::Random::new(13);
    let draw = |(i, name): (usize, &&str)| {
        let path = dir.join(name);
        let (width, height) = (20 + 3 * i as u32, 26);
        let bytes = random.below((width * height * 3) as usize, 256).iter().map(|v| *v as u8).collect();
        image::RgbImage::from_raw(width, height, bytes).unwrap().save(&path).unwrap();
        path
    };
    names.iter().enumerate().map(draw).collect()
}

/// The records of a CSV file.
fn records(text: &str) -> Vec<Vec<String>> {
    let (mut records, mut record, mut field) = (Vec::new(), Vec::new(), String::new());
    let (mut quoted, mut letters) = (false, text.chars().peekable());
    while let Some(c) = letters.next() {
        match c {
            '"' if quoted && letters.next_if_eq(&'"').is_some() => field.push('"'),
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(std::mem::take(&mut field)),
            '\n' if !quoted => {
                record.push(std::mem::take(&mut field));
                records.push(std::mem::take(&mut record));
            }
            c => field.push(c),
        }
    }
    assert!(!quoted && field.is_empty() && record.is_empty(), "{text}");
    records
}

#[test]
fn every_format_says_the_same_whatever_the_names() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (dir.path().join("model"), dir.path().join("deep/out"));
    let named = ["cat, \"tabby\"", " ", "très <long> & 长长长长长长长长长长长长长长长 \u{1b}[31m"];
    classifier(&model, named);
    let mut images = noise(dir.path(), &["a.png", "it's, \"odd\" <é>.png", "c.png"]);
    images.insert(1, dir.path().join("torn.png"));
    std::fs::write(&images[1], b"\x89PNG\r\n\x1a\n torn").unwrap();
    images.push(dir.path().join("gone.png"));

    let ran = predict(&model, &["--json", "-o", out.to_str().unwrap()], &images);
    for word in ["torn.png", "gone.png", "2 broken images were skipped", "predictions.svg to"] {
        assert!(ran.err.contains(word), "{word}: {}", ran.err);
    }
    assert_eq!(names(&out), ["predictions.csv", "predictions.json", "predictions.svg"]);
    let file = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert_eq!(file("predictions.json"), ran.out);
    let found = json(ran);
    assert_eq!(found.len(), 5);
    for (image, path) in found.iter().zip(&images) {
        assert_eq!(image["file"], path.to_str().unwrap());
        let broken = path.ends_with("torn.png") || path.ends_with("gone.png");
        assert_eq!(image["error"].as_str().is_some_and(|e| e.contains(path.to_str().unwrap())), broken, "{image}");
        assert_eq!(classes(image).len(), if broken { 0 } else { 3 });
        let sum: f64 = classes(image).iter().map(|c| c.1).sum();
        assert!(broken || (sum - 1.0).abs() < 1e-6 && classes(image).is_sorted_by(|a, b| a.1 >= b.1), "{image}");
        for row in image["predictions"].as_array().unwrap() {
            let class = row["class"].as_u64().unwrap() as usize;
            assert_eq!(row["name"], if class == 1 { "class 1" } else { named[class] });
        }
    }

    // a row for each image and class
    let csv = predict(&model, &["--csv"], &images).ok().out;
    assert_eq!(file("predictions.csv"), csv);
    let mut expected = vec![["file", "rank", "class", "name", "probability"].map(String::from).to_vec()];
    for image in &found {
        for (i, row) in image["predictions"].as_array().unwrap().iter().enumerate() {
            let text = |value: &Value| value.as_str().unwrap().to_owned();
            let probability = row["probability"].to_string();
            let rank = (i + 1).to_string();
            expected.push(vec![text(&image["file"]), rank, row["class"].to_string(), text(&row["name"]), probability]);
        }
    }
    assert_eq!(records(&csv), expected);

    // a block for each image that could be read; no byte that a terminal acts on
    let table = predict(&model, &[], &images).ok().out;
    let lines: Vec<&str> = table.lines().collect();
    assert_eq!((lines.len(), lines[0], lines[4]), (12, images[0].to_str().unwrap(), images[2].to_str().unwrap()));
    let (class, probability) = classes(&found[0])[0];
    assert!(lines[1].starts_with(&format!("{:>7.2}%  {class}  ", 100.0 * probability)), "{table}");
    assert!(!table.contains('\x1b') && table.contains("\u{fffd}[31m") && table.contains("class 1"), "{table}");

    let svg = file("predictions.svg");
    assert_eq!(svg.matches("<image ").count(), 3);
    assert!(svg.contains("it's, &quot;odd&quot; &lt;é&gt;.png") && svg.contains("très &lt;long&gt; &amp; 长"), "{svg}");
    assert!(!svg.contains("<é") && !svg.contains("& ") && !svg.contains('\x1b'), "{svg}");
}

/// What is predicted for an image does not depend on what lies beside it.
#[test]
fn neither_batches_nor_order_change_a_prediction() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let model = dir.path().join("model");
    classifier(&model, ["a", "b", "c"]);
    let mut images = noise(dir.path(), &["0.png", "1.png", "2.png", "3.png", "4.png", "5.png", "6.png"]);
    let of = |args: &[&str], images: &[PathBuf]| {
        let found = json(predict(&model, &[&["--json"], args].concat(), images));
        let mut rows: Vec<_> = found.iter().map(|i| (i["file"].as_str().unwrap().to_owned(), classes(i))).collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows
    };
    let whole = of(&[], &images);
    assert!(whole.windows(2).any(|w| w[0].1 != w[1].1), "the pictures differ: {whole:?}");
    for size in ["--batch-size=1", "--batch-size=3", "--batch-size=7"] {
        assert_eq!(of(&[size, "--threads=1"], &images), whole, "{size}");
    }
    images.reverse();
    images.swap(1, 4);
    assert_eq!(of(&["--batch-size=3"], &images), whole);
    let alone: Vec<_> = images.iter().flat_map(|image| of(&[], std::slice::from_ref(image))).collect();
    assert!(alone.iter().all(|row| whole.contains(row)), "{alone:?} {whole:?}");
    // the same image twice is two images
    let twice = json(predict(&model, &["--json"], &[images[0].clone(), images[0].clone()]));
    assert_eq!(twice[0], twice[1]);
}

/// The share of images whose first class is that of their folder is what `eval` counts.
#[test]
fn predictions_agree_with_eval() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let compare = |checkpoint: &Path, data: &str, split: &str, args: &[&str]| {
        let scores = dir.path().join("eval.json");
        let mut eval = program();
        eval.args(["eval", data, split, "--checkpoint"]).arg(checkpoint).args(args).arg("--json").arg(&scores);
        run(eval).ok();
        let scores: Value = serde_json::from_slice(&std::fs::read(&scores).unwrap()).unwrap();
        let found = json(predict(checkpoint, &[&["--json", "--top-k=5", data, split], args].concat(), &[]));
        let hit = |image: &&Value, first: usize| {
            let path = Path::new(image["file"].as_str().unwrap());
            let folder = path.parent().unwrap().file_name().unwrap().to_str().unwrap();
            image["predictions"].as_array().unwrap().iter().take(first).any(|p| p["name"] == folder)
        };
        let percent = |first| 100.0 * found.iter().filter(|i| hit(i, first)).count() as f64 / found.len() as f64;
        assert_eq!(scores["images"], found.len());
        for (name, first) in [("top1", 1), ("top5", 5)] {
            assert!((scores[name].as_f64().unwrap() - percent(first)).abs() < 1e-9, "{name}: {scores}");
        }
        percent(1)
    };
    let taught = compare(&TAUGHT.path().join("best"), &stripes(), "--split=test", &["--batch-size=27"]);
    assert!(taught > 70.0, "{taught}");
    let model = dir.path().join("model");
    classifier(&model, ["eel", "cat", "dog"]);
    let data = dir.path().join("data");
    pictures(&data, &["cat", "dog", "eel"]);
    let data = format!("--data={}", data.display());
    compare(&model, &data, "--split=train", &[]);
    compare(&model, &data, "--split=train", &["--crop-ratio=1"]);
    // without a split: the images that there are
    assert_eq!(json(predict(&model, &["--json", &data], &[])).len(), 6);
}

/// The same weights give the same predictions, whichever way they came: imported, exported, or as a moving average.
#[test]
fn weights_of_any_origin() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    classifier(&at("model"), ["a", "b", "c"]);
    let images = noise(dir.path(), &["0.png", "1.png"]);
    let of = |folder: &str, args: &[&str]| json(predict(&at(folder), &[&["--json"], args].concat(), &images));
    let first = of("model", &[]);
    rowscan(&["export", "--dtype=f32"], &[("--checkpoint", &at("model")), ("-o", &at("exported"))]).ok();
    assert_eq!(of("exported", &[]), first);
    // the number of heads does not follow from tensors
    let import = [&["import", "--heads=2"], VIT].concat();
    rowscan(&import, &[("", &at("exported/model.safetensors")), ("-o", &at("again"))]).ok();
    assert_eq!(of("again", &[]), first);
    // a file of timm knows neither the names nor the crop
    write(&at("timm.safetensors"), &drawn(&vit(), 7));
    rowscan(&import, &[("", &at("timm.safetensors")), ("-o", &at("timm"))]).ok();
    let timm = of("timm", &["--crop-ratio=0.5"]);
    assert!(timm.iter().zip(&first).all(|(a, b)| classes(a) == classes(b)), "{timm:?} {first:?}");
    assert_ne!(of("timm", &[]), timm);
    let row = &timm[0]["predictions"][0];
    assert_eq!(row["name"], format!("class {}", row["class"]));
    // a `best` that the moving average won
    write(&at("model/ema.safetensors"), &drawn(&vit(), 8));
    let state = r#"{ "version": 1, "step": 4, "epoch": 2, "batch": 0, "images": 6, "settings": { "crop_ratio": 0.5 },
        "best": { "epoch": 2, "top1": 50.0, "average": true } }"#;
    std::fs::write(at("model/state.json"), state).unwrap();
    let average = of("model", &[]);
    assert!(average != first && of("model", &["--ema"]) == average && of("model", &["--ema=false"]) == first);
}

/// `--top-k` is at most all classes; a picture is of 64 images at most, and that is said.
#[test]
fn as_many_as_asked_for_and_as_there_are() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (dir.path().join("model"), dir.path().join("out"));
    classifier(&model, ["a", "b", "c"]);
    let of = |args: &[&str]| json(predict(&model, &[&["--json", "--data=synthetic:280"], args].concat(), &[]));
    let three = of(&["--top-k=99"]);
    assert_eq!((three.len(), classes(&three[0]).len()), (70, 3)); // the test half
    let one = of(&["--top-k=1", "--max-images=5", "--batch-size=2"]);
    assert_eq!(one.len(), 5);
    for (i, image) in one.iter().enumerate() {
        assert_eq!((&image["file"], classes(image)), (&three[14 * i]["file"], classes(&three[14 * i])[..1].to_vec()));
    }
    assert_eq!(of(&["--split=train", "--max-images=3"]).len(), 3);
    let ran = predict(&model, &["--data=synthetic:280", &format!("-o={}", out.display())], &[]).ok();
    assert!(ran.err.contains("the first 64 of 70 images"), "{}", ran.err);
    let svg = std::fs::read_to_string(out.join("predictions.svg")).unwrap();
    assert_eq!(svg.matches("<image ").count(), 64);
    // again, over the old files
    predict(&model, &["--data=synthetic:8", &format!("-o={}", out.display())], &[]).ok();
    assert_eq!(std::fs::read_to_string(out.join("predictions.csv")).unwrap().lines().count(), 1 + 2 * 3);
    assert_eq!(names(&out).len(), 3);
}
