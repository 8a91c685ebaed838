//! Pretraining that starts from the weights of a checkpoint.

use std::path::Path;

use rowscan::nn::Weights;
use rowscan::run::weights_on_disk::read;

use super::runs::WHOLE;
use super::{HYBRID, Ran, pretrain, program, rowscan, run, skip};

#[test]
fn a_run_starts_from_the_weights_of_a_checkpoint_whatever_its_method() {
    if skip() {
        return;
    }
    let from = WHOLE.0.path().join("checkpoint-15");
    let dir = tempfile::tempdir().unwrap();
    let go = |name: &str, args: &[&str]| -> Ran {
        let mut command = program();
        command.args(["pretrain", "--data=synthetic:8", "--batch-size=4", "--epochs=1", "--lr=0", "--checkpoint"]);
        command.arg(&from).arg("--output-dir").arg(dir.path().join(name)).args(args);
        run(command).ok()
    };
    let weights = |folder: &Path, file: &str| -> Weights { read(&folder.join(file)).unwrap() };
    let before = weights(&from, "model.safetensors");

    // at a rate of 0 nothing is learned: model and weights are those of the checkpoint
    let said = go("same", &[]).err;
    assert!(said.contains(&format!("{} tensors taken\n", before.len())), "{said}");
    assert!(weights(&dir.path().join("same/checkpoint-1"), "model.safetensors") == before);

    // another method takes the encoder, and draws what it has besides; its key encoder is a moving average of the same
    let said = go("other", &["--method=contrastive", "--queue=8"]).err;
    assert!(said.contains(" fresh (projector.") && said.contains(" ignored ("), "{said}");
    let other = weights(&dir.path().join("other/checkpoint-1"), "model.safetensors");
    let encoder: Vec<_> = other.iter().filter(|(name, _)| !name.starts_with("projector")).collect();
    assert!(encoder.len() > 20 && encoder.iter().all(|(name, values)| before[*name] == **values));
    let keys = weights(&dir.path().join("other/checkpoint-1"), "keys.safetensors");
    let near = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-6); // two roundings a step
    assert!(other.iter().all(|(name, (_, values))| near(&keys[name].1, values)));

    // from there its method goes without saying
    let dry = rowscan(&["pretrain", "--dry-run"], &[("--checkpoint", &dir.path().join("other/checkpoint-1"))]).ok();
    assert!(dry.out.contains("method contrastive"), "{}", dry.out);
}

#[test]
fn a_model_that_reads_one_way_goes_on_both_ways() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let short = ["--data=synthetic:4", "--batch-size=4", "--epochs=1", "--grid-every=0"];
    let first = dir.path().join("first");
    run(pretrain(&first, &[&short[..], &[HYBRID, "--method=ar-shift"]].concat())).ok();
    let paths = [("--checkpoint", &*first.join("checkpoint-1")), ("--output-dir", &dir.path().join("second"))];
    let said = rowscan(&[&["pretrain", "--method=map"], &short[..]].concat(), &paths).ok().err;
    assert!(said.contains(" copied (layers.0.mixer.conv1d_b."), "{said}");
}

#[test]
fn what_cannot_be_a_start_is_named() {
    let start = |folder: &str, code: i32, words: &[&str]| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("web/assets").join(folder);
        let args = ["pretrain", "--data=synthetic:8", "--epochs=1", "--output-dir=unused"];
        rowscan(&args, &[("--checkpoint", &folder)]).fails(code, words);
    };
    start("scenes_micro", 2, &["--checkpoint", "a network for a dense task"]);
    start("no_such", 1, &["no_such", "is no checkpoint folder"]);
}
