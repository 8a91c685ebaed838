//! Parquet files of images, as the library `datasets` of Hugging Face writes them: encoded images in one column, their
//! classes in another.
//!
//! A Parquet file is a list of row groups, which hold a chunk for each column, which is a list of pages. A page is
//! packed as a whole, so that one image costs the reading of its page; pages that were read last are kept. A chunk may
//! begin with a dictionary, whose values its other pages name by number: pyarrow writes columns of images so, too. It
//! counts among the pages that are kept.
//!
//! The files are read here and not by the crate `parquet`. That one panicked on 19 of 12,000 damaged files, where a
//! program must name the file, and took a minute to build.

mod columns;
mod kept;
mod page;
mod schema;
mod thrift;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};

use super::archive::read_at;
use super::cache::Cache;
use super::decode::decode;
use super::layout::{Found, Layout, Place};
use super::numbering::{Class, Numbering, by_numbering, numbered};
use super::open_files::OpenFiles;
use super::shards::files;
use super::walk;
use crate::data::cursor::Runs;
use crate::data::sample::Sample;
use crate::data::source::Source;
use crate::data::split::Split;
use crate::error::DataError;
use columns::Columns;
use kept::{Kept, Key, Once};
use page::{Header, Kind, Values};
use schema::{Chunk, Footer, Leaf, footer};

/// Image sets of Hugging Face.
pub(crate) const LAYOUT: Layout = Layout {
    name: "Parquet",
    help: "a folder of .parquet files, a pattern such as 'train-{00000..00004}-of-00005.parquet', or one file, with a \
           column of encoded images and one of classes",
    open,
};

fn open(place: &Place, split: Split) -> Found {
    match files(place, walk::Kind::Table, split)? {
        Some(paths) => Ok(Some(Box::new(Parquet::open(place.path, paths, &Cache::of_user())?))),
        None => Ok(None),
    }
}

/// Bytes of the row groups whose samples are shuffled among each other, unpacked.
const SHUFFLED: usize = 256 << 20;
/// Bytes of pages that are kept: those groups, the places of their rows, and some of the groups that follow.
const MOST_KEPT: usize = SHUFFLED + SHUFFLED / 4;

/// A page and where it lies.
struct Page {
    /// Row of the group at which it begins.
    first: usize,
    offset: u64,
    header: Header,
}

impl Page {
    fn read(&self, file: &File, chunk: &Chunk, leaf: &Leaf, dictionary: Option<&Values>) -> Result<Values, String> {
        let bytes = bytes_at(file, self.offset, self.header.packed)?;
        page::decode(&self.header, &bytes, chunk.codec, leaf, dictionary)
    }
}

/// The pages of a chunk.
#[derive(Default)]
struct Pages {
    dictionary: Option<Page>,
    data: Vec<Page>,
}

/// A row group, as far as it holds images.
struct Group {
    file: usize,
    /// Sample at which it begins.
    first: usize,
    chunk: Chunk,
    pages: Once<Pages>,
}

/// The samples of one split.
pub(crate) struct Parquet {
    files: OpenFiles,
    /// The column of images in each file.
    leaves: Vec<Leaf>,
    /// Sample at which each file begins.
    firsts: Vec<usize>,
    groups: Vec<Group>,
    samples: usize,
    numbering: Numbering,
    kept: Kept,
}

impl Parquet {
    /// Reads the footers of the files, and their columns of classes as far as those are not remembered.
    pub fn open(place: &Path, paths: Vec<PathBuf>, cache: &Cache) -> Result<Self, DataError> {
        let table = |path: &PathBuf| {
            let footer = footer(path, &File::open(path).map_err(DataError::io("open", path))?)?;
            let columns = Columns::of(&footer).map_err(|message| DataError::format(path, message))?;
            Ok((footer, columns))
        };
        let tables: Result<Vec<(Footer, Columns)>, DataError> = paths.par_iter().with_max_len(1).map(table).collect();
        let tables = tables?;
        let (mut groups, mut leaves, mut firsts, mut samples) = (Vec::new(), Vec::new(), Vec::new(), 0);
        let first = &tables[0].1;
        for (file, (footer, columns)) in tables.iter().enumerate() {
            if columns.names != first.names || columns.label.is_some() != first.label.is_some() {
                let message = format!("has other classes or another column of them than {}", paths[0].display());
                return Err(DataError::format(&paths[file], message));
            }
            firsts.push(samples);
            for group in footer.groups.iter().filter(|group| group.rows > 0) {
                let chunk = group.chunks[columns.image].clone();
                groups.push(Group { file, first: samples, chunk, pages: Once::default() });
                samples += group.rows;
            }
            leaves.push(footer.leaves[columns.image].clone());
        }
        if samples == 0 {
            return Err(DataError::Empty { path: place.to_owned(), layouts: String::new() });
        }
        let rows = |footer: &Footer| footer.groups.iter().map(|group| group.rows).sum::<usize>();
        let fits = |file: usize, classes: &Vec<Class>, _| classes.len() == rows(&tables[file].0);
        let read = |file: usize| {
            let path = &paths[file];
            let open = File::open(path).map_err(DataError::io("open", path))?;
            classes(path, &open, &tables[file].0, &tables[file].1)
        };
        let classes: Vec<Class> = match first.label {
            None => Vec::new(),
            Some(_) => {
                cache.contents("classes of tables", &paths, Vec::len, fits, read)?.into_iter().flatten().collect()
            }
        };
        let numbering = match &first.label {
            None => Numbering::none(first.unlabeled.clone()),
            // what is not known is -1, as in the test splits on the hub
            Some(_) if classes.iter().all(|class| *class == Class::Name("-1".into())) => {
                Numbering::none("all its classes are -1".into())
            }
            Some(label) => {
                let told = |sample: usize| format!("row {sample} in column {label}");
                numbered(classes, first.names.clone(), told).map_err(|message| DataError::format(place, message))?
            }
        };
        let (files, kept) = (OpenFiles::new(paths), Kept::new(MOST_KEPT));
        Ok(Self { files, leaves, firsts, groups, samples, numbering, kept })
    }

