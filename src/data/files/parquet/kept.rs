//! Pages that were read last, as many as fit into a limit of bytes.
use std::collections::{BTreeMap, HashMap};
use std::mem::size_of;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::page::Values;

/// Row group and page. The dictionary of a group is no page.
pub(super) type Key = (usize, Option<usize>);

/// A value that one thread reads while others that want it wait. An error is not kept: whoever asks next reads again.
pub(super) struct Once<T>(Mutex<Option<Arc<T>>>);

impl<T> Default for Once<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Once<T> {
    pub fn get_or_read<E>(&self, read: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E> {
        let mut value = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match &*value {
            Some(value) => Ok(value.clone()),
            None => Ok(value.insert(Arc::new(read()?)).clone()),
        }
    }
}

/// The pages that were read last.
pub(super) struct Kept {
    /// Bytes of all pages. A page that is being read is kept whatever it takes, and so is its dictionary.
    most: usize,
    pages: Mutex<Pages>,
}

#[derive(Default)]
struct Pages {
    entries: HashMap<Key, Entry>,
    /// What was used when, the last at the end.
    order: BTreeMap<u64, Key>,
    uses: u64,
    bytes: usize,
}

struct Entry {
    used: u64,
    /// Bytes that the page takes; what its header claims while it is not read.
    bytes: usize,
    page: Arc<Once<Values>>,
}

impl Kept {
    pub fn new(most: usize) -> Self {
        Self { most, pages: Mutex::default() }
    }

