//! Scalars for TensorBoard: TFRecord framing around hand-encoded `Event` messages.
//!
//! A record is length (u64), masked CRC-32C of these 8 bytes, the message, masked CRC-32C of it; all little-endian.
//! Field numbers used: Event {1: wall_time, 2: step, 3: file_version, 5: summary, 7: session_log};
//! Summary {1: value}; Value {1: tag, 2: simple_value}; SessionLog {1: status}.
use crate::error::{Error, Result};
use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// An event file in the folder that `tensorboard --logdir` is pointed at.
#[derive(Debug)]
pub struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    /// Creates a new event file in `folder`. With `resume`, TensorBoard is told to drop that step and later ones of
    /// earlier files. Without it, those files are of a run that ended before its first checkpoint, and are removed.
    pub fn create(folder: &Path, resume: Option<u64>) -> Result<Self> {
        if resume.is_none() {
            remove_ours(folder)?;
        }
        let seconds = now() as u64;
        let (path, file) = (0..)
            .map(|n| folder.join(format!("events.out.tfevents.{seconds:010}.rowscan.{n}")))
            .find_map(|path| match OpenOptions::new().write(true).create_new(true).open(&path) {
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => None,
                Ok(file) => Some(Ok((path, file))),
                Err(e) => Some(Err(Error::io(&path, "created")(e))),
            })
            .unwrap_or_else(|| Err(Error::argument("the event folder", folder.display(), "room for a new file")))?;
        let mut events = Self { path, file };
        let mut first = event(0);
        bytes_field(&mut first, 3, b"brain.Event:2");
        events.record(&first)?;
        if let Some(step) = resume {
            let mut start = event(step);
            bytes_field(&mut start, 7, &[1 << 3, 1]);
            events.record(&start)?;
        }
        Ok(events)
    }

    /// Writes the values of some tags, such as `("train/loss", 0.7)`, at a step.
    pub fn scalars(&mut self, step: u64, values: &[(&str, f32)]) -> Result<()> {
        let mut summary = Vec::new();
        for (tag, number) in values {
            let mut value = Vec::new();
            bytes_field(&mut value, 1, tag.as_bytes());
            value.push(2 << 3 | 5);
            value.extend(number.to_le_bytes());
            bytes_field(&mut summary, 1, &value);
        }
        let mut message = event(step);
        bytes_field(&mut message, 5, &summary);
        self.record(&message)
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn record(&mut self, message: &[u8]) -> Result<()> {
        let length = (message.len() as u64).to_le_bytes();
        let mut record = Vec::with_capacity(message.len() + 16);
        record.extend(length);
        record.extend(masked_crc(&length).to_le_bytes());
        record.extend(message);
        record.extend(masked_crc(message).to_le_bytes());
        self.file.write_all(&record).map_err(Error::io(&self.path, "appended to"))
    }
}

/// Removes the event files that runs of this program left in `folder`.
fn remove_ours(folder: &Path) -> Result<()> {
    for entry in std::fs::read_dir(folder).map_err(Error::io(folder, "read"))? {
        let path = entry.map_err(Error::io(folder, "read"))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with("events.out.tfevents.") && name.contains(".rowscan.") {
            std::fs::remove_file(&path).map_err(Error::io(&path, "removed"))?;
        }
    }
    Ok(())
}

fn now() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0.0, |d| d.as_secs_f64())
}

/// An `Event` with its time and step.
fn event(step: u64) -> Vec<u8> {
    let mut out = vec![1 << 3 | 1];
    out.extend(now().to_le_bytes());
    out.push(2 << 3);
    varint(&mut out, step);
    out
}

/// A length-delimited field: bytes, text or a message.
fn bytes_field(out: &mut Vec<u8>, field: u8, bytes: &[u8]) {
    out.push(field << 3 | 2);
    varint(out, bytes.len() as u64);
    out.extend(bytes);
}

/// Seven bits per byte, lowest first; the top bit says that more follow.
fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// TFRecord's masked checksum: rotated and offset, as CRCs of data that contains CRCs are weak.
fn masked_crc(bytes: &[u8]) -> u32 {
    crc32c(bytes).rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (Castagnoli), reflected, one byte at a time.
fn crc32c(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, &b| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ b)])
}

static TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let (mut crc, mut bit) = (i as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc_matches_the_published_check_values() {
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
        // RFC 3720, B.4: 32 bytes of zeros, of ones.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(&[0xff; 32]), 0x62a8_ab43);
    }

    /// Fields of a message: (number, payload); fixed and varint payloads as 8 bytes.
    fn fields(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
        fn read(bytes: &mut &[u8]) -> u64 {
            let (mut value, mut shift) = (0, 0);
            loop {
                let byte = bytes[0];
                *bytes = &bytes[1..];
                value |= u64::from(byte & 0x7f) << shift;
                shift += 7;
                if byte < 0x80 {
                    return value;
                }
            }
        }
        let mut out = Vec::new();
        while !bytes.is_empty() {
            let key = read(&mut bytes);
            let length = match key & 7 {
                0 => {
                    out.push(((key >> 3) as u8, read(&mut bytes).to_le_bytes().to_vec()));
                    continue;
                }
                1 => 8,
                2 => read(&mut bytes) as usize,
                _ => 4,
            };
            out.push(((key >> 3) as u8, bytes[..length].to_vec()));
            bytes = &bytes[length..];
        }
        out
    }

    fn records(path: &Path) -> Vec<Vec<(u8, Vec<u8>)>> {
        let bytes = std::fs::read(path).unwrap();
        let (mut rest, mut out) = (&bytes[..], Vec::new());
        while !rest.is_empty() {
            let word = |at: usize| u32::from_le_bytes(rest[at..at + 4].try_into().unwrap());
            let length = word(0) as usize;
            assert_eq!(word(8), masked_crc(&rest[..8]));
            assert_eq!(word(12 + length), masked_crc(&rest[12..12 + length]));
            out.push(fields(&rest[12..12 + length]));
            rest = &rest[16 + length..];
        }
        out
    }

    #[test]
    fn events_read_back() {
        let dir = tempfile::tempdir().unwrap();
        EventFile::create(dir.path(), None).unwrap();
        let mut events = EventFile::create(dir.path(), Some(300)).unwrap();
        events.scalars(70_000, &[("train/loss", 0.25), ("train/lr", 1e-3)]).unwrap();
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2);
        let got = records(events.path());
        let number = |v: u64| v.to_le_bytes().to_vec();
        assert_eq!(got[0][1..], [(2, number(0)), (3, b"brain.Event:2".to_vec())]);
        let time = f64::from_le_bytes(got[0][0].1.clone().try_into().unwrap());
        assert!(got[0][0].0 == 1 && (now() - time).abs() < 60.0);
        assert_eq!(got[1][1], (2, number(300)));
        assert_eq!(fields(&got[1][2].1), [(1, number(1))]);
        assert_eq!((got[2][1].clone(), got[2][2].0), ((2, number(70_000)), 5));
        let values: Vec<_> = fields(&got[2][2].1).into_iter().map(|(n, v)| (n, fields(&v))).collect();
        let value = |tag: &str, v: f32| (1, vec![(1, tag.as_bytes().to_vec()), (2, v.to_le_bytes().to_vec())]);
        assert_eq!(values, [value("train/loss", 0.25), value("train/lr", 1e-3)]);
    }

    #[test]
    fn a_missing_folder_is_named() {
        let error = EventFile::create(Path::new("/no/such/folder"), None).unwrap_err().to_string();
        assert!(error.contains("/no/such/folder"), "{error}");
    }
}
