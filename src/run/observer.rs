//! Who watches a run: nobody, or a program that draws bars and plots.

use std::path::Path;

use crate::error::Result;

/// Told about a run as it goes. Nothing it does changes the result.
pub trait Observer {
    /// Step number `done` of `total` is complete; `text` says loss, rate and speed.
    fn step(&mut self, _done: u64, _total: u64, _text: &str) {}
    /// A line for people: what was opened, an epoch and its scores.
    fn line(&mut self, _text: &str) {}
    /// An epoch has ended; its records and checkpoint are in `dir`. `title` names the model and the data.
    fn epoch(&mut self, _dir: &Path, _title: &str) -> Result<()> {
        Ok(())
    }
    /// No step follows.
    fn finish(&mut self) {}
}

/// Watches nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {}
