//! Fine-tuning learns, from random weights and from a pretrained checkpoint; `eval` and `probe` agree with it.

use serde_json::Value;

use rowscan::run::weights_on_disk::read;

use super::{TAUGHT, finetune, stripes, tests_of};
use crate::cli::runs::WHOLE;
use crate::cli::{names, pretrain, program, run, skip};

#[test]
fn a_model_learns_and_is_evaluated() {
    if skip() {
        return;
    }
    let dir = TAUGHT.path();
    let tests = tests_of(dir);
    assert_eq!(tests.iter().map(|t| t.epoch).collect::<Vec<_>>(), [4.0, 6.0]);
    // chance on 4 classes and 64 images is 25 % with a standard deviation of 5.4 %
    assert!(tests[1].top1 > 70.0 && tests[1].top5 == 100.0, "{tests:?}");
    let left = names(dir);
    for name in ["accuracy.svg", "best", "checkpoint-6", "finetune.toml", "log.jsonl", "loss.svg"] {
        assert!(left.contains(&name.to_string()), "{name} in {left:?}");
    }
    assert!(!left.contains(&"checkpoint-4".to_string()), "--keep=1: {left:?}");
    // `--config` reads the resolved options, and they describe the same model
    let options = format!("--config={}", dir.join("finetune.toml").display());
    let again = finetune(&dir.join("x"), &["--dry-run", &options]);
    assert!(run(again).ok().out.contains("4 classes"));

    let out = tempfile::tempdir().unwrap();
    let (json, png) = (out.path().join("eval.json"), out.path().join("confusion.png"));
    let mut eval = program();
    eval.args(["eval", &stripes(), "--batch-size=27", "--per-class", "--checkpoint"]);
    eval.arg(dir.join("checkpoint-6")).arg("--json").arg(&json).arg("--confusion").arg(&png);
    let ran = run(eval).ok();
    assert!(ran.out.contains("64 images, 4 classes") && ran.out.contains("precision"), "{}", ran.out);
    let value: Value = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    // the run's own test had another batch size, which must not change the scores
    assert_eq!(value["top1"], tests[1].top1);
    assert!((value["loss"].as_f64().unwrap() - tests[1].test_loss).abs() < 1e-5);
    let rows = value["confusion"].as_array().unwrap();
    let count = |row: &Value| row.as_array().unwrap().iter().map(|c| c.as_u64().unwrap()).sum::<u64>();
    assert_eq!((rows.len(), rows.iter().map(count).sum::<u64>()), (4, 64));
    let hits: u64 = (0..4).map(|i| rows[i][i].as_u64().unwrap()).sum();
    assert_eq!(value["top1"], 100.0 * hits as f64 / 64.0);
    for (i, class) in value["classes"].as_array().unwrap().iter().enumerate() {
        assert_eq!(class["images"].as_u64().unwrap(), count(&rows[i]));
        let recall = 100.0 * rows[i][i].as_u64().unwrap() as f64 / count(&rows[i]) as f64;
        assert_eq!(class["recall"], recall);
        assert!(ran.out.contains(class["name"].as_str().unwrap()), "{}", ran.out);
    }
    assert!(image::open(&png).unwrap().width() > 500);
    let mut average = program();
    average.args(["eval", &stripes(), "--ema", "--checkpoint"]).arg(dir.join("checkpoint-6"));
    run(average).fails(1, &["no moving average"]);
}

/// Probes of frozen features: of the trained model, and of the same model with random weights.
#[test]
fn probes_tell_classes_apart() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let probe = |name: &str, args: &[&str]| -> Value {
        let json = dir.path().join(name);
        let mut command = program();
        command.args(["probe", &stripes(), "--crop-ratio=1", "--steps=60", "--checkpoint"]);
        command.arg(TAUGHT.path().join("checkpoint-6")).args(args).arg("--json").arg(&json);
        let ran = run(command).ok();
        assert!(ran.out.contains("linear probe") && ran.out.contains("20 nearest neighbors"), "{}", ran.out);
        serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap()
    };
    let (taught, initial) = (probe("taught", &[]), probe("initial", &["--random-init"]));
    for what in ["linear", "knn"] {
        let top1 = |value: &Value| value[what]["top1"].as_f64().unwrap();
        eprintln!("  {what}: {} after, {} before", top1(&taught), top1(&initial));
        assert!(top1(&taught) > 70.0, "{taught}");
    }
    assert_eq!((taught["train_images"].as_u64(), taught["test_images"].as_u64()), (Some(192), Some(64)));
    assert_eq!((&taught["random_init"], &initial["random_init"]), (&Value::Bool(false), &Value::Bool(true)));
    assert_eq!(probe("again", &[]), taught, "the same numbers again");
}

