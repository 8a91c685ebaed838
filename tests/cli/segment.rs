//! Segmentation as people train, measure and use it, on generated scenes and on folders.

use super::{rowscan, skip};

/// A network that trains in seconds.
const NANO: &[&str] = &[
    "--model=micro",
    "--image-size=32",
    "--patch-size=8",
    "--width=16",
    "--pattern=MMMMT",
    "--heads=2",
    "--states=4",
    "--drop-path=0.2",
    "--head-channels=12",
    "--auxiliary-channels=8",
];
const RUN: &[&str] = &["--data=synthetic:16", "--batch-size=4", "--lr=0.003", "--seed=3", "--log-every=1"];

#[test]
fn scenes_are_segmented_measured_and_drawn() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let train = [&["segment", "--epochs=2", "--model-ema"], NANO, RUN].concat();
    let ran = rowscan(&train, &[("--output-dir", &at("out"))]).ok();
    assert!(ran.err.contains("mIoU ") && ran.err.contains("average's mIoU "), "{}", ran.err);
    assert!(ran.out.contains("best: mIoU "), "{}", ran.out);
    let log = std::fs::read_to_string(at("out/log.jsonl")).unwrap();
    assert_eq!(log.lines().filter(|line| line.contains("\"miou\"")).count(), 2, "{log}");
    assert_eq!(log.lines().filter(|line| line.contains("\"lr\"")).count(), 8, "{log}");

    // resumed to the same bits
    rowscan(&["segment"], &[("--resume", &at("out/checkpoint-1")), ("--output-dir", &at("again"))]).ok();
    for file in ["model.safetensors", "optimizer.safetensors", "ema.safetensors"] {
        let bytes = |run: &str| std::fs::read(at(run).join("checkpoint-2").join(file)).unwrap();
        assert!(bytes("out") == bytes("again"), "{file}");
    }
    let last = at("out/checkpoint-2");
    rowscan(&["segment", "--head-channels=16"], &[("--resume", &at("out/checkpoint-1")), ("--output-dir", &at("x"))])
        .fails(1, &["another model", "dense was"]);

    let eval = ["eval", "--data=synthetic:16"];
    let scored = rowscan(&eval, &[("--checkpoint", &last), ("--json", &at("scores.json"))]).ok();
    assert!(scored.out.contains("4 images, 11 classes") && scored.out.contains("mIoU "), "{}", scored.out);
    assert!(scored.out.contains("ground") && scored.out.contains("crescent"), "{}", scored.out);
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(at("scores.json")).unwrap()).unwrap();
    let miou = json["miou"].as_f64().unwrap();
    assert!((0.0..=1.0).contains(&miou) && json["classes"].as_array().unwrap().len() == 11, "{json}");
    let logged: serde_json::Value =
        serde_json::from_str(log.lines().rfind(|l| l.contains("\"miou\"")).unwrap()).unwrap();
    assert!((100.0 * miou - logged["miou"].as_f64().unwrap()).abs() < 1e-9, "the test of the run: {json} {logged}");
    rowscan(&[&eval[..], &["--vote=2"]].concat(), &[("--checkpoint", &last)]).fails(2, &["--vote", "segmentation"]);

    image::RgbImage::from_fn(50, 40, |x, y| image::Rgb([5 * x as u8, 5 * y as u8, 90])).save(at("photo.png")).unwrap();
    std::fs::write(at("torn.png"), "no image").unwrap();
    let files = [at("photo.png"), at("torn.png")].map(|path| path.display().to_string());
    let predict = ["predict", &files[0], &files[1]];
    let said = rowscan(&predict, &[("--checkpoint", &last), ("-o", &at("seen"))]).ok();
    assert!(said.out.contains("photo.png") && said.out.contains('%'), "{}", said.out);
    assert!(said.err.contains("torn.png") && said.err.contains("wrote 1 maps"), "{}", said.err);
    let map = image::open(at("seen/photo.png")).unwrap();
    assert_eq!((map.width(), map.height(), map.color()), (50, 40, image::ColorType::L8));
    assert!(map.into_luma8().into_raw().iter().all(|class| *class < 11));
    assert!(std::fs::read_to_string(at("seen/photo.svg")).unwrap().contains("data:image/png;base64,"));
    let said = rowscan(&[&predict[..], &["--json"]].concat(), &[("--checkpoint", &last)]).ok();
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((json[0]["width"].as_u64(), json[1]["classes"].as_array().map(Vec::len)), (Some(50), Some(0)), "{json}");
    let shares = json[0]["classes"].as_array().unwrap().iter().map(|class| class["share"].as_f64().unwrap());
    assert!((shares.sum::<f64>() - 1.0).abs() < 1e-9, "{json}");
    rowscan(&["predict", &files[0], "--csv"], &[("--checkpoint", &last)]).fails(2, &["--csv"]);
    rowscan(&["predict", &files[1]], &[("--checkpoint", &last)]).fails(1, &["no image could be read"]);

    // other commands say what the checkpoint is
    rowscan(&["finetune", "--epochs=1", "--data=synthetic:16"], &[("--checkpoint", &last), ("--output-dir", &at("x"))])
        .fails(2, &["rowscan segment"]);
}

