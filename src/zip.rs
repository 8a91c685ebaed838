//! The directory of a zip archive: what lies where. How bytes of the archive are read is up to who asks, so that it
//! serves an archive in memory, as a browser has it, and one on a disk.

const END: &[u8] = b"PK\x05\x06";
const END_64: &[u8] = b"PK\x06\x06";
const LOCATOR_64: &[u8] = b"PK\x06\x07";
const ENTRY: &[u8] = b"PK\x01\x02";
const LOCAL: &[u8] = b"PK\x03\x04";
/// The locator of sizes of 64 bits, the end record, and the longest comment behind it.
const TAIL: u64 = 20 + 22 + 65_535;
/// Bytes of the head of a file, without its name.
pub(crate) const HEAD: u64 = 30;

/// A file of an archive, or a folder, whose name ends with a slash.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    /// Path, as the archive has it.
    pub name: Vec<u8>,
    /// Whether its bytes take a password.
    pub encrypted: bool,
    /// How it is packed: 0 for not at all, 8 for deflate.
    pub method: u64,
    /// Whether it is a symbolic link; its bytes are what the link says.
    pub link: bool,
    /// Checksum of its bytes once unpacked.
    pub crc: u32,
    /// Bytes in the archive.
    pub packed: u64,
    /// Bytes once unpacked.
    pub size: u64,
    /// Where its head begins; behind it are the bytes ([`head_size`]).
    pub offset: u64,
}