/// The pretrained checkpoint has another image size, a decoder, and no `classes.json`.
#[test]
fn a_pretrained_checkpoint_is_taken_over() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pretrained = WHOLE.0.path().join("checkpoint-15");
    let small = ["--recipe=mae_base", "--data=synthetic:40", "--batch-size=10", "--accum-iter=1", "--epochs=1"];
    let from = ["--checkpoint", pretrained.to_str().unwrap(), "--image-size=24", "--blr=0", "--min-lr=0", "-v"];
    let ran = run(finetune(dir.path(), &[&small[..], &from].concat())).ok();
    for words in ["resized (pos_embed)", "head.weight", "ignored ("] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    // at a learning rate of 0 the encoder does not change
    let before = read(&pretrained.join("model.safetensors")).unwrap();
    let after = read(&dir.path().join("checkpoint-1/model.safetensors")).unwrap();
    assert!(after.keys().filter(|name| name.starts_with("blocks.")).all(|name| after[name] == before[name]));
    assert_eq!(after["head.weight"].0[0], 10);
    assert!(!after.contains_key("mask_token") && after["pos_embed"].0 == [1, 36, 16]);
    assert_eq!(
        std::fs::read_to_string(dir.path().join("checkpoint-1/classes.json")).unwrap().matches('"').count(),
        2 * 10
    );
    // a checkpoint of another model: the error names the tensors
    let other = [&small[..], &from[..2], &["--width=32"]].concat();
    run(finetune(&dir.path().join("other"), &other)).fails(1, &["model.safetensors", "blocks.0.norm1.weight"]);
    run(finetune(&dir.path().join("other"), &[&small[..], &["--checkpoint=/no/such"]].concat()))
        .fails(1, &["/no/such", "no checkpoint folder"]);
    assert!(!dir.path().join("other").exists());
    // features and probes of a pretrained checkpoint need no classes in it
    let mut probe = program();
    probe.args(["probe", "--data=synthetic:40", "--steps=5", "--checkpoint"]).arg(&pretrained);
    let mut too_many = program();
    too_many.args(["probe", "--data=synthetic:40", "-k=41", "--checkpoint"]).arg(&pretrained);
    run(too_many).fails(2, &["--k", "got 41", "images of the train half"]);
    assert!(run(probe).ok().out.contains("linear probe"));
}

/// Table 8's rows at 384 pixels, small: pretrained at 32 pixels, fine-tuned at 64, twice as many patches a side.
#[test]
fn a_checkpoint_is_fine_tuned_at_twice_its_size() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (before, after) = (dir.path().join("before"), dir.path().join("after"));
    let few = ["--data=synthetic:24", "--batch-size=8", "--epochs=1"];
    run(pretrain(&before, &[&few[..], &["--image-size=32", "--grid-every=0"]].concat())).ok();
    let from = format!("--checkpoint={}", before.join("checkpoint-1").display());
    let larger = ["--recipe=cifar", "--image-size=64", "--crop-ratio=1.0", "--lr=1e-3", "--accum-iter=2"];
    let few = ["--data=synthetic:64", "--batch-size=8", "--epochs=1", "--precision=mixed", "--checkpoint-blocks"];
    let ran = run(finetune(&after, &[&larger[..], &few, &[&from, "-v"]].concat())).ok();
    assert!(ran.err.contains("1 resized (pos_embed)"), "{}", ran.err);
    let weights = read(&after.join("checkpoint-1/model.safetensors")).unwrap();
    assert_eq!(weights["pos_embed"].0, [1, 16 * 16, 16]);
    let mut eval = program();
    eval.args(["eval", "--data=synthetic:64", "--checkpoint"]).arg(after.join("checkpoint-1"));
    assert!(run(eval).ok().out.contains("16 images, 10 classes"));
}
