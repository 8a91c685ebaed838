//! What a checkpoint says about its weights travels with them: names of classes, how it was pretrained, how it was
//! tested, which of its weights won.

use std::collections::HashMap;

use rowscan::run::checkpoint;
use rowscan::run::weights_on_disk::read;
use rowscan::train::about::About;
use serde_json::{Value, json};

use super::*;
use crate::cli::{copy, skip};

/// A classifier whose classes are named in no alphabetical order.
fn classifier(folder: &Path) -> [&'static str; 3] {
    let names = ["eel", "cat", "dog"];
    let classes = Some(names.map(String::from).to_vec());
    let about = About {
        classes,
        crop_ratio: Some(0.5),
        notes: HashMap::from([("license".into(), "CC0".into())]),
        ..About::default()
    };
    checkpoint::save_about(folder, &vit(), &drawn(&vit(), 7), &about).unwrap();
    names
}

fn eval(folder: &Path, data: &Path) -> (Ran, Value) {
    let json = data.with_extension("json");
    let ran = rowscan(&["eval", "--split=train"], &[("--checkpoint", folder), ("--data", data), ("--json", &json)]);
    let value = std::fs::read(&json).map_or(Value::Null, |bytes| serde_json::from_slice(&bytes).unwrap());
    let _ = std::fs::remove_file(json);
    (ran, value)
}

#[test]
fn class_names_travel_with_the_weights() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let names = classifier(&at("first"));
    let export = |from: &Path, to: &Path, more: &[&str]| {
        rowscan(&[&["export"], more].concat(), &[("--checkpoint", from), ("-o", to)]).ok()
    };
    export(&at("first"), &at("second"), &["--dtype=f32"]);
    // the file alone, moved: its header has the names
    std::fs::create_dir(at("moved")).unwrap();
    std::fs::copy(at("second").join("model.safetensors"), at("moved").join("w.safetensors")).unwrap();
    rowscan(&[&["import"], VIT].concat(), &[("", &at("moved").join("w.safetensors")), ("-o", &at("third"))]).ok();
    export(&at("third"), &at("fourth"), &["--dtype=f16"]);
    export(&at("first"), &at("theirs"), &["--format=transformers"]);
    rowscan(&["import"], &[("", &at("theirs")), ("-o", &at("fifth"))]).ok();
    for (i, folder) in ["first", "second", "third", "fourth", "fifth"].iter().enumerate() {
        let about = checkpoint::about(&at(folder)).unwrap();
        assert_eq!(about.classes.unwrap(), names, "{folder}");
        assert_eq!(checkpoint::classes(&at(folder)).unwrap().unwrap(), names, "{folder}");
        assert_eq!(about.crop_ratio, Some(0.5), "{folder}");
        assert_eq!(about.notes.get("license").map(String::as_str), Some("CC0"), "{folder}");
        // a subset is scored, by name
        let data = at(&format!("data{i}"));
        pictures(&data, &["cat", "eel"]);
        let (ran, value) = eval(&at(folder), &data);
        assert!(ran.ok().out.contains("4 images, 3 classes"));
        let counts: Vec<_> = value["classes"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| (c["name"].as_str().unwrap(), c["images"].as_u64().unwrap()))
            .collect();
        assert_eq!(counts, [("eel", 2), ("cat", 2), ("dog", 0)], "{folder}");
        // other names are refused
        pictures(&data, &["wolf"]);
        eval(&at(folder), &data).0.fails(1, &["wolf"]);
    }
    // without names: the order of the folders is assumed, and that is said
    std::fs::create_dir(at("bare")).unwrap();
    std::fs::copy(at("first").join("config.json"), at("bare").join("config.json")).unwrap();
    write(&at("bare").join("model.safetensors"), &drawn(&vit(), 7));
    pictures(&at("data"), &["x", "y", "z"]);
    let ran = eval(&at("bare"), &at("data")).0.ok();
    assert!(ran.err.contains("does not name its classes") && ran.err.contains("x, y, z"), "{}", ran.err);
    // a note cannot take the place of what the program reads back
    let refused = rowscan(&["export", "--note=classes=[]"], &[("--checkpoint", &at("first")), ("-o", &at("never"))]);
    refused.fails(2, &["classes is written by the program"]);
}

