//! The program as people run it: real processes with tiny models, their output, and the files they leave.

mod bad_files;
mod bad_input;
mod clouds;
mod commands;
mod compare;
mod data_sets;
mod detect;
mod disk;
mod finetune;
mod kill;
mod measure;
mod methods;
mod moved;
mod no_adapter;
mod predict;
mod resume;
mod runs;
mod segment;
mod start;
mod study;
mod terminals;
mod watching;
mod weights;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::common::gpu;

/// A model that trains in a second. It has attention alone: a driver for CPUs takes half a second of every process to
/// load the backward scan, whose bits other tests compare within one process. [`HYBRID`] behind it adds Mamba blocks.
pub const NANO: &[&str] = &[
    "--model=micro",
    "--image-size=16",
    "--patch-size=4",
    "--width=16",
    "--pattern=TT",
    "--heads=2",
    "--states=4",
    "--classes=2",
    "--decoder-width=16",
    "--decoder-depth=1",
    "--decoder-heads=2",
];
/// Makes [`NANO`] a network of both kinds of blocks.
pub const HYBRID: &str = "--pattern=MMT";
/// A run with all that is drawn at random: mask ratio, DropPath, crops, order of the images. An epoch has six steps.
pub const RANDOM: &[&str] = &[
    "--data=synthetic:24",
    "--batch-size=4",
    "--mask-ratio=truncnorm",
    "--drop-path=0.3",
    "--log-every=1",
    "--grid-every=0",
    "--seed=5",
    "--blr=0.02",
];

/// Exit code and output of a process.
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Ran {
    /// Asserts exit code 0.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.code, Some(0), "{}{}", self.out, self.err);
        self
    }

    /// Asserts exit code `code`, exactly one line that begins with "error: ", all of `words`, and no panic.
    #[track_caller]
    pub fn fails(self, code: i32, words: &[&str]) -> Self {
        let text = &self.err;
        assert_eq!(self.code, Some(code), "{words:?}: {}{text}", self.out);
        let errors = text.lines().filter(|l| l.starts_with("error: ") && !l.contains("XDG_RUNTIME_DIR")).count();
        assert_eq!(errors, 1, "{text}");
        assert!(!text.contains("panicked") && !text.contains("internal error"), "{text}");
        words.iter().for_each(|word| assert!(text.contains(word), "`{word}` is missing: {text}"));
        self
    }
}

/// A folder that several tests read. It lies under cargo's target folder and is made anew by each run of the tests: a
/// static is never dropped, so a temporary folder in one would stay behind for ever.
pub struct SharedFolder(PathBuf);

impl SharedFolder {
    pub fn new(name: &str) -> Self {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        if path.exists() {
            std::fs::remove_dir_all(&path).unwrap();
        }
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
    pub fn path(&self) -> &Path {
        &self.0
    }
}

/// The program `rowscan`. It inherits ROWSCAN_ADAPTER, so it uses the adapter of the tests.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rowscan"));
    command.env_remove("ROWSCAN_LOG").stdin(Stdio::null());
    command
}

pub fn run(mut command: Command) -> Ran {
    let output = command.output().expect("the program starts");
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    Ran { code: output.status.code(), out: text(&output.stdout), err: text(&output.stderr) }
}

/// The program with these arguments, and behind them with options that are paths, or with paths alone.
pub fn rowscan(args: &[&str], paths: &[(&str, &Path)]) -> Ran {
    let mut command = program();
    command.args(args);
    for (flag, path) in paths {
        command.args(Some(flag).filter(|flag| !flag.is_empty())).arg(path);
    }
    run(command)
}

/// `rowscan pretrain` of the nano model into `dir`.
pub fn pretrain(dir: &Path, args: &[&str]) -> Command {
    let mut command = program();
    command.arg("pretrain").args(NANO).arg("--output-dir").arg(dir).args(args);
    command
}

/// A line of a log: step, and the bits of loss and learning rate.
pub type LogBits = (u64, u64, u64);

/// Every line of the log in `dir`; none if there is no log yet.
pub fn log(dir: &Path) -> Vec<LogBits> {
    let lines = rowscan::run::record::read_log(&dir.join("log.jsonl")).unwrap_or_default();
    lines.iter().map(|l| (l.step, l.loss.to_bits(), l.lr.to_bits())).collect()
}

/// Whether there is no adapter, so that the test has to be skipped.
pub fn skip() -> bool {
    gpu().is_none()
}

/// The names in a folder, sorted, hidden ones included.
pub fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// What `rowscan features` wrote: its f32 tensors, and one of its rows of integers.
pub fn features_of(file: &Path, integers: &str) -> (rowscan::nn::Weights, Vec<i64>) {
    let bytes = std::fs::read(file).unwrap();
    let floats = rowscan::train::weights_file::content(file, &bytes).unwrap().weights;
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let row = tensors.tensor(integers).unwrap();
    assert_eq!(row.dtype(), safetensors::Dtype::I64);
    (floats, row.data().as_chunks().0.iter().map(|eight| i64::from_le_bytes(*eight)).collect())
}

/// Copies a folder that holds only files.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for name in names(from) {
        std::fs::copy(from.join(&name), to.join(&name)).unwrap();
    }
}

/// Turns the `&mut Command` that builders return into a `Command`.
pub trait Take {
    fn take(&mut self) -> Command;
}

impl Take for Command {
    fn take(&mut self) -> Command {
        std::mem::replace(self, Self::new(""))
    }
}
