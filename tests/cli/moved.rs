//! Runs whose data set or folder moved.

use std::path::Path;

use super::{RANDOM, log, names, pretrain, program, run, skip};

/// 24 images in two folders below `dir`.
fn images(dir: &Path, count: usize) {
    for i in 0..count {
        let folder = dir.join(["a", "b"][i % 2]);
        std::fs::create_dir_all(&folder).unwrap();
        let image =
            image::RgbImage::from_fn(16, 16, |x, y| image::Rgb([(x * 13) as u8, (y * 11) as u8, (i * 9) as u8]));
        image.save(folder.join(format!("{i:02}.png"))).unwrap();
    }
}

/// The options of [`RANDOM`] but for the data.
fn options() -> Vec<&'static str> {
    RANDOM.iter().copied().filter(|option| !option.starts_with("--data")).collect()
}

/// A folder for a test, with 24 images in `photos`, and the option that names a set in it.
fn place() -> (tempfile::TempDir, impl Fn(&str) -> String) {
    let parent = tempfile::tempdir().unwrap();
    images(&parent.path().join("photos"), 24);
    let path = parent.path().to_owned();
    (parent, move |name: &str| format!("--data={}", path.join(name).display()))
}

/// A run goes on with its data in another place, written in another way, and from another working folder, bit for bit.
#[test]
fn a_run_goes_on_after_its_data_moved() {
    if skip() {
        return;
    }
    let (parent, data) = place();
    let at = |name: &str| parent.path().join(name);
    let whole = at("whole");
    run(pretrain(&whole, &[&options()[..], &["--epochs=3", &data("photos")]].concat())).ok();
    let begun = |name: &str| {
        let mut first = pretrain(&at(name), &[&options()[..], &["--epochs=1", "--data=photos"]].concat());
        run({
            first.current_dir(parent.path());
            first
        })
        .ok();
        at(name)
    };
    let resume = |dir: &Path, more: &[&str]| {
        let mut again = program();
        again.arg("pretrain").arg("--output-dir").arg(dir).args(["--resume", "--epochs=3"]).args(more);
        again.current_dir(std::env::temp_dir());
        run(again)
    };
    // the epochs differ between the first part and the whole, and with them the rates of the first epoch: only the way
    // in which runs go on is compared
    let expected = {
        let dir = begun("first");
        resume(&dir, &[&data("photos")]).ok();
        log(&dir)
    };
    assert_eq!(expected.len(), log(&whole).len());
    std::fs::rename(at("photos"), at("elsewhere")).unwrap();
    std::os::unix::fs::symlink(at("elsewhere"), at("photos")).unwrap();
    let second = begun("second");
    std::fs::remove_file(at("photos")).unwrap();
    let last = second.join("checkpoint-1");
    resume(&second, &[&data("photos")]).fails(1, &["photos", "held the data set of this run", "add --data NEW"]);
    std::fs::create_dir(at("photos")).unwrap(); // where a disk is not mounted
    resume(&second, &[&data("photos")]).fails(1, &["photos", "add --data NEW"]);
    assert!(last.exists() && !second.join("checkpoint-2").exists());
    resume(&second, &[&data("elsewhere/../elsewhere/.")]).ok();
    assert_eq!(log(&second), expected);
    let state = std::fs::read_to_string(second.join("checkpoint-3/state.json")).unwrap();
    assert!(state.contains("elsewhere"), "the new place is what a later --resume opens: {state}");
}

/// Another set is refused, with what differs, and nothing is written.
#[test]
fn a_run_does_not_go_on_with_another_set() {
    if skip() {
        return;
    }
    let (parent, data) = place();
    let at = |name: &str| parent.path().join(name);
    run(pretrain(&at("run"), &[&options()[..], &["--epochs=1", &data("photos")]].concat())).ok();
    images(&at("fewer"), 22);
    images(&at("renamed"), 24);
    std::fs::rename(at("renamed/b/23.png"), at("renamed/b/99.png")).unwrap();
    images(&at("sorted"), 24);
    std::fs::rename(at("sorted/b/23.png"), at("sorted/a/23.png")).unwrap();
    let before = names(&at("run"));
    for (set, words) in [
        ("fewer", &["24 images", "has 22"][..]),
        ("renamed", &["another set", "99.png"]),
        ("sorted", &["another set", "are others"]),
    ] {
        let mut again = program();
        again.arg("pretrain").arg("--output-dir").arg(at("run")).args(["--resume", "--epochs=2", &data(set)]);
        run(again).fails(1, words);
        assert_eq!(names(&at("run")), before, "{set}");
    }
}

/// A run that died before its first checkpoint is not in TensorBoard under the next one.
#[test]
fn tensorboard_shows_one_run_of_a_folder() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let events = || names(dir.path()).into_iter().filter(|n| n.starts_with("events.out")).collect::<Vec<_>>();
    run(pretrain(dir.path(), &[RANDOM, &["--epochs=1"]].concat())).ok();
    let dead = dir.path().join("events.out.tfevents.1.rowscan.0"); // the next run may begin in the same second
    std::fs::rename(dir.path().join(&events()[0]), &dead).unwrap();
    std::fs::remove_dir_all(dir.path().join("checkpoint-1")).unwrap();
    std::fs::write(dir.path().join("events.out.tfevents.1.other"), b"of another program").unwrap();
    run(pretrain(dir.path(), &[RANDOM, &["--epochs=1"]].concat())).ok();
    let left = events();
    assert_eq!(left.len(), 2, "{left:?}");
    assert!(!dead.exists() && left.iter().any(|n| n.ends_with("other")), "{left:?}");
    run(pretrain(dir.path(), &[RANDOM, &["--epochs=2", "--resume"]].concat())).ok();
    assert_eq!(events().len(), 3, "a resumed run adds to its own");
}
