//! ONNX: the forward pass of a model on tokens as one file, which onnxruntime runs without this program. Names and
//! layout are those of timm's own export: `input0` (batch, 3, H, W), normalized as timm does it, and `output0`; weights
//! keep their names.

mod graph;
mod mamba;
mod network;
mod proto;

use prost::Message;
use serde_json::json;

use super::timm::pretrained_cfg;
use super::{Exported, expect_token_backbone};
use crate::error::{Error, Result};
use crate::models::{Config, Contents, Pool, contents};
use crate::nn::Weights;
use crate::train::about::About;
use graph::{Graph, info};
use network::{Wanted, network};
use proto::{ModelProto, OperatorSetIdProto, StringStringEntryProto};

/// Version of ONNX's operators: the first with LayerNormalization, which onnxruntime has had since 1.12.
const OPSET: i64 = 17;

/// Version of the file format that goes with [`OPSET`].
const IR: i64 = 8;

/// A protobuf message has at most 2 GiB.
const LARGEST: usize = (1 << 31) - 1;

/// What the graph of a checkpoint gives: scores of a classifier; of an encoder what `rowscan features` writes.
fn wanted(config: &Config, weights: &Weights) -> Wanted {
    let kind = contents(weights);
    let head = weights.get(&format!("{}.weight", config.family.head));
    if let (Contents::Classifier, Some((shape, _))) = (kind, head) {
        return Wanted::Scores { classes: shape.first().copied().unwrap_or(0) };
    }
    // average pooling was trained where no decoder was; in a ViT `fc_norm` then stands in the place of `norm`
    let decoded = weights.contains_key("mask_token");
    let pooled = config.pool == Pool::Average && !decoded && !weights.contains_key("norm.weight");
    if pooled { Wanted::Pooled } else { Wanted::Tokens }
}

/// The file of a model, and what is to be said about it.
///
/// # Errors
/// A network that is not on tokens; a tensor that is missing; a file of more than 2 GiB.
pub(super) fn convert(
    config: &Config, weights: &Weights, about: &About, half: bool,
) -> Result<(Vec<u8>, serde_json::Value, Exported)> {
    expect_token_backbone(config, "onnx")?;
    let wanted = wanted(config, weights);
    let mut graph = Graph::new(weights, half);
    let (height, width) = (config.image_size, config.image_width.unwrap_or(config.image_size));
    let outputs = network(&mut graph, config, "input0", wanted)?;
    let left_out = graph.left_out();
    let mut said = Vec::new();
    if let Some(first) = left_out.first() {
        said.push(format!("left out {} tensors that the result does not depend on: {first}, …", left_out.len()));
    }
    let mut infos = vec![(info("output0", &[None, Some(outputs.width)]), outputs.rows)];
    if let Some(tokens) = outputs.tokens {
        infos.push((info("tokens", &[None, Some(config.tokens()), Some(config.width)]), tokens));
    }
    let classes = if let Wanted::Scores { classes } = wanted { classes } else { 0 };
    let file = json!({
        "architecture": config.name,
        "num_classes": classes,
        "num_features": config.features(),
        "pretrained_cfg": pretrained_cfg(config, about, classes),
    });
    let mut metadata: Vec<(String, String)> = about.to_metadata()?.into_iter().collect();
    metadata.retain(|(key, _)| key != "format");
    metadata.push(("pretrained_cfg".into(), file["pretrained_cfg"].to_string()));
    metadata.sort();
    let entries = metadata.into_iter().map(|(key, value)| StringStringEntryProto { key, value }).collect();
    let input = info("input0", &[None, Some(3), Some(height), Some(width)]);
    let model = ModelProto {
        ir_version: IR,
        producer_name: "rowscan".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        graph: Some(graph.finish(&config.name, input, infos)),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: OPSET }],
        metadata_props: entries,
    };
    let size = model.encoded_len();
    if size > LARGEST {
        let expected = "at most 2147483647, which is all that a file of ONNX can hold: f16 halves it";
        return Err(Error::argument("bytes of the file of ONNX", size, expected));
    }
    let count = weights.iter().filter(|(name, _)| !left_out.contains(&name.as_str())).map(|(_, t)| t.1.len()).sum();
    let load = Some("onnxruntime.InferenceSession('DIR/model.onnx')".to_owned());
    Ok((model.encode_to_vec(), file, Exported { count, said, load }))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::gpu::{Caps, Gpu};
    use crate::models::Classifier;
    use crate::nn::Params;
    use proto::GraphProto;

    fn weights(config: &Config) -> Weights {
        let dry = Gpu::dry(Caps::portable());
        let mut params = Params::new(&dry);
        Classifier::new(&dry, &mut params, config).unwrap();
        let value = |entry: &crate::nn::Entry| (entry.name.clone(), (entry.shape.clone(), vec![0.5; entry.len()]));
        params.entries().iter().map(value).collect()
    }

    /// Every value is there before it is read and has one source, and all that is stored is read.
    fn expect_whole(graph: &GraphProto) {
        let mut known: BTreeSet<&str> = graph.input.iter().map(|info| info.name.as_str()).collect();
        let mut unread: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
        known.extend(&unread);
        for node in &graph.node {
            for input in &node.input {
                assert!(known.contains(input.as_str()), "{} reads {input} before it is there", node.name);
                unread.remove(input.as_str());
            }
            for output in &node.output {
                assert!(known.insert(output), "{output} has two sources");
            }
            node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()).for_each(expect_whole);
        }
        assert!(graph.output.iter().all(|info| known.contains(info.name.as_str())));
        assert!(unread.is_empty(), "{unread:?} is stored and not read");
    }

    #[test]
    fn graphs_are_whole() {
        for name in ["vit_micro_patch8_64", "micro", "mambar_micro_patch4_32", "vim_micro_patch4_32"] {
            let config = Config { classes: 4, ..Config::preset(name).unwrap() };
            let weights = weights(&config);
            for half in [false, true] {
                let (bytes, file, exported) = convert(&config, &weights, &About::default(), half).unwrap();
                let model = ModelProto::decode(&*bytes).unwrap();
                let graph = model.graph.unwrap();
                expect_whole(&graph);
                let stored = |name: &String| graph.initializer.iter().any(|tensor| tensor.name == *name);
                assert!(weights.keys().all(stored) && exported.said.is_empty(), "{name}: {:?}", exported.said);
                assert_eq!(file["num_classes"], 4);
                let scans = graph.node.iter().filter(|node| node.op_type == "Scan").count();
                assert_eq!(scans, config.depth(), "{name}: one scan for a Mamba layer");
                assert!(bytes.len() < exported.count * if half { 2 } else { 4 } + 400_000, "{name}: {}", bytes.len());
            }
        }
    }

    #[test]
    fn other_networks_are_refused() {
        let config = Config::preset("resnet_micro").unwrap();
        let error = convert(&config, &Weights::new(), &About::default(), false).unwrap_err().to_string();
        assert!(error.contains("a ResNet") && error.contains("Hybrid (MAP, Mamba-R)"), "{error}");
        let vit = Config::preset("vit_micro_patch8_64").unwrap();
        let error = convert(&vit, &Weights::new(), &About::default(), false).unwrap_err().to_string();
        assert!(error.contains("no patch_embed.proj.weight"), "{error}");
    }
}
