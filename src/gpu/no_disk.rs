//! The interface of `disk/` for a browser, which has no cache folder and no threads.

use std::collections::BTreeMap;
use std::path::Path;

use super::caps::Caps;

/// Caches that store nothing.
#[derive(Debug, Default)]
pub(super) struct Caches;

impl Caches {
    /// Whether to use a backend's ability to export compiled pipelines.
    pub const KEEP_PIPELINES: bool = false;

    /// Ignores the folder.
    pub fn open(_folder: Option<&Path>, _caps: &Caps, _exports: bool) -> Self {
        Self
    }

    /// Always false.
    pub fn keeps_pipelines(&self) -> bool {
        false
    }

    /// Always `None`.
    pub fn pipeline(&self, _kernel: &str, _source: &str) -> Option<Vec<u8>> {
        None
    }

    /// Does nothing.
    pub fn keep_pipeline(&self, _kernel: &str, _source: &str, _data: &[u8]) {}

    /// Always `None`, because nothing is measured in a browser.
    pub fn choice(&self, _name: &str) -> Option<u32> {
        None
    }

    /// Always empty.
    pub fn choices(&self) -> BTreeMap<String, u32> {
        BTreeMap::new()
    }

    /// Does nothing.
    pub fn choose(&self, _found: BTreeMap<String, u32>) {}
}

/// Applies `work` to every item in order: a browser compiles in parallel by itself.
pub(super) fn each<T, R>(items: &[T], work: impl Fn(&T) -> R) -> Vec<R> {
    items.iter().map(work).collect()
}

/// The shader of a WGSL source as it is: the browser has a compiler of its own.
pub(super) fn shader(source: &str) -> wgpu::ShaderSource<'_> {
    wgpu::ShaderSource::Wgsl(source.into())
}
