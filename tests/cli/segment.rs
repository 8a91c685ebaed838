//! Segmentation as people train, measure and use it, on generated scenes and on folders.

use super::{program, rowscan, run, skip};
use crate::common::some;

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

    let last = at("out/checkpoint-2");
    // resumed to the same bits
    rowscan(&["segment"], &[("--resume", &at("out/checkpoint-1")), ("--output-dir", &at("again"))]).ok();
    for file in ["model.safetensors", "optimizer.safetensors", "ema.safetensors"] {
        let bytes = |run: &str| std::fs::read(at(run).join("checkpoint-2").join(file)).unwrap();
        assert!(bytes("out") == bytes("again"), "{file}");
    }
    rowscan(&["segment", "--head-channels=16"], &[("--resume", &at("out/checkpoint-1")), ("--output-dir", &at("x"))])
        .fails(1, &["another model", "dense was"]);
    for command in ["pretrain", "finetune", "detect"] {
        rowscan(&[command], &[("--resume", &last), ("--output-dir", &at("x"))])
            .fails(1, &["of a run of `rowscan segment`", "--checkpoint"]);
    }
    for args in [&["features", "--data=synthetic:16", "-o=x"][..], &["probe", "--data=synthetic:16"]] {
        rowscan(args, &[("--checkpoint", &last)]).fails(1, &["for a dense task, which has no features", "pretrained"]);
    }
    rowscan(&["reconstruct", "x.png", "-o=y.png"], &[("--checkpoint", &last)])
        .fails(1, &["for a dense task, which has no decoder of pixels"]);

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
    let photo = std::fs::read(at("photo.png")).unwrap();
    rowscan(&predict, &[("--checkpoint", &last), ("-o", dir.path())]).ok(); // beside the photo, which stays
    assert!(std::fs::read(at("photo.png")).unwrap() == photo && at("photo-2.png").exists());
    let said = rowscan(&[&predict[..], &["--json"]].concat(), &[("--checkpoint", &last)]).ok();
    let json: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((json[0]["width"].as_u64(), json[1]["classes"].as_array().map(Vec::len)), (Some(50), Some(0)), "{json}");
    let shares = json[0]["classes"].as_array().unwrap().iter().map(|class| class["share"].as_f64().unwrap());
    assert!((shares.sum::<f64>() - 1.0).abs() < 1e-9, "{json}");
    for (option, words) in [
        ("--csv", &["--csv"][..]),
        ("--top-k=3", &["--top-k", "got 3", "expected a classifier"]),
        ("--min-score=0.3", &["--min-score", "got 0.3", "expected a detector"]),
        ("--crop-ratio=0.9", &["--crop-ratio", "got 0.9", "images for a dense task are not cropped"]),
    ] {
        rowscan(&["predict", &files[0], option], &[("--checkpoint", &last)]).fails(2, words);
    }
    let cropped = [&eval[..], &["--crop-ratio=0.9"]].concat();
    rowscan(&cropped, &[("--checkpoint", &last)]).fails(2, &["--crop-ratio", "got 0.9"]);
    for (option, words) in [("--pool=average", "--pool"), ("--decoder-depth=1", "--decoder-depth")] {
        let args = [&["segment", "--dry-run", option], NANO, RUN].concat();
        rowscan(&args, &[]).fails(2, &[words, "got "]);
    }
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
    refused.fails(1, &["classes.txt", "one a line", "--num-classes"]);
    let out = [("--output-dir", &*at("out"))];
    let others = rowscan(&[&train[..], &["--num-classes=1", "--epochs=1"]].concat(), &out);
    others.fails(1, &["annotations/training", "the pixel 20, 1 has the value 1, expected 0 to 0, or 255"]);
    let synthetic = [&["segment", "--num-classes=11", "--data=synthetic:8", "--batch-size=4"], NANO].concat();
    rowscan(&synthetic, &out).fails(2, &["--num-classes", "synthetic-scenes:8"]);
    assert!(!at("out").exists());
    // the value 1 becomes class 0, and 0 none; tests of the same set know it
    let reduced = ["--num-classes=1", "--reduce-zero-label", "--epochs=1"];
    rowscan(&[&train[..], &reduced].concat(), &[("--output-dir", &at("reduced"))]).ok();
    let eval = ["eval", "--data", &data];
    let last = at("reduced/checkpoint-1");
    let scored = rowscan(&eval, &[("--checkpoint", &last), ("--json", &at("one.json"))]).ok();
    assert!(scored.out.contains("2 images, 1 classes") && scored.out.contains("class 0"), "{}", scored.out);
    let json: serde_json::Value = serde_json::from_slice(&std::fs::read(at("one.json")).unwrap()).unwrap();
    assert_eq!((&json["aacc"], &json["skipped"]), (&1.0.into(), &0.into()), "one class is always right: {json}");
    let unshifted = [&eval[..], &["--reduce-zero-label=false"]].concat();
    rowscan(&unshifted, &[("--checkpoint", &last)]).fails(1, &["has the value 1, expected 0 to 0"]);
    let photo = at("set/images/training/0.png").display().to_string();
    let of_images = ["predict", &photo, "--num-classes=1"];
    rowscan(&of_images, &[("--checkpoint", &last)]).fails(2, &["--num-classes", "--data"]);
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

    // the same classes as colors, by a table that lies elsewhere
    for split in ["training", "validation"] {
        for entry in std::fs::read_dir(at(&format!("set/annotations/{split}"))).unwrap() {
            let path = entry.unwrap().path();
            let colors = [[128, 64, 128], [70, 130, 180]];
            let of = |value: u8| colors.get(usize::from(value)).copied().unwrap_or([0; 3]);
            let gray = image::open(&path).unwrap().to_luma8();
            let color = |x, y| image::Rgb(of(gray.get_pixel(x, y).0[0]));
            image::RgbImage::from_fn(gray.width(), gray.height(), color).save(&path).unwrap();
        }
    }
    let best = [("--checkpoint", &*at("out/best"))];
    rowscan(&eval, &best).fails(1, &["annotations/validation", "Rgb of 8 bits", "--color-table"]);
    std::fs::write(at("table.txt"), "128 64 128 left\n70 130 180 right\n0 0 0 void\n").unwrap();
    let table = at("table.txt").display().to_string();
    let again = rowscan(&[&eval[..], &["--color-table", &table]].concat(), &best).ok();
    assert_eq!(again.out, scored.out);
}

