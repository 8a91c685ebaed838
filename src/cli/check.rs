//! `rowscan check`: runs conformance fixtures and prints a verdict for each.

use std::path::PathBuf;

use crate::cli::terminal::{Device, Outcome, Stop, say};
use crate::conformance::check;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Fixture files (safetensors, format in tests/fixtures/README.md).
    #[arg(required = true)]
    fixtures: Vec<PathBuf>,
    /// Print failing tensors and the verdicts only.
    #[arg(short, long)]
    quiet: bool,
}

pub fn run(device: &Device, args: &Args) -> Outcome {
    let g = device.open()?;
    say(g.caps())?;
    let mut passed = true;
    for path in &args.fixtures {
        let mut report = check(&g, path)?;
        passed &= report.passed();
        if args.quiet {
            let verdict = report.to_string();
            report.rows.retain(|row| !row.passed());
            let failing = report.to_string();
            let kept: Vec<_> = failing.lines().filter(|l| l.ends_with("FAIL")).collect();
            let kept: String = kept.iter().map(|l| format!("{l}\n")).collect();
            say(format_args!("{}\n{kept}{}", report.path, verdict.lines().last().unwrap_or_default()))?;
        } else {
            say(&report)?;
        }
    }
    if passed { Ok(()) } else { Err(Stop::Negative) }
}
