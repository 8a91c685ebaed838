//! `rowscan compare`: curves and differing settings of runs.

use std::path::Path;

use super::{Ran, program};

/// `rowscan compare` with these arguments.
fn compare(args: &[&str]) -> Ran {
    let mut command = program();
    command.arg("compare").args(args);
    super::run(command)
}

/// A folder of a run with these options, three logged steps and, with `top1`, a test.
fn folder(dir: &Path, name: &str, options: &str, loss: f64, top1: Option<f64>) -> String {
    let folder = dir.join(name);
    std::fs::create_dir(&folder).unwrap();
    let step = |i: u32| {
        let loss = loss / f64::from(i + 1);
        format!("{{\"step\":{i},\"epoch\":0.{i},\"loss\":{loss},\"lr\":0.1,\"images_per_second\":9.0}}\n")
    };
    let mut log: String = (0..3).map(step).collect();
    if let Some(top1) = top1 {
        log += &format!("{{\"step\":2,\"epoch\":1.0,\"test_loss\":1.0,\"top1\":{top1},\"top5\":90.0}}\n");
    }
    std::fs::write(folder.join("log.jsonl"), log).unwrap();
    std::fs::write(folder.join("finetune.toml"), options).unwrap();
    folder.display().to_string()
}

#[test]
fn runs_are_compared_in_a_picture_and_a_table() {
    let dir = tempfile::tempdir().unwrap();
    let a =
        folder(dir.path(), "a", "output-dir = \"a\"\nmodel = \"resnet_micro\"\nlr = 0.1\nseed = 0\n", 3.0, Some(25.0));
    let b = folder(dir.path(), "b", "output-dir = \"b\"\nmodel = \"convnext_micro\"\nlr = 0.1\n", 6.0, None);
    let picture = dir.path().join("both.svg");
    let out = compare(&[&a, &b, "-o", &picture.display().to_string()]).ok().out;
    let rows: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["run", "model", "seed", "steps", "loss", "top-1"], "{out}");
    assert_eq!(rows[1], [a.as_str(), "resnet_micro", "0", "3", "1.0000", "25.00%"], "{out}");
    assert_eq!(rows[2], [b.as_str(), "convnext_micro", "3", "2.0000"], "{out}");
    let svg = std::fs::read_to_string(&picture).unwrap();
    assert!([&a, &b, "epoch", "top-1"].iter().all(|word| svg.contains(*word)), "{svg}");
}

/// Runs of other tasks have other scores: a panel and a column each.
#[test]
fn scores_of_dense_tasks_are_drawn_too() {
    let dir = tempfile::tempdir().unwrap();
    let [pixels, objects] = ["pixels", "objects"].map(|name| folder(dir.path(), name, "lr = 0.1\n", 3.0, None));
    let append = |run: &str, line: &str| {
        let log = Path::new(run).join("log.jsonl");
        let text = std::fs::read_to_string(&log).unwrap();
        std::fs::write(&log, text + line + "\n").unwrap();
    };
    for (step, miou) in [(3, 40.0), (4, 30.0)] {
        let scores = format!("\"test_loss\":1,\"miou\":{miou},\"macc\":50,\"aacc\":60,\"ema_miou\":{}", miou + 1.5);
        append(&pixels, &format!("{{\"step\":{step},\"epoch\":{step},{scores}}}"));
    }
    std::fs::rename(dir.path().join("objects/finetune.toml"), dir.path().join("objects/detect.toml")).unwrap();
    append(&objects, "{\"step\":3,\"epoch\":3,\"ap\":12.5,\"ap50\":20,\"ap75\":10,\"mask_ap\":11,\"mask_ap50\":19}");
    let picture = dir.path().join("both.svg");
    let out = compare(&[&pixels, &objects, "-o", &picture.display().to_string()]).ok().out;
    let rows: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0][3..], ["mIoU", "AP", "of", "boxes", "AP", "of", "masks"], "{out}");
    assert_eq!(rows[1][3..], ["41.50%"], "{out}");
    assert_eq!(rows[2][3..], ["12.50%", "11.00%"], "{out}");
    let svg = std::fs::read_to_string(&picture).unwrap();
    assert!(["mIoU", "AP of boxes", "AP of masks"].iter().all(|word| svg.contains(word)), "{svg}");
}

/// Twenty steps at 1 and twenty at 0.1: with twelve of these the mean of twenty is below a half.
#[test]
fn steps_until_a_loss_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let runs = ["falls", "stays"].map(|name| folder(dir.path(), name, "lr = 0.1\n", 1.0, None));
    for (run, last) in runs.iter().zip([0.1, 1.0]) {
        let step = |i: u32| {
            let loss = if i < 20 { 1.0 } else { last };
            format!("{{\"step\":{i},\"epoch\":0.1,\"loss\":{loss},\"lr\":0.1,\"images_per_second\":9.0}}\n")
        };
        std::fs::write(Path::new(run).join("log.jsonl"), (0..40).map(step).collect::<String>()).unwrap();
    }
    let picture = dir.path().join("both.svg").display().to_string();
    let out = compare(&[&runs[0], &runs[1], "--below=0.5", "-o", &picture]).ok().out;
    let rows: Vec<Vec<&str>> = out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(rows[0], ["run", "steps", "below", "0.5", "loss"], "{out}");
    assert_eq!(rows[1], [runs[0].as_str(), "40", "32", "0.1000"], "{out}");
    assert_eq!(rows[2], [runs[1].as_str(), "40", "never", "1.0000"], "{out}");
}

#[test]
fn what_is_no_run_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let a = folder(dir.path(), "a", "lr = 0.1\n", 3.0, None);
    compare(&[]).fails(2, &["<RUN>..."]);
    compare(&[&a, &a]).fails(2, &["runs: got", "each folder once"]);
    let gone = dir.path().join("gone").display().to_string();
    compare(&[&a, &gone]).fails(1, &["gone/log.jsonl", "No such file"]);
    std::fs::remove_file(dir.path().join("a/finetune.toml")).unwrap();
    compare(&[&a]).fails(1, &["has none of pretrain.toml, finetune.toml, segment.toml, detect.toml"]);
    let torn = folder(dir.path(), "torn", "lr = \n", 3.0, None);
    compare(&[&torn]).fails(1, &["torn/finetune.toml"]);
    std::fs::write(dir.path().join("torn/log.jsonl"), "").unwrap();
    compare(&[&torn]).fails(1, &["torn/log.jsonl", "has no step yet"]);
}
