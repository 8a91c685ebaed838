//! Files of ONNX: what onnxruntime computes with them is what this program computes
//! ([`run_onnx.py`](../../fixtures/run_onnx.py)). `ROWSCAN_PYTHON` names an interpreter that has onnx and onnxruntime;
//! without them that test says so and passes, or fails where `REQUIRE_PYTHON=1`.

use std::process::Command;

use rowscan::data::imagenet::{MEAN, STD};
use rowscan::infer::features::FrozenEncoder;
use rowscan::infer::scores::scores_of;
use rowscan::models::{Decoder, DecoderKind, Directions, Method, Objective, Order, Pool, pretext_model};
use rowscan::run::checkpoint;
use rowscan::train::about::About;

use super::*;
use crate::cli::skip;
use crate::common::{Random, gpu};

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/run_onnx.py");

/// Images of a batch.
const BATCH: usize = 3;

/// What is exported: its name, its model, and the method that pretrains it; a classifier without one.
fn cases() -> Vec<(&'static str, Config, Option<Method>)> {
    let small = |name: &str| Config {
        width: 32,
        heads: 2,
        classes: 3,
        ..Config::preset(&format!("{name}_patch4_24")).expect("a preset")
    };
    let hybrid = Config { pattern: "MMTM".into(), states: 5, ..small("map_micro") };
    let vit = Config { pattern: "TT".into(), ..small("vit_micro") };
    let decoder = Decoder { width: 16, depth: 1, heads: 2, ..Decoder::map() };
    let mae = Decoder { kind: DecoderKind::Mae, ..decoder.clone() };
    vec![
        ("vit", vit.clone(), None),
        ("vit_without_bias", Config { qkv_bias: false, norm_eps: Some(1e-3), ..vit.clone() }, None),
        ("vit_average", Config { pool: Pool::Average, ..vit.clone() }, None),
        ("vit_without_class_token", Config { pool: Pool::Average, registers: 0, ..vit.clone() }, None),
        ("vit_encoder", Config { classes: 0, ..vit.clone() }, None),
        ("mae", Config { decoder: mae, ..vit }, Some(Method::MAE)),
        ("hybrid", Config { cls_reduce: 2, ..hybrid.clone() }, None),
        ("hybrid_extra", Config { extra_residual: !hybrid.extra_residual, ..hybrid.clone() }, None),
        ("mambar_layer_norm", Config { rms_norm: false, directions: Directions::Sum, ..small("mambar_micro") }, None),
        ("map", Config { decoder: decoder.clone(), ..hybrid.clone() }, Some(Method::MAP)),
        ("one_way", Config { decoder, directions: Directions::One, ..hybrid }, Some(Method::AR_SHIFT)),
        ("vim", Config { pattern: "MM".into(), ..small("vim_micro") }, None),
        ("vim_columns", Config { pattern: "MM".into(), order: Order::Columns, ..small("vim_micro") }, None),
    ]
    .into_iter()
    .map(|(name, config, method)| (name, Config { name: name.into(), ..config }, method))
    .collect()
}

/// Weights far from initial ones, of a classifier or of a model that a method pretrains.
fn weights(config: &Config, method: Option<Method>, seed: u64) -> Weights {
    let Some(method) = method else { return drawn(config, seed) };
    let dry = Gpu::dry(Caps::portable());
    let mut params = Params::new(&dry);
    let objective = Objective { method, ..Objective::default_for(config) };
    pretext_model(&dry, &mut params, config, &objective).unwrap_or_else(|e| panic!("{}: {e}", config.name));
    drawn_of(&params, seed)
}

/// Pictures of the model's size as bytes (B, S, S, 3), and normalized (B, 3, S, S).
fn pictures(side: usize) -> (Vec<u8>, Vec<f32>) {
    let bytes: Vec<u8> = Random::new(11).below(BATCH * side * side * 3, 256).iter().map(|v| *v as u8).collect();
    let plane = side * side;
    let value = |i: usize| {
        let (image, channel, pixel) = (i / (3 * plane), i / plane % 3, i % plane);
        (f32::from(bytes[(image * plane + pixel) * 3 + channel]) / 255.0 - MEAN[channel]) / STD[channel]
    };
    let normalized = (0..bytes.len()).map(value).collect();
    (bytes, normalized)
}

/// Scores of a classifier, or features of an encoder.
fn expected(g: &Gpu, config: &Config, weights: &Weights, bytes: &[u8]) -> Vec<f32> {
    let program = if weights.contains_key("head.weight") && !weights.contains_key("mask_token") {
        let mut params = Params::new(g);
        let classifier = Classifier::new(g, &mut params, config).unwrap();
        params.load(g, weights).unwrap();
        scores_of(g, &classifier, config, BATCH).unwrap()
    } else {
        let encoder = FrozenEncoder::open(g, config, Some(weights.clone()), 0).unwrap();
        encoder.program(g, config, BATCH).unwrap()
    };
    pollster::block_on(program.run(bytes)).unwrap()
}

fn python(args: &[&str]) -> std::io::Result<std::process::Output> {
    Command::new(std::env::var("ROWSCAN_PYTHON").unwrap_or_else(|_| "python3".into())).arg(SCRIPT).args(args).output()
}

fn exported(from: &Path, to: &Path, more: &[&str]) -> Ran {
    rowscan(&[&["export", "--format=onnx"], more].concat(), &[("--checkpoint", from), ("-o", to)])
}

