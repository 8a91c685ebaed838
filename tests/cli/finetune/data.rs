//! Data sets of fine-tuning: class names, and archives.

use std::path::Path;
use std::process::Command;

use rowscan::run::record::read_tests;
use rowscan::run::weights_on_disk::read;
use rowscan::train::weights_file::to_bytes;

use super::{MODEL, TAUGHT, finetune};
use crate::cli::{Take, copy, pretrain, program, run, skip};

/// An imported official checkpoint has a thousand classes and no `classes.json`: the names are those of ImageNet.
#[test]
fn a_thousand_classes_have_the_names_of_imagenet() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (model, data) = (dir.path().join("model"), dir.path().join("data"));
    copy(&TAUGHT.path().join("checkpoint-6"), &model);
    std::fs::remove_file(model.join("classes.json")).unwrap();
    let config = std::fs::read_to_string(model.join("config.json")).unwrap();
    std::fs::write(model.join("config.json"), config.replace("\"classes\": 4", "\"classes\": 1000")).unwrap();
    let mut weights = read(&model.join("model.safetensors")).unwrap();
    let (shape, values) = weights["head.weight"].clone();
    // the head repeats its four rows, and a large bias makes class 1, the goldfish, win always
    weights.insert("head.weight".into(), (vec![1000, shape[1]], values.repeat(250)));
    weights.insert("head.bias".into(), (vec![1000], (0..1000).map(|i| if i == 1 { 1e4 } else { 0.0 }).collect()));
    std::fs::write(model.join("model.safetensors"), to_bytes(&weights, Default::default()).unwrap()).unwrap();
    for (wnid, count) in [("n01440764", 1), ("n01443537", 3)] {
        let folder = data.join("test").join(wnid);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(data.join("train").join(wnid)).unwrap();
        (0..count).for_each(|i| image::RgbImage::new(9, 9).save(folder.join(format!("{i}.png"))).unwrap());
    }
    let mut eval = program();
    eval.args(["eval", "--per-class", "--checkpoint"]).arg(&model).arg("--data").arg(&data);
    let ran = run(eval).ok();
    for words in ["4 images, 1000 classes", "top-1 75.00%", "tench", "goldfish"] {
        assert!(ran.out.contains(words), "{words}: {}", ran.out);
    }
}

/// Writes a `.tar.gz` of two classes, with a train split and a test split (called `val`).
fn archive(path: &Path) {
    let file = std::fs::File::create(path).unwrap();
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast()));
    for name in ["train/a", "train/b", "val/a", "val/b"] {
        for i in 0..4 {
            let mut png = std::io::Cursor::new(Vec::new());
            image::RgbImage::from_pixel(16, 16, image::Rgb([i * 60; 3]))
                .write_to(&mut png, image::ImageFormat::Png)
                .unwrap();
            let mut header = tar::Header::new_gnu();
            header.set_size(png.get_ref().len() as u64);
            archive.append_data(&mut header, format!("{name}/{i}.png"), &png.get_ref()[..]).unwrap();
        }
    }
    archive.into_inner().unwrap().finish().unwrap();
}

#[test]
fn a_data_set_is_opened_once_and_unpacked_once() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("set.tar.gz");
    archive(&path);
    let data = format!("--data={}", path.display());
    let shared = [&data, "--batch-size=4", "--accum-iter=1", "--epochs=1"];
    let count = |mut command: Command| {
        let log = run(command.env("ROWSCAN_LOG", "rowscan=debug").take()).ok().err;
        let times = |what: &str| log.lines().filter(|line| line.contains(what)).count();
        (times("unpacking "), times("train split: 8 samples"))
    };
    let tested = |dir: &Path| read_tests(&dir.join("log.jsonl")).unwrap().len();
    let out = |name: &str| dir.path().join(name);
    assert_eq!(count(pretrain(&out("pretrain"), &[&shared[..], &["--grid-every=1"]].concat())), (1, 1));
    assert!(out("pretrain/grid-0001.png").exists(), "pictures are of the test split");
    assert_eq!(count(finetune(&out("finetune"), &[MODEL, &shared].concat())), (1, 1));
    assert_eq!(tested(&out("finetune")), 1);
}
