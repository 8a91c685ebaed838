//! Data sets as people have them, through the program: broken images in a test set, splits without labels, lists.

use std::path::{Path, PathBuf};
use std::process::Command;

use rowscan::run::record::read_tests;
use serde_json::Value;

use super::{NANO, Take, features_of, program, run, skip};

const CLASSES: [&str; 3] = ["a", "b", "c"];

/// Writes an image of noise in a color of its class.
fn picture(path: &Path, class: usize, seed: u32) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let color = |x: u32, y: u32, channel: usize| {
        let noise = (x * 31 + y * 17 + seed * 7 + channel as u32) % 60;
        if channel == class { 190 + noise as u8 } else { noise as u8 }
    };
    image::RgbImage::from_fn(16, 16, |x, y| image::Rgb([0, 1, 2].map(|c| color(x, y, c)))).save(path).unwrap();
}

/// A set of three classes: four training images and one of validation each.
fn set(root: &Path) {
    for (class, name) in CLASSES.iter().enumerate() {
        (0..4).for_each(|i| picture(&root.join(format!("train/{name}/{i}.png")), class, i));
        picture(&root.join(format!("val/{name}/5.png")), class, 9);
    }
}

/// Writes broken images of several kinds beside the whole ones. Says how many.
fn spoil(root: &Path, kinds: &[usize]) -> usize {
    let whole = std::fs::read(root.join("val/b/5.png")).unwrap();
    let bad: [(&str, &[u8]); 6] = [
        ("a/0.png", &whole[..40]),
        ("b/1.png", &whole[..whole.len() - 20]),
        ("b/9.jpg", b"\xff\xd8\xff\xe0 torn"),
        ("c/2.png", b""),
        ("c/7.bmp", b"no picture"),
        ("a/6.gif", b"GIF89a"),
    ];
    kinds.iter().for_each(|&kind| std::fs::write(root.join("val").join(bad[kind].0), bad[kind].1).unwrap());
    kinds.len()
}

fn finetune(data: &Path, out: &Path) -> Command {
    let mut command = program();
    let model: Vec<&str> =
        NANO.iter().copied().filter(|arg| !arg.starts_with("--classes") && !arg.contains("decoder")).collect();
    command.args(["finetune", "--recipe=cifar", "--epochs=2", "--batch-size=4", "--seed=3"]).args(model);
    command.arg("--data").arg(data).arg("--output-dir").arg(out);
    command
}

fn eval(checkpoint: &Path, data: &Path, batch: &str, json: &Path) -> (String, String, Value) {
    let mut command = program();
    command.args(["eval", batch, "--checkpoint"]).arg(checkpoint).arg("--data").arg(data).arg("--json").arg(json);
    let ran = run(command).ok();
    (ran.out, ran.err, serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap())
}

