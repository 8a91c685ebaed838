//! Fine-tuning, evaluation and probes as people run them.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::LazyLock;

use rowscan::run::record::{TestLine, read_tests};
use rowscan::run::weights_on_disk::read;
use rowscan::train::weights_file::to_bytes;
use serde_json::Value;

use crate::common::Random;

use super::resume::{goes_on_recording, wait_for};
use super::{LogBits, Take, copy, log, names, pretrain, program, run, skip};

/// A tiny model with every kind of layer.
const MODEL: &[&str] = &[
    "--model=micro",
    "--image-size=16",
    "--patch-size=4",
    "--width=16",
    "--pattern=MMT",
    "--heads=2",
    "--states=4",
    "--decoder-width=16",
    "--decoder-depth=1",
    "--decoder-heads=2",
];
/// A run in which everything is random: mixing, erasing, RandAugment, DropPath; with accumulation and a moving average.
const RANDOM: &[&str] = &[
    "--recipe=vim_small",
    "--data=synthetic:96",
    "--batch-size=8",
    "--accum-iter=2",
    "--epochs=4",
    "--warmup-epochs=1",
    "--drop-path=0.2",
    "--layer-decay=0.8",
    "--model-ema-decay=0.9",
    "--log-every=1",
    "--seed=5",
];

fn finetune(dir: &Path, args: &[&str]) -> Command {
    let mut command = program();
    command.arg("finetune").args(args).arg("--output-dir").arg(dir);
    command
}

/// A data set of four classes: noisy stripes in four colors, upright or not. 48 images of each to train on, 16 to test.
static STRIPES: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random::new(11);
    for (half, count) in [("train", 48), ("test", 16)] {
        for (class, colour) in [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]].into_iter().enumerate() {
            let folder = dir.path().join(half).join(format!("colour-{class}"));
            std::fs::create_dir_all(&folder).unwrap();
            for i in 0..count {
                let (noise, phase) = (random.below(16 * 16 * 3, 60), random.below(2, 6));
                let picture = image::RgbImage::from_fn(16, 16, |x, y| {
                    let along = if phase[0] < 3 { x } else { y } + phase[1];
                    let bright = if along / 3 % 2 == 0 { 150 } else { 40 };
                    let channel = |c: usize| (noise[((y * 16 + x) * 3) as usize + c] + colour[c] * bright) as u8;
                    image::Rgb([channel(0), channel(1), channel(2)])
                });
                picture.save(folder.join(format!("{i:02}.png"))).unwrap();
            }
        }
    }
    dir
});

fn stripes() -> String {
    format!("--data={}", STRIPES.path().display())
}

fn tests_of(dir: &Path) -> Vec<TestLine> {
    read_tests(&dir.join("log.jsonl")).unwrap()
}

/// The folder of a run in which the model has learned the stripes.
static TAUGHT: LazyLock<tempfile::TempDir> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let data = stripes();
    let options = [
        "--recipe=cifar",
        data.as_str(),
        "--batch-size=16",
        "--epochs=6",
        "--warmup-epochs=1",
        "--lr=0.01",
        "--layer-decay=1",
        "--eval-every=4",
        "--keep=1",
    ];
    let ran = run(finetune(dir.path(), &[MODEL, &options].concat())).ok();
    assert!(ran.out.contains("best: top-1 "), "{}", ran.out);
    dir
});

#[test]
fn a_model_learns_and_is_evaluated() {
    if skip() {
        return;
    }
    let dir = TAUGHT.path();
    let tests = tests_of(dir);
    assert_eq!(tests.iter().map(|t| t.epoch).collect::<Vec<_>>(), [4.0, 6.0]);
    // 4 classes and 64 images: chance is 25 % with a standard deviation of 5.4 %
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
    // another batch size gives the scores of the run's own test
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

/// Frozen features of the trained model against those of a model with initial values.
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
        assert!(ran.out.contains("linear probe") && ran.out.contains("20 nearest neighbours"), "{}", ran.out);
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

/// A run without interruption, and its log. An epoch has six steps.
static WHOLE: LazyLock<(tempfile::TempDir, Vec<LogBits>)> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    run(finetune(dir.path(), &[MODEL, RANDOM].concat())).ok();
    let log = log(dir.path());
    assert_eq!(log.iter().map(|l| l.0).collect::<Vec<_>>(), (0..24).collect::<Vec<_>>());
    (dir, log)
});

