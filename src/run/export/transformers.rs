//! The transformers library: its ViT and ViTMAE, with queries, keys and values apart.

use serde_json::{Value, json};

use super::{Foreign, expect_vit, numbered, without_method};
use crate::data::imagenet::{MEAN, STD};
use crate::error::{Error, Result};
use crate::models::{Config, Contents, contents};
use crate::nn::Weights;
use crate::train::about::About;

/// The library's name of a tensor, without the name of its model in front. `None` for `qkv`, which is three of theirs.
fn their_name(ours: &str) -> Option<String> {
    let whole = match ours {
        "cls_token" => "embeddings.cls_token",
        "pos_embed" => "embeddings.position_embeddings",
        "mask_token" => "decoder.mask_token",
        "decoder_pos_embed" => "decoder.decoder_pos_embed",
        _ => "",
    };
    if !whole.is_empty() {
        return Some(whole.into());
    }
    let (module, leaf) = ours.rsplit_once('.').unwrap_or(("", ours));
    let module = match module {
        "patch_embed.proj" => "embeddings.patch_embeddings.projection".into(),
        "norm" => "layernorm".into(),
        "head" => "classifier".into(),
        "decoder_embed" | "decoder_norm" | "decoder_pred" => format!("decoder.{module}"),
        _ => {
            let (group, rest) = module.split_once('.').unwrap_or((module, ""));
            let group = if group == "blocks" { "encoder.layer" } else { "decoder.decoder_layers" };
            let (i, part) = rest.split_once('.').unwrap_or((rest, ""));
            let part = match part {
                "attn.proj" => "attention.output.dense",
                "norm1" => "layernorm_before",
                "norm2" => "layernorm_after",
                "mlp.fc1" => "intermediate.dense",
                "mlp.fc2" => "output.dense",
                _ => return None,
            };
            format!("{group}.{i}.{part}")
        }
    };
    Some(format!("{module}.{leaf}"))
}

/// The names of the thirds of `qkv`.
fn thirds(ours: &str) -> [String; 3] {
    let (block, leaf) = ours.split_once(".attn.qkv.").unwrap_or((ours, ""));
    let (group, i) = block.split_once('.').unwrap_or((block, ""));
    let group = if group == "blocks" { "encoder.layer" } else { "decoder.decoder_layers" };
    ["query", "key", "value"].map(|part| format!("{group}.{i}.attention.attention.{part}.{leaf}"))
}

/// Our weights under the library's names, those of the encoder below `model`.
fn renamed(weights: &Weights, model: &str) -> Weights {
    let mut theirs = Weights::new();
    let mut add = |name: String, shape: Vec<usize>, values: Vec<f32>| {
        let own = name.starts_with("decoder.") || name.starts_with("classifier.");
        theirs.insert(if own { name } else { format!("{model}{name}") }, (shape, values));
    };
    for (name, (shape, values)) in weights {
        if let Some(theirs) = their_name(name) {
            add(theirs, shape.clone(), values.clone());
            continue;
        }
        let shape: Vec<usize> =
            shape.iter().take(1).map(|rows| rows / 3).chain(shape.iter().skip(1).copied()).collect();
        for (name, values) in thirds(name).into_iter().zip(values.chunks((values.len() / 3).max(1))) {
            add(name, shape.clone(), values.to_vec());
        }
    }
    theirs
}

/// A ViT for `from_pretrained`: `ViTForImageClassification`, `ViTMAEForPreTraining` or `ViTModel`.
pub(super) fn convert(config: &Config, weights: &Weights, about: &About) -> Result<Foreign> {
    expect_vit(config, "transformers")?;
    let refuse =
        |got: &str, expected: &str| Err(Error::argument("model to export to transformers", got.to_owned(), expected));
    if config.registers != 1 {
        return refuse("no class token", "one: export it to timm");
    }
    if weights.contains_key("fc_norm.weight") {
        return refuse("average pooling with `fc_norm`", "a head on the class token: export it to timm");
    }
    let mut said = Vec::new();
    let found = contents(weights);
    let mae = found == Contents::Mae;
    let kept = if mae { weights.clone() } else { without_method(weights, &mut said) };
    let classifier = !mae && kept.contains_key("head.weight");
    let (class, model) = match (mae, classifier) {
        (true, _) => ("ViTMAEForPreTraining", "vit."),
        (false, true) => ("ViTForImageClassification", "vit."),
        (false, false) => ("ViTModel", ""),
    };
    let (height, width) = (config.image_size, config.image_width.unwrap_or(config.image_size));
    let side = if height == width { json!(height) } else { json!([height, width]) };
    let mut file = json!({
        "architectures": [class],
        "model_type": if mae { "vit_mae" } else { "vit" },
        "hidden_size": config.width,
        "num_hidden_layers": config.pattern.len(),
        "num_attention_heads": config.heads,
        "intermediate_size": config.mlp_hidden(),
        "hidden_act": "gelu",
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
        "layer_norm_eps": config.norm_eps.unwrap_or(config.family.eps),
        "image_size": side,
        "patch_size": config.patch_size,
        "num_channels": 3,
        "qkv_bias": config.qkv_bias,
    });
    if mae {
        let decoder = &config.decoder;
        file["decoder_hidden_size"] = json!(decoder.width);
        file["decoder_num_hidden_layers"] = json!(decoder.depth);
        file["decoder_num_attention_heads"] = json!(decoder.heads);
        file["decoder_intermediate_size"] = json!((decoder.width as f64 * decoder.mlp_ratio).round() as usize);
        file["mask_ratio"] = json!(0.75);
        file["norm_pix_loss"] = json!(about.objective.as_ref().is_none_or(|objective| objective.normalize().is_some()));
    }
    if classifier {
        let count = kept.get("head.weight").and_then(|(shape, _)| shape.first().copied()).unwrap_or(0);
        let numbers = || (0..count).map(|i| format!("LABEL_{i}")).collect();
        let (by_number, by_name) = numbered(&about.classes.clone().unwrap_or_else(numbers));
        (file["id2label"], file["label2id"]) = (by_number, by_name);
    }
    let decimal = |values: [f32; 3]| values.map(|v| f64::from((v * 1000.0).round()) / 1000.0);
    let pixels: Value = json!({
        "image_processor_type": "ViTImageProcessor",
        "do_resize": true,
        "size": { "height": height, "width": width },
        "resample": 3,
        "do_rescale": true,
        "do_normalize": true,
        "image_mean": decimal(MEAN),
        "image_std": decimal(STD),
    });
    let options = if class == "ViTModel" { ", add_pooling_layer=False" } else { "" };
    let load = format!("transformers.{class}.from_pretrained('DIR'{options})");
    let files = vec![("config.json", file), ("preprocessor_config.json", pixels)];
    Ok(Foreign { weights: renamed(&kept, model), files, said, load })
}
