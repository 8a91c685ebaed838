//! An arrow may only point down (design section 2), and only `gpu/` names wgpu.

use std::path::{Path, PathBuf};

/// Lower layers first. A layer may use those before it, itself, and what `allowed` adds.
const LAYERS: &[&str] =
    &["error", "gpu", "tensor", "tape", "cpu", "ops", "nn", "models", "train", "study", "check", "bench", "cli"];

fn rust_files(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(dir).expect("src is readable") {
        let path = entry.expect("entry").path();
        if path.is_dir() {
            rust_files(&path, found);
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn arrows_point_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    rust_files(&src, &mut files);
    assert!(files.len() > 10);
    for file in files {
        let relative = file.strip_prefix(&src).expect("inside src").to_string_lossy().replace('\\', "/");
        let layer = relative.split(['/', '.']).next().unwrap_or_default();
        let Some(rank) = LAYERS.iter().position(|l| *l == layer) else {
            assert!(["lib", "main"].contains(&layer), "{relative}: which layer is `{layer}`?");
            continue;
        };
        let text = std::fs::read_to_string(&file).expect("source is readable");
        assert!(layer == "gpu" || !text.contains("wgpu::"), "{relative} names wgpu");
        for (at, line) in text.lines().enumerate() {
            let Some(target) = line.split("crate::").nth(1) else { continue };
            let target = target.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or_default();
            if let Some(below) = LAYERS.iter().position(|l| *l == target) {
                let oracle = target != "cpu" || ["cpu", "bench"].contains(&layer); // who else compares with it is a test
                let fine = below <= rank && oracle && (layer != "cpu" || target == "cpu");
                assert!(fine, "{relative}:{}: {layer} may not use {target}", at + 1);
            }
        }
        assert!(
            layer != "cpu" || !text.contains("use rand") && !text.contains("use rayon"),
            "{relative}: the oracle imports std only"
        );
    }
}
