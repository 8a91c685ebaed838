//! A resumed fine-tuning run has the same bits, and records as before.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use rowscan::run::weights_on_disk::read;

use super::{MODEL, RANDOM, WHOLE, finetune, tests_of};
use crate::cli::runs::{goes_on_recording, wait_for};
use crate::cli::{log, run, skip};

/// Starts the run of [`WHOLE`] once more, in `dir`, and does not wait for it.
fn start(dir: &Path, args: &[&str]) -> Child {
    let mut command = finetune(dir, &[MODEL, RANDOM, args].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// The bits of a checkpoint: weights, optimizer moments, EMA.
fn bits(folder: &Path) -> Vec<u32> {
    let files = ["model.safetensors", "optimizer.safetensors", "ema.safetensors"].map(|name| folder.join(name));
    let all = files.map(|path| read(&path).unwrap());
    all.iter().flat_map(|w| w.values()).flat_map(|(_, values)| values).map(|v| v.to_bits()).collect()
}

#[test]
fn fine_tuning_goes_on_with_the_same_bits() {
    if skip() {
        return;
    }
    let (whole, expected) = &*WHOLE;
    let tests = tests_of(whole.path());
    assert!(tests.len() == 4 && tests.iter().all(|t| t.ema_top1.is_some()), "{tests:?}");
    // resumed from a named checkpoint into another folder; all options come from the checkpoint
    let dir = tempfile::tempdir().unwrap();
    let from = whole.path().join("checkpoint-2");
    run(finetune(dir.path(), &["--log-every=1", "--resume", from.to_str().unwrap()])).ok();
    assert_eq!(log(dir.path()), expected[12..]);
    assert_eq!(tests_of(dir.path()), tests[2..]);
    assert_eq!(bits(&dir.path().join("checkpoint-4")), bits(&whole.path().join("checkpoint-4")));
    // killed at any moment, then resumed from the newest checkpoint
    let dir = tempfile::tempdir().unwrap();
    let mut child = start(dir.path(), &["--save-every-steps=1"]);
    wait_for(|| log(dir.path()).len() >= 9);
    child.kill().unwrap();
    child.wait().unwrap();
    run(finetune(dir.path(), &["--log-every=1", "--resume"])).ok();
    assert_eq!((&log(dir.path()), tests_of(dir.path())), (expected, tests));
    assert_eq!(bits(&dir.path().join("best")), bits(&whole.path().join("best")));
    let again = finetune(dir.path(), &["--resume", "--layer-decay=0.7"]);
    run(again).fails(1, &["other settings", "layer_decay was 0.8, now 0.7"]);
}

#[test]
fn a_resumed_fine_tuning_records_as_it_did() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let given = [("log-every", 2), ("save-every-steps", 3), ("keep", 1), ("threads", 2), ("eval-every", 4)];
    let args: Vec<String> = given.iter().map(|(option, value)| format!("--{option}={value}")).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let random: Vec<&str> = RANDOM.iter().copied().filter(|arg| !arg.contains("-every")).collect();
    let short = ["--data=synthetic:32", "--epochs=1", "--warmup-epochs=0"];
    let random: Vec<&str> = random.into_iter().filter(|arg| !short.iter().any(|s| s[..7] == arg[..7])).collect();
    let first = finetune(dir.path(), &[MODEL, &random, &short, &args].concat());
    goes_on_recording(dir.path(), "finetune", &given, first);
}

#[test]
fn a_signal_saves_and_says_how_to_go_on() {
    if skip() || !cfg!(unix) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let child = start(dir.path(), &[]);
    wait_for(|| log(dir.path()).len() >= 8);
    assert!(Command::new("kill").arg("-INT").arg(child.id().to_string()).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("stopped; saved ") && text.contains("go on with: rowscan finetune --output-dir"), "{text}");
    run(finetune(dir.path(), &["--log-every=1", "--resume"])).ok();
    assert_eq!(log(dir.path()), WHOLE.1);
}
