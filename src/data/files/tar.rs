//! Images inside a tar archive, read in place. Memory holds the name, offset and length of each; the file stays open.
use super::archive::{Entry, entries};
use super::cache::Cache;
use super::contents::Contents;
use super::image_archive;
use super::layout::{Found, Layout, Place};
use super::shards;
use super::webdataset::{self, WebDataset};
use crate::data::source::Source;
use crate::data::split::Split;
use crate::error::DataError;
use flate2::read::MultiGzDecoder;
use lzma_rust2::XzReader;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// An image folder in one file.
pub(crate) const LAYOUT: Layout = Layout {
    name: "tar",
    help: "a .tar, .tar.gz or .tar.xz of an image folder, a segmentation folder or a folder like COCO; a compressed \
           one is unpacked to a temporary file",
    open,
};

const ENDINGS: [&str; 5] = [".tar", ".tar.gz", ".tgz", ".tar.xz", ".txz"];

fn open(place: &Place, split: Split) -> Found {
    match place.is_file_named(|name| ENDINGS.iter().any(|ending| name.ends_with(ending))) {
        true => source(place, split).map(Some),
        false => Ok(None),
    }
}

/// The set in an archive. An archive compressed with gzip or xz cannot be read at an offset, so it is
/// unpacked to an unnamed temporary file first; the temporary folder needs room for the unpacked archive.
///
/// An archive with `.cls` files beside its images is a shard of WebDataset; `.json` files with a class count too.
/// One of a segmentation folder or of a folder like COCO is that set.
fn source(place: &Place, split: Split) -> Result<Box<dyn Source>, DataError> {
    let path = place.path;
    let mut file = File::open(path).map_err(DataError::io("open", path))?;
    let mut magic = [0u8; 6];
    let read = file.read(&mut magic).map_err(DataError::io("read", path))?;
    file.seek(SeekFrom::Start(0)).map_err(DataError::io("read", path))?;
    let mut is_plain = false;
    if magic[..read].starts_with(&[0x1f, 0x8b]) {
        file = unpack(path, MultiGzDecoder::new(BufReader::new(file)))?;
    } else if magic[..read].starts_with(b"\xfd7zXZ\0") {
        file = unpack(path, XzReader::new(BufReader::new(file), true))?;
    } else {
        is_plain = true;
    }
    let members = if is_plain { remembered(path, &file, &Cache::of_user())? } else { entries(path, &file)? };
    let is_shard = webdataset::is_shard(path, &file, &members);
    if is_shard && !is_plain {
        let message = "is a compressed shard of WebDataset, which cannot be read at any place: unpack it to a .tar";
        return Err(DataError::format(path, message));
    }
    if is_shard {
        return match shards::split_of_file(&path.file_name().unwrap_or_default().to_string_lossy()) {
            found if split == Split::Train || found.is_some_and(|(split, _)| split == Split::Test) => {
                Ok(Box::new(WebDataset::of_one(path, &file, &members)?))
            }
            _ => {
                let found = "it is one shard, and not named val or test: give the folder of the shards".to_owned();
                Err(DataError::NoSplit { path: path.to_owned(), split: split.name(), found })
            }
        };
    }
    image_archive::within(place, Contents::tar(path, file, members), split)
}

/// What an archive holds, which is remembered: an archive of a million files takes a million reads.
pub(super) fn remembered(path: &Path, file: &File, cache: &Cache) -> Result<Vec<Entry>, DataError> {
    let inside = |entry: &Entry, size| entry.offset.checked_add(entry.size).is_some_and(|end| end <= size);
    let fits = |_, entries: &Vec<Entry>, size| entries.iter().all(|entry| inside(entry, size));
    let found = cache.contents("members", &[path.to_owned()], Vec::len, fits, |_| entries(path, file))?;
    Ok(found.into_iter().flatten().collect())
}

