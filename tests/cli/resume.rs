//! `--resume`: a resumed run has the bits of a run without interruption.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::runs::{EPOCHS, WHOLE, goes_on_recording, options, start, wait_for};
use super::{HYBRID, RANDOM, Take, log, names, pretrain, program, run, skip};

fn resume(dir: &Path) -> Command {
    let mut command = program();
    command.args(["pretrain", "--log-every=1", "--grid-every=0", "--resume", "--output-dir"]).arg(dir);
    command
}

#[test]
fn a_named_checkpoint_goes_on_with_the_same_bits() {
    if skip() {
        return;
    }
    let (whole, expected) = &*WHOLE;
    let dir = tempfile::tempdir().unwrap();
    // resumed into another folder, with all options on the command line
    let from = whole.path().join("checkpoint-13");
    run(pretrain(dir.path(), &[RANDOM, &[EPOCHS, "--resume", from.to_str().unwrap()]].concat())).ok();
    assert_eq!(log(dir.path()), expected[78..]);
    // resumed after its last step, a run says so and changes nothing
    let ran = run(resume(dir.path())).ok();
    assert!(ran.out.contains("all 15 epochs were done before"), "{}", ran.out);
    assert_eq!(log(dir.path()), expected[78..]);
    // fewer epochs than it has done are refused, and its options stay
    let options = || std::fs::read_to_string(dir.path().join("pretrain.toml")).unwrap();
    run(resume(dir.path()).arg("--epochs=14").take()).fails(1, &["epochs", "got 14", "15 or more", "90 steps of 6"]);
    assert!(options().contains("epochs = 15"), "{}", options());
}

/// `--checkpoint-blocks` may be switched on with `--resume`, as it changes no bit. It stays on until the command line
/// switches it off.
#[test]
fn a_run_may_go_on_with_checkpointed_blocks() {
    if skip() {
        return;
    }
    let (whole, expected) = &*WHOLE;
    let dir = tempfile::tempdir().unwrap();
    let from = whole.path().join("checkpoint-13");
    let args = ["--resume", from.to_str().unwrap(), "--checkpoint-blocks"];
    run(pretrain(dir.path(), &[RANDOM, &[EPOCHS], &args].concat())).ok();
    assert_eq!(log(dir.path()), expected[78..]);
    let on = || std::fs::read_to_string(dir.path().join("pretrain.toml")).unwrap().contains("checkpoint-blocks = true");
    assert!(on());
    run(resume(dir.path())).ok();
    assert!(on());
    run(resume(dir.path()).arg("--checkpoint-blocks=false").take()).ok();
    assert!(!on());
}

/// `--resume=auto` begins where there is no checkpoint, and goes on where there is one: the same command each time.
#[test]
fn a_scheduler_may_start_the_same_command_again() {
    if skip() {
        return;
    }
    let (_, expected) = &*WHOLE;
    let dir = tempfile::tempdir().unwrap();
    let again = |epochs: &str| run(pretrain(dir.path(), &[RANDOM, &[epochs, "--resume=auto"]].concat())).ok();
    again(EPOCHS);
    assert_eq!(&log(dir.path()), expected);
    let ran = again(EPOCHS);
    assert!(ran.out.contains("all 15 epochs were done before"), "{}", ran.out);
    assert_eq!(&log(dir.path()), expected);
}

#[test]
fn signals_save_and_say_how_to_go_on() {
    if skip() || !cfg!(unix) {
        return;
    }
    for signal in ["-INT", "-TERM", "-USR1"] {
        let dir = tempfile::tempdir().unwrap();
        let child = start(dir.path(), &[]);
        wait_for(|| log(dir.path()).len() >= 9);
        let kill = Command::new("kill").arg(signal).arg(child.id().to_string()).status().unwrap();
        assert!(kill.success());
        let output = child.wait_with_output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert_eq!(output.status.code(), Some(0), "{text}");
        let saved = text.lines().find_map(|l| l.strip_prefix("stopped; saved ")).expect("what was saved");
        assert!(PathBuf::from(saved).join("state.json").exists(), "{text}");
        assert!(text.contains("go on with: rowscan pretrain --output-dir") && text.contains("--resume"), "{text}");
        assert!(names(dir.path()).iter().all(|n| !n.starts_with('.')), "{:?}", names(dir.path()));
        assert!(log(dir.path()).len() < 90, "the run was over before the signal came");
        // all options come from the checkpoint
        run(resume(dir.path())).ok();
        assert_eq!(log(dir.path()), WHOLE.1);
    }
}

