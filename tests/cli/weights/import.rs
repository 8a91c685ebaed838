//! `import`: options stand or are refused, nothing is left out without a word, and what a file is instead is said.

use rowscan::models::{Decoder, Mae, Pool, Positions};
use rowscan::run::weights_on_disk::read;

use super::*;

fn mae_file(path: &Path) {
    let decoder = Decoder { width: 48, depth: 1, heads: 16, ..Decoder::mae() };
    let config = Config { classes: 0, positions: Positions::SinCos, decoder, ..vit() };
    let dry = Gpu::dry(Caps::portable());
    let mut params = Params::new(&dry);
    Mae::new(&dry, &mut params, &config).unwrap();
    let each = params.entries().iter();
    write(path, &each.map(|e| (e.name.clone(), (e.shape.clone(), e.init.values(&e.name, &e.shape, 1)))).collect());
}

#[test]
fn options_stand_or_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let (file, mae) = (dir.path().join("vit.safetensors"), dir.path().join("mae.safetensors"));
    write(&file, &drawn(&vit(), 1));
    mae_file(&mae);
    let import = |file: &Path, options: &[&str]| {
        let out = dir.path().join("out");
        let ran = rowscan(&[&["import"], VIT, options].concat(), &[("", file), ("-o", &out)]);
        let config = std::fs::read_to_string(out.join("config.json")).unwrap_or_default();
        assert_eq!(ran.code == Some(0), !config.is_empty(), "{}", ran.err);
        let _ = std::fs::remove_dir_all(&out);
        (ran, config.split_whitespace().collect::<String>())
    };
    for (file, options, words) in [
        (&mae, &["--decoder-heads=4"][..], &["\"kind\":\"mae\"", "\"heads\":4"][..]),
        (&mae, &["--decoder=mae", "--decoder-heads=8"], &["\"heads\":8"]),
        (&mae, &["--decoder-width=48", "--decoder-depth=1"], &["\"heads\":16"]),
        (&mae, &["--positions=learned"], &["\"positions\":\"learned\""]),
        (&file, &["--decoder-heads=8", "--drop-path=0.25"], &["\"heads\":8", "\"drop_path\":0.25"]),
        (&file, &["--decoder=mae", "--decoder-depth=3"], &["\"kind\":\"mae\"", "\"depth\":3"]),
        (&file, &["--heads=4"], &["\"heads\":4"]),
        (&file, &["--classes=3", "--image-size=16", "--mlp-ratio=4", "--pool=token"], &["\"classes\":3"]),
        (&file, &["--init=map_repo", "--order=columns"], &["map_repo", "\"order\":\"columns\""]),
    ] {
        let (ran, config) = import(file, options);
        ran.ok();
        words.iter().for_each(|word| assert!(config.contains(word), "{options:?}: {word} is not in {config}"));
    }
    for (file, option, words) in [
        (&file, "--classes=4", &["classes: got 4, expected 3"][..]),
        (&file, "--image-size=32", &["image_size: got 32, expected 16", "fine-tuning"]),
        (&file, "--mlp-ratio=2", &["mlp_ratio: got 2, expected 4"]),
        (&file, "--pool=average", &["pool: got Average, expected Token", "fc_norm"]),
        (&mae, "--classes=4", &["classes: got 4, expected 0", "no head"]),
        (&mae, "--decoder=map", &["decoder: got Map, expected Mae"]),
        (&mae, "--decoder-width=64", &["decoder.width: got 64, expected 48"]),
        (&mae, "--decoder-depth=2", &["decoder.depth: got 2, expected 1"]),
        (&file, "--key=model", &["--key: got", "a safetensors file has no dictionaries"]),
    ] {
        import(file, &[option]).0.fails(2, &[words, &["expected"]].concat());
    }
    import(&file, &["--heads=5"]).0.fails(1, &["heads: got 5", "divisor of the width"]);
}

/// Without `--model` and without a `config.json` beside it, a ViT's sizes are those of its tensors.
#[test]
fn a_vit_that_nobody_names_is_known_by_its_tensors() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (dir.path().join("vit.safetensors"), dir.path().join("out"));
    write(&file, &drawn(&Config { width: 128, pattern: "TTT".into(), patch_size: 8, ..vit() }, 1));
    let ran = rowscan(&["import"], &[("", &file), ("-o", &out)]).ok();
    assert!(ran.err.contains("3 layers of width 128") && ran.err.contains("2 heads"), "{}", ran.err);
    let config: String = std::fs::read_to_string(out.join("config.json")).unwrap().split_whitespace().collect();
    for shown in ["\"width\":128", "\"pattern\":\"TTT\"", "\"patch_size\":8", "\"image_size\":16", "\"heads\":2"] {
        assert!(config.contains(shown), "{shown} is not in {config}");
    }
}

