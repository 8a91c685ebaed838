//! Full disks, and folders that cannot be written.

use std::path::Path;
use std::process::Command;

use super::runs::{EPOCHS, WHOLE};
use super::{RANDOM, copy, log, names, pretrain, program, run, skip};

#[test]
fn output_folders_that_cannot_be_written() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    let small = ["--data=synthetic:8", "--batch-size=4", "--epochs=1"];
    run(pretrain(&file, &small)).fails(1, &["file"]);
    run(pretrain(&file.join("below"), &small)).fails(1, &["below"]);
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "mine");
    if Path::new("/proc/self").exists() {
        run(pretrain(Path::new("/proc/out"), &small)).fails(1, &["/proc/out", "cannot be created"]);
    }
}

/// `rowscan pretrain` under a limit on the size of files (`ulimit -f`), which makes a write fail in the middle of a
/// file as a full disk does.
fn limited(blocks: u64, dir: &Path) -> Command {
    let mut command = Command::new("sh");
    command.arg("-c").arg(format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\""));
    let inner = pretrain(dir, &[RANDOM, &[EPOCHS, "--resume"]].concat());
    command.arg(inner.get_program()).args(inner.get_args());
    command
}

#[test]
fn a_full_disk_keeps_the_last_checkpoint() {
    if skip() || !cfg!(unix) {
        return;
    }
    let whole = WHOLE.0.path();
    // A block has 512 or 1024 bytes, depending on the shell. With 100 blocks the weights (63 kB) or the moments (127
    // kB) of a checkpoint do not fit; with 1 block the log does not.
    for blocks in [100, 1] {
        let dir = tempfile::tempdir().unwrap();
        copy(&whole.join("checkpoint-13"), &dir.path().join("checkpoint-13"));
        std::fs::copy(whole.join("log.jsonl"), dir.path().join("log.jsonl")).unwrap();
        let ran = run(limited(blocks, dir.path())).fails(1, &["large"]);
        assert!(blocks == 1 || ran.err.contains("checkpoint-14"), "{}", ran.err);
        assert!(names(dir.path()).iter().all(|n| !n.starts_with('.')), "{:?}", names(dir.path()));
        assert!(!dir.path().join("checkpoint-14").exists());
        run(pretrain(dir.path(), &[RANDOM, &[EPOCHS, "--resume"]].concat())).ok();
        let tail = |log: Vec<super::LogBits>| log.into_iter().filter(|l| l.0 >= 78).collect::<Vec<_>>();
        assert_eq!(tail(log(dir.path())), tail(WHOLE.1.clone()), "{blocks} blocks");
    }
}

#[test]
fn a_full_standard_output_is_an_error_and_a_closed_one_is_not() {
    let Ok(full) = std::fs::OpenOptions::new().write(true).open("/dev/full") else { return };
    let mut command = program();
    command.args(["info", "--model=micro"]).stdout(full);
    let output = command.stderr(std::process::Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("error: standard output: ") && !text.contains("panicked"), "{text}");
    let mut command = Command::new("sh");
    command.arg("-c").arg("\"$0\" info | head -n 1").arg(env!("CARGO_BIN_EXE_rowscan"));
    assert!(!run(command).ok().err.contains("error: standard output"));
}
