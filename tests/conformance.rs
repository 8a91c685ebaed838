//! Every fixture in `tests/fixtures`, most on every tier, with the tolerances of tests/fixtures/README.md.

use std::path::{Path, PathBuf};

use rowscan::conformance::check;
use rowscan::gpu::Gpu;

use crate::common::{as_hardware, each_tier, gpu, one_in, some};

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut found: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
    found.retain(|p| p.extension().is_some_and(|e| e == "safetensors"));
    found.sort();
    found
}

/// Models of true size take seconds each, so they run once; all others run on every tier.
fn is_large(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("full_"))
}

fn small() -> impl Iterator<Item = PathBuf> {
    fixtures().into_iter().filter(|path| !is_large(path))
}

fn pass(g: &Gpu, paths: impl Iterator<Item = PathBuf>) {
    for path in paths {
        let report = check(g, &path).unwrap_or_else(|e| panic!("{e}"));
        assert!(report.passed(), "{report}");
        eprintln!("{}", report.to_string().lines().last().unwrap_or_default());
    }
}

#[test]
fn every_fixture_passes() {
    assert!(fixtures().len() >= 20);
    each_tier(|g| match g.caps().tiers.subgroup || g.caps().tiers.coop {
        false => pass(g, one_in(3, small())),
        true => pass(g, one_in(6, small())), // the same arithmetic on other instructions
    });
}

#[test]
fn models_of_true_size_pass() {
    let Some(g) = gpu() else { return };
    let large: Vec<PathBuf> = fixtures().into_iter().filter(|path| is_large(path)).collect();
    assert!(large.len() >= 3, "{large:?}");
    pass(g, some(large));
}

#[test]
fn every_fixture_passes_with_the_variants_for_gpus() {
    let Some(g) = as_hardware() else { return };
    assert!(!g.caps().software);
    pass(&g, one_in(32, small())); // each compiles for seconds
}

/// A fixture with one changed input value has to fail.
#[test]
fn a_disturbed_fixture_fails() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disturbed.safetensors");
    let mut bytes = std::fs::read(fixtures()[0].with_file_name("scan_noz_nod.safetensors")).unwrap();
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&7.0f32.to_le_bytes()); // the last input of the file
    std::fs::write(&path, bytes).unwrap();
    each_tier(|g| {
        let report = check(g, &path).unwrap_or_else(|e| panic!("{e}"));
        assert!(!report.passed(), "{report}");
    });
}
