//! Every command once, and the files that it writes.

use std::path::Path;

use super::{HYBRID, Take, features_of, names, pretrain, program, run, skip};
use rowscan::models::{Classifier, Config};
use rowscan::run::weights_on_disk::read;
use rowscan::train::weights_file::{metadata, to_bytes};

fn command(args: &[&str], paths: &[(&str, &Path)]) -> std::process::Command {
    let mut command = program();
    command.args(args);
    paths.iter().for_each(|(flag, path)| {
        command.arg(flag).arg(path);
    });
    command
}

#[test]
fn pretrain_reconstruct_features_import() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let images = at("images");
    std::fs::create_dir(&images).unwrap();
    for i in 0..9u8 {
        let picture = image::RgbImage::from_fn(20, 24, |x, y| image::Rgb([x as u8 * 12, y as u8 * 10, i * 20]));
        picture.save(images.join(format!("{i}.png"))).unwrap();
    }
    std::fs::write(images.join("5-broken.jpg"), b"\xff\xd8\xff\xe0 torn").unwrap();
    let out = at("out");
    let data = format!("--data={}", images.display());
    let ran = run(pretrain(&out, &[HYBRID, &data, "--batch-size=5", "--epochs=2", "--log-every=1", "--keep=1"])).ok();
    assert!(ran.out.contains("done: loss"), "{}", ran.out);
    assert!(ran.err.contains("5-broken.jpg") && ran.err.contains("1 broken images were skipped"), "{}", ran.err);
    let left = names(&out);
    let events = left.iter().position(|n| n.starts_with("events.out.tfevents")).expect("events");
    assert_eq!(
        [&left[..events], &left[events + 1..]].concat(),
        ["checkpoint-2", "grid-0001.png", "grid-0002.png", "log.jsonl", "loss.svg", "pretrain.toml", "report.html"]
    );
    let line = std::fs::read_to_string(out.join("log.jsonl")).unwrap();
    for key in ["step", "epoch", "loss", "lr", "images_per_second", "data_wait"] {
        assert!(line.lines().all(|l| l.contains(&format!("\"{key}\":"))), "{line}");
    }
    // `--config` reads the resolved options
    run(command(&["pretrain", "--dry-run"], &[("--config", &out.join("pretrain.toml"))])).ok();

    let (checkpoint, grid) = (out.join("checkpoint-2"), at("grid.png"));
    let args = ["reconstruct", "--mask-ratio=0.75", "--mask=random", "--seed=3"];
    let picture = images.join("0.png");
    let mut draw = command(&args, &[("--checkpoint", &checkpoint), ("-o", &grid)]);
    draw.arg(&picture).arg(images.join("1.png"));
    assert!(run(draw).ok().out.contains("loss"));
    assert_eq!(image::open(&grid).unwrap().into_rgb8().dimensions(), (3 * 16 + 4, 2 * 16 + 2));
    let mut nothing = command(&["reconstruct", "--mask-ratio=0"], &[("--checkpoint", &checkpoint), ("-o", &grid)]);
    run(nothing.arg(&picture).take()).fails(2, &["--mask-ratio", "got 0", "enough to hide a patch"]);
    // with --crop-ratio 1 an image of the model's size is seen as it is
    let square = image::RgbImage::from_fn(16, 16, |x, y| image::Rgb([x as u8 * 15, y as u8 * 15, 90]));
    square.save(at("square.png")).unwrap();
    let mut whole = command(&["reconstruct", "--crop-ratio=1"], &[("--checkpoint", &checkpoint), ("-o", &grid)]);
    run(whole.arg("--tensors").arg(at("whole")).arg(at("square.png")).take()).ok();
    let seen = &read(&at("whole")).unwrap()["images"].1;
    assert!(seen.iter().zip(square.as_raw()).all(|(seen, pixel)| *seen == f32::from(*pixel)), "{seen:?}");
    let mut larger = command(&["reconstruct", "--crop-ratio=1.5"], &[("--checkpoint", &checkpoint), ("-o", &grid)]);
    run(larger.arg(at("square.png")).take()).fails(2, &["crop ratio", "1.5"]);
    let (nowhere, words) = (at("no/such/file"), &["no/such/file", "there is no folder", "make it first"]);
    for (args, option) in [(&["eval", "--data=x"][..], "--json"), (&["probe", "--data=x"], "--json")] {
        run(command(args, &[("--checkpoint", &checkpoint), (option, &nowhere)])).fails(1, words);
    }
    run(command(&["features", "--data=x"], &[("--checkpoint", &checkpoint), ("-o", &nowhere)])).fails(1, words);
    run(command(&["profile", "--model=micro"], &[("--trace", &nowhere)])).fails(1, words);
    run(command(&["bench"], &[("--json", &nowhere)])).fails(1, words);
    let mut below_a_file = command(&args, &[("--checkpoint", &checkpoint), ("-o", &picture.join("grid.png"))]);
    run(below_a_file.arg(&picture).take()).fails(1, &["0.png/grid.png", "cannot be written"]);

    // `--tensors` writes the predictions as tensors. `export` writes the weights as f16, with metadata.
    let (tensors, exported, rough) = (at("tensors.safetensors"), at("exported"), at("rough.safetensors"));
    let numbers = |checkpoint: &Path, file: &Path| {
        run(command(&args, &[("--checkpoint", checkpoint), ("-o", &grid), ("--tensors", file)]).arg(&picture).take())
            .ok();
        read(file).unwrap()
    };
    let exact = numbers(&checkpoint, &tensors);
    let shapes: Vec<_> = exact.iter().map(|(name, (shape, _))| (name.as_str(), shape.as_slice())).collect();
    assert_eq!(shapes, [("images", &[1, 16, 16, 3][..]), ("mask", &[1, 16]), ("predictions", &[1, 16, 48])]);
    assert_eq!(exact["mask"].1.iter().sum::<f32>(), 12.0);
    let note = ["export", "--note", "license=MIT", "--note", "command=rowscan pretrain --seed=0"];
    run(command(&note, &[("--checkpoint", &checkpoint), ("-o", &exported)])).ok();
    let size = |folder: &Path| std::fs::metadata(folder.join("model.safetensors")).unwrap().len();
    assert!(size(&exported) < size(&checkpoint) * 2 / 3);
    let about = metadata(&exported, &std::fs::read(exported.join("model.safetensors")).unwrap()).unwrap();
    for (key, value) in [("license", "MIT"), ("command", "rowscan pretrain --seed=0"), ("steps", "4"), ("images", "10")]
    {
        assert_eq!(about[key], value, "{key}");
    }
    let rounded = numbers(&exported, &rough);
    let off = rounded["predictions"].1.iter().zip(&exact["predictions"].1).map(|(a, b)| (a - b).abs());
    assert!(off.fold(0.0, f32::max) < 1e-2, "f16 has 11 bits");
    run(command(&note, &[("--checkpoint", &checkpoint), ("-o", &exported)])).fails(1, &["exported", "not empty"]);
    run(command(&["export", "--note", "license"], &[("--checkpoint", &exported), ("-o", &at("no"))]))
        .fails(2, &["KEY=VALUE"]);

    let features = at("features.safetensors");
    let args = ["features", &data, "--batch-size=4"];
    run(command(&args, &[("--checkpoint", &checkpoint), ("-o", &features)])).ok();
    let written = std::fs::read(&features).unwrap();
    run(command(&args, &[("--checkpoint", &checkpoint), ("-o", &features)])).ok();
    assert!(std::fs::read(&features).unwrap() == written, "the same bytes, metadata included");
    // image 5, which is broken, has no row
    let (found, indices) = features_of(&features, "indices");
    assert_eq!(found["features"].0, [9, 16]);
    assert!(found["features"].1.iter().all(|v| v.is_finite()));
    assert_eq!(indices, [0, 1, 2, 3, 4, 6, 7, 8, 9]);

    // `import` reads the model file back. Sizes that no option gives follow from its tensors.
    let model = checkpoint.join("model.safetensors");
    let imported = at("imported");
    let shape = super::NANO.iter().copied().filter(|option| !option.contains("classes"));
    let args: Vec<&str> = ["import"].into_iter().chain(shape).chain([HYBRID]).collect();
    run(command(&args, &[("-o", &imported)]).arg(&model).take()).ok();
    assert_eq!(read(&imported.join("model.safetensors")).unwrap(), read(&model).unwrap());
    let again = at("again.safetensors");
    run(command(&["features", &data], &[("--checkpoint", &imported), ("-o", &again)])).ok();
    assert_eq!(features_of(&again, "indices"), (found, indices));
    let refused = run(command(&args, &[("-o", &imported)]).arg(&model).take());
    refused.fails(1, &["imported", "not empty"]);

    // one tensor too many, one too few, one of another shape
    let odd = at("odd.safetensors");
    let spoil = |change: &dyn Fn(&mut rowscan::nn::Weights)| {
        let mut weights = read(&model).unwrap();
        change(&mut weights);
        std::fs::write(&odd, to_bytes(&weights, Default::default()).unwrap()).unwrap();
        run(command(&args, &[("-o", &at("never"))]).arg(&odd).take())
    };
    spoil(&|w| drop(w.insert("ema".into(), (vec![1], vec![0.0])))).fails(1, &["odd.safetensors", "1 unknown (ema)"]);
    spoil(&|w| drop(w.remove("norm_f.weight"))).fails(1, &["1 missing (norm_f.weight)"]);
    spoil(&|w| drop(w.insert("norm_f.weight".into(), (vec![8], vec![0.0; 8]))))
        .fails(1, &["norm_f.weight", "[8]", "[16]"]);
    assert!(!at("never").exists());
    for ratio in [1, 4] {
        spoil(&|w| {
            for (name, shape) in [
                ("fc1.weight", vec![16 * ratio, 16]),
                ("fc1.bias", vec![16 * ratio]),
                ("fc2.weight", vec![16, 16 * ratio]),
            ] {
                let len = shape.iter().product();
                w.insert(format!("blocks.0.mlp.{name}"), (shape, vec![0.5; len]));
            }
        })
        .ok();
        let config = std::fs::read_to_string(at("never").join("config.json")).unwrap();
        assert!(config.contains(&format!("\"mlp_ratio\": {ratio}.0")), "{config}");
        std::fs::remove_dir_all(at("never")).unwrap();
    }
}

