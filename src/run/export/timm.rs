//! timm: its `VisionTransformer` has our tensor names, so what is added are the arguments that build it. Its ResNet,
//! EfficientNet and ConvNeXt are built by name.

use serde_json::{Map, Value, json};

use super::{Foreign, expect_vit, without_method};
use crate::data::imagenet::{MEAN, STD};
use crate::error::{Error, Result};
use crate::models::{Config, Interpolation};
use crate::nn::Weights;
use crate::train::about::About;

/// DeiT's and ViT's names in timm by width. All other sizes are given as arguments.
const NAMES: &[(usize, &str)] = &[(192, "deit_tiny"), (384, "deit_small"), (768, "deit_base"), (1024, "vit_large")];

/// A ViT for `timm.create_model(…, checkpoint_path=…)`, and for `local-dir:` in place of a model's name.
pub(super) fn convert(config: &Config, weights: &Weights, about: &About) -> Result<Foreign> {
    if config.family.in_timm {
        return network(config, weights, about);
    }
    expect_vit(config, "timm")?;
    let mut said = Vec::new();
    let weights = without_method(weights, &mut said);
    if config.eps() != 1e-6 {
        said.push(format!("timm builds norms with epsilon 1e-6, this model's is {:e}", config.eps()));
    }
    let classes = weights.get("head.weight").and_then(|(shape, _)| shape.first().copied()).unwrap_or(0);
    let averages = weights.contains_key("fc_norm.weight");
    let (height, width) = (config.image_size, config.image_width.unwrap_or(config.image_size));
    let side = if height == width { json!(height) } else { json!([height, width]) };
    let pool = if averages || config.registers == 0 { "avg" } else { "token" };
    let mlp_ratio = config.mlp_hidden() as f64 / config.width as f64;
    let mut args: Vec<(&str, Value)> = vec![
        ("img_size", side),
        ("patch_size", json!(config.patch_size)),
        ("embed_dim", json!(config.width)),
        ("depth", json!(config.pattern.len())),
        ("num_heads", json!(config.heads)),
        ("mlp_ratio", json!(mlp_ratio)),
        ("global_pool", json!(pool)),
    ];
    if !config.qkv_bias {
        args.push(("qkv_bias", json!(false)));
    }
    if config.registers == 0 {
        args.extend([("class_token", json!(false)), ("fc_norm", json!(averages))]);
    }
    let base = NAMES.iter().find(|(width, _)| *width >= config.width).unwrap_or(&NAMES[3]).1;
    let architecture = format!("{base}_patch16_224");
    let python = |value: &Value| value.to_string().replace("false", "False").replace("true", "True").replace('"', "'");
    let listed: Vec<String> = args.iter().map(|(name, value)| format!("{name}={}", python(value))).collect();
    let load = format!(
        "timm.create_model('{architecture}', checkpoint_path='DIR/model.safetensors', num_classes={classes}, {})",
        listed.join(", ")
    );
    let mut data = pretrained_cfg(config, about, classes);
    data["first_conv"] = json!("patch_embed.proj");
    let args: Map<String, Value> = args.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
    let file = json!({
        "architecture": architecture,
        "num_classes": classes,
        "num_features": config.width,
        "model_args": args,
        "pretrained_cfg": data,
    });
    Ok(Foreign { weights, files: vec![("config.json", file)], said, load })
}

/// How images are made ready, and what the scores mean.
pub(super) fn pretrained_cfg(config: &Config, about: &About, classes: usize) -> Value {
    let view = config.test_view;
    let mut data = json!({
        "input_size": [3, config.image_size, config.image_width.unwrap_or(config.image_size)],
        "interpolation": if view.interpolation == Interpolation::Bilinear { "bilinear" } else { "bicubic" },
        "crop_pct": about.crop_ratio.unwrap_or(view.crop_ratio),
        "crop_mode": if view.squash { "squash" } else { "center" },
        "mean": MEAN.map(|v| f64::from((v * 1000.0).round()) / 1000.0),
        "std": STD.map(|v| f64::from((v * 1000.0).round()) / 1000.0),
        "num_classes": classes,
        "classifier": config.family.head,
    });
    if let Some(names) = &about.classes {
        data["label_names"] = json!(names);
    }
    data
}

/// A network that timm builds by the same name. `num_batches_tracked` of its batch norms is not written: PyTorch takes
/// 0 where a file has none.
fn network(config: &Config, weights: &Weights, about: &About) -> Result<Foreign> {
    let named = |config: &Config| {
        let sizes = (config.hierarchy.clone(), config.width, config.mlp_ratio.to_bits());
        Config::preset(&config.name)
            .ok()
            .filter(|preset| sizes == (preset.hierarchy.clone(), preset.width, preset.mlp_ratio.to_bits()))
    };
    let known = config.family.named.iter().map(|network| network.name).filter(|name| !name.ends_with("_micro"));
    let architecture = named(config).and_then(|preset| {
        let whole = |name: &&str| preset.name == *name || preset.name.starts_with(&format!("{name}_"));
        known.clone().filter(whole).max_by_key(|name| name.len())
    });
    let Some(architecture) = architecture else {
        let known = known.collect::<Vec<_>>().join(", ");
        let expected = format!("one that timm builds by name: {known}");
        return Err(Error::argument("model to export to timm", config.name.clone(), expected));
    };
    let head = format!("{}.weight", config.family.head);
    let classes = weights.get(&head).and_then(|(shape, _)| shape.first().copied()).unwrap_or(0);
    let load =
        format!("timm.create_model('{architecture}', checkpoint_path='DIR/model.safetensors', num_classes={classes})");
    let file = json!({
        "architecture": architecture,
        "num_classes": classes,
        "num_features": config.width,
        "pretrained_cfg": pretrained_cfg(config, about, classes),
    });
    Ok(Foreign { weights: weights.clone(), files: vec![("config.json", file)], said: Vec::new(), load })
}
