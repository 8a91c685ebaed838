//! Files of timm, transformers and `torch.save`, made and read by those packages themselves
//! ([`weights.py`](../../fixtures/weights.py)). `ROWSCAN_PYTHON` names an interpreter that has them; without them the
//! tests say so and pass, or fail where `REQUIRE_PYTHON=1`.

use std::process::Command;
use std::sync::LazyLock;

use rowscan::infer::scores::scores_of;
use rowscan::run::checkpoint;
use rowscan::run::weights_on_disk::read;

use super::*;
use crate::cli::{SharedFolder, skip};
use crate::common::gpu;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/weights.py");
/// The models of the script, and the options that name them.
const MODEL: &[&str] = &["--model=deit_tiny_patch16_64", "--pattern=TT", "--width=96"];

fn python(args: &[&str]) -> Ran {
    let named = std::env::var("ROWSCAN_PYTHON").unwrap_or_else(|_| "python3".into());
    let mut command = Command::new(named);
    command.arg(SCRIPT).args(args);
    match command.output() {
        Ok(output) => Ran {
            code: output.status.code(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        },
        Err(e) => Ran { code: None, out: String::new(), err: e.to_string() },
    }
}

/// Files that the packages wrote; `None` where there are none.
static MADE: LazyLock<Option<SharedFolder>> = LazyLock::new(|| {
    let versions = python(&[]);
    if versions.code != Some(0) {
        let last = versions.err.lines().last().unwrap_or_default().to_owned();
        assert!(std::env::var("REQUIRE_PYTHON").is_err(), "REQUIRE_PYTHON, but {last}");
        let what = "imports and exports against torch, timm and transformers";
        eprintln!("SKIPPED: {what} ({last}); ROWSCAN_PYTHON names another python");
        return None;
    }
    eprintln!("torch, timm, transformers: {}", versions.out.trim());
    let seed = std::env::var("ROWSCAN_FUZZ_SEED")
        .unwrap_or_else(|_| std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()).to_string());
    eprintln!("ROWSCAN_FUZZ_SEED={seed}");
    let dir = SharedFolder::new("python");
    python(&["make", dir.path().to_str().unwrap(), &seed]).ok();
    Some(dir)
});

fn import(file: &Path, out: &Path, args: &[&str]) -> Ran {
    rowscan(&[&["import"], args].concat(), &[("", file), ("-o", out)])
}

/// Every file of one state dict gives the same weights.
#[test]
fn files_of_torch_save() {
    let Some(made) = &*MADE else { return };
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    import(&made.path().join("token.safetensors"), &at("expected"), MODEL).ok();
    let expected = read(&at("expected").join("model.safetensors")).unwrap();
    let files = super::super::names(&made.path().join("checkpoints"));
    assert!(files.len() > 40, "{files:?}");
    for name in files {
        let (file, out) = (made.path().join("checkpoints").join(&name), at(&name));
        let ran = import(&file, &out, MODEL).ok();
        let found = read(&out.join("model.safetensors")).unwrap();
        let narrow = name.starts_with("f16") || name.starts_with("bf16");
        for (tensor, (shape, values)) in &expected {
            let (got_shape, got) = &found[tensor];
            let off = values.iter().zip(got).map(|(a, b)| (a - b).abs() / a.abs().max(1.0)).fold(0.0, f32::max);
            assert!(shape == got_shape && off <= if narrow { 4e-3 } else { 0.0 }, "{name}: {tensor} is off by {off}");
        }
        assert_eq!(
            ran.err.contains("left out model_ema, optimizer"),
            name.starts_with("model_ema"),
            "{name}: {}",
            ran.err
        );
        assert_eq!(
            ran.err.contains("integers: bn.num_batches_tracked"),
            name.starts_with("counters"),
            "{name}: {}",
            ran.err
        );
    }
    let ema = made.path().join("checkpoints/model_ema.pth");
    import(&ema, &at("ema"), &[MODEL, &["--key=model_ema"]].concat()).ok();
    let found = read(&at("ema").join("model.safetensors")).unwrap();
    assert!(found.values().all(|(_, values)| values.iter().all(|v| *v == 0.0)));
    import(&ema, &at("never"), &[MODEL, &["--key=best"]].concat())
        .fails(1, &["model_ema.pth", "\"best\"", "model_ema, model, optimizer"]);
}