#[test]
fn a_checkpoint_belongs_to_its_run() {
    if skip() {
        return;
    }
    let whole = WHOLE.0.path();
    let again = |args: &[&str]| run(resume(whole).args(args).take());
    again(&["--seed=6"]).fails(1, &["other settings", "seed was 5, now 6"]);
    again(&["--width=32"]).fails(1, &["config.json", "another model", "width was 16, now 32"]);
    again(&["--model=tiny"]).fails(1, &["another model"]);
    again(&["--data=synthetic:28"]).fails(1, &["a run on 24 images", "synthetic:28 has 28"]);
    let fresh = run(pretrain(whole, &[RANDOM, &[EPOCHS]].concat()));
    fresh.fails(1, &["already holds", "--resume"]);
    assert_eq!(log(whole), WHOLE.1, "nothing may be touched");
    // a folder takes one run at a time
    let dir = tempfile::tempdir().unwrap();
    let mut first = start(dir.path(), &["--epochs=100000", "--keep=1"]);
    wait_for(|| log(dir.path()).len() >= 7);
    run(resume(dir.path())).fails(1, &["another run is writing there"]);
    first.kill().unwrap();
    first.wait().unwrap();
}

/// The state of the loss scaler is part of a checkpoint.
#[test]
fn mixed_precision_goes_on_with_the_same_bits() {
    if skip() {
        return;
    }
    let (whole, rest) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mixed: &[&str] = &[HYBRID, "--epochs=4", "--precision=mixed"];
    let ran = run(pretrain(whole.path(), &[RANDOM, mixed].concat())).ok();
    assert!(ran.err.contains("products in f32 of operands rounded to f16") || ran.err.contains("on cooperative"));
    let expected = log(whole.path());
    let lines = rowscan::run::record::read_log(&whole.path().join("log.jsonl")).unwrap();
    assert!(lines.iter().all(|l| l.loss_scale == Some(65536.0) && l.skipped == Some(0)), "{lines:?}");

    let from = whole.path().join("checkpoint-2");
    let resume = ["--resume", from.to_str().unwrap()];
    run(pretrain(rest.path(), &[RANDOM, mixed, &resume].concat())).ok();
    assert_eq!(log(rest.path()), expected[12..]);

    let f32 = run(pretrain(rest.path(), &[RANDOM, &[HYBRID, "--epochs=4", "--precision=f32"], &resume].concat()));
    f32.fails(1, &["other settings", "precision was \"mixed\", now the default"]);
    std::fs::remove_file(from.join("loss_scale.safetensors")).unwrap();
    run(pretrain(rest.path(), &[RANDOM, mixed, &resume].concat())).fails(1, &["loss_scale.safetensors"]);
}

#[test]
fn a_resumed_run_records_as_it_did() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let given = [("log-every", 2), ("save-every-steps", 3), ("keep", 1), ("threads", 2), ("grid-every", 4)];
    let args: Vec<String> = given.iter().map(|(option, value)| format!("--{option}={value}")).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    // RANDOM without --log-every and --grid-every, which `args` gives
    let random: Vec<&str> = RANDOM.iter().copied().filter(|arg| !arg.contains("-every")).collect();
    let first = pretrain(dir.path(), &[&random[..], &["--epochs=1"], &args].concat());
    goes_on_recording(dir.path(), "pretrain", &given, first);

    // the kept options also act: two checkpoints are left, because `keep` is 2 by now
    run(resume(dir.path()).arg("--epochs=4").take()).ok();
    let checkpoints: Vec<_> = names(dir.path()).into_iter().filter(|name| name.starts_with("checkpoint")).collect();
    assert_eq!(checkpoints, ["checkpoint-3", "checkpoint-4"]);

    // a checkpoint in another folder brings the options of its run; an error in their file is named
    let other = tempfile::tempdir().unwrap();
    let from = dir.path().join("checkpoint-4");
    let elsewhere = |out: &Path| {
        let mut command = program();
        command.args(["pretrain", "--resume"]).arg(&from).arg("--output-dir").arg(out);
        run(command)
    };
    elsewhere(other.path()).ok();
    assert_eq!(options(other.path(), "pretrain")["keep"].as_integer(), Some(2));
    std::fs::write(dir.path().join("pretrain.toml"), "keep = \"two\"\nbatch-size = 7").unwrap();
    elsewhere(other.path()).fails(1, &["`keep`", "pretrain.toml", "\"two\"", "expected usize"]);
    // a checkpoint that was copied without the file of options: the defaults are used
    std::fs::remove_file(dir.path().join("pretrain.toml")).unwrap();
    elsewhere(other.path()).ok();
    assert_eq!(options(other.path(), "pretrain")["keep"].as_integer(), Some(0));
}
