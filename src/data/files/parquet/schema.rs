//! The footer of a Parquet file: its columns, and where the data of each lie.
use super::thrift::{Value, read};
use std::fs::File;
use std::path::Path;

use crate::data::files::archive::read_at;
use crate::error::DataError;

/// Largest footer that is read.
const MOST_FOOTER: u64 = 32 << 20;
/// Rows of a file at most.
const MOST_ROWS: i64 = 200_000_000;

/// How a value is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Physical {
    Int32,
    Int64,
    Bytes,
    Other(i64),
}

/// A column that holds values.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Leaf {
    /// Names from the top: `image.bytes`.
    pub path: Vec<String>,
    pub physical: Physical,
    /// Whether bytes are marked as text.
    pub is_text: bool,
    /// How many of the fields on the path may be null.
    pub nullable: u32,
    /// Whether one of them is a list.
    pub repeated: bool,
}

/// The data of a column in one row group.
#[derive(Clone, Debug)]
pub(super) struct Chunk {
    pub codec: i64,
    pub start: u64,
    /// Bytes of all pages, and what they unpack to.
    pub bytes: u64,
    pub unpacked: u64,
}

/// Rows that lie together.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub rows: usize,
    /// A chunk for each leaf.
    pub chunks: Vec<Chunk>,
}

/// What the footer says.
#[derive(Clone, Debug)]
pub(super) struct Footer {
    pub leaves: Vec<Leaf>,
    pub groups: Vec<Group>,
    /// The value of the key `huggingface`.
    pub huggingface: Option<String>,
}

/// Reads the footer of a file.
pub(super) fn footer(path: &Path, file: &File) -> Result<Footer, DataError> {
    let bad = |message: &str| DataError::format(path, format!("is no whole Parquet file: {message}"));
    let total = file.metadata().map_err(DataError::io("look at", path))?.len();
    if total < 12 {
        return Err(bad(&format!("{total} bytes, expected at least 12")));
    }
    let mut end = [0; 8];
    read_at(file, total - 8, &mut end).map_err(DataError::io("read", path))?;
    match &end[4..] {
        b"PAR1" => {}
        b"PARE" => return Err(DataError::format(path, "is encrypted, which is not read: write it without encryption")),
        _ => return Err(bad("it does not end in PAR1")),
    }
    let length = u64::from(u32::from_le_bytes([end[0], end[1], end[2], end[3]]));
    if length > total - 12 || length > MOST_FOOTER {
        return Err(bad(&format!("its footer has {length} bytes, the file {total}, expected at most {MOST_FOOTER}")));
    }
    let mut bytes = vec![0; length as usize];
    read_at(file, total - 8 - length, &mut bytes).map_err(DataError::io("read", path))?;
    let (value, _) = read(&bytes).ok_or_else(|| bad("its footer cannot be read"))?;
    parse(&value, total).map_err(|message| bad(&message))
}

fn parse(value: &Value, total: u64) -> Result<Footer, String> {
    let leaves = leaves(value.list(2)).ok_or("its columns cannot be read")?;
    let mut groups = Vec::new();
    let mut all = 0i64;
    for group in value.list(4) {
        let rows =
            group.int(3).filter(|rows| (0..=MOST_ROWS).contains(rows)).ok_or("a row group has no number of rows")?;
        all = all.saturating_add(rows);
        let columns = group.list(1);
        if columns.len() != leaves.len() {
            return Err(format!("a row group has {} columns, expected {}", columns.len(), leaves.len()));
        }
        let chunks: Option<Vec<Chunk>> = columns.iter().map(|column| chunk(column, total)).collect();
        groups.push(Group { rows: rows as usize, chunks: chunks.ok_or("a column lies outside the file")? });
    }
    if all > MOST_ROWS {
        return Err(format!("it has {all} rows, expected at most {MOST_ROWS}"));
    }
    let huggingface = value.list(5).iter().find(|pair| pair.text(1).as_deref() == Some("huggingface"));
    Ok(Footer { leaves, groups, huggingface: huggingface.and_then(|pair| pair.text(2)) })
}

fn chunk(column: &Value, total: u64) -> Option<Chunk> {
    let meta = column.field(3)?;
    let (codec, bytes, data) = (meta.int(4)?, u64::try_from(meta.int(7)?).ok()?, meta.int(9)?);
    let start = meta.int(11).filter(|start| *start > 0).map_or(data, |dictionary| dictionary.min(data));
    let start = u64::try_from(start).ok()?;
    let unpacked = meta.int(6).and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(bytes);
    (start.checked_add(bytes)? <= total && column.text(1).is_none()).then_some(Chunk { codec, start, bytes, unpacked })
}

/// The columns with values, from the tree of fields that is written in depth-first order.
fn leaves(elements: &[Value]) -> Option<Vec<Leaf>> {
    let mut found = Vec::new();
    // For each open field: its name, how many children are left, and what its path has so far.
    let mut open: Vec<(String, i64, u32, bool)> = Vec::new();
    for (i, element) in elements.iter().enumerate() {
        while open.last().is_some_and(|(_, left, ..)| *left == 0) {
            open.pop();
        }
        if i > 0 {
            open.last_mut()?.1 -= 1;
        }
        let (nullable, repeated) = open.last().map_or((0, false), |(_, _, nullable, repeated)| (*nullable, *repeated));
        let repetition = if i == 0 { 0 } else { element.int(3)? };
        let (nullable, repeated) = (nullable + u32::from(repetition > 0), repeated || repetition == 2);
        let name = element.text(4)?;
        match element.int(5).unwrap_or(0) {
            children @ 1.. if open.len() < 64 => open.push((name, children, nullable, repeated)),
            0 if i > 0 => {
                let physical = match element.int(1)? {
                    1 => Physical::Int32,
                    2 => Physical::Int64,
                    6 => Physical::Bytes,
                    other => Physical::Other(other),
                };
                let is_text =
                    element.int(6) == Some(0) || element.field(10).is_some_and(|kind| kind.field(1).is_some());
                let path = open.iter().skip(1).map(|(name, ..)| name.clone()).chain([name]).collect();
                found.push(Leaf { path, physical, is_text, nullable, repeated });
            }
            _ => return None,
        }
    }
    Some(found)
}
