//! Which kernels each test launches, written down while the tests run. Every replay of a program is an event of
//! `tracing` with the names of its launches; here a subscriber adds the test, whose name its thread has.

use std::collections::BTreeSet;
use std::fmt::{Debug, Write as _};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::Mutex;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

/// The variable of the environment that names the file to write.
const FILE: &str = "ROWSCAN_LAUNCHED";

/// What a test launched.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Launched {
    /// Its path: `ops::norm::rms_norm_matches_cpu`.
    pub test: String,
    /// Name of the kernel.
    pub kernel: String,
    /// Whether a launch of the kernel's family in a backward pass belonged to the same program.
    pub gradient: bool,
    /// Whether the device chose kernels as for a CPU.
    pub cpu: bool,
}

impl Launched {
    fn line(&self) -> String {
        let (pass, kind) = (if self.gradient { "gradient" } else { "forward" }, if self.cpu { "cpu" } else { "gpu" });
        format!("{} {} {pass} {kind}\n", self.test, self.kernel)
    }

    fn parse(line: &str) -> Option<Self> {
        let words: Vec<&str> = line.split(' ').collect();
        let [test, kernel, pass, kind] = words[..] else { return None };
        Some(Self { test: test.into(), kernel: kernel.into(), gradient: pass == "gradient", cpu: kind == "cpu" })
    }
}

/// The file that the environment names, if it names one.
pub fn file() -> Option<std::path::PathBuf> {
    std::env::var_os(FILE).map(Into::into)
}

/// The lines of a file that the tests wrote, of the tests of operators: others launch kernels too, but do not compare
/// them with oracles.
pub fn read(path: &Path) -> BTreeSet<Launched> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    text.lines().filter_map(Launched::parse).filter(|launched| launched.test.starts_with("ops::")).collect()
}

/// Begins to write, if the environment names a file. The tests call this before they open devices.
pub fn begin() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(write);
}

fn write() {
    let Some(path) = file() else { return };
    let file = File::options().create(true).append(true).open(&path);
    let file = file.unwrap_or_else(|e| panic!("{FILE}={}: {e}", path.display()));
    let recorder = Launches(Mutex::new((file, BTreeSet::new())));
    tracing::subscriber::set_global_default(recorder).expect("no other subscriber in the tests");
}

struct Launches(Mutex<(File, BTreeSet<Launched>)>);

impl Subscriber for Launches {
    fn enabled(&self, about: &Metadata<'_>) -> bool {
        about.target() == "rowscan::gpu::program"
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut replay = Replay::default();
        event.record(&mut replay);
        let thread = std::thread::current();
        let Ok(mut guard) = self.0.lock() else { return };
        let (file, known) = &mut *guard;
        for new in replay.launched(thread.name().unwrap_or_default()) {
            if !known.contains(&new) {
                file.write_all(new.line().as_bytes()).expect("the file of launches can be written");
                known.insert(new);
            }
        }
    }
}

/// The fields of an event.
#[derive(Default)]
struct Replay {
    cpu: bool,
    launches: String,
}

impl Visit for Replay {
    fn record_bool(&mut self, field: &Field, value: bool) {
        if field.name() == "software" {
            self.cpu = value;
        }
    }
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "launches" {
            write!(self.launches, "{value:?}").expect("memory");
        }
    }
}

impl Replay {
    fn launched(&self, test: &str) -> Vec<Launched> {
        let launches: Vec<(&str, &str)> =
            self.launches.split(' ').filter_map(|launch| launch.split_once(':')).collect();
        let family = |kernel: &str| super::stem(kernel.split('.').next().unwrap_or_default()).to_owned();
        let back: BTreeSet<String> =
            launches.iter().filter(|(_, phase)| *phase == "Backward").map(|(kernel, _)| family(kernel)).collect();
        let of = |kernel: &str| Launched {
            test: test.into(),
            kernel: kernel.into(),
            gradient: back.contains(&family(kernel)),
            cpu: self.cpu,
        };
        launches.iter().map(|(kernel, _)| of(kernel)).collect()
    }
}

#[test]
fn a_program_with_a_backward_pass_tests_gradients_of_the_families_in_it() {
    let launches = "norm.forward:Forward tensor.copy:Forward norm.backward:Backward adamw.step:Update ".into();
    let found = Replay { cpu: true, launches }.launched("ops::norm::a_test");
    let gradients: Vec<_> = found.iter().map(|launched| (launched.kernel.as_str(), launched.gradient)).collect();
    let expected = [("norm.forward", true), ("tensor.copy", false), ("norm.backward", true), ("adamw.step", false)];
    assert_eq!(gradients, expected);
    for launched in found {
        assert_eq!(Launched::parse(launched.line().trim_end()), Some(launched));
    }
}
