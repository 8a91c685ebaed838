//! Whether a checkpoint is of the run that is to go on.

use std::path::Path;

use serde::Serialize;

use super::task::TaskSettings;
use crate::error::{Error, Result};
use crate::models::Config;
use crate::train::checkpoint::{self, State};

/// What is not the same in two structures, one line each.
fn differences<T: Serialize>(was: &T, now: &T, except: &[&str]) -> Vec<String> {
    let value = |it: &T| serde_json::to_value(it).unwrap_or_default();
    let (was, now) = (value(was), value(now));
    let keys = now.as_object().into_iter().flatten().filter(|(key, _)| !except.contains(&key.as_str()));
    let other = keys.filter(|(key, value)| was[key.as_str()] != **value);
    other.map(|(key, value)| format!("{key} was {}, now {value}", was[key.as_str()])).collect()
}

/// Refuses a checkpoint of another run; the number of epochs may change, and how gradients are found.
pub(super) fn expect_same_run<S: TaskSettings>(
    folder: &Path, config: &Config, fresh: &State<S>, per_epoch: u64,
) -> Result<()> {
    let other = differences(&checkpoint::config(folder)?, config, &[]);
    if !other.is_empty() {
        return Err(Error::file(folder.join("config.json"), format!("is of another model: {}", other.join("; "))));
    }
    let found = checkpoint::state::<S>(folder)?;
    let other = differences(&found.settings, &fresh.settings, &["epochs", "checkpoint_blocks"]);
    if !other.is_empty() {
        return Err(Error::file(folder, format!("belongs to a run with other settings: {}", other.join("; "))));
    }
    let (was, now) = (found.settings.as_ref(), fresh.settings.as_ref());
    if found.images != fresh.images {
        let reason = format!("belongs to a run on {} images, {} has {}", found.images, now.data, fresh.images);
        return Err(Error::file(folder, reason));
    }
    if found.epoch.checked_mul(per_epoch).and_then(|steps| steps.checked_add(found.batch)) != Some(found.step) {
        let reason = format!("step {} is not batch {} of epoch {}", found.step, found.batch, found.epoch);
        return Err(Error::file(folder.join("state.json"), reason));
    }
    if was.epochs != now.epochs {
        tracing::warn!("the number of epochs changed, and with it the learning rates from here on");
    }
    Ok(())
}
