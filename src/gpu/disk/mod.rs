//! Caches on disk, threads, and naga: the parts of the runtime that a browser tab lacks. `no_disk.rs` has the same
//! interface for a browser.

mod branches;
mod pipeline_cache;
mod threads;
mod tuning_cache;

use std::collections::BTreeMap;
use std::path::Path;

use crate::gpu::caps::Caps;
pub use branches::module;
pub(super) use branches::shader;
use pipeline_cache::PipelineCache;
pub(super) use threads::each;
use tuning_cache::Choices;

/// The caches of a device: compiled pipelines and tuning results.
#[derive(Debug, Default)]
pub(super) struct Caches {
    /// `None` if the device was opened without a folder, or if the backend cannot export pipelines.
    pipelines: Option<PipelineCache>,
    choices: Choices,
}

impl Caches {
    /// Whether to use a backend's ability to export compiled pipelines.
    pub const KEEP_PIPELINES: bool = true;

    /// Opens the caches in `folder`. Without a folder, tuning results are kept in memory only. `exports` is whether the
    /// backend can export compiled pipelines.
    pub fn open(folder: Option<&Path>, caps: &Caps, exports: bool) -> Self {
        let Some(folder) = folder else { return Self::default() };
        let pipelines = if exports { PipelineCache::open(folder, caps) } else { None };
        Self { pipelines, choices: Choices::open(folder, caps) }
    }

    /// Whether compiled pipelines are kept on disk.
    pub fn keeps_pipelines(&self) -> bool {
        self.pipelines.is_some()
    }

    /// The driver's data for a kernel that was compiled from this WGSL before, if it is on disk.
    pub fn pipeline(&self, kernel: &str, source: &str) -> Option<Vec<u8>> {
        self.pipelines.as_ref()?.load(kernel, source)
    }

    /// Stores the driver's data for a kernel compiled from this WGSL.
    pub fn keep_pipeline(&self, kernel: &str, source: &str, data: &[u8]) {
        if let Some(pipelines) = &self.pipelines {
            pipelines.store(kernel, source, data);
        }
    }

    /// The variant that was measured as fastest under this name, if one was.
    pub fn choice(&self, name: &str) -> Option<u32> {
        self.choices.get(name)
    }

    /// All of them.
    pub fn choices(&self) -> BTreeMap<String, u32> {
        self.choices.all()
    }

    /// Stores the variants that were measured as fastest.
    pub fn choose(&self, found: BTreeMap<String, u32>) {
        self.choices.extend(found);
    }
}
