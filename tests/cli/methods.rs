//! Methods that hide nothing, as people run them: shifted AR and ARM, from pretraining to a classifier.

use std::path::Path;

use rowscan::run::weights_on_disk::read;

use super::{NANO, Take, features_of, names, program, rowscan, run, skip};

const RUN: &[&str] = &["--data=synthetic:12", "--batch-size=4", "--epochs=2", "--blr=0.02", "--seed=3"];
const TUNE: &[&str] = &["--recipe=cifar", "--data=synthetic:40", "--batch-size=10", "--epochs=1"];
/// ARM with four clusters of 4×4 patches.
const ARM: &[&str] = &["--model=arm_micro_patch2_16", "--width=16", "--pattern=MM", "--states=4"];
const DECODER: &[&str] = &["--decoder-width=16", "--decoder-depth=1", "--decoder-heads=2"];

/// Everything that is done with a pretrained model: its run goes on with the same bits, it draws pictures, gives
/// features, is exported and imported, and becomes a classifier.
fn whole_life(method: &str, model: &[&str], shown: f32) {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let option = format!("--method={method}");
    let pretrain = [&["pretrain", &option], model, RUN].concat();
    rowscan(&pretrain, &[("--output-dir", &at("out"))]).ok();
    assert!(names(&at("out")).contains(&"grid-0002.png".into()), "{:?}", names(&at("out")));
    let (half, last) = (at("out/checkpoint-1"), at("out/checkpoint-2"));
    rowscan(&["pretrain"], &[("--resume", &half), ("--output-dir", &at("again"))]).ok();
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let bytes = |folder: &Path| std::fs::read(folder.join(file)).unwrap();
        assert!(bytes(&last) == bytes(&at("again/checkpoint-2")), "{file}");
    }
    let dry = rowscan(&["pretrain", "--dry-run"], &[("--config", &at("out/pretrain.toml"))]).ok();
    assert!(dry.out.contains(&format!("method {method}")), "{}", dry.out);

    let picture = at("picture.png");
    image::RgbImage::from_fn(20, 24, |x, y| image::Rgb([x as u8 * 12, y as u8 * 10, 90])).save(&picture).unwrap();
    let draw = |args: &[&str]| {
        let mut command = program();
        command.args(["reconstruct", "--checkpoint"]).arg(&last).arg("-o").arg(at("drawn.png"));
        run(command.args(args).arg("--tensors").arg(at("tensors")).arg(&picture).take())
    };
    assert!(draw(&[]).ok().out.contains("over the predicted patches"));
    assert_eq!(image::open(at("drawn.png")).unwrap().into_rgb8().dimensions(), (3 * 16 + 4, 16));
    assert_eq!(read(&at("tensors")).unwrap()["mask"].1.iter().sum::<f32>(), shown);
    draw(&["--mask-ratio=0.5"]).fails(2, &["--mask-ratio", "0.5", "a method that hides patches"]);

    let features = |checkpoint: &Path, to: &str| {
        let paths = [("--checkpoint", checkpoint), ("-o", &*at(to))];
        rowscan(&["features", "--data=synthetic:12"], &paths).ok();
        features_of(&at(to), "indices").0
    };
    let found = features(&last, "features");
    assert_eq!(found["features"].0, [12, 16]);
    rowscan(&["export", "--dtype=f32"], &[("--checkpoint", &last), ("-o", &at("exported"))]).ok();
    let mut import = program();
    import.args(["import"]).arg(at("exported/model.safetensors")).arg("-o").arg(at("imported"));
    run(import).ok();
    assert_eq!(features(&at("imported"), "again.safetensors"), found);

    let tuned = at("tuned");
    let ran = rowscan(&[&["finetune"], TUNE].concat(), &[("--checkpoint", &last), ("--output-dir", &tuned)]).ok();
    assert!(ran.out.contains("done: "), "{}", ran.out);
    let names: Vec<String> = read(&tuned.join("checkpoint-1/model.safetensors")).unwrap().into_keys().collect();
    let before: Vec<String> = read(&last.join("model.safetensors")).unwrap().into_keys().collect();
    let both = |names: &[String]| names.iter().any(|name| name.contains("conv1d_b."));
    assert!(!both(&before) && both(&names), "{names:?}");
    rowscan(&["eval", "--data=synthetic:40"], &[("--checkpoint", &tuned.join("checkpoint-1"))]).ok();
}

#[test]
fn shifted_ar_from_pretraining_to_a_classifier() {
    if skip() {
        return;
    }
    let nano: Vec<&str> = NANO.iter().copied().filter(|option| !option.contains("pattern")).collect();
    whole_life("ar-shift", &[&nano, &["--pattern=MMT", "--shift=2"][..]].concat(), 16.0);
}

#[test]
fn arm_from_pretraining_to_a_classifier() {
    if skip() {
        return;
    }
    whole_life("arm", &[ARM, DECODER].concat(), 48.0);
}

#[test]
fn options_that_change_nothing_are_refused() {
    let plan = |method: &str, option: &str| {
        let method = format!("--method={method}");
        rowscan(&["pretrain", "--dry-run", "--data=synthetic:12", &method, option], &[])
    };
    plan("ar", "--shift=2").fails(2, &["--shift", "2 for the method ar", "the method ar-shift"]);
    for option in ["--mask-tokens=4", "--decode-order=rows", "--decoder-mask=ar"] {
        plan("ar-shift", option).fails(2, &[option.split('=').next().unwrap(), "a method that hides patches: map"]);
    }
    plan("arm", "--target=raw").fails(2, &["--target", "raw for the method arm", "ar-shift"]);
    plan("ar-shift", "--model=resnet_micro").fails(2, &["got resnet", "ar-shift: hybrid, vim, vit"]);
    plan("ar-shift", "--model=mambavision_micro").fails(2, &["got mambavision", "ar-shift: hybrid, vim, vit"]);
}