/// A field of `size` bytes at `at`.
fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let field = bytes.get(at..at.checked_add(size)?)?;
    Some(field.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

/// Fields, each given by where it begins and its size.
fn fields<const N: usize>(bytes: &[u8], which: [(usize, usize); N]) -> Option<[u64; N]> {
    let mut values = [0; N];
    for (value, (at, size)) in values.iter_mut().zip(which) {
        *value = number(bytes, at, size)?;
    }
    Some(values)
}

/// The entries of an archive of `total` bytes, in the order of its directory; `None` if it is damaged or cut short.
/// `read` gets an offset and a size, and is never asked for what lies beyond the end.
pub(crate) fn entries<E>(total: u64, read: impl Fn(u64, u64) -> Result<Vec<u8>, E>) -> Result<Option<Vec<Entry>>, E> {
    let inside = |offset: u64, size: u64| offset.checked_add(size).is_some_and(|end| end <= total);
    let from = total.saturating_sub(TAIL);
    let tail = read(from, total - from)?;
    let Some(end) = tail.windows(22).rposition(|record| record.starts_with(END)) else { return Ok(None) };
    let locator = end.checked_sub(20).map(|at| &tail[at..]).filter(|record| record.starts_with(LOCATOR_64));
    let place = match locator.map(|record| number(record, 8, 8)) {
        None => fields(&tail[end..], [(10, 2), (12, 4), (16, 4)]),
        Some(Some(at)) if inside(at, 56) => {
            let record = read(at, 56)?;
            fields(&record, [(32, 8), (40, 8), (48, 8)]).filter(|_| record.starts_with(END_64))
        }
        Some(_) => None,
    };
    match place {
        Some([count, size, at]) if inside(at, size) => Ok(listed(&read(at, size)?, count)),
        _ => Ok(None),
    }
}

/// The entries of a directory that should have `count` of them.
fn listed(directory: &[u8], count: u64) -> Option<Vec<Entry>> {
    let (mut found, mut rest) = (Vec::new(), directory);
    while rest.starts_with(ENTRY) {
        let (entry, length) = entry(rest)?;
        found.push(entry);
        rest = &rest[length..];
    }
    // some writers of more than 65,535 files let the field overflow
    (found.len() as u64 % 65_536 == count % 65_536).then_some(found)
}

/// The entry whose record `bytes` begin with, and the length of the record.
fn entry(bytes: &[u8]) -> Option<(Entry, usize)> {
    let [system, flags, method, crc, mode] = fields(bytes, [(5, 1), (8, 2), (10, 2), (16, 4), (40, 2)])?;
    let [mut packed, mut size, mut offset] = fields(bytes, [(20, 4), (24, 4), (42, 4)])?;
    let [name, extra, comment] = fields(bytes, [(28, 2), (30, 2), (32, 2)])?.map(|length| length as usize);
    let length = 46 + name + extra + comment;
    let (name, rest) = bytes.get(46..length)?.split_at(name);
    let mut rest = &rest[..extra];
    // fields that do not fit 32 bits are in a record of their own, in this order
    while rest.len() >= 4 {
        let (id, len) = (number(rest, 0, 2)?, number(rest, 2, 2)? as usize);
        let mut record = rest.get(4..4 + len)?;
        for field in [&mut size, &mut packed, &mut offset] {
            if id == 1 && *field == u64::from(u32::MAX) {
                *field = number(record, 0, 8)?;
                record = &record[8..];
            }
        }
        rest = &rest[4 + len..];
    }
    let unix = [3, 19].contains(&system); // Unix and macOS keep the mode of a file
    let link = unix && mode & 0o170_000 == 0o120_000;
    let (name, encrypted, crc) = (name.to_vec(), flags & 1 != 0, crc as u32);
    Some((Entry { name, encrypted, method, link, crc, packed, size, offset }, length))
}

/// Bytes of the head of a file, which begins with `head`; `None` if it is none.
pub(crate) fn head_size(head: &[u8]) -> Option<u64> {
    let [name, extra] = fields(head, [(26, 2), (28, 2)]).filter(|_| head.starts_with(LOCAL))?;
    Some(HEAD + name + extra)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    fn list(bytes: &[u8]) -> Option<Vec<Entry>> {
        let read = |offset: u64, size: u64| Ok::<_, Infallible>(bytes[offset as usize..][..size as usize].to_vec());
        entries(bytes.len() as u64, read).unwrap()
    }

    fn little(fields: &[(u64, usize)]) -> Vec<u8> {
        fields.iter().flat_map(|(value, size)| value.to_le_bytes()[..*size].to_vec()).collect()
    }

    /// The record of a file `name` of 5 bytes that take 3, whose head is at 7, with these extra fields.
    fn record(system: u8, mode: u64, [packed, size, offset]: [u64; 3], extra: &[u8]) -> Vec<u8> {
        let start = [ENTRY, &[20, system, 20, 0, 0, 0, 8, 0, 0, 0, 0, 0], &little(&[(99, 4), (packed, 4), (size, 4)])];
        let lengths = little(&[(4, 2), (extra.len() as u64, 2), (2, 2), (0, 6), (mode, 2), (offset, 4)]);
        [&start.concat()[..], &lengths, b"name", extra, b"!!"].concat()
    }

    /// A directory with its end record and a comment.
    fn archive(directory: &[u8], count: u64, comment: usize) -> Vec<u8> {
        let end = little(&[(0, 4), (count, 2), (count, 2), (directory.len() as u64, 4), (0, 4), (comment as u64, 2)]);
        [directory, END, &end, &vec![b'c'; comment]].concat()
    }

    #[test]
    fn fields_and_links() {
        let plain = record(3, 0o100_644, [3, 5, 7], &[]);
        let links = [(3, 0o120_777), (0, 0o120_777), (19, 0o120_777)].map(|(s, mode)| record(s, mode, [3, 5, 7], &[]));
        let found = list(&archive(&[&plain[..], &links.concat()].concat(), 4, 0)).unwrap();
        let first = Entry {
            name: b"name".to_vec(),
            encrypted: false,
            method: 8,
            link: false,
            crc: 99,
            packed: 3,
            size: 5,
            offset: 7,
        };
        assert_eq!(found[0], first);
        assert_eq!(found.iter().map(|entry| entry.link).collect::<Vec<_>>(), [false, true, false, true]);
        assert_eq!(head_size(&[LOCAL, &[0; 22], &[4, 0, 2, 0]].concat()), Some(36));
        assert_eq!((head_size(&[0; 30]), head_size(LOCAL)), (None, None));
    }

    #[test]
    fn sizes_of_64_bits() {
        let most = u64::from(u32::MAX);
        let extra =
            [little(&[(9, 2), (1, 2), (5, 1), (1, 2), (16, 2)]), little(&[(1 << 40, 8), (1 << 41, 8)])].concat();
        let directory = record(0, 0, [3, most, most], &extra);
        let found = list(&archive(&directory, 1, 65_535)).unwrap();
        assert_eq!((found[0].packed, found[0].size, found[0].offset), (3, 1 << 40, 1 << 41));
        // the end record says nothing, and one of 64 bits all; the longest comment leaves both within the tail
        let at = directory.len() as u64;
        let end_64 = little(&[(44, 8), (0, 8), (0, 4), (1, 8), (1, 8), (at, 8), (0, 8)]);
        let locator = little(&[(0, 4), (at, 8), (1, 4)]);
        let end = little(&[(0, 4), (0xffff, 2), (0xffff, 2), (most, 4), (most, 4), (65_535, 2)]);
        let parts = [&directory[..], END_64, &end_64, LOCATOR_64, &locator, END, &end, &[b'c'; 65_535]];
        assert_eq!(list(&parts.concat()).unwrap(), found);
        let wrong = little(&[(0, 4), (at + 1, 8), (1, 4)]);
        assert_eq!(list(&[&parts[..4], &[&wrong], &parts[5..]].concat().concat()), None);
    }

    #[test]
    fn damage_is_seen() {
        let directory = record(0, 0, [3, 5, 7], &[]);
        let whole = archive(&directory, 1, 0);
        assert_eq!(list(&whole).unwrap().len(), 1);
        for size in 0..whole.len() {
            assert_eq!(list(&whole[..size]), None, "{size} bytes");
        }
        assert_eq!(list(&archive(&directory, 2, 0)), None, "an entry is missing");
        assert_eq!(list(&archive(&directory[..directory.len() - 1], 1, 0)), None, "an entry is cut short");
        let many = directory.repeat(65_537);
        assert_eq!(list(&archive(&many, 1, 0)).unwrap().len(), 65_537, "its number has overflown");
        assert_eq!(list(&archive(&[], 0, 0)), Some(Vec::new()));
    }
}