#[test]
fn broken_images_of_a_test_set_are_not_counted() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    set(&at("good"));
    run(finetune(&at("good"), &at("out"))).ok();
    let checkpoint = at("out/best");
    let (_, _, good) = eval(&checkpoint, &at("good"), "--batch-size=64", &at("good.json"));
    assert_eq!((&good["images"], &good["skipped"]), (&3.into(), &0.into()));
    for (case, kinds) in [&[0, 1, 2][..], &[3], &[0, 1, 2, 3, 4, 5], &[2, 5]].into_iter().enumerate() {
        let bad = at(&format!("bad{case}"));
        set(&bad);
        let count = spoil(&bad, kinds);
        for batch in ["--batch-size=64", "--batch-size=1", "--batch-size=2"] {
            let (out, err, found) = eval(&checkpoint, &bad, batch, &at("bad.json"));
            assert!(out.contains("3 images, 3 classes"), "{out}");
            assert!(err.contains(&format!("{count} broken images were skipped")), "{err}");
            for key in ["images", "top1", "top5", "classes", "confusion"] {
                assert_eq!(found[key], good[key], "{key} {kinds:?} {batch}");
            }
            assert_eq!(found["skipped"], count);
        }
        // rows of features are those of the good images, with their names
        let features = at("features.safetensors");
        let mut command = program();
        command.args(["features", "--split=test", "--checkpoint"]).arg(&checkpoint).arg("--data").arg(&bad);
        run(command.arg("-o").arg(&features).take()).ok();
        let (tensors, labels) = features_of(&features, "labels");
        assert_eq!((tensors["features"].0[0], &labels[..]), (3, &[0, 1, 2][..]));
        let bytes = std::fs::read(&features).unwrap();
        let metadata = rowscan::train::weights_file::metadata(&features, &bytes).unwrap();
        let names: Vec<String> = serde_json::from_str(&metadata["names"]).unwrap();
        assert!(names.iter().zip(CLASSES).all(|(name, class)| name.ends_with(&format!("{class}/5.png"))), "{names:?}");
        let mut all: Vec<String> = names.clone();
        let broken = ["a/0.png", "b/1.png", "b/9.jpg", "c/2.png", "c/7.bmp", "a/6.gif"];
        all.extend(kinds.iter().map(|&kind| bad.join("val").join(broken[kind]).display().to_string()));
        all.sort();
        let positions: Vec<i64> = names.iter().map(|n| all.iter().position(|a| a == n).unwrap() as i64).collect();
        assert_eq!(features_of(&features, "indices").1, positions);
    }
    // the tests of a run, and with them its best epoch, are those of the good images
    let bad = at("bad2");
    let ran = run(finetune(&bad, &at("out-bad"))).ok();
    assert!(ran.err.contains("skipping a broken sample"), "{}", ran.err);
    let tests = |name: &str| {
        let lines = read_tests(&at(name).join("log.jsonl")).unwrap();
        lines.iter().map(|line| line.top1).collect::<Vec<_>>()
    };
    assert_eq!(tests("out"), tests("out-bad"));
    // nothing to count is an error
    std::fs::remove_dir_all(bad.join("val")).unwrap();
    std::fs::create_dir_all(bad.join("val/a")).unwrap();
    std::fs::write(bad.join("val/a/0.png"), b"no").unwrap();
    let mut command = program();
    command.args(["eval", "--checkpoint"]).arg(&checkpoint).arg("--data").arg(&bad);
    run(command).fails(1, &["none of the 1 images of", "bad2"]);
}

#[test]
fn a_split_without_labels_is_named_and_one_class_is_enough() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { dir.path().join(name) };
    set(&at("set"));
    run(finetune(&at("set"), &at("out"))).ok();
    let flat = at("flat");
    set(&flat);
    std::fs::remove_dir_all(flat.join("val")).unwrap();
    (0..2).for_each(|i| picture(&flat.join(format!("val/ILSVRC2012_val_0000000{i}.JPEG")), 0, i));
    let ran = run(finetune(&flat, &at("out-flat")));
    ran.fails(1, &["the test split of", "flat has no labels", "lie in val/ itself", "ILSVRC2012_val_00000000.JPEG"]);
    let one = at("one");
    (0..3).for_each(|i| picture(&one.join(format!("val/b/{i}.png")), 1, i));
    let (out, _, found) = eval(&at("out/best"), &one, "--batch-size=8", &at("one.json"));
    assert!(out.contains("3 images, 3 classes"), "{out}");
    assert_eq!((&found["confusion"][0], &found["classes"][1]["images"]), (&serde_json::json!([0, 0, 0]), &3.into()));
    // a list names the same images
    let list = at("set/val.txt");
    std::fs::write(&list, "val/a/5.png a\nval/b/5.png b\nval/c/5.png c\n").unwrap();
    let folder = eval(&at("out/best"), &at("set"), "--batch-size=8", &at("folder.json")).2;
    assert_eq!(eval(&at("out/best"), &list, "--batch-size=8", &at("list.json")).2["confusion"], folder["confusion"]);
    let mut rescan = program();
    rescan.args(["features", "--rescan", "--split=test", "--checkpoint"]).arg(at("out/best"));
    run(rescan.arg("--data").arg(at("set")).arg("-o").arg(at("f.safetensors")).take()).ok();
}
