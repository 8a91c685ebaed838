//! What cannot be fine-tuned or evaluated: the error names the option, the file or the class.

use std::path::Path;

use rowscan::run::weights_on_disk::read;
use rowscan::train::weights_file::to_bytes;

use super::{MODEL, TAUGHT, WHOLE, finetune};
use crate::cli::{copy, program, run, skip};

#[test]
fn what_cannot_be_learned_is_named() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let flat = at("flat");
    std::fs::create_dir(&flat).unwrap();
    (0..3).for_each(|i| image::RgbImage::new(9, 9).save(flat.join(format!("{i}.png"))).unwrap());
    let flat = format!("--data={}", flat.display());
    run(finetune(&at("out"), &[MODEL, &[&flat]].concat())).fails(1, &["flat", "has no labels"]);
    let more = ["--data=synthetic:40", "--batch-size=4", "--classes=12"];
    run(finetune(&at("out"), &[MODEL, &more].concat())).fails(1, &["synthetic:40", "has 10", "the model has 12"]);
    assert!(!at("out").exists());
    let eval = |data: &str, checkpoint: &Path| {
        let mut command = program();
        command.args(["eval", data, "--checkpoint"]).arg(checkpoint);
        run(command)
    };
    let taught = TAUGHT.path().join("checkpoint-6");
    eval(&flat, &taught).fails(1, &["flat"]);
    // a data set for `eval` may lack classes of the model, but must not have others
    let folders = at("folders");
    let names: Vec<String> = serde_json::from_slice(&std::fs::read(taught.join("classes.json")).unwrap()).unwrap();
    for class in ["cat", &names[3], &names[1]] {
        std::fs::create_dir_all(folders.join("test").join(class)).unwrap();
        std::fs::create_dir_all(folders.join("train").join(class)).unwrap();
        for split in ["test", "train"] {
            image::RgbImage::new(9, 9).save(folders.join(split).join(class).join("1.png")).unwrap();
        }
    }
    let data = format!("--data={}", folders.display());
    eval(&data, &taught).fails(1, &["cat", "not among the 4 expected"]);
    ["test", "train"].iter().for_each(|split| std::fs::remove_dir_all(folders.join(split).join("cat")).unwrap());
    assert!(eval(&data, &taught).ok().out.contains("2 images, 4 classes"));
    // an infinite weight makes the loss infinite
    let spoiled = at("spoiled");
    copy(&WHOLE.0.path().join("checkpoint-3"), &spoiled);
    let mut weights = read(&spoiled.join("model.safetensors")).unwrap();
    weights.get_mut("head.weight").unwrap().1[7] = f32::INFINITY;
    std::fs::write(spoiled.join("model.safetensors"), to_bytes(&weights, Default::default()).unwrap()).unwrap();
    run(finetune(&at("again"), &["--resume", spoiled.to_str().unwrap()]))
        .fails(1, &["diverged", "step 18", "the parameter `head.weight` holds inf", "diverged-step-18"]);
    assert!(at("again").join("diverged-step-18/ema.safetensors").exists());
}

#[test]
fn recipes_and_wrong_arguments() {
    let refused = |args: &[&str], words: &[&str]| {
        let dir = tempfile::tempdir().unwrap();
        let mut command = finetune(&dir.path().join("out"), &[&["--data=synthetic:8"], args].concat());
        command.env("VK_DRIVER_FILES", "/nonexistent").env("VK_ICD_FILENAMES", "/nonexistent");
        run(command).fails(2, words);
        assert!(!dir.path().join("out").exists());
    };
    refused(&[], &["--checkpoint or --model", "got nothing"]);
    refused(&["--recipe=deit"], &["deit", "mambar_stage1", "cifar"]);
    refused(&["--model=micro", "--mixup=-1"], &["--mixup"]);
    refused(&["--model=micro", "--smoothing=2"], &["--smoothing", "2"]);
    refused(&["--model=micro", "--layer-decay=0"], &["--layer-decay", "got 0"]);
    refused(&["--model=micro", "--model-ema-decay=1"], &["--model-ema-decay", "got 1"]);
    refused(&["--model=micro", "--accum-iter=0"], &["--accum-iter", "got 0"]);
    refused(&["--model=micro", "--crop-ratio=0"], &["crop ratio", "0"]);
    refused(&["--model=micro", "--repeats=0"], &["--repeats", "got 0"]);
    refused(&["--model=micro", "--recipe=cifar", "--aa=rand-m99"], &["rand-m99"]);
    // what would change nothing
    for (args, words) in [
        (&["--decoder-depth=1"][..], &["--decoder-depth", "got 1", "`rowscan pretrain`, which has a decoder"][..]),
        (&["--mask-token-std=0.1"], &["--mask-token-std", "got 0.1"]),
        (&["--mixup=0", "--cutmix=0", "--mixup-switch-prob=0.3"], &["--mixup-switch-prob", "got 0.3", "above 0"]),
        (&["--mixup=0", "--cutmix=0", "--mixup-prob=0.3"], &["--mixup-prob", "got 0.3", "--mixup or --cutmix"]),
        (&["--color-jitter=0.3"], &["--color-jitter", "got 0.3", "--aa none with it: rand-m9-n2-mstd0.5-inc1 takes"]),
        (&["--model-ema=false", "--model-ema-decay=0.9"], &["--model-ema-decay", "got 0.9", "no average"]),
        (&["--model=map3d_micro", "--crop-ratio=0.5"], &["--crop-ratio", "got 0.5", "clouds are not cropped"]),
        (&["--model=map3d_micro", "--reprob=0.5"], &["--reprob", "got 0.5", "a model on images"]),
        (&["--model=convnext_micro", "--width=64"], &["width of a ConvNeXt", "got 64", "192, that of its last stage"]),
    ] {
        refused(&[&["--model=micro", "--classes=10"], args].concat(), words);
    }
    // every recipe can be planned without an adapter, and options override the recipe
    let plan = |args: &[&str]| {
        let mut command = program();
        command.args(["finetune", "--dry-run", "--model=micro", "--batch-size=2", "--classes=7"]).args(args);
        command.env("VK_DRIVER_FILES", "/nonexistent").env("VK_ICD_FILENAMES", "/nonexistent");
        run(command).ok().out
    };
    plan(&["--recipe=cifar", "--color-jitter=0.3"]);
    plan(&["--model=map3d_micro", "--aa=none", "--hflip=0"]);
    for (recipe, _) in rowscan::train::finetune::recipes::RECIPES {
        let text = plan(&["--recipe", recipe, "--accum-iter=3"]);
        assert!(text.contains("7 classes") && text.contains("step of 3 × 2 images"), "{text}");
    }
    let bytes = |args: &[&str]| plan(args).lines().find(|l| l.trim().starts_with("parameters")).unwrap().to_owned();
    assert_ne!(bytes(&["--model-ema"]), bytes(&["--model-ema=false"]), "the EMA takes memory");
}
