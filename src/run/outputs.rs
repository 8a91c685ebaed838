//! Outputs of a run: where it writes, and how often. They do not change the result.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::train::options::{Layer, args, read_table};

/// Where a run writes, and how often.
#[derive(Debug, Clone)]
pub struct Outputs {
    /// Folder for everything.
    pub dir: PathBuf,
    /// All options as TOML, for `pretrain.toml` or `finetune.toml`.
    pub options: String,
    /// How often it writes.
    pub record: RecordSettings,
}

/// How often a run writes, and its decoding threads. A checkpoint does not hold these; a resumed run reads them from
/// the `pretrain.toml` or `finetune.toml` beside its checkpoint, see [`RecordSettings::of_run`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordSettings {
    /// Steps between log lines.
    pub log_every: u64,
    /// Steps between checkpoints besides those at the end of an epoch; 0 for none.
    pub save_every_steps: u64,
    /// Epoch checkpoints to keep, the newest; 0 keeps all.
    pub keep: usize,
    /// Decoding threads; 0 takes one per core.
    pub threads: usize,
    /// Pretraining: epochs between picture grids; 0 for none.
    pub grid_every: u64,
    /// Fine-tuning: epochs between tests; 0 for none.
    pub eval_every: u64,
    /// Pretraining: epochs between probes of the features; 0 for none.
    pub probe_every: u64,
    /// Images of each half that a probe takes; 0 for all.
    pub probe_images: usize,
}

impl Default for RecordSettings {
    fn default() -> Self {
        Self {
            log_every: 10,
            save_every_steps: 0,
            keep: 0,
            threads: 0,
            grid_every: 1,
            eval_every: 1,
            probe_every: 0,
            probe_images: 2000,
        }
    }
}

args! {
    /// What one layer says about the records of any run.
    pub struct RecordArgs for RecordSettings {
        /// Steps between log lines.
        log_every: u64,
        /// Steps between checkpoints besides those of each epoch.
        save_every_steps: u64,
        /// Epoch checkpoints to keep, the newest; 0 keeps all.
        keep: usize,
        /// Decoding threads; 0 takes one per core.
        threads: usize,
    }
}

args! {
    /// What one layer says about the pictures and probes of a pretraining run.
    pub struct PictureArgs for RecordSettings {
        /// Epochs between picture grids; 0 for none.
        grid_every: u64,
        /// Epochs between probes of what the features know about classes, for a labeled set with a test half; 0 for
        /// none.
        probe_every: u64,
        /// Images of each half that a probe takes at most, evenly spread over the classes; 0 for all.
        probe_images: usize,
    }
}

args! {
    /// What one layer says about the tests of a fine-tuning run.
    pub struct TestArgs for RecordSettings {
        /// Epochs between tests; 0 for none.
        eval_every: u64,
    }
}

/// All arguments of [`RecordSettings`].
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct AnyArgs {
    #[serde(flatten)]
    record: RecordArgs,
    #[serde(flatten)]
    pictures: PictureArgs,
    #[serde(flatten)]
    tests: TestArgs,
}

impl RecordSettings {
    /// The record settings of the run that wrote the checkpoint `folder`: from the options file of `command` beside it,
    /// and the defaults for what is not in there. All other options in that file are ignored, as the checkpoint holds
    /// them.
    ///
    /// # Errors
    /// A file that is not TOML, or a wrong value of one of these options.
    pub fn of_run(folder: &Path, command: &str) -> Result<Self> {
        let mut settings = Self::default();
        let folder = folder.canonicalize().unwrap_or_else(|_| folder.to_path_buf());
        let path = folder.parent().unwrap_or(Path::new(".")).join(format!("{command}.toml"));
        if !path.exists() {
            return Ok(settings);
        }
        let text = std::fs::read_to_string(&path).map_err(Error::io(&path, "read"))?;
        let mut table: toml::Table = toml::from_str(&text).map_err(|e| Error::file(&path, e))?;
        let known = [
            "log_every",
            "save_every_steps",
            "keep",
            "threads",
            "grid_every",
            "eval_every",
            "probe_every",
            "probe_images",
        ];
        table.retain(|key, _| known.contains(&key.replace('-', "_").as_str()));
        let layer: AnyArgs = read_table(&path.display().to_string(), &table, &known)?;
        layer.record.over(&mut settings);
        layer.pictures.over(&mut settings);
        layer.tests.over(&mut settings);
        Ok(settings)
    }

    /// Refuses settings that cannot work.
    pub fn check(&self) -> Result<()> {
        if self.threads > 1024 {
            return Err(Error::argument("threads", self.threads, "0 to 1024"));
        }
        if self.log_every == 0 {
            return Err(Error::argument("log_every", 0, "at least 1"));
        }
        Ok(())
    }
}