fn start(dir: &Path, args: &[&str]) -> Child {
    let mut command = finetune(dir, &[MODEL, RANDOM, args].concat());
    command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
}

/// Weights, moments and moving average, as bits.
fn bits(folder: &Path) -> Vec<u32> {
    let files = ["model.safetensors", "optimizer.safetensors", "ema.safetensors"].map(|name| folder.join(name));
    let all = files.map(|path| read(&path).unwrap());
    all.iter().flat_map(|w| w.values()).flat_map(|(_, values)| values).map(|v| v.to_bits()).collect()
}

#[test]
fn fine_tuning_goes_on_with_the_same_bits() {
    if skip() {
        return;
    }
    let (whole, expected) = &*WHOLE;
    let tests = tests_of(whole.path());
    assert!(tests.len() == 4 && tests.iter().all(|t| t.ema_top1.is_some()), "{tests:?}");
    // resumed from a named checkpoint into another folder; all options come from the checkpoint
    let dir = tempfile::tempdir().unwrap();
    let from = whole.path().join("checkpoint-2");
    run(finetune(dir.path(), &["--log-every=1", "--resume", from.to_str().unwrap()])).ok();
    assert_eq!(log(dir.path()), expected[12..]);
    assert_eq!(tests_of(dir.path()), tests[2..]);
    assert_eq!(bits(&dir.path().join("checkpoint-4")), bits(&whole.path().join("checkpoint-4")));
    // killed at any moment, then resumed from the newest checkpoint
    let dir = tempfile::tempdir().unwrap();
    let mut child = start(dir.path(), &["--save-every-steps=1"]);
    wait_for(|| log(dir.path()).len() >= 9);
    child.kill().unwrap();
    child.wait().unwrap();
    run(finetune(dir.path(), &["--log-every=1", "--resume"])).ok();
    assert_eq!((&log(dir.path()), tests_of(dir.path())), (expected, tests));
    assert_eq!(bits(&dir.path().join("best")), bits(&whole.path().join("best")));
    let again = finetune(dir.path(), &["--resume", "--layer-decay=0.7"]);
    run(again).fails(1, &["other settings", "layer_decay was 0.8, now 0.7"]);
}

#[test]
fn a_resumed_fine_tuning_records_as_it_did() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let given = [("log-every", 2), ("save-every-steps", 3), ("keep", 1), ("threads", 2), ("eval-every", 4)];
    let args: Vec<String> = given.iter().map(|(option, value)| format!("--{option}={value}")).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let random: Vec<&str> = RANDOM.iter().copied().filter(|arg| !arg.contains("-every")).collect();
    let short = ["--data=synthetic:32", "--epochs=1", "--warmup-epochs=0"];
    let random: Vec<&str> = random.into_iter().filter(|arg| !short.iter().any(|s| s[..7] == arg[..7])).collect();
    let first = finetune(dir.path(), &[MODEL, &random, &short, &args].concat());
    goes_on_recording(dir.path(), "finetune", &given, first);
}

