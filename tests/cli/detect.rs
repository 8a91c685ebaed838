//! Detection as people train, measure and use it, on generated scenes and on files like COCO's.

use std::path::Path;

use rowscan::data::coco::{CocoDetection, CocoFile};
use rowscan::infer::coco_scores::{Overlap, coco_scores};
use serde_json::Value;

use super::{rowscan, skip};

/// A network that trains in seconds.
const NANO: &[&str] = &[
    "--model=micro",
    "--image-size=64",
    "--patch-size=16",
    "--width=16",
    "--pattern=MMMMT",
    "--heads=2",
    "--states=4",
    "--drop-path=0.2",
    "--head-channels=8",
    "--head-features=16",
    "--sampled-anchors=16",
    "--sampled-boxes=8",
    "--sampled-objects=2",
    "--proposals=20",
];
const RUN: &[&str] = &["--data=synthetic:16", "--batch-size=4", "--lr=0.003", "--seed=3", "--log-every=1"];

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn objects_are_found_measured_and_drawn() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let train = [&["detect", "--epochs=2", "--model-ema", "--checkpoint-blocks"], NANO, RUN].concat();
    let ran = rowscan(&train, &[("--output-dir", &at("out"))]).ok();
    assert!(ran.err.contains("boxes: AP ") && ran.err.contains("masks: AP "), "{}", ran.err);
    assert!(ran.err.contains("average's AP ") && ran.out.contains("best: AP of boxes "), "{} {}", ran.err, ran.out);
    let log = std::fs::read_to_string(at("out/log.jsonl")).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("\"mask_ap\"")).count(), 2, "{log}");
    assert_eq!(log.lines().filter(|line| line.contains("\"lr\"")).count(), 8, "{log}");

    // resumed to the same bits, with blocks kept
    let paths = [("--resume", &*at("out/checkpoint-1")), ("--output-dir", &at("again"))];
    rowscan(&["detect", "--checkpoint-blocks=false"], &paths).ok();
    for file in ["model.safetensors", "optimizer.safetensors", "ema.safetensors"] {
        let bytes = |run: &str| std::fs::read(at(run).join("checkpoint-2").join(file)).unwrap();
        assert!(bytes("out") == bytes("again"), "{file}");
    }
    let last = at("out/checkpoint-2");
    rowscan(&["detect", "--head-channels=16"], &[("--resume", &at("out/checkpoint-1")), ("--output-dir", &at("x"))])
        .fails(1, &["another model", "dense was"]);

    let eval = ["eval", "--data=synthetic:16"];
    let scored = rowscan(&eval, &[("--checkpoint", &last), ("--json", &at("scores.json"))]).ok();
    assert!(scored.out.contains("4 images, 10 classes") && scored.out.contains("AR100"), "{}", scored.out);
    assert!(scored.out.contains("disc") && scored.out.contains("crescent"), "{}", scored.out);
    let scores = json(&at("scores.json"));
    let ap = scores["boxes"]["AP"].as_f64().unwrap();
    assert_eq!(scores["masks"].as_object().unwrap().len(), 12, "{scores}");
    let logged: Value = serde_json::from_str(log.lines().rfind(|l| l.contains("\"mask_ap\"")).unwrap()).unwrap();
    // the average's, where that won
    let of_run = logged[if scores["ema"] == true { "ema_ap" } else { "ap" }].as_f64().unwrap();
    assert!((100.0 * ap - of_run).abs() < 1e-9, "the test of the run: {scores} {logged}");
    rowscan(&[&eval[..], &["--vote=2"]].concat(), &[("--checkpoint", &last)]).fails(2, &["--vote", "detection"]);

    image::RgbImage::from_fn(50, 40, |x, y| image::Rgb([5 * x as u8, 5 * y as u8, 90])).save(at("photo.png")).unwrap();
    std::fs::write(at("torn.png"), "no image").unwrap();
    let files = [at("photo.png"), at("torn.png")].map(|path| path.display().to_string());
    let predict = ["predict", &files[0], &files[1], "--min-score=0"];
    let said = rowscan(&predict, &[("--checkpoint", &last), ("-o", &at("seen"))]).ok();
    assert!(said.out.contains("photo.png"), "{}", said.out);
    assert!(said.err.contains("torn.png") && said.err.contains("wrote 1 pictures"), "{}", said.err);
    assert!(std::fs::read_to_string(at("seen/photo.svg")).unwrap().contains("data:image/png;base64,"));
    let results: Vec<CocoDetection> = serde_json::from_slice(&std::fs::read(at("seen/results.json")).unwrap()).unwrap();
    assert!(results.iter().all(|found| found.image_id == 1 && (1..=10).contains(&found.category_id)), "{results:?}");
    let said = rowscan(&[&predict[..], &["--json"]].concat(), &[("--checkpoint", &last)]).ok();
    let printed: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(printed[0]["objects"].as_array().unwrap().len(), results.len(), "{printed}");
    assert!(printed[1]["error"].as_str().unwrap().contains("torn.png"), "{printed}");
    rowscan(&["predict", &files[0], "--csv"], &[("--checkpoint", &last)]).fails(2, &["--csv"]);
    let named = ["predict", &files[0], "--top-k=3"];
    rowscan(&named, &[("--checkpoint", &last)]).fails(2, &["--top-k", "got 3", "expected a classifier"]);
    rowscan(&["predict", &files[0], "--min-score=2"], &[("--checkpoint", &last)]).fails(2, &["--min-score", "0 to 1"]);
    rowscan(&["predict", &files[1]], &[("--checkpoint", &last)]).fails(1, &["no image could be read"]);

    // the backbone serves another task, and other commands say what the checkpoint is
    let segment = ["segment", "--epochs=1", "--data=synthetic:8", "--batch-size=4", "--head-channels=8"];
    let ran = rowscan(&segment, &[("--checkpoint", &last), ("--output-dir", &at("segment"))]).ok();
    assert!(ran.err.contains("tensors taken"), "{}", ran.err);
    rowscan(&["finetune", "--epochs=1", "--data=synthetic:16"], &[("--checkpoint", &last), ("--output-dir", &at("x"))])
        .fails(2, &["rowscan detect"]);
}