    /// The group of a sample, and its row there.
    fn place(&self, index: usize) -> (usize, usize) {
        let group = self.groups.partition_point(|group| group.first <= index).saturating_sub(1);
        (group, index - self.groups[group].first)
    }

    /// The pages of a group, found when it is first asked for.
    fn pages(&self, number: usize) -> Result<Arc<Pages>, DataError> {
        let group = &self.groups[number];
        group.pages.get_or_read(|| {
            let bad = |message| DataError::format(&self.files.paths()[group.file], message);
            pages(&*self.files.get(group.file)?, &group.chunk).map_err(bad)
        })
    }

    /// The values of a page, which one thread reads while others that want it wait.
    fn values(&self, group: usize, page: usize, pages: &Pages) -> Result<Arc<Values>, DataError> {
        let Group { file, chunk, .. } = &self.groups[group];
        let of = |(_, page): Key| page.map_or(pages.dictionary.as_ref(), |page| pages.data.get(page));
        let read = |key: Key, dictionary: Option<&Values>| {
            let open = self.files.get(*file)?;
            let bad = |message| DataError::format(&self.files.paths()[*file], message);
            let page = of(key).ok_or_else(|| bad("a page is missing".to_owned()))?;
            let values = page.read(&open, chunk, &self.leaves[*file], dictionary);
            values.map_err(|message| bad(format!("a page at {}: {message}", page.offset)))
        };
        let data = &pages.data[page].header;
        let dictionary = pages.dictionary.as_ref().filter(|_| data.names_values());
        let dictionary = dictionary.map(|page| ((group, None), page.header.unpacked));
        self.kept.page(((group, Some(page)), data.unpacked), dictionary, read)
    }
}

fn bytes_at(file: &File, offset: u64, length: usize) -> Result<Vec<u8>, String> {
    let total = file.metadata().map_err(|e| e.to_string())?.len();
    if offset.checked_add(length as u64).is_none_or(|end| end > total) {
        return Err(format!("{length} bytes at {offset} are past the end of the file at {total}"));
    }
    let mut bytes = vec![0; length];
    read_at(file, offset, &mut bytes).map_err(|e| e.to_string())?;
    Ok(bytes)
}

/// The pages of a chunk, of which only the headers are read.
fn pages(file: &File, chunk: &Chunk) -> Result<Pages, String> {
    let (mut pages, mut at, mut first) = (Pages::default(), chunk.start, 0);
    let end = chunk.start + chunk.bytes;
    while at < end {
        // statistics make some headers long
        let head = bytes_at(file, at, (end - at).min(1 << 12) as usize)?;
        let (header, length) = match page::header(&head) {
            Err(_) if head.len() < (end - at) as usize => {
                page::header(&bytes_at(file, at, (end - at).min(1 << 20) as usize)?)?
            }
            found => found?,
        };
        let offset = at + length as u64;
        at = offset.checked_add(header.packed as u64).filter(|at| *at <= end).ok_or("a page ends past its chunk")?;
        match header.kind {
            Kind::Data => {
                let values = header.values;
                pages.data.push(Page { first, offset, header });
                first += values;
            }
            Kind::Dictionary => pages.dictionary = Some(Page { first, offset, header }),
            Kind::Other => {}
        }
    }
    Ok(pages)
}