    /// A page, from what is kept or by `read`, which gets a key and, for a page with a dictionary, that dictionary.
    ///
    /// `page` and `dictionary` are keys and the bytes that their headers claim. A page shares the bytes of its
    /// dictionary. The dictionary counts as used after the page, and so is let go after all pages that share its bytes.
    pub fn page<E>(
        &self, page: (Key, usize), dictionary: Option<(Key, usize)>,
        read: impl Fn(Key, Option<&Values>) -> Result<Values, E>,
    ) -> Result<Arc<Values>, E> {
        let (of_page, of_dictionary) = {
            let mut pages = self.pages();
            let of_page = pages.used(page);
            let of_dictionary = dictionary.map(|dictionary| (dictionary.0, pages.used(dictionary)));
            pages.let_go(self.most, page.0);
            (of_page, of_dictionary)
        };
        let mut took = Vec::new();
        let found = of_page.get_or_read(|| {
            let Some((key, of_dictionary)) = &of_dictionary else {
                let values = read(page.0, None)?;
                took.push((page.0, &of_page, bytes(&values)));
                return Ok(values);
            };
            let values = of_dictionary.get_or_read(|| read(*key, None))?;
            took.push((*key, of_dictionary, bytes(&values)));
            let values = read(page.0, Some(&values))?;
            took.push((page.0, &of_page, rows(&values)));
            Ok(values)
        });
        if !took.is_empty() {
            let mut pages = self.pages();
            took.into_iter().for_each(|(key, page, bytes)| pages.took(key, page, bytes));
            pages.let_go(self.most, page.0);
        }
        found
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pages {
    /// The place of a page, which counts as used now.
    fn used(&mut self, (key, claimed): (Key, usize)) -> Arc<Once<Values>> {
        self.uses += 1;
        let entry = self.entries.entry(key).or_insert_with(|| {
            self.bytes += claimed;
            Entry { used: self.uses, bytes: claimed, page: Arc::default() }
        });
        self.order.remove(&entry.used);
        entry.used = self.uses;
        self.order.insert(self.uses, key);
        entry.page.clone()
    }

    /// Counts what a page takes, if it is still kept.
    fn took(&mut self, key: Key, page: &Arc<Once<Values>>, bytes: usize) {
        if let Some(entry) = self.entries.get_mut(&key).filter(|entry| Arc::ptr_eq(&entry.page, page)) {
            self.bytes = self.bytes - entry.bytes + bytes;
            entry.bytes = bytes;
        }
    }

    /// Lets the pages go that were not used for longest, down to `most` bytes or to those used before `key` was.
    fn let_go(&mut self, most: usize, key: Key) {
        let until = self.entries.get(&key).map_or(u64::MAX, |entry| entry.used);
        while self.bytes > most
            && let Some(oldest) = self.order.first_entry().filter(|oldest| *oldest.key() < until)
            && let Some(entry) = self.entries.remove(&oldest.remove())
        {
            self.bytes -= entry.bytes;
        }
    }
}

/// Bytes that values take with the buffer that they lie in.
fn bytes(values: &Values) -> usize {
    let buffer = if let Values::Strings(strings) = values { strings.buffer.capacity() } else { 0 };
    buffer + rows(values)
}

/// Bytes that values take without that buffer.
fn rows(values: &Values) -> usize {
    match values {
        Values::Ints(rows) => rows.capacity() * size_of::<Option<i64>>(),
        Values::Strings(strings) => strings.rows.capacity() * size_of::<Option<Range<usize>>>(),
    }
}

#[cfg(test)]
impl Kept {
    /// Bytes of all pages that are kept.
    pub fn bytes(&self) -> usize {
        self.pages().bytes
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::super::page::Strings;
    use super::*;

    const BUFFER: usize = 1000;

    /// A dictionary of one value, or a page with it.
    fn read(dictionary: Option<&Values>) -> Values {
        let buffer = match dictionary {
            Some(Values::Strings(Strings { buffer, .. })) => buffer.clone(),
            _ => Arc::new(vec![0; BUFFER]),
        };
        Values::Strings(Strings { buffer, rows: vec![Some(0..BUFFER)] })
    }

    /// Page `page` of a group, whose even pages name values of its dictionary.
    fn get(kept: &Kept, group: usize, page: usize, reads: &Cell<usize>) -> Arc<Values> {
        let dictionary = page.is_multiple_of(2).then_some(((group, None), 10));
        let read = |_: Key, dictionary: Option<&Values>| {
            reads.set(reads.get() + 1);
            Ok::<_, String>(read(dictionary))
        };
        kept.page(((group, Some(page)), 10), dictionary, read).unwrap()
    }

    /// Checks the counts, and that a page that shares the bytes of its dictionary is kept no longer than that.
    fn holds(kept: &Kept) {
        let pages = kept.pages();
        assert_eq!(pages.order.len(), pages.entries.len());
        assert_eq!(pages.bytes, pages.entries.values().map(|entry| entry.bytes).sum::<usize>());
        for (group, page) in pages.entries.keys() {
            if page.is_some_and(|page| page % 2 == 0) {
                assert!(pages.entries.contains_key(&(*group, None)), "page {page:?} of group {group}");
            }
        }
    }

    #[test]
    fn no_more_is_kept_than_may_be() {
        let (most, reads) = (3500, Cell::new(0));
        let kept = Kept::new(most);
        for _ in 0..2 {
            for (group, page) in (0..50).flat_map(|group| [0, 2, 4, 0, 1].map(|page| (group, page))) {
                get(&kept, group, page, &reads);
                holds(&kept);
                assert!(kept.bytes() <= most, "{} bytes", kept.bytes());
            }
        }
        assert_eq!(reads.get(), 2 * 50 * 5, "a dictionary and four pages of each group, once");
        // what is read is kept whatever it takes
        let (small, reads) = (Kept::new(1), Cell::new(0));
        (0..20).for_each(|i| drop(get(&small, i / 10, 0, &reads)));
        assert_eq!((reads.get(), small.pages().entries.len()), (4, 2));
        holds(&small);
    }

    #[test]
    fn threads_share_pages() {
        let kept = Kept::new(5000);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let kept = &kept;
                scope.spawn(move || {
                    let reads = Cell::new(0);
                    (0..2000).for_each(|i| drop(get(kept, (i * (thread + 3)) % 9, i % 7, &reads)));
                });
            }
        });
        get(&kept, 0, 0, &Cell::new(0)); // several threads at a time may keep more
        holds(&kept);
        assert!(kept.bytes() <= 5000, "{} bytes", kept.bytes());
    }

    #[test]
    fn an_error_is_not_kept() {
        let (kept, broken) = (Kept::new(5000), Cell::new(true));
        let get = |group, dictionary| {
            let read = |_: Key, dictionary: Option<&Values>| match broken.get() {
                true => Err("an error of reading"),
                false => Ok(read(dictionary)),
            };
            kept.page(((group, Some(0)), 10), dictionary, read)
        };
        for (group, dictionary) in [(0, None), (1, Some(((1, None), 10)))] {
            broken.set(true);
            assert!(get(group, dictionary).is_err() && get(group, dictionary).is_err());
            broken.set(false);
            assert!(get(group, dictionary).is_ok());
        }
    }
}
