//! `disk/` for a browser: nothing outlives the page, and there are no threads.

use std::collections::BTreeMap;
use std::path::Path;

use super::caps::Caps;

/// Keeps nothing.
#[derive(Debug, Default)]
pub(super) struct Caches;

impl Caches {
    /// Whether a backend that can export pipelines is to be asked to.
    pub const KEEP_PIPELINES: bool = false;

    /// No caches, whatever the folder.
    pub fn open(_folder: Option<&Path>, _caps: &Caps, _exports: bool) -> Self {
        Self
    }

    /// Never.
    pub fn keeps_pipelines(&self) -> bool {
        false
    }

    /// None.
    pub fn pipeline(&self, _kernel: &str, _source: &str) -> Option<Vec<u8>> {
        None
    }

    /// Forgets it.
    pub fn keep_pipeline(&self, _kernel: &str, _source: &str, _data: &[u8]) {}

    /// None: nothing is measured in a browser.
    pub fn choice(&self, _name: &str) -> Option<u32> {
        None
    }

    /// Forgets them.
    pub fn choose(&self, _found: BTreeMap<String, u32>) {}
}

/// Applies `work` to every item in order: a browser compiles in parallel by itself.
pub(super) fn each<T, R>(items: &[T], work: impl Fn(&T) -> R) -> Vec<R> {
    items.iter().map(work).collect()
}
