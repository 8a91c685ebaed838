//! What a desktop has and a browser tab has not: a folder that outlives the process, and threads. `no_disk.rs` has the
//! same interface for a browser.

mod pipeline_cache;
mod threads;
mod tuning_cache;

use std::collections::BTreeMap;
use std::path::Path;

use crate::gpu::caps::Caps;
use pipeline_cache::PipelineCache;
pub(super) use threads::each;
use tuning_cache::Choices;

/// What a device finds out and keeps: compiled pipelines and tuning results.
#[derive(Debug, Default)]
pub(super) struct Caches {
    /// `None` if the device was opened without a folder, or if the backend cannot export pipelines.
    pipelines: Option<PipelineCache>,
    choices: Choices,
}

impl Caches {
    /// Whether a backend that can export pipelines is to be asked to.
    pub const KEEP_PIPELINES: bool = true;

    /// The caches in `folder`; without one, tuning results are kept in memory only. `exports` says whether the backend
    /// can export pipelines.
    pub fn open(folder: Option<&Path>, caps: &Caps, exports: bool) -> Self {
        let Some(folder) = folder else { return Self::default() };
        let pipelines = if exports { PipelineCache::open(folder, caps) } else { None };
        Self { pipelines, choices: Choices::open(folder, caps) }
    }

    /// Whether compiled pipelines are kept.
    pub fn keeps_pipelines(&self) -> bool {
        self.pipelines.is_some()
    }

    /// The driver's data of a kernel that was compiled from this WGSL before.
    pub fn pipeline(&self, kernel: &str, source: &str) -> Option<Vec<u8>> {
        self.pipelines.as_ref()?.load(kernel, source)
    }

    /// Keeps the driver's data of a kernel compiled from this WGSL.
    pub fn keep_pipeline(&self, kernel: &str, source: &str, data: &[u8]) {
        if let Some(pipelines) = &self.pipelines {
            pipelines.store(kernel, source, data);
        }
    }

    /// The variant that was measured as fastest under this name.
    pub fn choice(&self, name: &str) -> Option<u32> {
        self.choices.get(name)
    }

    /// Keeps the variants that were measured as fastest.
    pub fn choose(&self, found: BTreeMap<String, u32>) {
        self.choices.extend(found);
    }
}