#[test]
fn what_a_file_is_instead_is_said() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 22883872\n";
    let index = r#"{"weight_map":{"a":"model-00001-of-00002.safetensors"}}"#;
    let tar = [&[b'x'; 257][..], b"ustar", &[0; 300]].concat();
    let cases: &[(&str, &[u8], &[&str])] = &[
        ("lfs.safetensors", pointer.as_bytes(), &["Git LFS", "22883872 bytes", "git lfs pull"]),
        ("lfs.pth", pointer.as_bytes(), &["Git LFS", "git lfs pull"]),
        ("index.json", index.as_bytes(), &["model-00001-of-00002.safetensors", "not in its folder"]),
        (
            "up.json",
            br#"{"weight_map":{"a":"../a.safetensors"}}"#,
            &["`../a.safetensors`", "file in the index's folder"],
        ),
        ("none.json", br#"{"weight_map":{}}"#, &["names no file"]),
        ("config.json", br#"{"model_type":"vit"}"#, &["JSON", "give the file of the weights"]),
        ("page.safetensors", b"<!DOCTYPE html><html>404</html>", &["web page", "download the file itself"]),
        ("empty.pth", b"", &["is empty"]),
        ("old.pth", &tar, &["tar archive", "PyTorch before 0.2"]),
        ("packed.pth", b"\x1f\x8b\x08\0\0\0\0\0\0\0", &["gzip", "gunzip"]),
        ("keras.bin", b"\x89HDF\r\n\x1a\n\0\0\0\0", &["HDF5"]),
        ("llama.bin", b"GGUF\x03\0\0\0\0\0\0\0\0", &["GGUF"]),
        ("cut.pth", b"PK\x03\x04\0\0\0\0\0\0\0", &["zip archive", "cut off"]),
        ("numpy.pth", b"\x80\x04N.", &["not of torch.save"]),
        ("long.safetensors", b"\0\xc2\xeb\x0b\0\0\0\0{       ", &["not a whole safetensors file", "header too large"]),
        ("noise.bin", b"\x13\x37 what is this", &["no PyTorch file, and no whole safetensors file"]),
    ];
    for (name, bytes, words) in cases {
        std::fs::write(at(name), bytes).unwrap();
        rowscan(&[&["import"], VIT].concat(), &[("", &at(name)), ("-o", &at("out"))])
            .fails(1, &[&[*name], *words].concat());
        assert!(!at("out").exists(), "{name}");
    }
    std::fs::create_dir(at("folder")).unwrap();
    rowscan(&[&["import"], VIT].concat(), &[("", &at("folder")), ("-o", &at("out"))])
        .fails(1, &["folder without weights", "model.safetensors", "pytorch_model.bin"]);
    // the same in a checkpoint folder: a pointer in place of the weights
    let checkpoint = at("checkpoint");
    std::fs::create_dir(&checkpoint).unwrap();
    let config = rowscan::train::checkpoint::config_to_bytes(&vit()).unwrap();
    std::fs::write(checkpoint.join("config.json"), config).unwrap();
    std::fs::write(checkpoint.join("model.safetensors"), pointer).unwrap();
    pictures(&at("data"), &["a", "b", "c"]);
    rowscan(&["eval", "--split=train"], &[("--checkpoint", &checkpoint), ("--data", &at("data"))])
        .fails(1, &["Git LFS", "git lfs pull"]);
}

#[test]
fn values_that_are_not_finite_are_refused_and_named() {
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (dir.path().join("w.safetensors"), dir.path().join("out"));
    for (name, at, value, shown) in [
        ("norm.bias", 0, f32::NAN, "NaN"),
        ("head.weight", 7, f32::INFINITY, "inf"),
        ("blocks.1.attn.qkv.weight", 100, f32::NEG_INFINITY, "-inf"),
        ("pos_embed", 3, f32::NAN, "NaN"),
    ] {
        let mut weights = drawn(&vit(), 2);
        weights.get_mut(name).unwrap().1[at] = value;
        write(&file, &weights);
        rowscan(&[&["import"], VIT].concat(), &[("", &file), ("-o", &out)])
            .fails(1, &[name, "1 values that are not finite", &format!("value {at} is {shown}"), "expected finite"]);
        assert!(!out.exists());
    }
}

/// One tensor for each file, several, or all: the index and the folder give the whole.
#[test]
fn shards_give_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let weights = drawn(&vit(), 4);
    for (case, count) in [1, 2, 5, weights.len()].into_iter().enumerate() {
        let folder = dir.path().join(format!("{case}"));
        std::fs::create_dir(&folder).unwrap();
        let mut shards = vec![Weights::new(); count];
        let mut map = serde_json::Map::new();
        for (i, (name, tensor)) in weights.iter().enumerate() {
            let file = format!("model-{:05}-of-{count:05}.safetensors", i % count + 1);
            map.insert(name.clone(), file.into());
            shards[i % count].insert(name.clone(), tensor.clone());
        }
        for (i, shard) in shards.iter().enumerate() {
            write(&folder.join(format!("model-{:05}-of-{count:05}.safetensors", i + 1)), shard);
        }
        let index = folder.join("model.safetensors.index.json");
        let text = serde_json::json!({ "metadata": { "total_size": 1 }, "weight_map": map });
        std::fs::write(&index, text.to_string()).unwrap();
        for (k, from) in [&index, &folder].into_iter().enumerate() {
            let out = dir.path().join(format!("out-{case}-{k}"));
            rowscan(&[&["import"], VIT].concat(), &[("", from), ("-o", &out)]).ok();
            assert_eq!(read(&out.join("model.safetensors")).unwrap(), weights);
        }
        let out = dir.path().join("never");
        let import = || rowscan(&[&["import"], VIT].concat(), &[("", &folder), ("-o", &out)]);
        let first = folder.join(format!("model-00001-of-{count:05}.safetensors"));
        if count > 1 {
            let alone = rowscan(&[&["import"], VIT].concat(), &[("", &first), ("-o", &out)]);
            alone.fails(1, &["missing", "one of several shards"]);
        }
        let mut shard = read(&first).unwrap();
        shard.insert("more".into(), (vec![1], vec![0.0]));
        write(&first, &shard);
        import().fails(1, &["model-00001", "does not name", "`more`"]);
        let gone = shard.keys().find(|name| *name != "more").unwrap().clone();
        shard.remove("more");
        if shard.len() > 1 {
            shard.remove(&gone);
            write(&first, &shard);
            import().fails(1, &["model-00001", "lacks 1 tensors", &gone]);
        }
        std::fs::remove_file(&first).unwrap();
        import().fails(1, &["model-00001", "not in its folder: download it too"]);
        assert!(!out.exists());
    }
}