/// Images of 48 × 40 pixels with a bright box in each, and their annotations, as `with` changes them.
fn boxes(dir: &Path, split: &str, count: u64, with: impl Fn(&mut Value)) {
    let (mut images, mut annotations) = (Vec::new(), Vec::new());
    std::fs::create_dir_all(dir.join(format!("{split}2017"))).unwrap();
    std::fs::create_dir_all(dir.join("annotations")).unwrap();
    for i in 0..count {
        let (x, y, side) = (2 + 5 * (i as u32 % 4), 3 + 4 * (i as u32 % 3), 16 + i as u32 % 5);
        let inside = |a: u32, b: u32| (x..x + side).contains(&a) && (y..y + side).contains(&b);
        let color = |a, b| image::Rgb(if inside(a, b) { [250, 220, 40] } else { [20, 40, 90] });
        let name = format!("{i:012}.png");
        image::RgbImage::from_fn(48, 40, color).save(dir.join(format!("{split}2017/{name}"))).unwrap();
        let [l, t, r, b] = [x, y, x + side, y + side].map(f64::from);
        images.push(serde_json::json!({ "id": 100 + i, "file_name": name, "width": 48, "height": 40 }));
        annotations.push(serde_json::json!({
            "id": i + 1, "image_id": 100 + i, "category_id": 7, "bbox": [l, t, r - l, b - t], "iscrowd": 0,
            "area": side * side, "segmentation": [[l, t, r, t, r, b, l, b]],
        }));
    }
    let categories = serde_json::json!([{ "id": 9, "name": "lamp" }, { "id": 7, "name": "box" }]);
    let mut file = serde_json::json!({ "images": images, "categories": categories, "annotations": annotations });
    with(&mut file);
    let path = dir.join(format!("annotations/instances_{split}2017.json"));
    std::fs::write(path, serde_json::to_vec(&file).unwrap()).unwrap();
}

