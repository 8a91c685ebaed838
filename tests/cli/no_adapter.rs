//! A machine without a GPU: plans work, and whatever computes says which driver to install.

use super::{Ran, pretrain, program, run};

fn without(args: &[&str]) -> Ran {
    let mut command = program();
    command.args(args).env("VK_DRIVER_FILES", "/nonexistent").env("VK_ICD_FILENAMES", "/nonexistent");
    run(command)
}

#[cfg(target_os = "linux")]
#[test]
fn plans_without_an_adapter_and_says_what_is_missing() {
    let info = without(&["info", "--model=tiny", "--batch-size=8"]).ok().out;
    for words in ["none in use", "tiny 224×224, 13644904 parameters", "total", "launches"] {
        assert!(info.contains(words), "{info}");
    }
    let plan = without(&["pretrain", "--dry-run", "--model=tiny"]).ok().out;
    assert!(plan.contains("13644904 parameters") && plan.contains("activations"), "{plan}");
    without(&["info", "--adapter-only"]).fails(1, &["no GPU adapter", "mesa-vulkan-drivers"]);
    without(&["pretrain", "--dry-run", "--adapter=cpu"]).fails(1, &["no GPU adapter"]);
    let dir = tempfile::tempdir().unwrap();
    let mut command = pretrain(&dir.path().join("out"), &["--data=synthetic:8", "--batch-size=4"]);
    command.env("VK_DRIVER_FILES", "/nonexistent").env("VK_ICD_FILENAMES", "/nonexistent");
    run(command).fails(1, &["no GPU adapter", "install a Vulkan"]);
    assert!(!dir.path().join("out").exists());
}

#[test]
fn an_adapter_that_is_not_there_is_named() {
    if super::skip() {
        return;
    }
    let mut command = program();
    command.args(["info", "--adapter-only", "--adapter=voodoo2"]);
    run(command).fails(1, &["`voodoo2` is none of [0: "]);
}
