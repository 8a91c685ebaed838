//! `rowscan check`: runs conformance fixtures and prints a verdict for each; with `--report`, writes what the adapter
//! computes right.

use std::path::{Path, PathBuf};

use crate::bench::runner::support::{Examination, with_table};
use crate::cli::terminal::{Device, Outcome, Stop, say, usage};
use crate::conformance::check;
use crate::error::Error;
use crate::gpu::Options;
use crate::run::record::write_atomic;
use crate::run::world::World;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Fixture files (safetensors, format in tests/fixtures/README.md).
    #[arg(required_unless_present = "report")]
    fixtures: Vec<PathBuf>,
    /// Print failing tensors and the verdicts only.
    #[arg(short, long)]
    quiet: bool,
    /// Compare every operator with its oracle too, on each tier of the adapter, and write what passed to this file
    /// (TOML). A table of such reports in a README.md beside it, as in benches/support, is made anew.
    #[arg(long, value_name = "FILE", conflicts_with = "quiet")]
    report: Option<PathBuf>,
    /// With --report: only this operator family; may be given several times.
    #[arg(long, value_name = "NAME", requires = "report")]
    family: Vec<String>,
    /// With --report: what a reader should know besides adapter and driver.
    #[arg(long, value_name = "TEXT", default_value = "", requires = "report")]
    note: String,
}

pub fn run(device: &Device, args: &Args) -> Outcome {
    if let Some(path) = &args.report {
        return report(device, args, path);
    }
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

fn report(device: &Device, args: &Args, path: &Path) -> Outcome {
    let what = Examination { families: args.family.clone(), fixtures: args.fixtures.clone(), note: args.note.clone() };
    usage(what.check())?;
    let open = |portable| {
        let options = Options { portable: portable || device.options.portable, ..device.options.clone() };
        Device { options, world: World::alone() }.open()
    };
    let report = what.run(open, say)?;
    write_atomic(path, report.to_toml()?.as_bytes())?;
    say(format_args!("report: {}", path.display()))?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let page = folder.join("README.md");
    if page.is_file() {
        let text = std::fs::read_to_string(&page).map_err(Error::io(&page, "read"))?;
        if let Some(text) = with_table(&text, folder)? {
            write_atomic(&page, text.as_bytes())?;
            say(format_args!("table:  {}", page.display()))?;
        }
    }
    if report.passed() { Ok(()) } else { Err(Stop::Negative) }
}
