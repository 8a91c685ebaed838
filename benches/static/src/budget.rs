//! What the kernels may cost on each device: `budget.toml`.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::row::Row;

/// By device, the driver that the numbers are of and what its kernels may have.
pub type Budget = BTreeMap<String, DeviceBudget>;

/// What the kernels of a device may have.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceBudget {
    /// Driver and version that the numbers are of.
    pub driver: String,
    /// By kernel, what each of its variants may have.
    pub kernels: BTreeMap<String, Allowed>,
}

/// What each variant of a kernel may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allowed {
    /// Least number of subgroups at once.
    pub waves: u64,
    /// Most instructions.
    pub code: u64,
    /// Most instructions of the hot loop.
    #[serde(default, rename = "loop")]
    pub hot: u64,
    /// Most spilled registers.
    #[serde(default)]
    pub spills: u64,
    /// Most bytes of memory for what has no register.
    #[serde(default)]
    pub local: u64,
}

/// Instructions may grow by this share, in percent, before a budget fails.
const SLACK: u64 = 5;

impl Allowed {
    /// What these variants of a kernel have, with [`SLACK`] for instructions.
    fn of<'a>(rows: impl Iterator<Item = &'a Row> + Clone) -> Self {
        let most = |column| rows.clone().map(|row| row.get(column)).max().unwrap_or_default();
        let slack = |count: u64| count + (count * SLACK).div_ceil(100);
        let waves = rows.clone().map(|row| row.get("waves")).min().unwrap_or_default();
        Self {
            waves,
            code: slack(most("code")),
            hot: slack(most("loop")),
            spills: most("spills"),
            local: most("local"),
        }
    }

    fn line(&self, kernel: &str) -> String {
        let Self { waves, code, hot, spills, local } = self;
        let mut parts = vec![format!("waves = {waves}, code = {code}")];
        let others = [("loop", *hot), ("spills", *spills), ("local", *local)];
        parts.extend(others.iter().filter(|(_, most)| *most > 0).map(|(name, most)| format!("{name} = {most}")));
        format!("\"{kernel}\" = {{ {} }}\n", parts.join(", "))
    }
}

/// The rows that are past the budget, as sentences. With another driver than the budget's, instructions may be a tenth
/// more and waves a tenth fewer: compilers change.
pub fn past(budget: &DeviceBudget, driver: &str, rows: &[Row]) -> Vec<String> {
    let other = u64::from(driver != budget.driver);
    let judge = |row: &Row| {
        let Some(allowed) = budget.kernels.get(&row.kernel) else {
            return vec![format!("{} {}: not in the budget", row.kernel, row.constants)];
        };
        let most = |column: &'static str, most: u64| (row.get(column) > most).then_some((column, "at most", most));
        let waves = allowed.waves - allowed.waves * other / 10;
        let few = (row.get("waves") < waves).then_some(("waves", "at least", waves));
        let counts = [("code", allowed.code), ("loop", allowed.hot)].map(|(name, n)| most(name, n + n * other / 10));
        let memory = [("spills", allowed.spills), ("local", allowed.local)].map(|(name, n)| most(name, n));
        let wrong = few.into_iter().chain(counts.into_iter().chain(memory).flatten());
        let sentence = |(column, bound, limit): (&str, &str, u64)| {
            format!("{} {}: {column} {}, {bound} {limit}", row.kernel, row.constants, row.get(column))
        };
        wrong.map(sentence).collect::<Vec<_>>()
    };
    rows.iter().flat_map(judge).collect()
}

/// The section of a device in `budget.toml`: what its kernels have now.
pub fn section(device: &str, driver: &str, rows: &[Row]) -> String {
    let mut kernels: Vec<&str> = rows.iter().map(|row| row.kernel.as_str()).collect();
    kernels.dedup();
    let line = |kernel: &str| Allowed::of(rows.iter().filter(|row| row.kernel == kernel)).line(kernel);
    let lines: String = kernels.into_iter().map(line).collect();
    format!("[{device}]\ndriver = \"{driver}\"\n\n[{device}.kernels]\n{lines}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::COLUMNS;

    fn row(kernel: &str, numbers: &[(&str, u64)]) -> Row {
        let number = |column: &&str| numbers.iter().find(|(name, _)| name == column).map_or(0, |(_, number)| *number);
        Row {
            kernel: kernel.into(),
            constants: "-".into(),
            numbers: COLUMNS.iter().map(number).collect(),
            source: String::new(),
        }
    }

    #[test]
    fn what_was_accepted_passes_and_what_grew_is_named() {
        let accepted = [row("scan.back", &[("waves", 8), ("code", 1000), ("loop", 100), ("spills", 3)])];
        let text = section("rdna3", "radv 1", &accepted);
        let budget: Budget = toml::from_str(&text).unwrap();
        assert_eq!(past(&budget["rdna3"], "radv 1", &accepted), Vec::<String>::new());
        let grown = [
            row("scan.back", &[("waves", 7), ("code", 1060), ("loop", 106), ("spills", 4), ("local", 4)]),
            row("new.forward", &[("waves", 16)]),
        ];
        let said = past(&budget["rdna3"], "radv 1", &grown);
        let expected = [
            "scan.back -: waves 7, at least 8",
            "scan.back -: code 1060, at most 1050",
            "scan.back -: loop 106, at most 105",
            "scan.back -: spills 4, at most 3",
            "scan.back -: local 4, at most 0",
            "new.forward -: not in the budget",
        ];
        assert_eq!(said, expected);
    }

    #[test]
    fn another_driver_has_a_tenth_of_slack_and_none_for_spills() {
        let budget: Budget = toml::from_str(&section("rdna3", "radv 1", &[row("a.b", &[("code", 100)])])).unwrap();
        let of = |code, spills| past(&budget["rdna3"], "radv 2", &[row("a.b", &[("code", code), ("spills", spills)])]);
        assert_eq!(of(115, 0), Vec::<String>::new());
        assert_eq!((of(116, 0).len(), of(100, 1).len()), (1, 1));
    }
}
