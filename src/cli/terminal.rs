//! What every command shares: the device, lines for people, and what it ends with.

use std::io::Write;

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Options};

/// What a command ends with: a usage error, a failure, or a verdict.
pub(super) enum Stop {
    Usage(Error),
    Failure(Error),
    Negative,
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failure(error)
    }
}

/// Marks what the arguments alone show to be wrong; what files, disks and devices say is a failure.
pub(super) fn usage<T>(result: Result<T>) -> std::result::Result<T, Stop> {
    result.map_err(|e| match e {
        Error::Argument { .. } => Stop::Usage(e),
        other => Stop::Failure(other),
    })
}

/// Prints a line. A reader that has left (`| head`) is no error, a full disk is.
pub(super) fn say(line: impl std::fmt::Display) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(e) if e.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|e| Error::file("standard output", e)),
    }
}

/// Prints a line to stderr, where that is possible.
pub(super) fn warn(line: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

pub(super) type Outcome = std::result::Result<(), Stop>;

/// Where to run; given to every command.
#[derive(Debug, Clone)]
pub(super) struct Device(pub Options);

impl Device {
    pub fn open(&self) -> Result<Gpu> {
        let g = Gpu::open_blocking(&self.0)?;
        tracing::info!("{}", g.caps());
        Ok(g)
    }
}
