//! The tensor names of the Hugging Face library (transformers) for ViT and ViTMAE, old and new, translated to timm's.
//! That library keeps the weights of queries, keys and values apart, and timm stacks them in one matrix.

use crate::error::{Error, Result};
use crate::nn::Weights;

/// A name of the transformers library → our name. Where it is one of q, k and v: which third of the rows of `qkv` it
/// is.
pub fn our_name(theirs: &str) -> Option<(String, Option<usize>)> {
    let (module, leaf) = theirs.rsplit_once('.').unwrap_or(("", theirs));
    let module = module.strip_prefix("vit.").unwrap_or(module);
    let plain = match (module, leaf) {
        ("embeddings", "cls_token") => "cls_token",
        ("embeddings", "position_embeddings") => "pos_embed",
        ("decoder", "mask_token" | "decoder_pos_embed") => leaf,
        _ => "",
    };
    if !plain.is_empty() {
        return Some((plain.into(), None));
    }
    let whole = match module {
        "embeddings.patch_embeddings.projection" => "patch_embed.proj",
        "layernorm" => "norm",
        "classifier" => "head",
        "decoder.decoder_embed" | "decoder.decoder_norm" | "decoder.decoder_pred" => &module["decoder.".len()..],
        _ => "",
    };
    if !whole.is_empty() {
        return Some((format!("{whole}.{leaf}"), None));
    }
    let blocks = [
        ("layers.", "blocks"),
        ("encoder.layer.", "blocks"),
        ("decoder.decoder_layers.", "decoder_blocks"),
        ("decoder.decoder_encoder.layer.", "decoder_blocks"),
    ];
    let (rest, group) = blocks.iter().find_map(|(prefix, group)| Some((module.strip_prefix(prefix)?, group)))?;
    let (i, part) = rest.split_once('.')?;
    i.parse::<usize>().ok()?;
    let (part, third) = match part {
        "attention.q_proj" | "attention.attention.query" => ("attn.qkv", Some(0)),
        "attention.k_proj" | "attention.attention.key" => ("attn.qkv", Some(1)),
        "attention.v_proj" | "attention.attention.value" => ("attn.qkv", Some(2)),
        "attention.o_proj" | "attention.output.dense" => ("attn.proj", None),
        "layernorm_before" => ("norm1", None),
        "layernorm_after" => ("norm2", None),
        "mlp.fc1" | "intermediate.dense" => ("mlp.fc1", None),
        "mlp.fc2" | "output.dense" => ("mlp.fc2", None),
        _ => return None,
    };
    Some((format!("{group}.{i}.{part}.{leaf}"), third))
}

/// Weights under the names of the transformers library → under ours. Other names are left as they are.
///
/// # Errors
/// When one of q, k, v is missing or has another shape than the other two.
pub fn from_transformers(theirs: Weights) -> Result<Weights> {
    let mut ours = Weights::new();
    let mut thirds = std::collections::BTreeMap::<String, [Option<(Vec<usize>, Vec<f32>)>; 3]>::new();
    for (name, tensor) in theirs {
        match our_name(&name) {
            None => drop(ours.insert(name, tensor)),
            Some((name, None)) => drop(ours.insert(name, tensor)),
            Some((name, Some(third))) => thirds.entry(name).or_default()[third] = Some(tensor),
        }
    }
    for (name, parts) in thirds {
        let [Some((shape, q)), Some((k_shape, k)), Some((v_shape, v))] = parts else {
            return Err(Error::argument(name, "some of q, k, v", "all three"));
        };
        if shape != k_shape || shape != v_shape {
            let got = format!("{shape:?}, {k_shape:?}, {v_shape:?}");
            return Err(Error::argument(name, got, "one shape of q, k and v"));
        }
        let rows = shape.first().map(|rows| 3 * rows);
        let shape = rows.into_iter().chain(shape.into_iter().skip(1)).collect();
        ours.insert(name, (shape, [q, k, v].concat()));
    }
    Ok(ours)
}

/// Whether weights have names of the transformers library.
pub fn is_of_transformers(weights: &Weights) -> bool {
    // a classifier of that name is EfficientNet's too
    weights.keys().any(|name| !name.starts_with("classifier.") && our_name(name).is_some())
}

/// Takes out the tensors of that library's ViT that no model here has, and returns their names: the pooler, a layer on
/// the class token that nobody trained but for BERT's sake, and the mask token of SimMIM.
pub fn leave_out_unused(weights: &mut Weights) -> Vec<String> {
    const UNUSED: &[&str] = &["pooler.dense.weight", "pooler.dense.bias", "embeddings.mask_token"];
    let unused = |name: &str| UNUSED.contains(&name.strip_prefix("vit.").unwrap_or(name));
    let names: Vec<String> = weights.keys().filter(|name| unused(name)).cloned().collect();
    names.iter().for_each(|name| drop(weights.remove(name)));
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_names_mean_the_same() {
        for (theirs, ours, third) in [
            ("vit.embeddings.cls_token", "cls_token", None),
            ("vit.embeddings.patch_embeddings.projection.bias", "patch_embed.proj.bias", None),
            ("vit.layers.3.attention.k_proj.weight", "blocks.3.attn.qkv.weight", Some(1)),
            ("vit.encoder.layer.3.attention.attention.key.weight", "blocks.3.attn.qkv.weight", Some(1)),
            ("vit.encoder.layer.11.attention.output.dense.bias", "blocks.11.attn.proj.bias", None),
            ("vit.encoder.layer.0.output.dense.weight", "blocks.0.mlp.fc2.weight", None),
            ("vit.layers.0.layernorm_after.bias", "blocks.0.norm2.bias", None),
            ("vit.layernorm.weight", "norm.weight", None),
            ("classifier.bias", "head.bias", None),
            ("decoder.mask_token", "mask_token", None),
            ("decoder.decoder_pred.weight", "decoder_pred.weight", None),
            ("decoder.decoder_layers.1.mlp.fc1.weight", "decoder_blocks.1.mlp.fc1.weight", None),
            ("decoder.decoder_encoder.layer.7.output.dense.bias", "decoder_blocks.7.mlp.fc2.bias", None),
            (
                "decoder.decoder_encoder.layer.0.attention.attention.value.bias",
                "decoder_blocks.0.attn.qkv.bias",
                Some(2),
            ),
        ] {
            assert_eq!(our_name(theirs), Some((ours.to_string(), third)), "{theirs}");
        }
        for ours in ["cls_token", "blocks.0.attn.qkv.weight", "layers.0.mixer.D", "decoder_embed.weight", "norm.weight"]
        {
            assert_eq!(our_name(ours), None, "{ours}");
        }
    }

    #[test]
    fn queries_keys_and_values_are_stacked() {
        let part = |x: f32| (vec![1, 2], vec![x, x + 0.5]);
        let name = |p: &str| format!("vit.layers.0.attention.{p}_proj.weight");
        let mut theirs = Weights::from([(name("q"), part(1.0)), (name("k"), part(2.0)), (name("v"), part(3.0))]);
        let ours = from_transformers(theirs.clone()).unwrap();
        let stacked = (vec![3, 2], vec![1.0, 1.5, 2.0, 2.5, 3.0, 3.5]);
        assert_eq!(ours, Weights::from([("blocks.0.attn.qkv.weight".to_string(), stacked)]));
        theirs.remove(&name("k"));
        assert!(from_transformers(theirs).unwrap_err().to_string().contains("all three"));
    }
}
