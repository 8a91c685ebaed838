//! What an adapter computes right: the report that `rowscan check --report` writes, and the table of all reports.
//!
//! A report holds, for each tier of the adapter, which operator families agree with their oracles, and which fixtures
//! with PyTorch. `benches/support` collects reports; the table in its README.md is made from them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::report::commit;
use crate::bench::ops;
use crate::bench::selection::Scope;
use crate::conformance::check;
use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu, Precision};

/// Format of a report.
const FORMAT: &str = "rowscan-support/1";

/// Where the table begins and ends in a README.md.
const MARKS: [&str; 2] = ["<!-- table: made from the reports beside this page -->", "<!-- end of the table -->"];

/// What was found on one adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SupportReport {
    /// `rowscan-support/1`.
    pub format: String,
    /// Name of the adapter.
    pub adapter: String,
    /// Vulkan, Metal, Dx12.
    pub backend: String,
    /// Driver and version.
    pub driver: String,
    /// Whether the adapter is a CPU.
    pub software: bool,
    /// Operating system and architecture.
    pub system: String,
    /// Version of rowscan.
    pub version: String,
    /// Commit of rowscan, with `+` if files differed from it.
    pub commit: String,
    /// What a reader should know besides.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// What passed on each tier: the portable one, then the one with all that the adapter has.
    pub tiers: Vec<TierReport>,
}

/// What was found on one tier of an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TierReport {
    /// `portable`, or `portable, subgroup, coop`.
    pub tier: String,
    /// `passed`, or `failed: …`, or `skipped: …` by operator family: all its results and gradients against its oracle,
    /// in f32 and in mixed precision.
    pub families: BTreeMap<String, String>,
    /// The same by fixture: a file's name without its ending.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub fixtures: BTreeMap<String, String>,
}

/// What to examine.
#[derive(Debug, Clone, Default)]
pub struct Examination {
    /// Operator families; none for all.
    pub families: Vec<String>,
    /// Fixture files.
    pub fixtures: Vec<PathBuf>,
    /// What a reader should know besides.
    pub note: String,
}

impl Examination {
    /// Refuses names of families that there are not.
    pub fn check(&self) -> Result<()> {
        let known: Vec<&str> = ops::ALL.iter().map(|(name, _)| *name).collect();
        match self.families.iter().find(|name| !known.contains(&name.as_str())) {
            Some(unknown) => Err(Error::unknown("--family", unknown, known)),
            None => Ok(()),
        }
    }

    /// Examines the adapter that `open` opens: with the argument true on the portable tier, then with all its tiers.
    /// What fails is in the report. After a lost device the next family has a new one. `say` gets a line for each.
    ///
    /// # Errors
    /// If no device opens, or `say` fails.
    pub fn run(
        &self, open: impl Fn(bool) -> Result<Gpu>, mut say: impl FnMut(String) -> Result<()>,
    ) -> Result<SupportReport> {
        let mut caps = Vec::<Caps>::new();
        let mut tiers = Vec::new();
        for portable in [true, false] {
            let g = open(portable)?;
            if caps.iter().any(|before| before.tiers == g.caps().tiers) {
                continue; // the adapter has no other tier
            }
            say(g.caps().to_string())?;
            caps.push(g.caps().clone());
            tiers.push(self.tier(g, || open(portable), &mut say)?);
        }
        let caps = caps.first().cloned().ok_or_else(|| Error::Internal("no tier".into()))?;
        Ok(SupportReport {
            format: FORMAT.into(),
            adapter: caps.name,
            backend: caps.backend,
            driver: caps.driver,
            software: caps.software,
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            version: env!("CARGO_PKG_VERSION").into(),
            commit: commit(),
            note: self.note.clone(),
            tiers,
        })
    }

    fn tier(
        &self, mut g: Gpu, open: impl Fn() -> Result<Gpu>, mut say: impl FnMut(String) -> Result<()>,
    ) -> Result<TierReport> {
        let tier = g.caps().tiers.to_string();
        let mut report = TierReport { tier, families: BTreeMap::new(), fixtures: BTreeMap::new() };
        let mut precisions = vec![Precision::F32, Precision::Mixed];
        precisions.extend(g.caps().tiers.coop.then_some(Precision::High)); // elsewhere it is f32
        for &family in
            ops::ALL.iter().filter(|(name, _)| self.families.is_empty() || self.families.contains(&(*name).into()))
        {
            let verdict = verdict(precisions.iter().map(|&precision| (precision, of_family(&g, family, precision))));
            say(format!("  {:<16} {verdict}", family.0))?;
            report.families.insert(family.0.into(), verdict);
            reopen(&mut g, &open)?;
        }
        for path in &self.fixtures {
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            let verdict = verdict([(Precision::F32, of_fixture(&g, path))]);
            say(format!("  {name:<32} {verdict}"))?;
            report.fixtures.insert(name, verdict);
            reopen(&mut g, &open)?;
        }
        Ok(report)
    }
}

