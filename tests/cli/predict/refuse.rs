//! What `predict` refuses, and what it leaves behind then.

use rowscan::run::checkpoint;

use super::{classifier, noise, predict};
use crate::cli::runs::WHOLE;
use crate::cli::weights::{drawn, vit, write};
use crate::cli::{names, program, run, skip};

#[test]
fn what_cannot_be_predicted_is_refused() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (dir.path().join("model"), dir.path().join("out"));
    classifier(&model, ["a", "b", "c"]);
    let images = noise(dir.path(), &["0.png"]);
    let (data, output) = (format!("--data={}", dir.path().display()), format!("-o={}", out.display()));
    // wrong arguments
    for (args, with_image, words) in [
        (&["--top-k=0"][..], true, &["--top-k: got 0, expected at least 1"][..]),
        (&["--top-k", "-1"], true, &["'-1'", "--top-k", "expected a whole number, 0 or more"]),
        (&["--min-score=0.3"], true, &["--min-score", "got 0.3", "expected a detector"]),
        (&["--num-classes=3"], true, &["--num-classes", "got 3", "a network for segmentation"]),
        (&["--json", "--csv"], true, &["--json", "--csv"]),
        (&[], false, &["<IMAGE|--data <DATA>>"]),
        (&[&data], true, &["IMAGE", "--data"]),
        (&["--split=train"], true, &["IMAGE", "--split"]),
        (&["--rescan"], true, &["IMAGE", "--rescan"]),
        (&["--max-images=1"], true, &["IMAGE", "--max-images"]),
        (&["--batch-size=0"], true, &["--batch-size: got 0"]),
        (&["--crop-ratio=0"], true, &["crop ratio: got 0"]),
        (&["--max-images=999", &data], false, &["--max-images: got 999"]),
    ] {
        predict(&model, &[args, &[&output]].concat(), if with_image { &images } else { &[] }).fails(2, words);
    }
    predict(&model, &["--split=test", &data], &[]).fails(1, &["no test split"]);
    let mut eval = program();
    eval.args(["eval", "--num-classes=3", &data, "--checkpoint"]).arg(&model);
    run(eval).fails(2, &["--num-classes", "got 3", "a network for segmentation"]);
    // no image at all
    let gone = [dir.path().join("gone.png"), dir.path().to_owned()];
    let ran = predict(&model, &["--json", &output], &gone).fails(1, &["none of the 2 images", "gone.png"]);
    assert_eq!(ran.out, "");
    assert!(!out.exists());
    // no folder to write to
    let file = format!("-o={}", images[0].display());
    predict(&model, &[&file], &images).fails(1, &["0.png", "is a file"]);
    // a pretrained model says what it is and what can be done with it
    let pretrained = WHOLE.0.path().join("checkpoint-15");
    let advice = ["rowscan reconstruct", "rowscan features", "rowscan finetune"];
    predict(&pretrained, &[&output], &images).fails(1, &[&["MAP's decoder"], &advice[..]].concat());
    let encoder = rowscan::models::Config { classes: 0, ..vit() };
    checkpoint::save_weights(&dir.path().join("encoder"), &encoder, &drawn(&encoder, 3)).unwrap();
    let ran = predict(&dir.path().join("encoder"), &[], &images).fails(1, &["an encoder without head", advice[1]]);
    assert!(!ran.err.contains(advice[0]), "{}", ran.err);
    // names that are not the model's
    std::fs::write(model.join("classes.json"), r#"["a", "b"]"#).unwrap();
    predict(&model, &[], &images).fails(1, &["classes.json", "names 2 classes, the model has 3"]);
    // scores beyond what f32 holds
    let mut weights = drawn(&vit(), 7);
    weights.get_mut("head.weight").unwrap().1.fill(3e38);
    write(&model.join("model.safetensors"), &weights);
    std::fs::remove_file(model.join("classes.json")).unwrap();
    let ran = predict(&model, &["--json"], &images).fails(1, &["no image has finite scores"]);
    assert!(ran.out.contains("its scores are not finite"), "{}", ran.out);
    assert!(!out.exists());
}

/// A full disk leaves the files of the run before, and nothing hidden. The limit on the size of files is as in
/// tests/cli/disk.rs.
#[cfg(unix)]
#[test]
fn nothing_is_left_half_written() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (model, out) = (dir.path().join("model"), dir.path().join("out"));
    classifier(&model, ["a", "b", "c"]);
    std::fs::create_dir(&out).unwrap();
    let kept = ["predictions.csv", "predictions.json", "predictions.svg"];
    kept.iter().for_each(|name| std::fs::write(out.join(name), "kept").unwrap());
    // the text of two images fits into a block, their picture does not; that of 70 images does not either
    for data in ["--data=synthetic:8", "--data=synthetic:280"] {
        let mut command = std::process::Command::new("sh");
        command.args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_rowscan")]);
        command.args(["predict", data, "--checkpoint"]).arg(&model).arg("-o").arg(&out);
        // kernels are not kept: their files are limited too
        command.env("ROWSCAN_PIPELINE_CACHE", "off");
        run(command).fails(1, &["predictions.", "cannot be written"]);
        assert_eq!(names(&out), kept, "{data}");
        assert!(kept.iter().all(|name| std::fs::read(out.join(name)).unwrap() == b"kept"), "{data}");
    }
}
