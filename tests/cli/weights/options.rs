//! An option that is given has an effect, or is refused with the reason.

use super::*;

#[test]
fn no_option_is_dropped_without_a_word() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    rowscan::run::checkpoint::save_weights(&at("vit"), &vit(), &drawn(&vit(), 1)).unwrap();
    let probe = |option: &str, words: &[&str]| {
        let paths = [("--checkpoint", &*at("vit"))];
        rowscan(&["probe", "--data=synthetic:8", option], &paths).fails(2, words);
    };
    for option in [
        "classes=5",
        "pool=average",
        "drop-path=0.3",
        "decoder=mae",
        "decoder-width=8",
        "decoder-depth=1",
        "decoder-heads=2",
    ] {
        let flag = format!("--{}", option.split('=').next().unwrap());
        probe(&format!("--{option}"), &[&flag, "do not depend on it"]);
    }
    for option in ["--seed=3", "--init=map_repo"] {
        probe(option, &[&option[..6], "--random-init"]);
    }
    let average = ["probe", "--data=synthetic:8", "--random-init", "--ema"];
    rowscan(&average, &[("--checkpoint", &at("vit"))]).fails(2, &["--ema", "initial values have no average"]);
    for option in ["--mask=random", "--mask-ratio=0.5", "--mask-tokens=3", "--decoder-mask=ar", "--target=raw"] {
        let name = option.split('=').next().unwrap();
        for command in [&["pretrain", "--dry-run"][..], &["profile"], &["info"]] {
            let args = [command, &["--method=contrastive", "--model=micro", option]].concat();
            rowscan(&args, &[]).fails(2, &[name, "for the method contrastive", "patches: map, mae, ar"]);
        }
    }
    for option in ["--model=micro", "--width=3", "--mask=random", "--method=mae", "--batch-size=3", "--precision=f32"] {
        for alone in ["--models", "--adapter-only"] {
            let words = [option.split('=').next().unwrap(), alone];
            rowscan(&["info", alone, option], &[]).fails(2, &words);
        }
    }
    rowscan(&["pretrain", "--mask-ratio=0.5", "--mask-tokens=3"], &[]).fails(2, &["--mask-ratio", "--mask-tokens"]);
    for (option, owner) in [
        ("--queue=64", "contrastive"),
        ("--temperature=0.5", "contrastive"),
        ("--key-momentum=0.9", "contrastive"),
        ("--diffusion-width=64", "diffusion"),
        ("--diffusion-depth=1", "diffusion"),
        ("--diffusion-repeats=2", "diffusion"),
        ("--no-vlb", "diffusion"),
        ("--shift=3", "ar-shift"),
    ] {
        let (name, wanted) = (option.split('=').next().unwrap(), format!("expected the method {owner}"));
        for method in ["map", "mae", "ar-shift", "contrastive", "diffusion"].iter().filter(|method| **method != owner) {
            let method = format!("--method={method}");
            let pretrain = ["pretrain", "--dry-run", "--model=micro", &method, option];
            rowscan(&pretrain, &[]).fails(2, &[name, &wanted]);
            assert!(!at("out").exists());
        }
        rowscan(
            &["pretrain", "--dry-run", "--model=micro", "--batch-size=64", &format!("--method={owner}"), option],
            &[],
        )
        .ok();
    }
    let profile = ["profile", "--model=micro", "--method=contrastive", "--decoder-depth=1"];
    rowscan(&profile, &[]).fails(2, &["--decoder-depth", "1 for the method contrastive", "a method with a decoder"]);
}
