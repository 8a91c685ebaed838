//! `kill -9` at any moment leaves a checkpoint from which a run resumes.

use std::path::Path;
use std::time::Duration;

use rowscan::run::checkpoint;
use rowscan::run::weights_on_disk::read;

use super::runs::{WHOLE, start, wait_for};
use super::{copy, log, names, skip};

/// The step of the newest checkpoint, or 0 without one. All of its files must be readable.
fn newest(dir: &Path) -> u64 {
    let Some(folder) = checkpoint::newest(dir).unwrap() else { return 0 };
    read(&folder.join("model.safetensors")).unwrap();
    read(&folder.join("optimizer.safetensors")).unwrap();
    checkpoint::read_complete_state(&folder).unwrap().step
}

#[test]
fn a_kill_leaves_a_checkpoint_that_goes_on() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // a checkpoint at every step: most kills come while one is written, replaced or removed
    let options = ["--save-every-steps=1", "--keep=2"];
    let mut reached = 0;
    for round in 0..7u64 {
        let resume: &[&str] = if reached > 0 { &["--resume"] } else { &[] };
        let mut child = start(dir.path(), &[&options, resume].concat());
        let over = |child: &mut std::process::Child| child.try_wait().unwrap().is_some();
        wait_for(|| over(&mut child) || checkpoint::list(dir.path()).unwrap().iter().any(|(step, _)| *step > reached));
        // wait a time that differs between rounds and machines
        let noise = u64::from(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().subsec_micros()) % 29;
        std::thread::sleep(Duration::from_micros(round * 9_000 + noise * 1_000));
        let _ = child.kill();
        child.wait().unwrap();
        let step = newest(dir.path());
        assert!(step >= reached, "round {round}: step {step} after {reached}");
        reached = step;
        eprintln!("  round {round}: killed at step {step}, {:?}", names(dir.path()));
    }
    assert!(reached > 0);
    let last = start(dir.path(), &[&options[..], &["--resume"]].concat()).wait_with_output().unwrap();
    assert!(last.status.success());
    assert_eq!(log(dir.path()), WHOLE.1);
    assert!(names(dir.path()).iter().all(|n| !n.starts_with('.')), "{:?}", names(dir.path()));
}

#[test]
fn torn_and_half_replaced_checkpoints_are_passed_over() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let whole = WHOLE.0.path();
    copy(&whole.join("checkpoint-12"), &at("checkpoint-12"));
    std::fs::copy(whole.join("log.jsonl"), at("log.jsonl")).unwrap();
    let is_newest = |name: &str| assert_eq!(checkpoint::newest(dir.path()).unwrap().unwrap(), at(name));
    // a newer checkpoint with one truncated file, then with one missing file
    for (file, len) in
        [("model.safetensors", 4000), ("optimizer.safetensors", 5), ("state.json", 40), ("config.json", 0)]
    {
        copy(&whole.join("checkpoint-13"), &at("checkpoint-13"));
        std::fs::OpenOptions::new().write(true).open(at("checkpoint-13").join(file)).unwrap().set_len(len).unwrap();
        is_newest("checkpoint-12");
        std::fs::remove_file(at("checkpoint-13").join(file)).unwrap();
        is_newest("checkpoint-12");
        std::fs::remove_dir_all(at("checkpoint-13")).unwrap();
    }
    // as if killed between the two renames that replace a checkpoint, and while writing two others
    std::fs::rename(at("checkpoint-12"), at(".old-checkpoint-12")).unwrap();
    is_newest(".old-checkpoint-12");
    copy(&whole.join("checkpoint-14"), &at(".partial-xyz"));
    std::fs::write(at(".writing-xyz"), "{").unwrap();
    is_newest(".old-checkpoint-12");
    let last = start(dir.path(), &["--resume"]).wait_with_output().unwrap();
    assert!(last.status.success());
    assert_eq!(log(dir.path()), WHOLE.1);
    let left = names(dir.path());
    assert!(left.iter().all(|n| !n.starts_with('.')) && left.contains(&"checkpoint-12".into()), "{left:?}");
}