#[test]
fn a_signal_saves_and_says_how_to_go_on() {
    if skip() || !cfg!(unix) {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let child = start(dir.path(), &[]);
    wait_for(|| log(dir.path()).len() >= 8);
    assert!(Command::new("kill").arg("-INT").arg(child.id().to_string()).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(0), "{text}");
    assert!(text.contains("stopped; saved ") && text.contains("go on with: rowscan finetune --output-dir"), "{text}");
    run(finetune(dir.path(), &["--log-every=1", "--resume"])).ok();
    assert_eq!(log(dir.path()), WHOLE.1);
}

/// Fine-tuning starts from a pretrained checkpoint of another image size, with a decoder and without classes.
#[test]
fn a_pretrained_checkpoint_is_taken_over() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let pretrained = super::resume::WHOLE.0.path().join("checkpoint-15");
    let small = ["--recipe=mae_base", "--data=synthetic:40", "--batch-size=10", "--accum-iter=1", "--epochs=1"];
    let from = ["--checkpoint", pretrained.to_str().unwrap(), "--image-size=24", "--blr=0", "--min-lr=0", "-v"];
    let ran = run(finetune(dir.path(), &[&small[..], &from].concat())).ok();
    for words in ["resized (pos_embed)", "head.weight", "ignored ("] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }
    // at a learning rate of 0 the encoder does not change
    let before = read(&pretrained.join("model.safetensors")).unwrap();
    let after = read(&dir.path().join("checkpoint-1/model.safetensors")).unwrap();
    assert!(after.keys().filter(|name| name.starts_with("layers.")).all(|name| after[name] == before[name]));
    assert_eq!(after["head.weight"].0[0], 10);
    assert!(!after.contains_key("mask_token") && after["pos_embed"].0 == [1, 36, 16]);
    assert_eq!(
        std::fs::read_to_string(dir.path().join("checkpoint-1/classes.json")).unwrap().matches('"').count(),
        2 * 10
    );
    // a checkpoint of another model: the error names the tensors
    let other = [&small[..], &from[..2], &["--states=8"]].concat();
    run(finetune(&dir.path().join("other"), &other)).fails(1, &["model.safetensors", "layers.0.mixer.A_log"]);
    run(finetune(&dir.path().join("other"), &[&small[..], &["--checkpoint=/no/such"]].concat()))
        .fails(1, &["/no/such", "no checkpoint folder"]);
    assert!(!dir.path().join("other").exists());
    // features and probes of a pretrained checkpoint need no classes in it
    let mut probe = program();
    probe.args(["probe", "--data=synthetic:40", "--steps=5", "--checkpoint"]).arg(&pretrained);
    assert!(run(probe).ok().out.contains("linear probe"));
}

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
    // a data set may lack classes of the model, but must not have others
    let folders = at("folders");
    let names: Vec<String> = serde_json::from_slice(&std::fs::read(taught.join("classes.json")).unwrap()).unwrap();
    for class in ["cat", &names[3], &names[1]] {
        std::fs::create_dir_all(folders.join("test").join(class)).unwrap();
        std::fs::create_dir_all(folders.join("train").join(class)).unwrap();
        for half in ["test", "train"] {
            image::RgbImage::new(9, 9).save(folders.join(half).join(class).join("1.png")).unwrap();
        }
    }
    let data = format!("--data={}", folders.display());
    eval(&data, &taught).fails(1, &["cat", "not among the 4 expected"]);
    ["test", "train"].iter().for_each(|half| std::fs::remove_dir_all(folders.join(half).join("cat")).unwrap());
    assert!(eval(&data, &taught).ok().out.contains("2 images, 4 classes"));
    // a loss that is not finite
    let spoilt = at("spoilt");
    copy(&WHOLE.0.path().join("checkpoint-3"), &spoilt);
    let mut weights = read(&spoilt.join("model.safetensors")).unwrap();
    weights.get_mut("head.weight").unwrap().1[7] = f32::INFINITY;
    std::fs::write(spoilt.join("model.safetensors"), to_bytes(&weights, Default::default()).unwrap()).unwrap();
    run(finetune(&at("again"), &["--resume", spoilt.to_str().unwrap()]))
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
    // every recipe makes a plan without an adapter, and options override it
    let plan = |args: &[&str]| {
        let mut command = program();
        command.args(["finetune", "--dry-run", "--model=micro", "--batch-size=2", "--classes=7"]).args(args);
        command.env("VK_DRIVER_FILES", "/nonexistent").env("VK_ICD_FILENAMES", "/nonexistent");
        run(command).ok().out
    };
    for (recipe, _) in rowscan::train::finetune::recipes::RECIPES {
        let text = plan(&["--recipe", recipe, "--accum-iter=3"]);
        assert!(text.contains("7 classes") && text.contains("step of 3 × 2 images"), "{text}");
    }
    let bytes = |args: &[&str]| plan(args).lines().find(|l| l.trim().starts_with("parameters")).unwrap().to_owned();
    assert_ne!(bytes(&["--model-ema"]), bytes(&["--model-ema=false"]), "the average takes memory");
}

