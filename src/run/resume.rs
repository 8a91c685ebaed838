//! Check that a checkpoint belongs to the run that is to resume from it.

use std::collections::BTreeSet;
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use super::task::TaskSettings;
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::models::Config;
use crate::run::checkpoint;
use crate::train::checkpoint::State;

/// The fields in which two structures differ, one line each. A field that only one of them writes has its default in
/// the other.
fn differences<T: Serialize>(was: &T, now: &T, except: &[&str]) -> Vec<String> {
    let fields = |it: &T| match serde_json::to_value(it) {
        Ok(Value::Object(fields)) => fields,
        _ => Map::new(),
    };
    let (was, now) = (fields(was), fields(now));
    let keys: BTreeSet<&String> = was.keys().chain(now.keys()).collect();
    let other = keys.into_iter().filter(|key| !except.contains(&key.as_str()) && was.get(*key) != now.get(*key));
    let value = |it: Option<&Value>| it.map_or_else(|| "the default".into(), Value::to_string);
    other.map(|key| format!("{key} was {}, now {}", value(was.get(key)), value(now.get(key)))).collect()
}

/// Refuses a checkpoint of another run. Epochs may change, and so may the checkpointing of blocks, which changes no
/// bit. The data set may lie elsewhere, if it lists the same images.
pub(crate) fn expect_same_run<S: TaskSettings>(
    folder: &Path, config: &Config, fresh: &State<S>, data: &Dataset, per_epoch: u64,
) -> Result<()> {
    let other = differences(&checkpoint::config(folder)?, config, &[]);
    if !other.is_empty() {
        return Err(Error::file(folder.join("config.json"), format!("is of another model: {}", other.join("; "))));
    }
    let found = checkpoint::state::<S>(folder)?;
    let other = differences(&found.settings, &fresh.settings, &["epochs", "checkpoint_blocks", "data"]);
    if !other.is_empty() {
        return Err(Error::file(folder, format!("belongs to a run with other settings: {}", other.join("; "))));
    }
    let (was, now) = (found.settings.as_ref(), fresh.settings.as_ref());
    if found.images != fresh.images {
        let reason = format!("belongs to a run on {} images, {} has {}", found.images, now.data, fresh.images);
        return Err(Error::file(folder, reason));
    }
    match (&found.listing, &fresh.listing) {
        (Some(was), Some(now)) => {
            if let Some(difference) = was.difference(now, data) {
                let reason = format!("belongs to a run on another set than {}: {difference}", data.spec());
                return Err(Error::file(folder, reason));
            }
        }
        _ if was.data != now.data => {
            tracing::warn!(
                "{} does not say which images it was trained on: is {} the same set?",
                folder.display(),
                now.data
            );
        }
        _ => {}
    }
    if found.epoch.checked_mul(per_epoch).and_then(|steps| steps.checked_add(found.batch)) != Some(found.step) {
        let reason = format!("step {} is not batch {} of epoch {}", found.step, found.batch, found.epoch);
        return Err(Error::file(folder.join("state.json"), reason));
    }
    if found.step > now.epochs.saturating_mul(per_epoch) {
        let begun = found.step.div_ceil(per_epoch);
        let expected =
            format!("{begun} or more: {} has done {} steps of {per_epoch} an epoch", folder.display(), found.step);
        return Err(Error::argument("epochs", now.epochs, expected));
    }
    if was.epochs != now.epochs {
        tracing::warn!("the number of epochs changed, and with it the learning rates from here on");
    }
    Ok(())
}
