//! What all commands share: the device, printing, and how a command ends.

use std::io::Write;

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Options};

/// An end of a command other than success: wrong usage, a failure, or a negative verdict of a check.
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

/// Turns errors of arguments into wrong usage, exit code 2. Errors of files, disks and devices are failures, exit code
/// 1.
pub(super) fn usage<T>(result: Result<T>) -> std::result::Result<T, Stop> {
    result.map_err(|e| match e {
        Error::Argument { .. } => Stop::Usage(e),
        other => Stop::Failure(other),
    })
}

/// Prints a line. A closed pipe (`| head`) is no error; a full disk is.
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

/// The choice of adapter, given to every command.
#[derive(Debug, Clone)]
pub(super) struct Device(pub Options);

impl Device {
    pub fn open(&self) -> Result<Gpu> {
        let g = Gpu::open_blocking(&self.0)?;
        tracing::info!("{}", g.caps());
        Ok(g)
    }
}
