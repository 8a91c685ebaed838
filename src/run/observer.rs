//! Observers of a run: a program that draws bars and plots, or nobody.

use std::path::{Path, PathBuf};

use crate::error::Result;

/// What a run is, for those who tell of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunFacts {
    /// Folder of its records.
    pub dir: PathBuf,
    /// Name of the command.
    pub command: &'static str,
    /// Names the model and the data.
    pub title: String,
    /// What is trained on what, as names and values.
    pub task: Vec<(&'static str, String)>,
    /// Where it runs, as names and values.
    pub machine: Vec<(&'static str, String)>,
    /// Steps that were done before, and steps of the whole run.
    pub steps: (u64, u64),
    /// All options as TOML; empty if it has none on record.
    pub options: String,
    /// Pictures in a row of its grids: each third is an original, what is visible, and what was made of it. 0 without
    /// grids.
    pub columns: usize,
}

/// Is told about a run as it goes. It cannot change the result.
pub trait Observer {
    /// The run begins.
    fn begin(&mut self, _run: &RunFacts) {}
    /// `done` of `total` steps are complete; `text` has loss, rate and speed of the last one.
    fn step(&mut self, _done: u64, _total: u64, _text: &str) {}
    /// A line for people: the data and the model, or an epoch and its scores.
    fn line(&mut self, _text: &str) {}
    /// A line was added to the log.
    fn logged(&mut self) {}
    /// An epoch has ended, and its records and checkpoint are in `dir`. `title` names the model and the data.
    fn epoch(&mut self, _dir: &Path, _title: &str) -> Result<()> {
        Ok(())
    }
    /// The last step is done, or none will follow: `how` says why.
    fn finish(&mut self, _how: &str) {}
}

/// Ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {}