/// A pooled classifier of any family: features are what its head reads.
#[test]
fn features_of_an_average_are_what_the_head_reads() {
    let Some(g) = crate::common::gpu() else { return };
    let dir = tempfile::tempdir().unwrap();
    pictures(&dir.path().join("data"), &["a", "b", "c"]);
    let micro = |name: &str| Config { image_size: 16, ..Config::preset(&format!("{name}_micro_patch4_32")).unwrap() };
    let small = |config: Config| Config { pool: Pool::Average, classes: 3, ..config };
    let cases = [
        ("vit", small(vit())),
        ("no_class", small(Config { registers: 0, ..vit() })),
        ("no_head", Config { classes: 0, ..small(vit()) }),
        ("hybrid", small(micro("map"))),
        ("vim", small(micro("vim"))),
    ];
    for (i, (name, config)) in cases.iter().enumerate() {
        let folder = dir.path().join(name);
        let weights = drawn(config, 5 + i as u64);
        rowscan::run::checkpoint::save_weights(&folder, config, &weights).unwrap();
        let out = dir.path().join(format!("{name}.safetensors"));
        let paths = [("--checkpoint", &*folder), ("--data", &dir.path().join("data")), ("-o", &out)];
        let ran = rowscan(&["features"], &paths).ok();
        assert!(ran.err.contains("as the head reads it"), "{name}: {}", ran.err);
        assert_eq!(ran.err.contains("not used: head (2)"), config.classes > 0, "{name}: {}", ran.err);
        let got = crate::cli::features_of(&out, "labels").0["features"].1.clone();
        let mut params = Params::new(g);
        let model = Classifier::new(g, &mut params, config).unwrap();
        params.load(g, &weights).unwrap();
        let forward = rowscan::infer::program::InferenceProgram::new(g, config, 6, move |r, patches| {
            Ok(model.forward(r, patches, None)?.features)
        });
        let data = rowscan::data::Dataset::open(dir.path().join("data").to_str().unwrap(), rowscan::data::Split::Train);
        let mut expected = Vec::new();
        let transform = rowscan::data::Transform::eval(config.image_size as u32);
        forward
            .unwrap()
            .over(&std::sync::Arc::new(data.unwrap()), transform, 1, |rows, _| {
                expected.extend_from_slice(rows);
                Ok(())
            })
            .unwrap();
        let off = got.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(got.len() == expected.len() && off < 1e-4, "{name}: off by {off}");
        // a weight that the features depend on is not invented
        let mut fewer = weights.clone();
        let norm = if config.family == rowscan::models::Family::VIT { "fc_norm.weight" } else { "norm_f.weight" };
        fewer.remove(norm);
        write(&folder.join("model.safetensors"), &fewer);
        rowscan(&["features"], &paths).fails(1, &["missing"]);
    }
}