/// A loss that is not finite: the error names the first bad tensor, and the state before the step is saved.
#[test]
fn a_loss_that_is_no_number_is_traced() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let good = super::runs::WHOLE.0.path().join("checkpoint-14");
    const ADVICE: &[&str] = &["--clip-grad", "this run has saved no checkpoint"];
    let trace = |name: &str, value: f32, words: &[&str]| {
        let (spoilt, out) = (dir.path().join(name), dir.path().join("out").join(name));
        super::copy(&good, &spoilt);
        let mut weights = read(&spoilt.join("model.safetensors")).unwrap();
        weights.get_mut(name).unwrap().1[3] = value;
        std::fs::write(spoilt.join("model.safetensors"), to_bytes(&weights, Default::default()).unwrap()).unwrap();
        let resume = command(&["pretrain", "--resume"], &[]).arg(&spoilt).arg("--output-dir").arg(&out).take();
        run(resume).fails(1, &[&["diverged: the loss of step 84 is", "diverged-step-84"], ADVICE, words].concat());
        // the bad step made no update: the saved weights are those before it
        let bits =
            |w: rowscan::nn::Weights| -> Vec<u32> { w.values().flat_map(|v| &v.1).map(|v| v.to_bits()).collect() };
        let saved = read(&out.join("diverged-step-84/model.safetensors")).unwrap();
        assert_eq!(bits(saved), bits(weights));
    };
    trace("blocks.1.mlp.fc1.bias", f32::NAN, &["first, the parameter `blocks.1.mlp.fc1.bias` holds NaN"]);
    trace("decoder_embed.weight", 3e38, &["first, `", "of decoder_embed (forward, written by", "is -inf"]);
}

