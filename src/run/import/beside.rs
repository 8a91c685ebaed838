//! The `config.json` beside weights, ours or that of the transformers library: what no tensor shows.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

use crate::error::{Error, Result};
use crate::models::{Config, Decoder, Interpolation};
use crate::nn::Weights;
use crate::run::checkpoint;
use crate::train::about::About;
use crate::train::checkpoint::{CONFIG, config_from_bytes};

/// What matters in the transformers library's configuration of ViT and ViTMAE.
#[derive(Deserialize)]
struct Theirs {
    model_type: String,
    hidden_size: usize,
    num_hidden_layers: usize,
    num_attention_heads: usize,
    patch_size: usize,
    hidden_act: Option<String>,
    layer_norm_eps: Option<f64>,
    decoder_num_attention_heads: Option<usize>,
    #[serde(default)]
    id2label: BTreeMap<String, String>,
}

/// What matters in timm's configuration.
#[derive(Deserialize)]
struct Timm {
    architecture: String,
    #[serde(default)]
    pretrained_cfg: TimmData,
    /// What differs from that architecture.
    #[serde(default)]
    model_args: serde_json::Map<String, serde_json::Value>,
}

impl Timm {
    /// The file, and the model of its name. `None` if it is no file of timm, or if the model is not here under that
    /// name or differs from it: the tensors then say more.
    fn model(bytes: &[u8]) -> Option<(Self, Config)> {
        let file: Self = serde_json::from_slice(bytes).ok()?;
        let config = Config::preset(&file.architecture).ok().filter(|_| file.model_args.is_empty())?;
        let config = file.pretrained_cfg.of(config);
        Some((file, config))
    }
}

/// How timm's model was trained and is tested.
#[derive(Default, Deserialize)]
struct TimmData {
    crop_pct: Option<f64>,
    crop_mode: Option<String>,
    interpolation: Option<String>,
    input_size: Option<[usize; 3]>,
    label_names: Option<Vec<String>>,
}

impl TimmData {
    /// The model for the images that it was trained on, tested as timm tests it.
    fn of(&self, config: Config) -> Config {
        let mut view = config.test_view;
        view.crop_ratio = self.crop_pct.unwrap_or(view.crop_ratio);
        view.squash = self.crop_mode.as_deref().map_or(view.squash, |mode| mode == "squash");
        view.interpolation = match self.interpolation.as_deref() {
            Some("bilinear") => Interpolation::Bilinear,
            Some(_) => Interpolation::Bicubic,
            None => view.interpolation,
        };
        let image_size = self.input_size.map_or(config.image_size, |[_, height, _]| height);
        Config { image_size, test_view: view, ..config }
    }
}