/// Imported, their features are those that the libraries compute; exported, the libraries compute the same.
#[test]
fn timm_and_transformers_and_back() {
    let Some(made) = MADE.as_ref().filter(|_| !skip()) else { return };
    let dir = made.path();
    let expected = read(&dir.join("expected.safetensors")).unwrap();
    for name in expected.keys().filter(|name| !name.ends_with("logits")) {
        let theirs = name.starts_with("hf_");
        let file = if theirs { dir.join(name) } else { dir.join(format!("{name}.pth")) };
        let (out, features) = (dir.join("imported").join(name), dir.join(format!("{name}-features.safetensors")));
        let ran = import(&file, &out, if theirs { &[] } else { MODEL }).ok();
        assert_eq!(ran.err.contains("left out pooler.dense.bias"), name == "hf_pooler", "{}", ran.err);
        if theirs {
            let whole = read(&out.join("model.safetensors")).unwrap();
            for (i, from) in [format!("{name}_shards"), format!("{name}/model.safetensors")].iter().enumerate() {
                let again = dir.join("imported").join(format!("{name}-{i}"));
                import(&dir.join(from), &again, MODEL).ok();
                assert_eq!(read(&again.join("model.safetensors")).unwrap(), whole, "{from}");
            }
        }
        let paths = [("--checkpoint", &*out), ("--data", &dir.join("images")), ("-o", &features)];
        rowscan(&["features"], &paths).ok();
        let tensors = crate::cli::features_of(&features, "indices").0;
        let (got, wanted) = (&tensors["features"].1, &expected[name].1);
        let off = got.iter().zip(wanted).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        eprintln!("  {name}: features off by {off:.1e}");
        assert!(got.len() == wanted.len() && off < 1e-4, "{name}: {off}");
        for library in ["timm", "transformers"] {
            let to = dir.join("exported").join(name).join(library);
            let exported = rowscan(&["export", "--format", library], &[("--checkpoint", &out), ("-o", &to)]);
            if library == "transformers" && name.starts_with("average") {
                exported.fails(2, &["export it to timm"]);
                assert!(!to.exists());
            } else {
                assert!(exported.ok().out.contains("load it: "));
            }
        }
    }
    let loaded = python(&["load", dir.to_str().unwrap(), "exported"]).ok();
    let lines: Vec<Vec<&str>> = loaded.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines.len(), 8 * 2 + 6, "{}", loaded.out);
    for line in lines {
        eprintln!("  {}", line.join(" "));
        assert!(line[2].parse::<f64>().unwrap() < 1e-4, "{line:?}");
    }
}

/// Networks on maps that timm made: imported, their scores are timm's; exported, timm builds and loads them by name, in
/// both ways that it offers, and computes the same.
#[test]
fn networks_of_timm_and_back() {
    let Some(made) = MADE.as_ref().filter(|_| !skip()) else { return };
    let Some(g) = gpu() else { return };
    let dir = made.path();
    let expected = read(&dir.join("expected.safetensors")).unwrap();
    let pictures = crops(&dir.join("images"));
    let names: Vec<&str> = expected.keys().filter_map(|name| name.strip_suffix(".map.logits")).collect();
    for &name in &names {
        let (out, model) = (dir.join("networks").join(name), format!("--model={name}_64"));
        import(&dir.join(format!("{name}.pth")), &out, &[&model]).ok();
        let config = checkpoint::config(&out).unwrap();
        let mut params = Params::new(g);
        let classifier = Classifier::new(g, &mut params, &config).unwrap();
        params.load(g, &read(&out.join("model.safetensors")).unwrap()).unwrap();
        let forward = scores_of(g, &classifier, &config, 6).unwrap();
        let got = pollster::block_on(forward.run(&pictures)).unwrap();
        let wanted = &expected[&format!("{name}.map.logits")].1;
        let largest = wanted.iter().fold(1.0, |m: f32, v| m.max(v.abs()));
        let off = got.iter().zip(wanted).map(|(a, b)| (a - b).abs() / largest).fold(0.0, f32::max);
        eprintln!("  {name}: scores off by {off:.1e} of {largest:.2}");
        // the rounding of f32 over at most 160 layers; images differ by 1e-2 and more
        assert!(got.len() == wanted.len() && off < 5e-5, "{name}: {off}");
        let to = dir.join("exported_networks").join(name).join("timm");
        let exported = ["export", "--format=timm", "--dtype=f32"];
        assert!(rowscan(&exported, &[("--checkpoint", &out), ("-o", &to)]).ok().out.contains("load it: "));
    }
    let loaded = python(&["load", dir.to_str().unwrap(), "exported_networks"]).ok();
    let lines: Vec<Vec<&str>> = loaded.out.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!((names.len(), lines.len()), (3, 2 * 3), "{}", loaded.out);
    for line in lines {
        eprintln!("  {}", line.join(" "));
        assert!(line[2].parse::<f64>().unwrap() < 1e-5, "the same weights: {line:?}");
    }
}

/// The middle 64×64 pixels of each picture, in the order of the script: (n, 64, 64, 3).
fn crops(folder: &Path) -> Vec<u8> {
    let mut files: Vec<_> = crate::cli::names(folder)
        .iter()
        .flat_map(|class| {
            let class = folder.join(class);
            crate::cli::names(&class).into_iter().map(move |name| class.join(name)).collect::<Vec<_>>()
        })
        .collect();
    files.sort();
    let crop = |file: &std::path::PathBuf| {
        let picture = image::open(file).unwrap().into_rgb8();
        image::imageops::crop_imm(&picture, 4, 4, 64, 64).to_image().into_raw()
    };
    files.iter().flat_map(crop).collect()
}
