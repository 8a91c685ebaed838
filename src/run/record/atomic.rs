//! Records that are either the old or the new one, never half of it.

use std::path::Path;

use crate::error::{Error, Result};
use crate::files::{Durable, replace};

/// Replaces `path` by `bytes`, so that after a crash, a power cut or a full disk the old or the new content is there.
/// The folder must exist.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<()> {
    replace(path, bytes, Durable::Yes).map_err(Error::io(path, "written"))
}
