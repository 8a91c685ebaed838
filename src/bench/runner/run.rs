//! The loop of `rowscan bench`, without criterion: compares and times one case after the other.

use std::path::Path;

use super::clock::{Clock, Seconds, rotated};
use super::dump::dump;
use super::report::{BenchReport, BenchRow, Outcome};
use super::roof::Roof;
use super::step;
use crate::bench::case::{Case, Direction};
use crate::bench::ops;
use crate::bench::selection::Scope;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Work};

/// Compares and times every case of the scope. A case that is wrong or too large becomes a row with the reason, and the
/// run goes on. `say` gets each line as soon as it is known. With `folder`, inputs and results of each timed case are
/// written there.
///
/// # Errors
/// If the scope has an unknown name, the roof cannot be measured, the device is lost, or a file cannot be written.
pub fn run(
    g: &Gpu, scope: &Scope, clock: Clock, folder: Option<&Path>, mut say: impl FnMut(String) -> Result<()>,
) -> Result<BenchReport> {
    expect_known(scope)?;
    say(BenchReport::title(g.caps(), clock, scope.precision))?;
    let roof = Roof::measure(g, clock)?;
    say(roof.to_string())?;
    say(BenchReport::head())?;
    let mut report = BenchReport { caps: g.caps().clone(), roof, clock, precision: scope.precision, rows: Vec::new() };
    for &family in ops::ALL.iter().filter(|(name, _)| scope.wants(name)) {
        for case in ops::of(scope, family) {
            for row in rows(g, clock, &case, folder)? {
                say(row.line(&roof))?;
                report.rows.push(row);
            }
        }
    }
    if scope.wants(step::FAMILY) {
        for row in step::rows(g, scope)? {
            say(row.line(&roof))?;
            report.rows.push(row);
        }
    }
    Ok(report)
}

/// The rows of a case: one per timed direction. A case that is not timed has rows only if it is wrong.
fn rows(g: &Gpu, clock: Clock, case: &Case, folder: Option<&Path>) -> Result<Vec<BenchRow>> {
    let row = |direction, checked: &str, floor, outcome| BenchRow {
        family: case.family,
        direction,
        case: case.name.clone(),
        checked: checked.into(),
        floor,
        outcome,
        facts: case.facts.clone(),
    };
    let checked = match case.tune(g).and_then(|()| case.check(g)) {
        Ok(checked) => checked,
        Err(lost @ Error::DeviceLost(_)) => return Err(lost),
        Err(e) => {
            let only = [(Direction::Forward, Work::default())];
            let floors = if case.floors.is_empty() { &only[..] } else { &case.floors[..] };
            return Ok(floors.iter().map(|&(direction, floor)| row(direction, "", floor, Outcome::of(&e))).collect());
        }
    };
    if let Some(folder) = folder
        && !case.floors.is_empty()
    {
        dump(g, case, folder)?;
    }
    let mut rows = Vec::new();
    for &(direction, floor) in &case.floors {
        let outcome = match time(g, clock, case, direction, floor) {
            Ok(seconds) => Outcome::Timed(seconds),
            Err(lost @ Error::DeviceLost(_)) => return Err(lost),
            Err(e) => Outcome::of(&e),
        };
        rows.push(row(direction, &checked, floor, outcome));
    }
    Ok(rows)
}

fn time(g: &Gpu, clock: Clock, case: &Case, direction: Direction, floor: Work) -> Result<Seconds> {
    let copies = rotated(g, case, direction, floor)?;
    let programs: Vec<_> = copies.iter().filter_map(|copy| copy.program(direction)).collect();
    clock.sample(g, &programs)
}

/// Checks the names and numbers of the scope.
///
/// # Errors
/// For an unknown name, with a list of the known ones, or a number that is out of range.
fn expect_known(scope: &Scope) -> Result<()> {
    let families: Vec<_> = ops::ALL.iter().map(|(name, _)| *name).chain([step::FAMILY]).collect();
    if let Some(unknown) = scope.families.iter().find(|name| !families.contains(&name.as_str())) {
        return Err(Error::argument("--family", format!("`{unknown}`"), format!("one of {}", families.join(", "))));
    }
    let sizes = Scope::known_sizes();
    if let Some(unknown) = scope.sizes.iter().find(|name| !sizes.contains(&name.as_str())) {
        return Err(Error::argument("--size", format!("`{unknown}`"), format!("one of {}", sizes.join(", "))));
    }
    for (what, values) in [("--batch", &scope.batches), ("--tokens", &scope.lengths)] {
        if let Some(odd) = values.iter().find(|n| !(1..=65_536).contains(*n)) {
            return Err(Error::argument(what, odd, "1 to 65536"));
        }
    }
    Ok(())
}