#[test]
fn backbones_come_from_pretraining() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let shape = &NANO[..8];
    let pretrain = ["pretrain", "--epochs=1", "--data=synthetic:16", "--batch-size=4", "--decoder-width=16"];
    let pretrain = [&pretrain[..], &["--decoder-depth=1", "--decoder-heads=2", "--grid-every=0"], shape].concat();
    rowscan(&pretrain, &[("--output-dir", &at("map"))]).ok();
    // at another size: positions are resized
    let train =
        [&["segment", "--epochs=1", "--image-size=64", "--head-channels=8", "--auxiliary-channels=0"], RUN].concat();
    let checkpoint = at("map/checkpoint-1");
    let ran = rowscan(&train, &[("--checkpoint", &checkpoint), ("--output-dir", &at("out"))]).ok();
    assert!(ran.err.contains("1 resized (pos_embed)") && ran.err.contains("ignored ("), "{}", ran.err);
    // and from a segmentation network, its backbone
    let again = rowscan(&train, &[("--checkpoint", &at("out/checkpoint-1")), ("--output-dir", &at("again"))]).ok();
    assert!(again.err.contains("tensors taken"), "{}", again.err);
    rowscan(
        &[
            "segment",
            "--dry-run",
            "--classes=150",
            "--model=vim_tiny_patch16_224",
            "--image-size=512",
            "--batch-size=2",
        ],
        &[],
    )
    .ok();
}

#[test]
fn folders_with_annotations() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    for (split, count) in [("training", 6), ("validation", 2)] {
        for kind in ["images", "annotations"] {
            std::fs::create_dir_all(at(&format!("set/{kind}/{split}"))).unwrap();
        }
        for i in 0..count {
            let photo =
                image::RgbImage::from_fn(40, 36, |x, _| image::Rgb(if x < 20 { [200, 30, 30] } else { [20, 40, 220] }));
            photo.save(at(&format!("set/images/{split}/{i}.png"))).unwrap();
            let map =
                image::GrayImage::from_fn(40, 36, |x, y| image::Luma([if y == 0 { 255 } else { u8::from(x >= 20) }]));
            map.save(at(&format!("set/annotations/{split}/{i}.png"))).unwrap();
        }
    }
    let data = at("set").display().to_string();
    let train = ["segment", "--epochs=12", "--batch-size=3", "--lr=0.01", "--data", &data];
    let train = [&train[..], NANO].concat();
    let refused = rowscan(&train, &[("--output-dir", &at("out"))]);
    refused.fails(1, &["classes.txt", "one a line"]);
    std::fs::write(at("set/classes.txt"), "left\nright\n").unwrap();
    // without mirroring, which would turn left into right
    let train = [&train[..], &["--hflip=0", "--photometric=false", "--eval-every=12"]].concat();
    let ran = rowscan(&train, &[("--output-dir", &at("out"))]).ok();
    assert!(ran.err.contains("6 images, 2 steps per epoch"), "{}", ran.err);
    let eval = ["eval", "--data", &data];
    let scored = rowscan(&eval, &[("--checkpoint", &at("out/best")), ("--json", &at("scores.json"))]).ok();
    assert!(scored.out.contains("2 images, 2 classes") && scored.out.contains("right"), "{}", scored.out);
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(at("scores.json")).unwrap()).unwrap();
    assert!(json["miou"].as_f64().unwrap() > 0.8, "two colors are two classes: {json}");
}

#[test]
fn what_cannot_be_segmented_is_named() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let out = dir.path().join("out");
    let of = |args: &[&str], code: i32, words: &[&str]| {
        let args = [&["segment", "--epochs=1"], &RUN[1..], args].concat();
        rowscan(&args, &[("--output-dir", &out)]).fails(code, words);
        assert!(!out.exists(), "{args:?}");
    };
    of(&["--data=synthetic-clouds:8"], 1, &["synthetic cloud", "a segmentation map"]);
    of(&["--data=synthetic:8", "--model=resnet50"], 2, &["dense", "ResNet"]);
    of(&["--data=synthetic:8", "--batch-size=1"], 2, &["batch-size", "at least 2"]);
    of(&["--data=synthetic:8", "--channel-dropout=1"], 2, &["dense.dropout"]);
    of(&["--data=synthetic:8", "--scale=2,1"], 2, &["scale"]);
    of(&["--data=synthetic:8", "--image-size=8"], 2, &["dense.grid"]);
    of(&["--data=synthetic:8", "--classes=3"], 1, &["11 classes", "3"]);
    of(&["--data=synthetic:8", "--layer-decay=0"], 2, &["layer-decay"]);
}
