//! A pass over a data set that the processes of a run share, each with some of the samples.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::world::World;
use crate::error::{Error, Result};

/// What every process has found, in the order of the numbers. `mine` is what this one has found, with numbers that no
/// other process has.
///
/// # Errors
/// Processes that do not answer in time.
pub(super) fn of_all<T: Serialize + DeserializeOwned>(world: &World, mine: Vec<(usize, T)>) -> Result<Vec<(usize, T)>> {
    if world.size() == 1 {
        return Ok(mine);
    }
    let bytes = serde_json::to_vec(&mine).map_err(|e| Error::Internal(format!("parts of a test as JSON: {e}")))?;
    let mut all = Vec::new();
    for bytes in world.gather(bytes)? {
        let part: Vec<(usize, T)> = serde_json::from_slice(&bytes)
            .map_err(|e| Error::Ranks(format!("part of a test of another process: {e}")))?;
        all.extend(part);
    }
    all.sort_by_key(|(number, _)| *number);
    Ok(all)
}
