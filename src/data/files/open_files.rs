//! Files that stay open between reads, at most so many at a time: a set may have more shards than a process may have
//! open files.
use crate::error::DataError;
use std::collections::VecDeque;
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Files open at a time. Most systems allow a process 256 or 1024.
const MOST: usize = 64;

/// The files of a set, by number.
pub(crate) struct OpenFiles {
    paths: Vec<PathBuf>,
    /// Number and file, the one used last at the end.
    open: Mutex<VecDeque<(usize, Arc<File>)>>,
}

impl OpenFiles {
    pub fn new(paths: Vec<PathBuf>) -> Self {
        Self { paths, open: Mutex::default() }
    }

    pub fn paths(&self) -> &[PathBuf] {
        &self.paths
    }

    /// File `number`, opened if it is not.
    pub fn get(&self, number: usize) -> Result<Arc<File>, DataError> {
        let lock = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut open = lock();
        if let Some(at) = open.iter().position(|(other, _)| *other == number)
            && let Some(entry) = open.remove(at)
        {
            open.push_back(entry.clone());
            return Ok(entry.1);
        }
        drop(open); // others may read while this one opens
        let path = &self.paths[number];
        let file = Arc::new(File::open(path).map_err(DataError::io("open", path))?);
        let mut open = lock();
        if open.len() >= MOST {
            open.pop_front();
        }
        open.push_back((number, file.clone()));
        Ok(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_files_are_open_than_may_be() {
        let dir = tempfile::tempdir().unwrap();
        let paths: Vec<PathBuf> = (0..200).map(|i| dir.path().join(i.to_string())).collect();
        paths.iter().for_each(|path| std::fs::write(path, path.to_str().unwrap()).unwrap());
        let files = OpenFiles::new(paths.clone());
        for i in (0..200).chain((0..200).rev()).chain([7, 7, 7]) {
            let text = std::io::read_to_string(&*files.get(i).unwrap()).unwrap_or_default();
            assert!(text.is_empty() || text == paths[i].to_str().unwrap());
            assert!(files.open.lock().unwrap().len() <= MOST);
        }
        std::fs::remove_file(&paths[199]).unwrap();
        assert!(files.get(199).unwrap_err().to_string().contains("cannot open"));
    }
}
