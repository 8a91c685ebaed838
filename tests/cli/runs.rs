//! Pretraining runs that several files of this folder read, resume or break.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use super::{LogBits, RANDOM, SharedFolder, log, pretrain, program, run};

/// Epochs of these runs. An epoch has six steps, and 90 steps are long enough for a signal to arrive in between.
pub const EPOCHS: &str = "--epochs=15";

/// A run without interruption (made once, then shared): its folder and its log.
pub static WHOLE: LazyLock<(SharedFolder, Vec<LogBits>)> = LazyLock::new(|| {
    let dir = SharedFolder::new("pretrained");
    run(pretrain(dir.path(), &[RANDOM, &[EPOCHS]].concat())).ok();
    let log = log(dir.path());
    assert_eq!(log.iter().map(|l| l.0).collect::<Vec<_>>(), (0..90).collect::<Vec<_>>());
    (dir, log)
});

/// Starts the run of [`WHOLE`] once more, in `dir`, and does not wait for it.
pub fn start(dir: &Path, args: &[&str]) -> Child {
    let mut command = pretrain(dir, &[RANDOM, &[EPOCHS], args].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Waits until `ready` returns true. Panics after a minute.
pub fn wait_for(mut ready: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !ready() {
        assert!(begin.elapsed() < Duration::from_secs(60), "waited for a minute");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// The file of resolved options that a run of `command` wrote.
pub fn options(dir: &Path, command: &str) -> toml::Table {
    std::fs::read_to_string(dir.join(format!("{command}.toml"))).unwrap().parse().unwrap()
}

/// `first` is a run with the options `given`, which decide what is recorded. Checks that `--resume` alone keeps them,
/// and that an option given with `--resume` changes while the others stay.
pub fn goes_on_recording(dir: &Path, command: &str, given: &[(&str, i64)], first: Command) {
    let expect = |given: &[(&str, i64)]| {
        let found = options(dir, command);
        for (option, value) in given {
            assert_eq!(found[*option].as_integer(), Some(*value), "{command}: {option} in {found}");
        }
    };
    let go_on = |args: &[String]| {
        let mut again = program();
        again.args([command, "--resume", "--output-dir"]).arg(dir).args(args);
        run(again).ok();
    };
    run(first).ok();
    expect(given);
    let before = options(dir, command);
    go_on(&[]);
    assert_eq!(options(dir, command), before, "{command}: a plain --resume changes no option");
    // each option in turn
    let mut now = given.to_vec();
    for (at, (option, value)) in given.iter().enumerate() {
        now[at].1 = value + 1;
        go_on(&[format!("--{option}={}", value + 1)]);
        expect(&now);
    }
}