fn unpack(path: &Path, mut archive: impl Read) -> Result<File, DataError> {
    tracing::debug!("unpacking {}", path.display());
    let mut plain = tempfile::tempfile().map_err(DataError::io("make a temporary file to unpack", path))?;
    std::io::copy(&mut archive, &mut plain).map_err(DataError::io("unpack (to the temporary folder)", path))?;
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::dataset::Dataset;
    use crate::data::testing::{png, put};
    use ::tar::EntryType;
    use std::io::Write;

    fn archive(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut builder = ::tar::Builder::new(Vec::new());
        for (name, bytes) in members {
            let mut header = ::tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    fn members() -> Vec<u8> {
        let (red, blue, gray) = (png(5, 4, [255, 0, 0]), png(4, 4, [0, 0, 255]), png(4, 4, [9; 3]));
        let long = format!("set/train/b/{}.png", "x".repeat(150));
        archive(&[
            (&long, &red),
            ("set/train/a/2.png", &blue),
            ("set/train/a/._2.png", b"resource fork"),
            ("set/val/b/3.png", &gray),
            ("set/README", b"text"),
        ])
    }

    #[test]
    fn members_are_found_plain_and_compressed() {
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("set.tar"), &members());
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(&members()).unwrap();
        put(&dir.path().join("set.tar.gz"), &gz.finish().unwrap());
        for name in ["set.tar", "set.tar.gz"] {
            let spec = dir.path().join(name);
            let set = Dataset::open(spec.to_str().unwrap(), Split::Train).unwrap();
            assert_eq!((set.len(), set.label(0), set.label(1)), (2, Some(0), Some(1)), "{name}");
            assert_eq!(set.image(0).unwrap().pixels[..3], [0, 0, 255]);
            assert_eq!(set.image(1).unwrap().width, 5);
            let test = Dataset::open(spec.to_str().unwrap(), Split::Test).unwrap();
            assert_eq!((test.len(), test.label(0), test.image(0).unwrap().pixels[0]), (1, Some(1), 9));
            let shared = set.limited(1).unwrap().test_split().unwrap();
            assert_eq!((shared.len(), shared.label(0), shared.image(0).unwrap().pixels[0]), (1, Some(1), 9));
            assert_eq!((shared.spec(), shared.sample_name(0)), (test.spec(), test.sample_name(0)));
        }
    }

    #[test]
    fn xz_is_unpacked_and_a_torn_one_refused() {
        // b/1.ppm and a/1.ppm, each `P6 1 1 255` and three bytes of 9 or 7, in a ustar archive through Python's
        // lzma.compress(archive, preset=9).
        const XZ: &str = "\
            fd377a585a000004e6d6b446020021011c00000010cf58cce027ff00725d00310bc223019871b2141d6bab70666556c919b1bc3a\
            bd746536726d7ab48fad53a78574942c9a119703eb56fe5c0fab7aba0b1ac7032291590ecb7e0227aca077f21e27810b71dfb452\
            5b139664e2c3581be1bf227e6686589502b7712d065891fa6b297245dd50124b72420bb4ae03f9b200000000435d83c271eb6393\
            00018e01805000004e106a5bb1c467fb020000000004595a";
        let bytes: Vec<u8> = (0..XZ.len() / 2).map(|i| u8::from_str_radix(&XZ[i * 2..][..2], 16).unwrap()).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("set.tar.xz");
        put(&path, &bytes);
        let set = Dataset::open(path.to_str().unwrap(), Split::Train).unwrap();
        assert_eq!((set.classes(), set.image(0).unwrap().pixels), (&["a".to_owned(), "b".to_owned()][..], vec![7; 3]));
        put(&path, &bytes[..120]);
        let error = Dataset::open(path.to_str().unwrap(), Split::Train).unwrap_err().to_string();
        assert!(error.contains("cannot unpack") && error.contains("set.tar.xz"), "{error}");
    }

    #[test]
    fn names_may_start_with_a_dot_folder() {
        // `tar -C folder .` writes them so; the builder would clean them up, so the header is filled by hand.
        let mut builder = ::tar::Builder::new(Vec::new());
        let bytes = png(4, 4, [1, 2, 3]);
        for name in ["./b.png", "./a.png", "./.c.png"] {
            let mut header = ::tar::Header::new_ustar();
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            builder.append(&header, &bytes[..]).unwrap();
        }
        let dir = tempfile::tempdir().unwrap();
        put(&dir.path().join("flat.tar"), &builder.into_inner().unwrap());
        let set = Dataset::open(dir.path().join("flat.tar").to_str().unwrap(), Split::Train).unwrap();
        assert_eq!((set.len(), set.label(0), set.image(1).unwrap().width), (2, None, 4));
        assert!(set.sample_name(0).ends_with("flat.tar: a.png"), "{}", set.sample_name(0));
    }

    /// The bytes of an archive with headers as they are given: kind, name, what it links to, content.
    fn raw(entries: &[(EntryType, &str, &str, &[u8])]) -> Vec<u8> {
        let mut builder = ::tar::Builder::new(Vec::new());
        for (kind, name, target, bytes) in entries {
            let gnu = kind.is_gnu_sparse();
            let mut header = if gnu { ::tar::Header::new_gnu() } else { ::tar::Header::new_ustar() };
            if gnu {
                header.as_gnu_mut().unwrap().set_real_size(0);
            }
            header.as_mut_bytes()[..name.len()].copy_from_slice(name.as_bytes());
            header.as_mut_bytes()[157..157 + target.len()].copy_from_slice(target.as_bytes());
            header.set_entry_type(*kind);
            header.set_size(bytes.len() as u64);
            header.set_cksum();
            builder.append(&header, *bytes).unwrap();
        }
        builder.into_inner().unwrap()
    }

    #[test]
    fn links_and_odd_paths_are_as_in_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("set.tar");
        let colors: Vec<Vec<u8>> = (0..4).map(|i| png(3, 3, [i * 50, 9, 9])).collect();
        for (top, kind, to_a) in [
            ("s", EntryType::Link, "s/a"),
            ("s", EntryType::Symlink, "../a"),
            ("../data", EntryType::Regular, ""),
            ("root/.cache/data", EntryType::Regular, ""),
            ("./.x", EntryType::Link, "./.x/a"),
            ("/abs/olute", EntryType::Symlink, "/abs/olute/a"),
        ] {
            let names = |class| (0..4).map(move |i| format!("{top}/{class}/{i}.png")).collect::<Vec<_>>();
            let (a, b) = (names("a"), names("b"));
            let targets: Vec<String> = (0..4).map(|i| format!("{to_a}/{i}.png")).collect();
            let mut entries: Vec<(EntryType, &str, &str, &[u8])> = Vec::new();
            for i in 0..4 {
                entries.push((EntryType::Regular, &a[i], "", &colors[i]));
                let (target, bytes) = match kind {
                    EntryType::Regular => ("", &colors[i][..]),
                    _ => (targets[i].as_str(), &[][..]),
                };
                entries.push((kind, &b[i], target, bytes));
            }
            put(&path, &raw(&entries));
            let set = Dataset::open(path.to_str().unwrap(), Split::Train).unwrap();
            let labels: Vec<_> = (0..set.len()).filter_map(|i| set.label(i)).collect();
            assert_eq!(labels, [0, 0, 0, 0, 1, 1, 1, 1], "{top} {kind:?}");
            for i in 0..8 {
                assert_eq!(set.image(i).unwrap().pixels[0], (i % 4) as u8 * 50, "{top} {kind:?} {i}");
            }
        }
    }

    #[test]
    fn what_cannot_be_read_as_in_the_folder_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("set.tar");
        let (red, blue) = (png(3, 3, [255, 0, 0]), png(3, 3, [0, 0, 255]));
        let open = || Dataset::open(path.to_str().unwrap(), Split::Train);
        let image = (EntryType::Regular, "a/0.png", "", &red[..]);
        for (kind, target, hint) in [
            (EntryType::Link, "gone.png", "a/1.png is a link to gone.png"),
            (EntryType::Symlink, "/gone/1.png", "a/1.png is a link to /gone/1.png"),
            (EntryType::GNUSparse, "", "a/1.png as a sparse file"),
        ] {
            put(&path, &raw(&[image, (kind, "a/1.png", target, &[])]));
            let error = open().unwrap_err().to_string();
            assert!(error.contains("set.tar") && error.contains(hint) && error.contains("make the archive"), "{error}");
        }
        // an archive that was appended to: the later member of a name is what unpacking leaves
        put(&path, &raw(&[image, (EntryType::Regular, "./a/0.png", "", &blue)]));
        let set = open().unwrap();
        assert_eq!((set.len(), set.image(0).unwrap().pixels[..3].to_vec()), (1, vec![0, 0, 255]));
    }

    #[test]
    fn damaged_archives_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("cut.tar");
        let whole = archive(&[("a.png", &png(4, 4, [0; 3])), ("b.png", &vec![0u8; 5000])]);
        for (bytes, hint) in [(&whole[..2500], "cut short: b.png"), (&[7u8; 2048][..], "not a whole tar")] {
            put(&path, bytes);
            let error = Dataset::open(path.to_str().unwrap(), Split::Train).unwrap_err().to_string();
            assert!(error.contains("cut.tar") && error.contains(hint), "{error}");
        }
        put(&path, &archive(&[("data_batch_1.bin", b"x")]));
        assert!(matches!(Dataset::open(path.to_str().unwrap(), Split::Train), Err(DataError::Empty { .. })));
    }
}