/// Opens the device anew if it is lost.
fn reopen(g: &mut Gpu, open: impl Fn() -> Result<Gpu>) -> Result<()> {
    if g.check().is_err() {
        *g = open()?;
    }
    Ok(())
}

/// Compares all cases of a family.
fn of_family(g: &Gpu, family: ops::FamilyCases, precision: Precision) -> Result<()> {
    let scope = Scope { quick: true, precision, ..Scope::default() };
    ops::of(&scope, family).iter().try_for_each(|case| match case.check(g) {
        Err(e @ (Error::Mismatch(_) | Error::Limit { .. } | Error::OutOfMemory(_))) => Err(e),
        Err(e) => Err(Error::Mismatch(format!("{case:?}: {e}"))),
        Ok(_) => Ok(()),
    })
}

fn of_fixture(g: &Gpu, path: &Path) -> Result<()> {
    let report = check(g, path)?;
    match report.rows.iter().find(|row| !row.passed()) {
        Some(row) => {
            Err(Error::Mismatch(format!("{}: error {:.1e}, allowed {:.1e}", row.name, row.error, row.tolerance)))
        }
        None if report.passed() => Ok(()),
        None => Err(Error::Mismatch("nothing was compared".into())),
    }
}

/// The verdict about results in several precisions: the first that is wrong, else the first that the adapter is too
/// small for.
fn verdict(results: impl IntoIterator<Item = (Precision, Result<()>)>) -> String {
    let mut skipped = None;
    for (precision, result) in results {
        let Err(e) = result else { continue };
        let told = format!("{precision}: {}", e.to_string().lines().next().unwrap_or_default());
        match e {
            Error::Limit { .. } | Error::OutOfMemory(_) => skipped = skipped.or(Some(told)),
            _ => return format!("failed: {told}"),
        }
    }
    skipped.map_or("passed".into(), |told| format!("skipped: {told}"))
}

impl SupportReport {
    /// Whether nothing failed.
    pub fn passed(&self) -> bool {
        self.verdicts().all(|(_, _, verdict)| !verdict.starts_with("failed"))
    }

    /// Tier, name and verdict of all families and fixtures.
    fn verdicts(&self) -> impl Iterator<Item = (&str, &str, &str)> {
        self.tiers.iter().flat_map(|tier| {
            let all = tier.families.iter().chain(&tier.fixtures);
            all.map(|(name, verdict)| (tier.tier.as_str(), name.as_str(), verdict.as_str()))
        })
    }

    /// The report as TOML.
    pub fn to_toml(&self) -> Result<String> {
        toml::to_string(self).map_err(|e| Error::Internal(format!("a report as TOML: {e}")))
    }

    /// Reads a report.
    ///
    /// # Errors
    /// If it cannot be read or is no report.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
        let report: Self = toml::from_str(&text).map_err(|e| Error::file(path, e.message()))?;
        if report.format != FORMAT {
            return Err(Error::file(path, format!("format `{}`, expected `{FORMAT}`", report.format)));
        }
        Ok(report)
    }
}

/// `page`, a README.md, with the table of all reports in `folder` between its marks. `None` if the page has no marks.
///
/// # Errors
/// If the folder cannot be read, or a report in it.
pub fn with_table(page: &str, folder: &Path) -> Result<Option<String>> {
    let [begin, end] = MARKS;
    let Some((before, rest)) = page.split_once(begin) else { return Ok(None) };
    let Some((_, after)) = rest.split_once(end) else { return Ok(None) };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "read"))? {
        let path = entry.map_err(Error::io(folder, "read"))?.path();
        files.extend((path.extension().is_some_and(|end| end == "toml")).then_some(path));
    }
    files.sort();
    let reports: Vec<_> = files.iter().map(|path| SupportReport::read(path)).collect::<Result<_>>()?;
    Ok(Some(format!("{before}{begin}\n\n{}\n{end}{after}", table(&reports))))
}

