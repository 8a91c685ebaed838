//! WebDataset: samples in tar archives called shards, a sample being the files with one name and several endings, such
//! as `000123.jpg` and `000123.cls`.
//!
//! The package reads shards from front to back and shuffles what it has in a buffer. Here the headers of all shards are
//! read once and remembered, after which any sample is one read at a known place: the order of an epoch is that of any
//! other set, with no buffer, and a resumed run goes on with the same sample.
use super::archive::{Entry, entries, read_at};
use super::cache::Cache;
use super::decode::{decode, is_image_name};
use super::layout::{Found, Layout, Place};
use super::links::Node;
use super::listing::{Listing, arrange};
use super::numbering::{Class, Numbering, by_numbering, numbered};
use super::open_files::OpenFiles;
use super::shards::files;
use super::walk::Kind;
use crate::data::sample::Sample;
use crate::data::source::Source;
use crate::data::split::Split;
use crate::error::DataError;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::path::{Path, PathBuf};

/// Shards as the package `webdataset` writes them.
pub(crate) const LAYOUT: Layout = Layout {
    name: "WebDataset",
    help: "a folder of .tar shards, a pattern such as 'train-{000000..000146}.tar', or one shard, with .cls or .json \
           beside each image",
    open,
};

fn open(place: &Place, split: Split) -> Found {
    if place.metadata.as_ref().is_ok_and(|found| !found.is_dir()) {
        return Ok(None); // one archive is opened by the layout tar, which looks inside
    }
    match files(place, Kind::Shard, split)? {
        Some(shards) => Ok(Some(Box::new(WebDataset::open(place.path, shards, &Cache::of_user())?))),
        None => Ok(None),
    }
}

/// Largest file beside an image that is read for a label.
const MOST_TEXT: u64 = 1 << 20;

/// Keys of a JSON file that hold a class, the first of them that is there.
const KEYS: [&str; 6] = ["cls", "label", "class", "class_id", "class_index", "target"];

/// Where the data of an image lie.
struct Piece {
    shard: u32,
    offset: u64,
    size: u64,
}

/// A sample of a shard.
#[derive(Serialize, Deserialize)]
struct Member {
    /// Path of the image in the shard.
    name: String,
    /// Where its data begin, and how many bytes they are.
    offset: u64,
    size: u64,
    /// What `.cls` or `.json` says.
    class: Option<Class>,
}

/// The samples of one split.
pub(crate) struct WebDataset {
    shards: OpenFiles,
    pieces: Vec<Piece>,
    names: Vec<String>,
    numbering: Numbering,
}

/// Whether the members of one archive are samples of WebDataset: a `.cls` beside an image, or a `.json` with a class
/// beside every image.
pub(crate) fn is_shard(path: &Path, file: &File, all: &[Entry]) -> bool {
    let beside = |wanted: &str| {
        let with = |group: &[Entry]| group.iter().any(|member| ending(&member.name) == wanted);
        samples(all).any(|group| group.iter().any(|member| is_image_name(&member.name)) && with(group))
    };
    let told = || members(path, file, all).is_ok_and(|found| found.iter().all(|member| member.class.is_some()));
    beside("cls") || beside("json") && told()
}

/// Path up to the first dot of the name, and what follows it, as the package splits them.
fn apart(path: &str) -> (&str, &str) {
    let name = path.rfind('/').map_or(0, |slash| slash + 1);
    path[name..].find('.').map_or((path, ""), |dot| (&path[..name + dot], &path[name + dot + 1..]))
}

/// The last ending of a name, in lower case: `cls` of `1.left.cls`.
fn ending(path: &str) -> String {
    apart(path).1.rsplit('.').next().unwrap_or_default().to_ascii_lowercase()
}

/// The members of each sample: those that follow each other and are named alike.
fn samples(members: &[Entry]) -> impl Iterator<Item = &[Entry]> {
    members.chunk_by(|a, b| apart(&a.name).0 == apart(&b.name).0)
}

impl WebDataset {
    /// Indexes the shards, several at a time, as far as their indices are not remembered.
    pub fn open(place: &Path, paths: Vec<PathBuf>, cache: &Cache) -> Result<Self, DataError> {
        let index = |number: usize| {
            let path = &paths[number];
            let file = File::open(path).map_err(DataError::io("open", path))?;
            members(path, &file, &entries(path, &file)?)
        };
        let inside = |member: &Member, size| member.offset.checked_add(member.size).is_some_and(|end| end <= size);
        let fits = |_, members: &Vec<Member>, size| members.iter().all(|member| inside(member, size));
        let found = cache.contents("members of shards", &paths, Vec::len, fits, index)?;
        Self::of(place, paths, found)
    }

    /// One shard whose members are known.
    pub fn of_one(path: &Path, file: &File, all: &[Entry]) -> Result<Self, DataError> {
        let found = members(path, file, all)?;
        Self::of(path, vec![path.to_owned()], vec![found])
    }

    fn of(place: &Path, paths: Vec<PathBuf>, found: Vec<Vec<Member>>) -> Result<Self, DataError> {
        let (mut pieces, mut names, mut classes) = (Vec::new(), Vec::new(), Vec::new());
        let mut without: Option<String> = None;
        for (shard, members) in found.into_iter().enumerate() {
            for Member { name, offset, size, class } in members {
                match class {
                    Some(class) => classes.push(class),
                    None => drop(without.get_or_insert_with(|| format!("{}: {name}", paths[shard].display()))),
                }
                pieces.push(Piece { shard: shard as u32, offset, size });
                names.push(name);
            }
        }
        if pieces.is_empty() {
            return Err(DataError::Empty { path: place.to_owned(), layouts: String::new() });
        }
        let told = |sample: usize| names[sample].clone();
        let numbering = match without {
            None => numbered(classes, names_beside(&paths[0])?, told)
                .map_err(|message| DataError::format(place, message))?,
            Some(first) if !classes.is_empty() => {
                let message = format!("has no class, {} others have one: expected a .cls beside each", classes.len());
                return Err(DataError::format(place, format!("{first} {message}")));
            }
            // Shards without classes may be folders of classes, or name WordNet ids.
            Some(_) => by_path(place, &names)?,
        };
        Ok(Self { shards: OpenFiles::new(paths), pieces, names, numbering })
    }
}

