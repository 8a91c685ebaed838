//! Observers of a run: a program that draws bars and plots, or nobody.

use std::path::Path;

use crate::error::Result;

/// Is told about a run as it goes. It cannot change the result.
pub trait Observer {
    /// `done` of `total` steps are complete; `text` has loss, rate and speed of the last one.
    fn step(&mut self, _done: u64, _total: u64, _text: &str) {}
    /// A line for people: the data and the model, or an epoch and its scores.
    fn line(&mut self, _text: &str) {}
    /// An epoch has ended, and its records and checkpoint are in `dir`. `title` names the model and the data.
    fn epoch(&mut self, _dir: &Path, _title: &str) -> Result<()> {
        Ok(())
    }
    /// The last step is done.
    fn finish(&mut self) {}
}

/// Ignores everything.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {}
