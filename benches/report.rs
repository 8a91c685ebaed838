//! The lines that a person reads, and the JSON lines that a script does.

use std::fs::File;
use std::io::Write;
use std::process::Command;

use rowscan::gpu::{Caps, Gpu};
use serde_json::json;

use crate::clock::timer;
use crate::roof::{Floor, Roof};

/// Where the figures go.
pub struct Report {
    caps: Caps,
    commit: String,
    timer: &'static str,
    file: File,
    rows: Vec<String>,
}

impl Report {
    pub fn open(g: &Gpu) -> Self {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/target");
        let made = std::fs::create_dir_all(folder).and_then(|()| File::create(format!("{folder}/bench.jsonl")));
        let file = made.unwrap_or_else(|e| panic!("{folder}/bench.jsonl: {e}"));
        let report = Self { caps: g.caps().clone(), commit: commit(), timer: timer(g), file, rows: Vec::new() };
        eprintln!("{}", report.title());
        report
    }

    fn title(&self) -> String {
        let Self { caps, commit, timer, .. } = self;
        let warning = if caps.software { "\nA software adapter: its figures say nothing about a GPU." } else { "" };
        format!("{caps}, commit {commit}, by {timer}{warning}")
    }

    /// One case took `seconds`.
    pub fn case(&mut self, roof: &Roof, family: &str, direction: &str, case: &str, seconds: f64, floor: Floor) {
        let rate = |work: usize| work as f64 / seconds / 1e9;
        let (ms, gb, gflop, ratio) =
            (seconds * 1e3, rate(floor.bytes), rate(floor.flops), seconds / floor.seconds(roof));
        let row = format!("{family:<15} {direction:<8} {case:<28} {ms:>9.3} {gb:>8.1} {gflop:>9.1} {ratio:>7.2}");
        eprintln!("{row}");
        self.rows.push(row);
        let line = json!({
            "adapter": self.caps.name, "software": self.caps.software, "driver": self.caps.driver,
            "tiers": self.caps.tiers.to_string(), "commit": self.commit, "timer": self.timer,
            "roof": { "copy_GB/s": roof.copy / 1e9, "gemm_GFLOP/s": roof.gemm / 1e9, "fma_GFLOP/s": roof.fma / 1e9, "Gexp/s": roof.exp / 1e9 },
            "family": family, "direction": direction, "case": case,
            "ms": ms, "GB/s": gb, "GFLOP/s": gflop, "floor_ratio": ratio,
        });
        writeln!(self.file, "{line}").unwrap_or_else(|e| panic!("target/bench.jsonl: {e}"));
    }

    /// The adapter is too small for one case.
    pub fn skipped(&mut self, family: &str, direction: &str, case: &str) {
        self.rows.push(format!("{family:<15} {direction:<8} {case:<28} SKIPPED: more than the adapter has"));
    }

    /// All lines again, under their heads.
    pub fn table(&self) {
        if self.rows.is_empty() {
            return;
        }
        let head = ["family", "", "shape", "ms", "GB/s", "GFLOP/s", "x floor"];
        let [family, direction, case, ms, gb, gflop, ratio] = head;
        println!("\n{}", self.title());
        println!("{family:<15} {direction:<8} {case:<28} {ms:>9} {gb:>8} {gflop:>9} {ratio:>7}");
        self.rows.iter().for_each(|row| println!("{row}"));
    }
}

/// The commit that is checked out, with `+` if files differ from it.
fn commit() -> String {
    let git = |args: &[&str]| {
        let out = Command::new("git").args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_string())
    };
    let clean = git(&["status", "--porcelain"]).is_some_and(|changed| changed.is_empty());
    git(&["rev-parse", "--short", "HEAD"]).map_or("unknown".into(), |c| if clean { c } else { c + "+" })
}