#[test]
fn half_precision_is_widened() {
    let dir = tempfile::tempdir().unwrap();
    let values = [0.5f32, -2.0, 1.25];
    let f16: Vec<u8> = values.iter().flat_map(|v| half::f16::from_f32(*v).to_le_bytes()).collect();
    let bf16: Vec<u8> = values.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect();
    let path = dir.path().join("half.safetensors");
    let tensors = [r#"{"a":{"dtype":"F16","shape":[3],"data_offsets":[0,6]},"#, r#""b":{"dtype":"BF16","shape":[3],"#];
    let header = &[&tensors.concat()[..], r#""data_offsets":[6,12]}}"#].concat().into_bytes()[..];
    let bytes = [&(header.len() as u64).to_le_bytes()[..], header, &f16, &bf16].concat();
    std::fs::write(&path, &bytes).unwrap();
    let read = read(&path).unwrap();
    assert!(["a", "b"].iter().all(|name| read[*name] == (vec![3], values.to_vec())));
    let integers = String::from_utf8_lossy(header).replace("\"BF16\"", "\"I16\"");
    let bytes = [&(integers.len() as u64).to_le_bytes()[..], integers.as_bytes(), &f16, &bf16].concat();
    std::fs::write(&path, bytes).unwrap();
    let error = rowscan::run::weights_on_disk::read(&path).unwrap_err().to_string();
    assert!(error.contains("tensor `b` is I16"), "{error}");
}

#[test]
fn check_gives_a_verdict() {
    if skip() {
        return;
    }
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/scan_noz_nod.safetensors");
    let ran = run(command(&["check", "--quiet"], &[]).arg(&fixture).take()).ok();
    assert!(ran.out.contains("PASS") || ran.out.contains("pass"), "{}", ran.out);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("disturbed.safetensors");
    let mut bytes = std::fs::read(fixture).unwrap();
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&7.0f32.to_le_bytes());
    std::fs::write(&path, bytes).unwrap();
    let ran = run(command(&["check"], &[]).arg(&path).take());
    assert_eq!((ran.code, ran.out.contains("FAIL")), (Some(1), true), "{}", ran.out);
}

/// `check --report` writes what passed on each tier, and makes the table of a README.md beside the report anew.
#[test]
fn check_reports_what_an_adapter_computes_right() {
    use rowscan::bench::runner::support::SupportReport;
    if skip() {
        return;
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().unwrap();
    let (file, page) = (dir.path().join("mine.toml"), dir.path().join("README.md"));
    std::fs::copy(root.join("benches/support/README.md"), &page).unwrap();
    let scan = root.join("tests/fixtures/scan_len1.safetensors");
    let wrong = dir.path().join("disturbed.safetensors");
    let mut bytes = std::fs::read(&scan).unwrap();
    let at = bytes.len() - 4;
    bytes[at..].copy_from_slice(&7.0f32.to_le_bytes());
    std::fs::write(&wrong, bytes).unwrap();

    let report = |fixtures: &[&Path]| {
        let mut command = command(&["check", "--family=scale", "--family=concat", "--note=a test"], &[]);
        run(command.args(fixtures).arg("--report").arg(&file).take())
    };
    report(&[&scan]).ok();
    let found = SupportReport::read(&file).unwrap();
    assert_eq!(found.note, "a test");
    assert_eq!(found.tiers[0].tier, "portable");
    for tier in &found.tiers {
        assert_eq!(tier.families.keys().collect::<Vec<_>>(), ["concat", "scale"]);
        assert!(tier.families.values().chain(tier.fixtures.values()).all(|verdict| verdict == "passed"), "{tier:?}");
        assert_eq!(tier.fixtures.keys().collect::<Vec<_>>(), ["scan_len1"]);
    }
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.contains("| portable | 2 of 2 | 1 of 1 |") && text.contains("| `scale` | ✓ |"), "{text}");

    let ran = report(&[&wrong, &scan]);
    assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.err);
    let found = SupportReport::read(&file).unwrap();
    assert!(found.tiers.iter().all(|tier| tier.fixtures["disturbed"].starts_with("failed: ")), "{found:?}");
    assert!(std::fs::read_to_string(&page).unwrap().contains("- 1: `disturbed` failed: "));
    let odd = run(command(&["check", "--family=scan", "--report=x.toml"], &[]));
    odd.fails(2, &["--family", "`scan`"]);
    run(command(&["check", "--family=scale"], &[])).fails(2, &["--report"]);
}