/// Class names, one on each line of `classnames.txt` beside the shards or above their folder.
fn names_beside(shard: &Path) -> Result<Option<Vec<String>>, DataError> {
    let above = shard.ancestors().skip(1).take(2).map(|folder| folder.join("classnames.txt"));
    let Some(path) = above.into_iter().find(|path| path.is_file()) else { return Ok(None) };
    let text = std::fs::read_to_string(&path).map_err(DataError::io("read", &path))?;
    Ok(Some(text.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()))
}

/// The labels that folders or names of the images give.
fn by_path(place: &Path, names: &[String]) -> Result<Numbering, DataError> {
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let Listing { order, numbering: Numbering { labels, classes, .. } } = arrange(place, &names, Split::Train)?;
    if order.len() != names.len() {
        let message = "holds archives with the folders of several splits in them: give one archive, or unpack them";
        return Err(DataError::format(place, message));
    }
    if labels.is_empty() {
        let why = "no .cls or .json with a class lies beside its images, and their paths name none";
        return Ok(Numbering::none(why.into()));
    }
    let mut of_sample = vec![0; names.len()];
    order.into_iter().zip(labels).for_each(|(sample, label)| of_sample[sample] = label);
    Ok(Numbering { labels: of_sample, classes, unlabeled: None })
}

/// The samples with an image among the members of a shard.
fn members(path: &Path, file: &File, all: &[Entry]) -> Result<Vec<Member>, DataError> {
    let mut found = Vec::new();
    for group in samples(all) {
        // The package passes over names that begin like this.
        if apart(&group[0].name).0.rsplit('/').next().is_some_and(|name| name.is_empty() || name.starts_with("__")) {
            continue;
        }
        if let Some(link) = group.iter().find(|member| !matches!(member.node, Node::File(_))) {
            let advice = "make the shard with `tar -h`";
            return Err(DataError::format(path, format!("holds {} as a link: {advice}", link.name)));
        }
        let mut images = group.iter().filter(|member| is_image_name(&member.name));
        let Some(image) = images.next() else { continue };
        if let Some(second) = images.next() {
            let (key, first) = apart(&image.name);
            let message =
                format!("{key} has two images, {first} and {}: expected one for each sample", apart(&second.name).1);
            return Err(DataError::format(path, message));
        }
        let mut class = None;
        for (wanted, read) in [("cls", of_text as fn(&[u8]) -> Result<Option<Class>, String>), ("json", of_json)] {
            let Some(text) = group.iter().find(|member| ending(&member.name) == wanted) else { continue };
            let bad = |reason: String| DataError::format(path, format!("{}: {reason}", text.name));
            if text.size > MOST_TEXT {
                return Err(bad(format!("is {} bytes, expected at most {MOST_TEXT}", text.size)));
            }
            let mut bytes = vec![0; text.size as usize];
            read_at(file, text.offset, &mut bytes).map_err(DataError::io("read", path))?;
            class = read(&bytes).map_err(bad)?;
            if class.is_some() {
                break;
            }
        }
        found.push(Member { name: image.name.clone(), offset: image.offset, size: image.size, class });
    }
    Ok(found)
}

/// What a `.cls` says.
fn of_text(bytes: &[u8]) -> Result<Option<Class>, String> {
    match std::str::from_utf8(bytes).map(str::trim) {
        Ok(text) if !text.is_empty() && text.len() <= 200 => Ok(Some(Class::of_text(text))),
        _ => {
            let start = String::from_utf8_lossy(&bytes[..bytes.len().min(20)]).into_owned();
            Err(format!("holds {start:?}, expected the number or the name of a class"))
        }
    }
}

/// What a `.json` says about a class; nothing if it speaks of other things.
fn of_json(bytes: &[u8]) -> Result<Option<Class>, String> {
    let value: serde_json::Value = serde_json::from_slice(bytes).map_err(|e| format!("is no JSON: {e}"))?;
    if let Some(number) = value.as_u64() {
        return Ok(Some(Class::Number(number)));
    }
    let Some((key, class)) = KEYS.iter().find_map(|key| Some((key, value.get(key)?))) else { return Ok(None) };
    match (class.as_u64(), class.as_str()) {
        (Some(number), _) => Ok(Some(Class::Number(number))),
        (_, Some(name)) => Ok(Some(Class::of_text(name))),
        _ if class.is_null() => Ok(None),
        _ => Err(format!("has {key:?}: {class}, expected the number or the name of a class")),
    }
}

impl Source for WebDataset {
    fn len(&self) -> usize {
        self.pieces.len()
    }

    by_numbering!();

    fn name(&self, index: usize) -> String {
        format!("{}: {}", self.shards.paths()[self.pieces[index].shard as usize].display(), self.names[index])
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let Piece { shard, offset, size } = self.pieces[index];
        let file = self.shards.get(shard as usize)?;
        let mut bytes = vec![0; size as usize]; // no more than the shard held when it was indexed
        let path = &self.shards.paths()[shard as usize];
        read_at(&file, offset, &mut bytes).map_err(DataError::io("read", path))?;
        Ok(decode(&self.name(index), &bytes)?.into())
    }
}