/// Recipes need no adapter to be planned, and options go over them.
#[test]
fn recipes_are_planned_without_an_adapter() {
    let plan = |args: &[&str]| {
        let mut command = program();
        command.args(args).env("VK_DRIVER_FILES", "/nonexistent").env("VK_ICD_FILENAMES", "/nonexistent");
        run(command)
    };
    let micro = ["--model=map_micro_patch8_64", "--image-size=64", "--classes=5", "--batch-size=2"];
    let segment = [&["segment", "--dry-run", "--recipe=map_small_paper_ade20k"], &micro[..]].concat();
    let text = plan(&segment).ok().out;
    assert!(text.contains("5 classes") && text.contains("step of 4 × 2 images"), "{text}");
    let parameters = |args: &[&str]| {
        let text = plan(&[&segment[..], args].concat()).ok().out;
        text.lines().find(|line| line.starts_with("model ")).unwrap().to_owned()
    };
    assert_ne!(parameters(&[]), parameters(&["--head-channels=8"]), "the recipe has 512");
    let detect = [&["detect", "--dry-run", "--recipe=map_tiny_coco", "--precision=f32"], &micro[..]].concat();
    let text = plan(&detect).ok().out;
    assert!(text.contains("step of 16 × 2 images"), "{text}");
    plan(&["segment", "--recipe=map_tiny_coco"]).fails(2, &["map_tiny_coco", "map_small_ade20k"]);

    let info = ["info", "--batch-size=2", "--recipe"];
    let text = plan(&[&info[..], &["vim_tiny_ade20k"]].concat()).ok().out;
    // 98.5 MB: two moments of each parameter
    for words in ["12311276 parameters", "segmentation at batch 2", "150 classes", "98.5 MB", "launches", "flops"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let text = plan(&[&info[..], &["map_tiny_coco", "--image-size=256"]].concat()).ok().out;
    assert!(text.contains("detection at batch 2") && text.contains("256×256"), "{text}");
    plan(&["info", "--recipe=vim_tiny_ade20k", "--method=mae"]).fails(2, &["--recipe", "--method"]);
    plan(&["info", "--recipe=vim_tiny"]).fails(2, &["vim_tiny", "vim_tiny_ade20k"]);
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
    of(&["--data=synthetic:8", "--model=micro", "--pattern=TTTT"], 2, &["pattern", "0 Mamba layers", "at least 4"]);
    of(
        &["--data=synthetic-objects:8", "--model=micro", "--dry-run"],
        1,
        &["expected an image with a segmentation map"],
    );
    of(&["--data=synthetic-clouds:8"], 1, &["synthetic cloud", "a segmentation map"]);
    of(&["--data=synthetic:8", "--model=efficientnet_micro"], 2, &["maps of EfficientNet", "4, 8, 16 and 32"]);
    of(&["--data=synthetic:8", "--batch-size=1"], 2, &["batch-size", "at least 2"]);
    of(&["--data=synthetic:8", "--channel-dropout=1"], 2, &["dense.dropout"]);
    of(&["--data=synthetic:8", "--scale=2,1"], 2, &["scale"]);
    of(&["--data=synthetic:8", "--image-size=8"], 2, &["dense.grid"]);
    of(&["--data=synthetic:8", "--classes=3"], 1, &["it has 11 (ground", "3"]);
    of(&["--data=synthetic:8", "--layer-decay=0"], 2, &["layer-decay"]);
}

/// A ResNet with either head: trained on generated scenes, resumed, tested, and what does not fit.
#[test]
fn backbones_on_maps() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let small = ["--model=resnet_micro", "--image-size=32", "--head-channels=12", "--auxiliary-channels=8"];
    let heads: Vec<&str> = some(["upernet", "deeplab"]).collect();
    for head in &heads {
        let (out, again) = (at(head), at(&format!("{head}-again")));
        let which = format!("--head={head}");
        let train = [&["segment", "--epochs=2", &which], &small[..], RUN].concat();
        let ran = rowscan(&train, &[("--output-dir", &out)]).ok();
        assert!(ran.out.contains("best: mIoU "), "{head}: {}", ran.out);
        rowscan(&["segment"], &[("--resume", &out.join("checkpoint-1")), ("--output-dir", &again)]).ok();
        let bytes = |run: &std::path::Path| std::fs::read(run.join("checkpoint-2/model.safetensors")).unwrap();
        assert!(bytes(&out) == bytes(&again), "{head}: resumed to the same bits");
        let scored = rowscan(&["eval", "--data=synthetic:16"], &[("--checkpoint", &out.join("checkpoint-2"))]).ok();
        assert!(scored.out.contains("4 images, 11 classes"), "{head}: {}", scored.out);
    }
    // the backbone of one network begins another, whose maps have other strides
    let next = ["segment", "--epochs=1", "--head=deeplab", "--head-channels=12", "--auxiliary-channels=0"];
    let ran = rowscan(
        &[&next[..], RUN].concat(),
        &[("--checkpoint", &at(heads[0]).join("checkpoint-2")), ("--output-dir", &at("next"))],
    )
    .ok();
    assert!(ran.err.contains("tensors taken"), "{}", ran.err);
    let refused = |args: &[&str], says: &[&str]| {
        rowscan(&[&["segment", "--dry-run", "--classes=3", "--batch-size=2"], args].concat(), &[]).fails(2, says);
    };
    refused(&["--model=vim_micro_patch4_32", "--head=deeplab"], &["dense: got a Vim", "expected a ResNet"]);
    refused(&["--model=convnext_tiny", "--head=deeplab"], &["dense: got a ConvNeXt", "expected a ResNet"]);
    refused(&["--model=resnet_micro", "--head=fcn"], &["--head", "upernet, deeplab"]);
}
