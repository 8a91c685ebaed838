//! What a compiler makes of one variant: a row of a table that is kept in the repository.

use crate::device::Family;
use crate::driver::Compiled;
use crate::listing::Class;

/// The columns of a table after kernel and constants.
pub const COLUMNS: [&str; 18] = [
    "lanes",
    "registers",
    "spills",
    "local",
    "shared",
    "waves",
    "code",
    "loop",
    "fma",
    "float",
    "special",
    "matrix",
    "int",
    "move",
    "lane",
    "lds",
    "buffer",
    "stack",
];

/// The classes of the hot loop's instructions, in the order of the columns after `loop`.
const CLASSES: [Class; 10] = [
    Class::Fma,
    Class::Float,
    Class::Special,
    Class::Matrix,
    Class::Integer,
    Class::Move,
    Class::Lane,
    Class::Shared,
    Class::Buffer,
    Class::Local,
];

/// One compiled variant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub kernel: String,
    pub constants: String,
    /// The numbers, in the order of [`COLUMNS`].
    pub numbers: Vec<u64>,
    /// The sum of the WGSL that was compiled.
    pub source: String,
}

impl Row {
    /// The row of what was compiled from a source with this sum. `shared` is the workgroup memory in bytes.
    pub fn new(
        (kernel, constants): (&str, String), source: String, shared: u32, family: Family, compiled: &Compiled,
    ) -> Self {
        let figures = family.figures().map(|names| names.iter().map(|name| compiled.figure(name)).sum());
        let [registers, spills, local, waves, code]: [u64; 5] = figures;
        let waves = if family == Family::Apple { waves / 32 } else { waves }; // threads of 32 lanes
        let hot = family.listing(compiled).and_then(|listing| listing.hot_loop()).unwrap_or_default();
        let mut numbers =
            vec![compiled.subgroup.into(), registers, spills, local, shared.into(), waves, code, hot.total().into()];
        numbers.extend(CLASSES.map(|class| u64::from(hot.of(class))));
        Self { kernel: kernel.into(), constants, numbers, source }
    }

    /// The number in a column of [`COLUMNS`].
    pub fn get(&self, column: &str) -> u64 {
        COLUMNS.iter().zip(&self.numbers).find(|(known, _)| **known == column).map_or(0, |(_, number)| *number)
    }

    /// Kernel and constants, which name the variant.
    pub fn name(&self) -> String {
        format!("{} {}", self.kernel, self.constants)
    }

    /// Whether this is the same variant.
    pub fn same(&self, other: &Self) -> bool {
        (&self.kernel, &self.constants) == (&other.kernel, &other.constants)
    }
}

/// The table of a device as text: a line about the device, a head, a line for each row, with its source at the end.
pub fn table(device: &str, rows: &[Row]) -> String {
    let width = |cells: &dyn Fn(&Row) -> usize| rows.iter().map(cells).max().unwrap_or_default();
    let (kernel, constants) = (width(&|row| row.kernel.len()), width(&|row| row.constants.len()));
    let line = |a: &str, b: &str, numbers: &mut dyn Iterator<Item = String>, source: &str| {
        let cells = numbers.zip(COLUMNS).map(|(number, head)| format!("  {number:>0$}", head.len().max(5)));
        format!("{a:kernel$}  {b:constants$}{}  {source}\n", cells.collect::<String>())
    };
    let head = line("kernel", "constants", &mut COLUMNS.iter().map(ToString::to_string), "source");
    let body = rows
        .iter()
        .map(|row| line(&row.kernel, &row.constants, &mut row.numbers.iter().map(u64::to_string), &row.source));
    format!("{device}\n{head}{}", body.collect::<String>())
}

/// The line about the device and the rows of a [`table`].
pub fn parse(text: &str) -> (String, Vec<Row>) {
    let mut lines = text.lines();
    let device = lines.next().unwrap_or_default().to_owned();
    let row = |line: &str| {
        let mut cells = line.split_whitespace().map(str::to_owned);
        let (kernel, constants) = (cells.next()?, cells.next()?);
        let numbers: Vec<u64> = cells.by_ref().take(COLUMNS.len()).map_while(|cell| cell.parse().ok()).collect();
        let source = cells.next().unwrap_or_default();
        (numbers.len() == COLUMNS.len()).then_some(Row { kernel, constants, numbers, source })
    };
    (device, lines.filter_map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_read_as_it_was_written() {
        let row = |kernel: &str, constants: &str, first: u64| Row {
            kernel: kernel.into(),
            constants: constants.into(),
            numbers: (first..).take(COLUMNS.len()).collect(),
            source: format!("{first:016x}"),
        };
        let rows = vec![row("add.forward", "-", 1), row("matmul.tiled", "TILE_M=64,TILE_N=64", 100_000)];
        assert_eq!(parse(&table("a device, a driver", &rows)), ("a device, a driver".into(), rows));
    }
}
