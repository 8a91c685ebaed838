//! What a checkpoint says about its weights besides their names: names of classes, how it was pretrained, how it was
//! tested. In a training checkpoint these are files; an exported one has them in the metadata of its weights, so that
//! they travel with the file.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::models::{Config, Objective};

/// What a checkpoint says about its weights.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct About {
    /// Names of the classes, in the order of the scores.
    pub classes: Option<Vec<String>>,
    /// How the model was pretrained.
    pub objective: Option<Objective>,
    /// Crop ratio of the tests of the run that trained it.
    pub crop_ratio: Option<f64>,
    /// Every other entry of the metadata.
    pub notes: HashMap<String, String>,
}

impl About {
    /// From the metadata of a safetensors file.
    pub fn of_metadata(mut notes: HashMap<String, String>) -> Self {
        let mut take = |name: &str| notes.remove(name);
        let classes = take("classes").and_then(|text| serde_json::from_str(&text).ok());
        let objective = take("objective").and_then(|text| serde_json::from_str(&text).ok());
        let crop_ratio = take("crop_ratio").and_then(|text| text.parse().ok());
        Self { classes, objective, crop_ratio, notes }
    }

    /// How a model was pretrained: what is said, or else what its decoder is for.
    pub fn objective_of(self, config: &Config) -> Objective {
        self.objective.unwrap_or_else(|| Objective::default_for(config))
    }

    /// As the metadata of a safetensors file.
    pub fn to_metadata(&self) -> Result<HashMap<String, String>> {
        let text = |e: serde_json::Error| Error::Internal(format!("metadata as JSON: {e}"));
        let mut all = self.notes.clone();
        all.extend([("format".to_string(), "pt".to_string())]);
        if let Some(classes) = &self.classes {
            all.insert("classes".into(), serde_json::to_string(classes).map_err(text)?);
        }
        if let Some(objective) = &self.objective {
            all.insert("objective".into(), serde_json::to_string(objective).map_err(text)?);
        }
        all.extend(self.crop_ratio.map(|ratio| ("crop_ratio".to_string(), ratio.to_string())));
        Ok(all)
    }

    /// Takes what is not known yet from `other`.
    pub fn fill_from(&mut self, other: Self) {
        self.classes = self.classes.take().or(other.classes);
        self.objective = self.objective.take().or(other.objective);
        self.crop_ratio = self.crop_ratio.or(other.crop_ratio);
    }
}