/// Reports as Markdown: a line for each tier of each adapter, then the families by tier, then what failed.
fn table(reports: &[SupportReport]) -> String {
    let all: Vec<(&SupportReport, &TierReport)> =
        reports.iter().flat_map(|report| report.tiers.iter().map(move |tier| (report, tier))).collect();
    let mut text = String::from("| | adapter | driver | system | tiers | families | fixtures | rowscan |\n");
    text += "|--:|---|---|---|---|--:|--:|---|\n";
    let passed = |verdicts: &BTreeMap<String, String>| {
        let passed = verdicts.values().filter(|verdict| *verdict == "passed").count();
        if verdicts.is_empty() { "–".into() } else { format!("{passed} of {}", verdicts.len()) }
    };
    // writing to a String cannot fail
    for (at, (report, tier)) in all.iter().enumerate() {
        let kind = if report.software { " (a CPU)" } else { "" };
        let note = if report.note.is_empty() { String::new() } else { format!("; {}", report.note) };
        let _ = writeln!(
            text,
            "| {} | {}{kind}, {} | {}{note} | {} | {} | {} | {} | {}, {} |",
            at + 1,
            report.adapter,
            report.backend,
            report.driver,
            report.system,
            tier.tier,
            passed(&tier.families),
            passed(&tier.fixtures),
            report.version,
            report.commit,
        );
    }
    let families: BTreeSet<&str> = all.iter().flat_map(|(_, tier)| tier.families.keys().map(String::as_str)).collect();
    let numbers: Vec<String> = (1..=all.len()).map(|number| number.to_string()).collect();
    let _ = writeln!(text, "\n| family | {} |\n|---|{}", numbers.join(" | "), "---|".repeat(all.len()));
    for family in families {
        let sign = |(_, tier): &(&SupportReport, &TierReport)| match tier.families.get(family).map(String::as_str) {
            Some("passed") => "✓",
            Some(verdict) if verdict.starts_with("failed") => "✗",
            Some(_) => "too small",
            None => "",
        };
        let _ = writeln!(text, "| `{family}` | {} |", all.iter().map(sign).collect::<Vec<_>>().join(" | "));
    }
    let mut odd = String::new();
    for (at, (_, tier)) in all.iter().enumerate() {
        for (name, verdict) in tier.families.iter().chain(&tier.fixtures).filter(|(_, verdict)| *verdict != "passed") {
            let _ = writeln!(odd, "- {}: `{name}` {verdict}", at + 1);
        }
    }
    if !odd.is_empty() {
        let _ = write!(text, "\nNot passed:\n\n{odd}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_outweighs_what_is_too_large() {
        let wrong = || Err(Error::Mismatch("scale small: y[3]: got 1, expected 2".into()));
        let large = || Err(Error::Limit { what: "x".into(), needed: 2, allowed: 1 });
        let of = |results: Vec<Result<()>>| verdict(results.into_iter().map(|result| (Precision::Mixed, result)));
        assert_eq!(of(vec![Ok(()), Ok(())]), "passed");
        assert_eq!(of(vec![Ok(()), large(), Ok(())]), "skipped: mixed: adapter limit: x needs 2, the adapter allows 1");
        assert_eq!(of(vec![large(), wrong()]), "failed: mixed: scale small: y[3]: got 1, expected 2");
    }

    #[test]
    fn a_table_says_what_failed_where() {
        let tier = |tier: &str, scale: &str| TierReport {
            tier: tier.into(),
            families: [("add".into(), "passed".into()), ("scale".into(), scale.into())].into(),
            fixtures: BTreeMap::new(),
        };
        let report = SupportReport {
            format: FORMAT.into(),
            adapter: "Made Up 3000".into(),
            backend: "Vulkan".into(),
            driver: "1.2".into(),
            software: false,
            system: "linux x86_64".into(),
            version: "0.1.0".into(),
            commit: "abc".into(),
            note: String::new(),
            tiers: vec![tier("portable", "passed"), tier("portable, subgroup", "failed: f32: y[0]")],
        };
        assert!(!report.passed());
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("made_up.toml"), report.to_toml().unwrap()).unwrap();
        assert_eq!(SupportReport::read(&dir.path().join("made_up.toml")).unwrap(), report);
        let page = format!("before\n{}\nold\n{}\nafter\n", MARKS[0], MARKS[1]);
        let page = with_table(&page, dir.path()).unwrap().unwrap();
        assert!(page.starts_with("before\n") && page.ends_with("after\n") && !page.contains("old"), "{page}");
        assert!(page.contains("| 2 | Made Up 3000, Vulkan | 1.2 | linux x86_64 | portable, subgroup | 1 of 2 | – |"));
        assert!(page.contains("| `scale` | ✓ | ✗ |") && page.contains("- 2: `scale` failed: f32: y[0]"), "{page}");
        assert_eq!(with_table(&page, dir.path()).unwrap().unwrap(), page, "once more changes nothing");
        assert!(with_table("no marks", dir.path()).unwrap().is_none());
        std::fs::write(dir.path().join("other.toml"), "format = \"other\"").unwrap();
        assert!(with_table(&page, dir.path()).unwrap_err().to_string().contains("other.toml"));
    }
}