/// A pretrained model is exported with its method, and `eval` says what it is.
#[test]
fn the_method_travels_with_the_weights() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    pictures(&at("data"), &["a", "b", "c"]);
    let picture = at("data").join("a/0.png");
    let nano: Vec<&str> = crate::cli::NANO.iter().copied().filter(|option| !option.contains("classes")).collect();
    for (method, kind) in [
        ("map", "MAP's decoder"),
        ("diffusion", "a denoiser"),
        ("contrastive", "the projector of contrastive pretraining"),
        ("local-mae", "MAP's decoder"),
    ] {
        let (run_of, half, again) = (at(method), at(&format!("{method}-half")), at(&format!("{method}-again")));
        let mut args = vec!["--data=synthetic:8", "--batch-size=4", "--epochs=1", "--grid-every=0"];
        let method_arg = format!("--method={method}");
        args.push(&method_arg);
        let decodes = method != "contrastive";
        args.extend(crate::cli::NANO.iter().filter(|option| decodes || !option.contains("decoder")));
        args.extend(Some("--queue=8").filter(|_| !decodes));
        rowscan(&[&["pretrain"], &args[..]].concat(), &[("--output-dir", &run_of)]).ok();
        let last = run_of.join("checkpoint-1");
        rowscan(&["export"], &[("--checkpoint", &last), ("-o", &half)]).ok();
        let objective = checkpoint::objective(&last).unwrap();
        assert_eq!(checkpoint::objective(&half).unwrap(), objective, "{method}");
        rowscan(&[&["import"], &nano[..]].concat(), &[("", &half.join("model.safetensors")), ("-o", &again)]).ok();
        assert_eq!(checkpoint::objective(&again).unwrap(), objective, "{method}");
        assert_eq!(read(&again.join("model.safetensors")).unwrap(), read(&half.join("model.safetensors")).unwrap());
        for folder in [&last, &half, &again] {
            let drawn = rowscan(&["reconstruct"], &[("", &picture), ("--checkpoint", folder), ("-o", &at("p.png"))]);
            match method {
                "contrastive" => drop(drawn.fails(1, &["contrastive", "predicts patches"])),
                _ => drop(drawn.ok()),
            }
            let words = [kind, "scores no classes", "fine-tune", "probe"];
            eval(folder, &at("data")).0.fails(1, &words);
        }
    }
}

/// `best` of a run whose moving average won: the average is what is scored, exported and fine-tuned, and that is said.
#[test]
fn the_weights_that_won_are_taken() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    classifier(&at("won"));
    pictures(&at("data"), &["cat", "dog", "eel"]);
    let average = drawn(&vit(), 8);
    write(&at("won").join("ema.safetensors"), &average);
    let state = |average: bool, epoch: u64, batch: u64| {
        json!({ "version": 1, "step": 4, "epoch": epoch, "batch": batch, "images": 6,
            "settings": { "crop_ratio": 0.5 }, "best": { "epoch": 2, "top1": 50.0, "average": average } })
        .to_string()
    };
    let loss = |folder: &Path, args: &[&str]| {
        let json = at("scores.json");
        let paths = [("--checkpoint", folder), ("--data", &*at("data")), ("--json", &json)];
        let ran = rowscan(&[&["eval", "--split=train"], args].concat(), &paths).ok();
        let value: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
        (value["loss"].as_f64().unwrap(), value["ema"].as_bool().unwrap(), ran.err.contains("moving average"))
    };
    std::fs::write(at("won").join("state.json"), state(true, 2, 0)).unwrap();
    let (won, raw) = (loss(&at("won"), &["--ema"]), loss(&at("won"), &["--ema=false"]));
    assert!(won.0 != raw.0 && won.1 && !raw.1 && !won.2 && !raw.2);
    assert_eq!(loss(&at("won"), &[]), (won.0, true, true));
    rowscan(&["export", "--dtype=f32"], &[("--checkpoint", &at("won")), ("-o", &at("half"))]).ok();
    assert_eq!(read(&at("half").join("model.safetensors")).unwrap(), average);
    assert_eq!(loss(&at("half"), &[]).0, won.0);
    for (name, state) in [("lost", state(false, 2, 0)), ("later", state(true, 3, 0)), ("within", state(true, 2, 1))] {
        copy(&at("won"), &at(name));
        std::fs::write(at(name).join("state.json"), state).unwrap();
        assert_eq!(loss(&at(name), &[]), (raw.0, false, false), "{name}");
    }
    // fine-tuning with a rate that changes nothing shows where it begins
    let options = ["--image-size=16", "--batch-size=2", "--epochs=1", "--warmup-epochs=0", "--lr=1e-30", "--min-lr=0"];
    for (name, wins) in [("won", true), ("lost", false)] {
        let out = at(&format!("{name}-tuned"));
        let paths = [("--checkpoint", &*at(name)), ("--data", &*at("data")), ("--output-dir", &out)];
        let ran = rowscan(&[&["finetune", "--recipe=cifar"], &options[..]].concat(), &paths).ok();
        assert_eq!(ran.err.contains("the moving average of the weights, which won"), wins, "{}", ran.err);
        let (begun, raw) = (read(&out.join("checkpoint-1/model.safetensors")).unwrap(), drawn(&vit(), 7));
        let expected = if wins { &average } else { &raw };
        assert_eq!(begun["blocks.0.attn.qkv.weight"], expected["blocks.0.attn.qkv.weight"], "{name}");
    }
}