/// The model to begin with: `wanted`, or that of the `config.json`, ours, timm's or that of the transformers library,
/// or the ViT that the tensors show, or `micro`.
/// Weights of the transformers library get the heads, the epsilon and the class names of that file.
pub(super) fn base(
    folder: &Path, wanted: Option<Config>, theirs: bool, weights: &Weights, about: &mut About, said: &mut Vec<String>,
) -> Result<Config> {
    let path = folder.join(CONFIG);
    let bytes = std::fs::read(&path).unwrap_or_default();
    if !theirs {
        return match (wanted, Timm::model(&bytes)) {
            (Some(config), _) => Ok(config),
            (None, Some((file, config))) => {
                said.push(format!("took the model {} of {}", file.architecture, path.display()));
                about.classes = about.classes.take().or(file.pretrained_cfg.label_names);
                Ok(config)
            }
            (None, None) if bytes.is_empty() => shown_vit(weights, said).unwrap_or_else(|| Config::preset("micro")),
            (None, None) => {
                about.fill_from(checkpoint::about(folder)?);
                said.push(format!("took the model of {}", path.display()));
                config_from_bytes(&path, &bytes)
            }
        };
    }
    let Ok(file) = serde_json::from_slice::<Theirs>(&bytes) else {
        said.push("no config.json of the transformers library beside it: heads and epsilon are the model's".into());
        let shown = |said| shown_vit(weights, said).unwrap_or_else(|| Config::preset("vit_base_patch16_224"));
        return wanted.map_or_else(|| shown(said), Ok);
    };
    if !["vit", "vit_mae"].contains(&file.model_type.as_str()) {
        return Err(Error::file(
            &path,
            format!("is of a model of type `{}`; expected vit or vit_mae", file.model_type),
        ));
    }
    if let Some(other) = file.hidden_act.as_deref().filter(|act| *act != "gelu") {
        return Err(Error::file(&path, format!("has the activation `{other}`; expected gelu, which is the one here")));
    }
    let mut config = match wanted {
        Some(config) => config,
        None => vit(file.num_hidden_layers, file.hidden_size, file.patch_size)?,
    };
    config.heads = file.num_attention_heads;
    config.norm_eps = file.layer_norm_eps.or(config.norm_eps);
    if let Some(heads) = file.decoder_num_attention_heads {
        config.decoder = Decoder { heads, ..Decoder::mae() };
    }
    // the library calls classes that nobody named LABEL_0, LABEL_1, …
    let names: Option<Vec<String>> =
        (0..file.id2label.len()).map(|i| file.id2label.get(&i.to_string()).cloned()).collect();
    let given = names.filter(|names| !names.iter().enumerate().all(|(i, name)| *name == format!("LABEL_{i}")));
    let classes = if given.is_some() { ", class names" } else { "" };
    said.push(format!("took heads and epsilon{classes} of {}", path.display()));
    about.classes = about.classes.take().or(given);
    Ok(config)
}

/// A ViT of this size.
fn vit(layers: usize, width: usize, patch_size: usize) -> Result<Config> {
    let pattern = "T".repeat(layers.min(1024));
    let name = format!("vit_{}x{width}_patch{patch_size}", pattern.len());
    Ok(Config { name, width, pattern, patch_size, ..Config::preset("vit_base_patch16_224")? })
}

/// The ViT whose layers, width and patch size the tensors have, under timm's names. No tensor shows its heads:
/// 64 columns a head, as in all published ones. `None` if the tensors are those of another model.
fn shown_vit(weights: &Weights, said: &mut Vec<String>) -> Option<Result<Config>> {
    let size = |name: &str, axis: usize| weights.get(name).and_then(|(shape, _)| shape.get(axis).copied());
    let (width, patch_size) = (size("blocks.0.attn.qkv.weight", 1)?, size("patch_embed.proj.weight", 2)?);
    let layers = (0..).take_while(|i| weights.contains_key(&format!("blocks.{i}.attn.qkv.weight"))).count();
    let heads = (width / 64).max(1);
    said.push(format!("took {layers} layers of width {width} from the shapes, and {heads} heads, 64 columns each"));
    Some(vit(layers, width, patch_size).map(|config| Config { heads, ..config }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_of_timm_is_found_by_name_and_tested_as_there() {
        let file =
            br#"{"architecture": "resnet50", "num_classes": 1000, "pretrained_cfg": {"input_size": [3, 288, 288],
            "interpolation": "bicubic", "crop_pct": 0.95, "crop_mode": "squash", "mean": [0.485, 0.456, 0.406]}}"#;
        let (_, config) = Timm::model(file).unwrap();
        let view = config.test_view;
        assert_eq!((config.name.as_str(), config.image_size), ("resnet50", 288));
        assert_eq!((view.crop_ratio, view.interpolation, view.squash), (0.95, Interpolation::Bicubic, true));
        let plain = Timm::model(br#"{"architecture": "resnet50"}"#).unwrap().1;
        assert_eq!(plain, Config::preset("resnet50").unwrap());
        assert_eq!(plain.test_view.interpolation, Interpolation::Bilinear);
        for other in [
            &br#"{"architecture": "coat_tiny"}"#[..],
            br#"{"architecture": "vit_base_patch16_224", "model_args": {"depth": 2}}"#,
            br#"{"model_type": "vit"}"#,
            b"",
        ] {
            assert!(Timm::model(other).is_none());
        }
    }
}