#[test]
fn onnxruntime_computes_the_same() {
    if skip() {
        return;
    }
    let Some(g) = gpu() else { return };
    match python(&[]) {
        Ok(ran) if ran.status.success() => eprintln!("{}", String::from_utf8_lossy(&ran.stdout).trim()),
        other => {
            let why = other.map_or_else(|e| e.to_string(), |ran| String::from_utf8_lossy(&ran.stderr).into_owned());
            let last = why.lines().last().unwrap_or_default();
            assert!(std::env::var("REQUIRE_PYTHON").is_err(), "REQUIRE_PYTHON, but {last}");
            return eprintln!("SKIPPED: ONNX against onnxruntime ({last}); ROWSCAN_PYTHON names another python");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    for (seed, (name, config, method)) in cases().into_iter().enumerate() {
        let weights = weights(&config, method, seed as u64);
        let at = |end: &str| dir.path().join(format!("{name}{end}"));
        let about = About {
            classes: (config.classes == 3).then(|| ["eel", "cat", "dog"].map(String::from).into()),
            ..About::default()
        };
        checkpoint::save_about(&at(""), &config, &weights, &about).unwrap();
        let (bytes, normalized) = pictures(config.image_size);
        std::fs::write(at(".images"), bytemuck::cast_slice(&normalized)).unwrap();
        let wanted = expected(g, &config, &weights, &bytes);
        for (dtype, tolerance) in [("f32", 1e-4), ("f16", 1e-2)] {
            let to = at(&format!(".{dtype}"));
            assert!(exported(&at(""), &to, &[&format!("--dtype={dtype}")]).ok().out.contains("InferenceSession"));
            let (model, out, side) = (to.join("model.onnx"), at(".out"), config.image_size.to_string());
            let paths = [&model, &at(".images")].map(|path| path.to_str().unwrap().to_owned());
            let args = [&*paths[0], &*paths[1], "3", &side, &side, out.to_str().unwrap()];
            let ran = python(&args).unwrap();
            let said = String::from_utf8_lossy(&ran.stdout);
            assert!(ran.status.success(), "{name}: {said}{}", String::from_utf8_lossy(&ran.stderr));
            let lines: Vec<&str> = said.lines().collect();
            assert_eq!(lines[0], format!("input0 ['batch', 3, {side}, {side}]"), "{name}");
            assert_eq!(lines[1], format!("output0 ['batch', {}]", wanted.len() / BATCH), "{name}");
            let tokens = method.is_some() || config.classes == 0;
            assert_eq!(lines[2].starts_with("tokens "), tokens, "{name}: {said}");
            assert_eq!(said.contains("classes = [\"eel\",\"cat\",\"dog\"]"), config.classes == 3, "{name}: {said}");
            let got = std::fs::read(at(".out.output0")).unwrap();
            let got: Vec<f32> = bytemuck::pod_collect_to_vec(&got);
            let largest = wanted.iter().fold(1.0f32, |most, v| most.max(v.abs()));
            let off = got.iter().zip(&wanted).map(|(a, b)| (a - b).abs() / largest).fold(0.0, f32::max);
            eprintln!("  {name} {dtype}: off by {off:.1e} of {largest:.2}");
            // f32: two implementations that add in another order. f16: weights rounded to 11 bits
            assert!(got.len() == wanted.len() && off < tolerance, "{name} {dtype}: {off}");
            if tokens {
                let tokens: Vec<f32> = bytemuck::pod_collect_to_vec(&std::fs::read(at(".out.tokens")).unwrap());
                let rows = got.chunks(config.width).zip(tokens.chunks(config.tokens() * config.width));
                for (row, tokens) in rows {
                    let mean =
                        |c: usize| tokens.iter().skip(c).step_by(config.width).sum::<f32>() / config.tokens() as f32;
                    assert!(row.iter().enumerate().all(|(c, v)| (v - mean(c)).abs() < 1e-4 * largest), "{name}");
                }
            }
        }
    }
}

#[test]
fn what_cannot_be_exported_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let config = Config { classes: 3, ..Config::preset("resnet_micro").unwrap() };
    checkpoint::save_weights(&at("resnet"), &config, &drawn(&config, 1)).unwrap();
    exported(&at("resnet"), &at("a"), &[]).fails(2, &["export to onnx", "a ResNet", "Vit (DeiT, MAE), Hybrid"]);
    let mut weights = drawn(&vit(), 2);
    weights.remove("blocks.1.mlp.fc2.bias");
    checkpoint::save_weights(&at("less"), &vit(), &weights).unwrap();
    exported(&at("less"), &at("b"), &[]).fails(2, &["no blocks.1.mlp.fc2.bias"]);
    weights.insert("blocks.1.mlp.fc2.bias".into(), (vec![2], vec![1.0, 1e6]));
    checkpoint::save_weights(&at("other"), &vit(), &weights).unwrap();
    exported(&at("other"), &at("c"), &[]).fails(2, &["the shape of blocks.1.mlp.fc2.bias", "[2]", "[32]"]);
    let mut weights = drawn(&vit(), 2);
    weights.get_mut("norm.bias").unwrap().1[0] = 1e6;
    checkpoint::save_weights(&at("large"), &vit(), &weights).unwrap();
    exported(&at("large"), &at("d"), &["--dtype=f16"]).fails(2, &["norm.bias", "1000000", "f16 can hold"]);
    for nothing in ["a", "b", "c", "d"] {
        assert!(!at(nothing).exists());
    }
}
