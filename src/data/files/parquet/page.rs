//! Pages of a column: unpacked, and decoded to a value or none for each row.
use super::schema::{Leaf, Physical};
use super::thrift::read;
use flate2::read::MultiGzDecoder;
use std::io::Read;
use std::ops::Range;
use std::sync::Arc;

/// Largest page, unpacked.
const MOST_PAGE: usize = 1 << 30;
/// Values of a page at most.
const MOST_VALUES: usize = 1 << 24;

/// What stands before a page.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Header {
    pub kind: Kind,
    /// Rows of a data page, entries of a dictionary.
    pub values: usize,
    /// Bytes that follow, and what they unpack to.
    pub packed: usize,
    pub unpacked: usize,
    encoding: i64,
    /// Bytes of levels in front, and whether the rest is packed, in a page of the second version.
    levels: Option<(usize, usize, bool)>,
}

impl Header {
    /// Whether the page names values of a dictionary in place of having them.
    pub fn names_values(&self) -> bool {
        matches!(self.encoding, 2 | 8)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Data,
    Dictionary,
    Other,
}

/// The header at the start of `bytes`, and its length.
pub(super) fn header(bytes: &[u8]) -> Result<(Header, usize), String> {
    let (value, length) = read(bytes).ok_or("the header of a page cannot be read")?;
    let size =
        |value: Option<i64>| value.and_then(|v| usize::try_from(v).ok()).ok_or("the header of a page lacks a size");
    let (unpacked, packed) = (size(value.int(2))?, size(value.int(3))?);
    let (kind, inner) = match value.int(1) {
        Some(0) => (Kind::Data, value.field(5)),
        Some(2) => (Kind::Dictionary, value.field(7)),
        Some(3) => (Kind::Data, value.field(8)),
        _ => (Kind::Other, None),
    };
    let (values, encoding) = match inner {
        Some(inner) => {
            let second = value.int(1) == Some(3);
            (
                size(inner.int(1))?,
                inner.int(if second { 4 } else { 2 }).ok_or("the header of a page lacks an encoding")?,
            )
        }
        None if kind == Kind::Other => (0, 0),
        None => return Err("the header of a page lacks its second half".into()),
    };
    if values > MOST_VALUES || unpacked > MOST_PAGE || packed > MOST_PAGE {
        return Err(format!(
            "a page has {values} values in {packed} bytes, {unpacked} unpacked, expected at most {MOST_VALUES} in \
             {MOST_PAGE}"
        ));
    }
    let levels = match (value.int(1), inner) {
        (Some(3), Some(inner)) => Some((size(inner.int(6))?, size(inner.int(5))?, inner.bool(7).unwrap_or(true))),
        _ => None,
    };
    // PLAIN_DICTIONARY, as older writers have it, means PLAIN for the dictionary itself
    let encoding = if kind == Kind::Dictionary && encoding == 2 { 0 } else { encoding };
    Ok((Header { kind, values, packed, unpacked, encoding, levels }, length))
}

/// Values of bytes: a range in a buffer for each row, none for a null.
#[derive(Clone, Debug, Default)]
pub(super) struct Strings {
    pub buffer: Arc<Vec<u8>>,
    pub rows: Vec<Option<Range<usize>>>,
}

impl Strings {
    pub fn get(&self, row: usize) -> Option<&[u8]> {
        self.buffer.get(self.rows.get(row)?.clone()?)
    }
}

/// The values of a page.
#[derive(Clone, Debug)]
pub(super) enum Values {
    Ints(Vec<Option<i64>>),
    Strings(Strings),
}

/// Decodes the page behind `header`, of a column `leaf` that is packed with `codec`. A page may name values of
/// `dictionary`.
pub(super) fn decode(
    header: &Header, bytes: &[u8], codec: i64, leaf: &Leaf, dictionary: Option<&Values>,
) -> Result<Values, String> {
    let Header { values, unpacked, encoding, .. } = *header;
    // the levels stand in front of the data, in the second version of pages outside of what is packed
    let (before, data) = match header.levels {
        Some((repetition, definition, packed)) => {
            let end =
                repetition.checked_add(definition).filter(|end| *end <= bytes.len()).ok_or("its levels are cut")?;
            let codec = if packed { codec } else { 0 };
            let rest = unpacked.checked_sub(end).ok_or("its levels are longer than the page")?;
            (Some(&bytes[repetition..end]), unpack(&bytes[end..], codec, rest)?)
        }
        None => (None, unpack(bytes, codec, unpacked)?),
    };
    let mut at = 0;
    let present: Vec<bool> = if header.kind == Kind::Dictionary || leaf.nullable == 0 {
        vec![true; values]
    } else {
        let levels = match before {
            Some(levels) => levels,
            None => {
                let length =
                    u32::from_le_bytes(data.get(..4).ok_or("its levels are cut")?.try_into().unwrap_or_default());
                at = 4 + length as usize;
                data.get(4..at).ok_or("its levels are cut")?
            }
        };
        let width = u32::BITS - leaf.nullable.leading_zeros();
        hybrid(levels, width, values)?.into_iter().map(|level| level == leaf.nullable).collect()
    };
    let count = present.iter().filter(|present| **present).count();
    let data = Arc::new(data);
    let body = data.get(at..).ok_or("its data are cut")?;
    match (encoding, leaf.physical) {
        (0, Physical::Bytes) => {
            let mut rows = Vec::with_capacity(values);
            for present in present {
                rows.push(match present {
                    true => {
                        let length = data.get(at..at + 4).ok_or("its data are cut")?;
                        let length = u32::from_le_bytes(length.try_into().unwrap_or_default()) as usize;
                        at = at + 4 + length;
                        Some(at - length..at).filter(|range| range.end <= data.len()).ok_or("its data are cut")?.into()
                    }
                    false => None,
                });
            }
            Ok(Values::Strings(Strings { buffer: data, rows }))
        }
        (0, Physical::Int32 | Physical::Int64) => {
            let size = if leaf.physical == Physical::Int32 { 4 } else { 8 };
            let mut items = body.chunks_exact(size);
            let mut next = || items.next().ok_or_else(|| "its data are cut".to_owned());
            let number = |bytes: &[u8]| match size {
                4 => i64::from(i32::from_le_bytes(bytes.try_into().unwrap_or_default())),
                _ => i64::from_le_bytes(bytes.try_into().unwrap_or_default()),
            };
            let rows: Result<Vec<Option<i64>>, String> =
                present.iter().map(|present| present.then(|| next().map(number)).transpose()).collect();
            Ok(Values::Ints(rows?))
        }
        (2 | 8, _) => {
            let (width, body) = body.split_first().map_or((0, body), |(width, rest)| (u32::from(*width), rest));
            if width > 32 {
                return Err(format!("its numbers have {width} bits, expected at most 32"));
            }
            let mut indices = hybrid(body, width, count)?.into_iter();
            let mut next = |present: &bool| present.then(|| indices.next().unwrap_or_default() as usize);
            let outside = "it names a value that its dictionary lacks";
            match dictionary.ok_or("its dictionary is missing")? {
                Values::Ints(items) => {
                    let value = |i: usize| items.get(i).copied().flatten().ok_or(outside);
                    let rows: Result<_, _> = present.iter().map(|p| next(p).map(value).transpose()).collect();
                    Ok(Values::Ints(rows?))
                }
                Values::Strings(Strings { buffer, rows: items }) => {
                    let value = |i: usize| items.get(i).cloned().flatten().ok_or(outside);
                    let rows: Result<_, _> = present.iter().map(|p| next(p).map(value).transpose()).collect();
                    Ok(Values::Strings(Strings { buffer: buffer.clone(), rows: rows? }))
                }
            }
        }
        (encoding, physical) => Err(format!(
            "it has the encoding {} of {physical:?}, which is not read: write it without `column_encoding`",
            encoding_name(encoding)
        )),
    }
}

fn encoding_name(encoding: i64) -> String {
    match encoding {
        3 => "RLE".into(),
        4 => "BIT_PACKED".into(),
        5 => "DELTA_BINARY_PACKED".into(),
        6 => "DELTA_LENGTH_BYTE_ARRAY".into(),
        7 => "DELTA_BYTE_ARRAY".into(),
        9 => "BYTE_STREAM_SPLIT".into(),
        other => format!("number {other}"),
    }
}

/// `count` numbers of `width` bits, in runs of equal ones and in groups of eight (Parquet's hybrid of RLE and bits).
fn hybrid(bytes: &[u8], width: u32, count: usize) -> Result<Vec<u32>, String> {
    let cut = || "its runs are cut".to_owned();
    let (mut out, mut at) = (Vec::new(), 0);
    if width == 0 {
        return Ok(vec![0; count]);
    }
    while out.len() < count {
        let (mut head, mut shift) = (0u64, 0);
        loop {
            let byte = *bytes.get(at).ok_or_else(cut)?;
            at += 1;
            if shift > 28 {
                return Err("a run is too long".into());
            }
            head |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        let left = count - out.len();
        if head & 1 == 0 {
            let size = width.div_ceil(8) as usize;
            let item = bytes.get(at..at + size).ok_or_else(cut)?;
            at += size;
            let value = item.iter().rev().fold(0u64, |value, byte| value << 8 | u64::from(*byte)) as u32;
            let run = (head >> 1) as usize;
            if run == 0 {
                return Err("a run is empty".into());
            }
            out.extend(std::iter::repeat_n(value, run.min(left)));
        } else {
            let (groups, mut pending, mut bits) = ((head >> 1) as usize, 0u64, 0);
            if groups == 0 {
                return Err("a run is empty".into());
            }
            let size = (groups as u64 * u64::from(width)).min(bytes.len() as u64) as usize;
            // the last group may be cut off where its numbers are
            let packed = bytes.get(at..bytes.len().min(at + size)).ok_or_else(cut)?;
            let mut items = packed.iter();
            for _ in 0..left.min(groups * 8) {
                while bits < width {
                    pending |= u64::from(*items.next().ok_or_else(cut)?) << bits;
                    bits += 8;
                }
                out.push((pending & ((1 << width) - 1)) as u32);
                pending >>= width;
                bits -= width;
            }
            at += size;
        }
    }
    Ok(out)
}

/// Unpacks `bytes` to exactly `size` bytes. Memory grows with what there is, not with what is claimed.
fn unpack(bytes: &[u8], codec: i64, size: usize) -> Result<Vec<u8>, String> {
    let read = |reader: &mut dyn Read| {
        let mut out = Vec::new();
        reader.take(size as u64 + 1).read_to_end(&mut out).map(|_| out).map_err(|e| e.to_string())
    };
    let mut out = match codec {
        0 => bytes.to_vec(),
        1 => {
            let claimed = snap::raw::decompress_len(bytes).map_err(|e| e.to_string())?;
            if claimed != size || claimed / 64 > bytes.len() {
                return Err(format!("it claims {claimed} bytes, expected {size}"));
            }
            snap::raw::Decoder::new().decompress_vec(bytes).map_err(|e| e.to_string())?
        }
        2 => read(&mut MultiGzDecoder::new(bytes))?,
        6 => {
            let mut decoder = ruzstd::decoding::StreamingDecoder::new(bytes).map_err(|e| e.to_string())?;
            read(&mut decoder)?
        }
        7 => lz4(bytes, size).ok_or("its LZ4 data are damaged")?,
        other => {
            let name = match other {
                3 => "LZO",
                4 => "Brotli",
                5 => "LZ4 of Hadoop",
                _ => "an unknown way",
            };
            return Err(format!("it is packed with {name}, which is not read: write it with snappy, zstd or gzip"));
        }
    };
    if out.len() != size {
        return Err(format!("it unpacks to {} bytes, expected {size}", out.len()));
    }
    out.shrink_to_fit(); // it may be kept, and grew by doubling
    Ok(out)
}

/// A block of LZ4.
fn lz4(bytes: &[u8], size: usize) -> Option<Vec<u8>> {
    let (mut out, mut at) = (Vec::new(), 0);
    let long = |start: usize, at: &mut usize| -> Option<usize> {
        let mut length = start;
        let mut last = start != 15;
        while !last {
            let byte = *bytes.get(*at)?;
            *at += 1;
            length += usize::from(byte);
            last = byte != 255;
        }
        Some(length)
    };
    while at < bytes.len() {
        let token = usize::from(bytes[at]);
        at += 1;
        let literals = long(token >> 4, &mut at)?;
        out.extend_from_slice(bytes.get(at..at.checked_add(literals)?)?);
        at += literals;
        if at == bytes.len() {
            break;
        }
        let back = usize::from(u16::from_le_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]));
        at += 2;
        let length = long(token & 15, &mut at)? + 4;
        if back == 0 || back > out.len() || out.len() + length > size {
            return None;
        }
        for _ in 0..length {
            out.push(out[out.len() - back]);
        }
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dictionary_of_older_writers_is_plain() {
        // in Thrift's compact protocol: type 2, 12 bytes, and as field 7 a dictionary of 2 values, PLAIN_DICTIONARY
        let bytes = [0x15, 4, 0x15, 24, 0x15, 24, 0x4c, 0x15, 4, 0x15, 4, 0, 0];
        let (found, length) = header(&bytes).unwrap();
        let size = 12;
        let plain =
            Header { kind: Kind::Dictionary, values: 2, packed: size, unpacked: size, encoding: 0, levels: None };
        assert_eq!((found, length), (plain, bytes.len()));
    }
}