/// The classes of all rows of a file, from its label column.
fn classes(path: &Path, file: &File, footer: &Footer, columns: &Columns) -> Result<Vec<Class>, DataError> {
    let Some(column) = columns.label_leaf else { return Ok(Vec::new()) };
    let leaf = &footer.leaves[column];
    let bad = |message: String| DataError::format(path, format!("column {}: {message}", leaf.path.join(".")));
    let mut found = Vec::new();
    for group in &footer.groups {
        let (chunk, before) = (&group.chunks[column], found.len());
        let pages = pages(file, chunk).map_err(bad)?;
        let dictionary = pages.dictionary.map(|page| page.read(file, chunk, leaf, None)).transpose().map_err(bad)?;
        for page in &pages.data {
            let values = page.read(file, chunk, leaf, dictionary.as_ref()).map_err(bad)?;
            let null = |row: usize| bad(format!("row {} holds no class", before + row));
            let of_int = |n: i64| u64::try_from(n).map_or_else(|_| Class::Name(n.to_string()), Class::Number);
            match values {
                Values::Ints(rows) => {
                    for row in rows {
                        found.push(of_int(row.ok_or_else(|| null(found.len() - before))?));
                    }
                }
                Values::Strings(strings) => {
                    for row in 0..strings.rows.len() {
                        let text = strings.get(row).ok_or_else(|| null(found.len() - before))?;
                        found.push(Class::Name(String::from_utf8_lossy(text).into_owned()));
                    }
                }
            }
            if found.len() - before > group.rows {
                break;
            }
        }
        if found.len() - before != group.rows {
            return Err(bad(format!("a row group has {} values, expected {}", found.len() - before, group.rows)));
        }
    }
    Ok(found)
}

impl Source for Parquet {
    fn len(&self) -> usize {
        self.samples
    }

    /// The row groups; as many at a time as fit into the memory for pages that are shuffled.
    fn runs(&self) -> Runs {
        let bytes = self.groups.iter().map(|group| group.chunk.unpacked).max().unwrap_or(0).max(1);
        let together = (SHUFFLED as u64 / bytes).clamp(1, 64) as usize;
        Runs { starts: self.groups.iter().map(|group| group.first).collect(), together }
    }

    by_numbering!();

    fn name(&self, index: usize) -> String {
        let file = self.groups[self.place(index).0].file;
        format!("{}: row {}", self.files.paths()[file].display(), index - self.firsts[file])
    }

    fn sample(&self, index: usize) -> Result<Sample, DataError> {
        let (group, row) = self.place(index);
        let pages = self.pages(group)?;
        let page = pages.data.partition_point(|page| page.first <= row).checked_sub(1);
        let gone = || DataError::Decode { name: self.name(index), reason: "its row lies in no page".into() };
        let page = page.ok_or_else(gone)?;
        let values = self.values(group, page, &pages)?;
        let row = row - pages.data[page].first;
        let Values::Strings(values) = &*values else { return Err(gone()) }; // its leaf has bytes
        if row >= values.rows.len() {
            return Err(gone());
        }
        let null = || DataError::Decode { name: self.name(index), reason: "holds no image, only a null".into() };
        Ok(decode(&self.name(index), values.get(row).ok_or_else(null)?)?.into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Weak;

    use super::*;

    fn fixture(name: &str) -> Parquet {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data/parquet").join(name);
        Parquet::open(&path, vec![path.clone()], &Cache::of_user()).unwrap()
    }

    /// The buffer in which the image of a sample lies.
    fn buffer(set: &Parquet, index: usize) -> Weak<Vec<u8>> {
        let (group, row) = set.place(index);
        let pages = set.pages(group).unwrap();
        let page = pages.data.partition_point(|page| page.first <= row) - 1;
        match &*set.values(group, page, &pages).unwrap() {
            Values::Strings(strings) => Arc::downgrade(&strings.buffer),
            Values::Ints(_) => panic!("images are bytes"),
        }
    }

    #[test]
    fn dictionaries_are_let_go_with_the_pages_that_name_their_values() {
        for name in ["none.parquet", "zstd.parquet"] {
            let set = Parquet { kept: Kept::new(1), ..fixture(name) };
            assert!((0..set.groups.len()).all(|i| set.pages(i).unwrap().dictionary.is_some()), "{name}");
            let buffers: Vec<Weak<Vec<u8>>> = (0..set.len())
                .map(|index| {
                    set.sample(index).unwrap();
                    buffer(&set, index)
                })
                .collect();
            let of_last = |index: &usize| set.place(*index).0 == set.groups.len() - 1;
            let alive: BTreeSet<usize> = (0..set.len()).filter(|index| buffers[*index].upgrade().is_some()).collect();
            assert_eq!(alive, (0..set.len()).filter(of_last).collect(), "{name}: images whose bytes are in memory");
            let last = buffers[set.len() - 1].upgrade().unwrap();
            assert!(set.kept.bytes() >= last.len(), "{name}: {} bytes, not those of the dictionary", set.kept.bytes());
        }
    }
}
