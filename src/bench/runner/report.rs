//! The report of a bench: a table for people, and JSON for scripts.

use std::fmt;
use std::process::Command;

use serde_json::{Map, Value, json};

use super::clock::{Clock, Seconds};
use super::roof::Roof;
use crate::bench::case::Direction;
use crate::error::Error;
use crate::gpu::{Caps, Precision, Work};
use crate::ops::matmul::products;

/// Outcome of a case.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Its compared results were right; these are its times.
    Timed(Seconds),
    /// It was not run, because the adapter is too small for it. The text is the error.
    Skipped(String),
    /// A result was wrong, or it failed to run, so it was not timed. The text is the error.
    Failed(String),
}

impl Outcome {
    /// Outcome of a case that ended with an error.
    pub fn of(e: &Error) -> Self {
        let line = e.to_string().lines().next().unwrap_or_default().to_string();
        match e {
            Error::Limit { .. } | Error::OutOfMemory(_) => Self::Skipped(line),
            _ => Self::Failed(line),
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone)]
pub struct BenchRow {
    /// Name of the operator family.
    pub family: &'static str,
    /// Pass that was timed.
    pub direction: Direction,
    /// Variant and shape.
    pub case: String,
    /// Share of the samples that was compared with the oracle: "all", or "2 of 128 images".
    pub checked: String,
    /// Least work.
    pub floor: Work,
    /// Times, or the reason why there are none.
    pub outcome: Outcome,
    /// Parameters that another implementation needs to compute the same case.
    pub facts: Map<String, Value>,
}

/// The rows of a run, and the circumstances in which they were measured.
#[derive(Debug, Clone)]
pub struct BenchReport {
    /// The adapter.
    pub caps: Caps,
    /// Measured peak rates of the adapter.
    pub roof: Roof,
    /// The clock.
    pub clock: Clock,
    /// Precision of matrix products.
    pub precision: Precision,
    /// One row for each case and direction.
    pub rows: Vec<BenchRow>,
}

impl BenchReport {
    /// The first lines of a report: adapter, driver, version, commit, clock and precision.
    pub fn title(caps: &Caps, clock: Clock, precision: Precision) -> String {
        let warning = if caps.software { "\nA software adapter: its figures say nothing about a GPU." } else { "" };
        let (version, commit) = (env!("CARGO_PKG_VERSION"), commit());
        let products = products(caps, precision);
        format!("{caps}\nrowscan {version}, commit {commit}, by {}, products in {products}{warning}", clock.name())
    }

    /// The line with the names of the columns.
    pub fn head() -> String {
        let head = ["family", "direction", "shape", "ms", "min", "GB/s", "GFLOP/s", "x floor", "compared"];
        let [family, direction, case, ms, min, gb, gflop, ratio, compared] = head;
        format!("{family:<15} {direction:<9} {case:<28} {ms:>9} {min:>9} {gb:>8} {gflop:>9} {ratio:>7}  {compared}")
    }

    /// Whether no row failed. Skipped rows do not count as failed.
    pub fn passed(&self) -> bool {
        !self.rows.iter().any(|row| matches!(row.outcome, Outcome::Failed(_)))
    }

    /// The whole report as JSON.
    pub fn json(&self) -> Value {
        let mut report = circumstances("rowscan-bench/1", &self.caps, self.clock, self.precision);
        report["roof"] = self.roof.json();
        report["rows"] = self.rows.iter().map(|row| row.json(&self.roof)).collect();
        report
    }
}

/// What every report says about the circumstances in which it was measured, as JSON.
pub(super) fn circumstances(format: &str, caps: &Caps, clock: Clock, precision: Precision) -> Value {
    json!({
        "format": format,
        "implementation": "rowscan",
        "adapter": caps.name,
        "backend": caps.backend,
        "software": caps.software,
        "driver": caps.driver,
        "tiers": caps.tiers.to_string(),
        "versions": { "rowscan": env!("CARGO_PKG_VERSION") },
        "commit": commit(),
        "command": std::env::args().collect::<Vec<_>>().join(" "),
        "timer": clock.name(),
        "precision": precision,
        "products": products(caps, precision),
    })
}

impl BenchRow {
    /// The row as a line under [`BenchReport::head`].
    pub fn line(&self, roof: &Roof) -> String {
        let Self { family, direction, case, checked, floor, outcome, .. } = self;
        let name = format!("{family:<15} {direction:<9} {case:<28}");
        match outcome {
            Outcome::Timed(time) => {
                let rate = |work: u64| work as f64 / time.median / 1e9;
                let (ms, min) = (time.median * 1e3, time.min * 1e3);
                let (gb, gflop, ratio) = (rate(floor.bytes), rate(floor.flops), time.median / roof.floor(*floor));
                format!("{name} {ms:>9.3} {min:>9.3} {gb:>8.1} {gflop:>9.1} {ratio:>7.2}  {checked}")
            }
            Outcome::Skipped(why) => format!("{name} SKIPPED: {why}"),
            Outcome::Failed(why) => format!("{name} WRONG: {why}"),
        }
    }

    /// The row as JSON.
    pub fn json(&self, roof: &Roof) -> Value {
        let floor = roof.floor(self.floor);
        let mut row = json!({
            "family": self.family, "direction": self.direction.to_string(), "case": self.case, "facts": self.facts,
            "bytes": self.floor.bytes, "flops": self.floor.flops, "exps": self.floor.exps, "floor_ms": floor * 1e3,
        });
        match &self.outcome {
            Outcome::Timed(time) => {
                row["ms"] = json!(time.median * 1e3);
                row["ms_min"] = json!(time.min * 1e3);
                row["samples"] = json!(time.samples);
                row["GB/s"] = json!(self.floor.bytes as f64 / time.median / 1e9);
                row["GFLOP/s"] = json!(self.floor.flops as f64 / time.median / 1e9);
                row["floor_ratio"] = json!(time.median / floor);
                row["compared"] = json!(self.checked);
            }
            Outcome::Skipped(why) => row["skipped"] = json!(why),
            Outcome::Failed(why) => row["failed"] = json!(why),
        }
        row
    }
}

impl fmt::Display for BenchReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}\n{}", Self::title(&self.caps, self.clock, self.precision), self.roof, Self::head())?;
        self.rows.iter().try_for_each(|row| writeln!(f, "{}", row.line(&self.roof)))
    }
}

/// Short hash of the commit that is checked out in the source folder, followed by `+` if files differ from it.
/// "unknown" if there is no such folder.
pub fn commit() -> String {
    let git = |args: &[&str]| {
        let out = Command::new("git").args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_string())
    };
    let clean = git(&["status", "--porcelain"]).is_some_and(|changed| changed.is_empty());
    git(&["rev-parse", "--short", "HEAD"]).map_or("unknown".into(), |c| if clean { c } else { c + "+" })
}