/// An imported official checkpoint has a thousand classes and no names: ImageNet's are used.
#[test]
fn a_thousand_classes_have_the_names_of_imagenet() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (model, data) = (dir.path().join("model"), dir.path().join("data"));
    copy(&TAUGHT.path().join("checkpoint-6"), &model);
    std::fs::remove_file(model.join("classes.json")).unwrap();
    let config = std::fs::read_to_string(model.join("config.json")).unwrap();
    std::fs::write(model.join("config.json"), config.replace("\"classes\": 4", "\"classes\": 1000")).unwrap();
    let mut weights = read(&model.join("model.safetensors")).unwrap();
    let (shape, values) = weights["head.weight"].clone();
    // the head repeats four rows; its biases let the goldfish (class 1) win always
    weights.insert("head.weight".into(), (vec![1000, shape[1]], values.repeat(250)));
    weights.insert("head.bias".into(), (vec![1000], (0..1000).map(|i| if i == 1 { 1e4 } else { 0.0 }).collect()));
    std::fs::write(model.join("model.safetensors"), to_bytes(&weights, Default::default()).unwrap()).unwrap();
    for (wnid, count) in [("n01440764", 1), ("n01443537", 3)] {
        let folder = data.join("test").join(wnid);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::create_dir_all(data.join("train").join(wnid)).unwrap();
        (0..count).for_each(|i| image::RgbImage::new(9, 9).save(folder.join(format!("{i}.png"))).unwrap());
    }
    let mut eval = program();
    eval.args(["eval", "--per-class", "--checkpoint"]).arg(&model).arg("--data").arg(&data);
    let ran = run(eval).ok();
    for words in ["4 images, 1000 classes", "top-1 75.00%", "tench", "goldfish"] {
        assert!(ran.out.contains(words), "{words}: {}", ran.out);
    }
}

/// An archive of two classes with a train and a test split, compressed.
fn archive(path: &Path) {
    let file = std::fs::File::create(path).unwrap();
    let mut archive = tar::Builder::new(flate2::write::GzEncoder::new(file, flate2::Compression::fast()));
    for name in ["train/a", "train/b", "val/a", "val/b"] {
        for i in 0..4 {
            let mut png = std::io::Cursor::new(Vec::new());
            image::RgbImage::from_pixel(16, 16, image::Rgb([i * 60; 3]))
                .write_to(&mut png, image::ImageFormat::Png)
                .unwrap();
            let mut header = tar::Header::new_gnu();
            header.set_size(png.get_ref().len() as u64);
            archive.append_data(&mut header, format!("{name}/{i}.png"), &png.get_ref()[..]).unwrap();
        }
    }
    archive.into_inner().unwrap().finish().unwrap();
}

#[test]
fn a_data_set_is_opened_once_and_unpacked_once() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("set.tar.gz");
    archive(&path);
    let data = format!("--data={}", path.display());
    let shared = [&data, "--batch-size=4", "--accum-iter=1", "--epochs=1"];
    let count = |mut command: Command| {
        let log = run(command.env("ROWSCAN_LOG", "rowscan=debug").take()).ok().err;
        let times = |what: &str| log.lines().filter(|line| line.contains(what)).count();
        (times("unpacking "), times("train split: 8 samples"))
    };
    let tested = |dir: &Path| read_tests(&dir.join("log.jsonl")).unwrap().len();
    let out = |name: &str| dir.path().join(name);
    assert_eq!(count(pretrain(&out("pretrain"), &[&shared[..], &["--grid-every=1"]].concat())), (1, 1));
    assert!(out("pretrain/grid-0001.png").exists(), "pictures are of the test split");
    assert_eq!(count(finetune(&out("finetune"), &[MODEL, &shared].concat())), (1, 1));
    assert_eq!(tested(&out("finetune")), 1);
}
