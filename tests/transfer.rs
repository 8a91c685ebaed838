//! A backbone passes from a checkpoint of any task into a network for a dense task, whatever its family.

use rowscan::gpu::Gpu;
use rowscan::models::dense::{Dense, Detection, Segmentation};
use rowscan::models::{Classifier, Config, Detector, Method, Objective, Segmenter, models, pretext_model};
use rowscan::nn::{Params, Weights};
use rowscan::run::{checkpoint, load_backbone};
use rowscan::{Error, Result};

use crate::common::gpu;

/// The weights of a network that `build` adds to the parameters, drawn with `seed`.
fn drawn(g: &Gpu, seed: u64, build: impl FnOnce(&mut Params) -> Result<()>) -> Result<(Params, Weights)> {
    let mut params = Params::new(g);
    build(&mut params)?;
    params.init(g, seed)?;
    let weights = pollster::block_on(params.weights(g))?;
    Ok((params, weights))
}

/// Classifiers and pretrained networks of every micro preset, into a segmenter and a detector: every tensor of the
/// backbone that the checkpoint has comes from it (of ARM's pretraining, to all directions), and heads keep their
/// initial values.
#[test]
fn backbones_of_every_family() -> Result<()> {
    let Some(g) = gpu() else { return Ok(()) };
    let dir = tempfile::tempdir().unwrap();
    let mut taken = Vec::new();
    for name in models().into_iter().filter(|name| name.contains("micro")) {
        let config = Config { classes: 3, ..Config::preset(&name)? };
        let whole = Segmentation { channels: 12, auxiliary: 0, ..Segmentation::default() };
        let boxes = Detection { channels: 16, features: 32, ..Detection::default() };
        for (task, dense) in [("segment", Dense::Segmentation(whole)), ("detect", Dense::Detection(boxes))] {
            let target = config.clone().for_dense(dense, 3);
            let build = |params: &mut Params| match task {
                "segment" => Segmenter::new(g, params, &target).map(drop),
                _ => Detector::new(g, params, &target).map(drop),
            };
            let (params, before) = match drawn(g, 1, build) {
                Err(Error::Argument { .. }) => continue, // points, and what has no map of a thirty-second
                drawn => drawn?,
            };
            for method in [None, Some(Method::MAP), Some(Method::MAE), Some(Method::ARM)] {
                let objective = method.map(Objective::of);
                if objective.as_ref().is_some_and(|objective| objective.check(&config).is_err()) {
                    continue;
                }
                let what = format!("{name}, {:?}, {task}", method.map(|method| method.name));
                let (_, weights) = drawn(g, 2, |params| match &objective {
                    Some(objective) => pretext_model(g, params, &config, objective).map(drop),
                    None => Classifier::new(g, params, &config).map(drop),
                })?;
                let folder = dir.path().join(&what);
                checkpoint::save_weights(&folder, &config, &weights)?;
                params.load(g, &before)?;
                load_backbone(g, &folder, &target, &params, 1)?;
                let after = pollster::block_on(params.weights(g))?;
                for (key, found) in &after {
                    let own = key.strip_prefix(target.backbone_prefix()).and_then(|own| {
                        let one_way = || ["_c_b", "_b", "_c"].iter().find_map(|s| weights.get(&own.replacen(s, "", 1)));
                        weights.get(own).or_else(|| one_way().filter(|_| method == Some(Method::ARM)))
                    });
                    let expected = match own {
                        Some(own) if own.1.len() == found.1.len() => own,
                        _ => &before[key],
                    };
                    assert_eq!(found.1, expected.1, "{what}: {key}");
                }
                taken.push(what);
            }
        }
    }
    for family in ["map_", "mambar_", "vim_", "vit_", "arm_", "resnet", "convnext", "vmamba", "mambavision"] {
        assert!(taken.iter().any(|what| what.starts_with(family)), "{family}: {taken:?}");
    }
    for pretrained in ["mambavision_micro, Some(\"map\"), detect", "arm_micro_patch4_32, Some(\"arm\"), segment"] {
        assert!(taken.iter().any(|what| what == pretrained), "{pretrained}: {taken:?}");
    }
    Ok(())
}