/// `info --models` lists names and numbers of parameters. `import` takes an encoder without head, but not the weights
/// of another model.
#[test]
fn models_are_listed_and_imported() {
    let listed = run(command(&["info", "--models"], &[])).ok();
    let lines: Vec<Vec<&str>> = listed.out.lines().map(|line| line.split_whitespace().collect()).collect();
    for line in [["vit_base_patch16_224", "86567656", "12"], ["vim_tiny_patch16_224_columns", "7148008", "24"]] {
        assert!(lines.iter().any(|found| found.starts_with(&line)), "{}", listed.out);
    }
    let dry = rowscan::gpu::Gpu::dry(rowscan::gpu::Caps::portable());
    let mut params = rowscan::nn::Params::new(&dry);
    let config = Config { classes: 0, ..Config::preset("vit_micro_patch4_32").unwrap() };
    Classifier::new(&dry, &mut params, &config).unwrap();
    let each = params.entries().iter();
    let weights = each.map(|e| (e.name.clone(), (e.shape.clone(), e.init.values(&e.name, &e.shape, 1)))).collect();
    let dir = tempfile::tempdir().unwrap();
    let (file, out) = (dir.path().join("encoder.safetensors"), dir.path().join("out"));
    std::fs::write(&file, to_bytes(&weights, Default::default()).unwrap()).unwrap();
    let import = |model: &str| run(command(&["import", "--model", model], &[("-o", &out)]).arg(&file).take());
    import("mambar_micro_patch4_32")
        .fails(1, &["encoder.safetensors", "does not fit mambar_micro_patch4_32", "missing"]);
    assert!(!out.exists());
    let ran = import("vit_micro_patch4_32").ok();
    assert!(ran.out.contains("an encoder without head at 32×32, 0 classes, MLP ratio 4"), "{}", ran.out);
    assert_eq!(read(&out.join("model.safetensors")).unwrap(), weights);
}

#[test]
fn the_help_of_data_lists_the_layouts() {
    let mut command = program();
    command.args(["pretrain", "--help"]);
    let help = run(command).ok().out.split_whitespace().collect::<Vec<_>>().join(" ");
    for layout in rowscan::data::LAYOUTS {
        assert!(help.contains(layout.name), "{}: {help}", layout.name);
    }
}

/// A step at 384 pixels that no adapter takes at once: the largest batch that fits is named, and a smaller one planned.
#[test]
fn info_says_what_fits() {
    let info = |batch: &str| {
        let args = ["info", "--model=large", "--image-size=384", "--precision=mixed", "--checkpoint-blocks", batch];
        run(command(&args, &[]))
    };
    info("--batch-size=128").fails(1, &["--batch-size 128: ", "the largest --batch-size that fits is"]);
    assert!(info("--batch-size=64").ok().out.contains("step of fine-tuning at batch 64, 1000 classes"));
    // batch norms take no single image, which is no reason to say so
    let of_maps = run(command(&["info", "--model=resnet_micro", "--batch-size=4194304"], &[]));
    of_maps.fails(1, &["--batch-size 4194304: ", "the largest --batch-size that fits is"]);
}