/// Results go out with the numbers of the file, and score there as `eval` says.
#[test]
fn files_like_those_of_coco() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let set = at("set");
    boxes(&set, "train", 8, |_| {});
    boxes(&set, "val", 4, |file| {
        // run lengths of a crowd, as COCO has them, and an image whose file is missing
        let crowd = serde_json::json!({
            "id": 90, "image_id": 100, "category_id": 9, "bbox": [40, 0, 8, 40], "iscrowd": 1, "area": 320,
            "segmentation": { "size": [40, 48], "counts": [1600, 320] },
        });
        file["annotations"].as_array_mut().unwrap().push(crowd);
        let gone = serde_json::json!({ "id": 500, "file_name": "gone.png", "width": 48, "height": 40 });
        file["images"].as_array_mut().unwrap().push(gone);
    });
    let data = set.display().to_string();
    let train = ["detect", "--epochs=20", "--batch-size=4", "--lr=0.004", "--scale=0.9,1.1", "--eval-every=20"];
    let train = [&train[..], &["--data", &data], NANO].concat();
    let ran = rowscan(&train, &[("--output-dir", &at("out"))]).ok();
    assert!(ran.err.contains("8 images, 2 steps per epoch") && ran.err.contains("gone.png"), "{}", ran.err);
    let last = at("out/checkpoint-20");
    let eval = ["eval", "--data", &data];
    let scored = rowscan(&eval, &[("--checkpoint", &last), ("--json", &at("scores.json"))]).ok();
    assert!(scored.out.contains("4 images, 2 classes") && scored.out.contains("lamp"), "{}", scored.out);
    let said = rowscan(&["predict", "--data", &data], &[("--checkpoint", &last), ("-o", &at("seen"))]).ok();
    assert!(said.err.contains("results.json"), "{}", said.err);
    let results: Vec<CocoDetection> = serde_json::from_slice(&std::fs::read(at("seen/results.json")).unwrap()).unwrap();
    assert!(!results.is_empty() && results.iter().all(|found| (100..104).contains(&found.image_id)), "{results:?}");
    // plain files too get the numbers of the file that was learned from
    let image = set.join("val2017/000000000000.png").display().to_string();
    let predict = ["predict", &image, "--min-score=0"];
    rowscan(&predict, &[("--checkpoint", &last), ("-o", &at("plain"))]).ok();
    let plain: Vec<CocoDetection> = serde_json::from_slice(&std::fs::read(at("plain/results.json")).unwrap()).unwrap();
    assert!(!plain.is_empty() && plain.iter().all(|found| [7, 9].contains(&found.category_id)), "{plain:?}");
    assert_eq!(json(&last.join("categories.json")), serde_json::json!([7, 9]));
    let exported = at("exported");
    rowscan(&["export"], &[("--checkpoint", &last), ("-o", &exported)]).ok();
    assert_eq!(json(&exported.join("categories.json")), serde_json::json!([7, 9]));
    let weights = std::fs::read(exported.join("model.safetensors")).unwrap();
    let notes = safetensors::SafeTensors::read_metadata(&weights).unwrap().1.metadata().clone().unwrap();
    assert_eq!((notes["steps"].as_str(), notes["batch_size"].as_str()), ("40", "4"));
    std::fs::write(last.join("categories.json"), "[7]").unwrap();
    rowscan(&predict, &[("--checkpoint", &last)]).fails(1, &["categories.json", "numbers 1 categories", "2 classes"]);
    let text = std::fs::read_to_string(set.join("annotations/instances_val2017.json")).unwrap();
    let mut truth = CocoFile::parse(&text).unwrap();
    truth.images.retain(|image| image.id < 500);
    let scores = json(&at("scores.json"));
    for (kind, overlap) in [("boxes", Overlap::Boxes), ("masks", Overlap::Masks)] {
        let theirs = coco_scores(&truth, &results, overlap).unwrap().stats;
        let ours = ["AP", "AP50", "AP75"].map(|name| scores[kind][name].as_f64().unwrap());
        assert_eq!(ours, theirs[..3], "{kind}");
    }
}

#[test]
fn what_cannot_be_detected_is_named() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (out, set) = (dir.path().join("out"), dir.path().join("set"));
    let of = |args: &[&str], code: i32, words: &[&str]| {
        let args = [&["detect", "--epochs=1"], NANO, &RUN[1..], args].concat();
        rowscan(&args, &[("--output-dir", &out)]).fails(code, words);
        assert!(!out.exists(), "{args:?}");
    };
    of(&["--data=synthetic-scenes:8"], 1, &["synthetic scene", "an image with boxes"]);
    let other = ["detect", "--epochs=1", "--model=efficientnet_micro", "--image-size=64", "--data=synthetic:8"];
    rowscan(&other, &[("--output-dir", &out)]).fails(2, &["maps of EfficientNet", "4, 8, 16 and 32"]);
    let odd = ["detect", "--epochs=1", "--model=resnet_micro", "--image-size=48", "--data=synthetic:8"];
    rowscan(&odd, &[("--output-dir", &out)]).fails(2, &["image_size", "48 × 48", "multiples of 32"]);
    of(&["--data=synthetic:8", "--scale=2,1"], 2, &["scale"]);
    of(&["--data=synthetic:8", "--image-size=16"], 2, &["dense.grid"]);
    of(&["--data=synthetic:8", "--classes=3"], 1, &["it has 10 (disc", "3"]);
    of(&["--data=synthetic:8", "--sampled-objects=1"], 2, &["dense.objects", "2 to"]);
    let data = set.display().to_string();
    let with = |change: &dyn Fn(&mut Value), words: &[&str]| {
        boxes(&set, "train", 4, change);
        of(&["--data", &data], 1, words);
    };
    with(&|file| file["categories"][0] = serde_json::json!({ "id": 9 }), &["name of category 9: got none", "add it"]);
    with(&|file| file["annotations"][0]["category_id"] = 5.into(), &["category_id of annotation 1: got 5"]);
    let no_masks = |file: &mut Value| {
        for object in file["annotations"].as_array_mut().unwrap() {
            object.as_object_mut().unwrap().remove("segmentation");
        }
    };
    with(&no_masks, &["no mask", "masks"]);
    std::fs::write(set.join("annotations/instances_train2017.json"), "{\"images\": [}").unwrap();
    of(&["--data", &data], 1, &["instances_train2017.json", "line 1 column 13"]);
    // boxes alone are learned on request, and those outside of their image are named
    boxes(&set, "train", 4, |file| {
        no_masks(file);
        file["annotations"][0]["bbox"] = serde_json::json!([60, 3, 5, 5]);
    });
    let args = [&["detect", "--epochs=1", "--masks=false", "--batch-size=3", "--data", &data], NANO].concat();
    let ran = rowscan(&args, &[("--output-dir", &out)]).ok();
    assert!(ran.err.contains("annotation 1: [60.0, 3.0, 5.0, 5.0]") && ran.err.contains("no test"), "{}", ran.err);
}
