//! `bench` and `profile`: they run, compare with the oracle, and write files for scripts. Times are not checked.

use std::path::Path;

use serde_json::Value;

use super::{HYBRID, NANO, Take, names, program, run, skip};

fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

#[test]
fn bench_compares_times_and_writes() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (file, dump) = (dir.path().join("bench.json"), dir.path().join("dump"));
    let mut command = program();
    command.args(["bench", "--quick", "--family=scale", "--family=conv1d", "--size=tiny"]);
    let ran = run(command.arg("--json").arg(&file).arg("--dump").arg(&dump).take()).ok();
    assert!(ran.out.contains("x floor") && ran.out.contains("conv1d"), "{}", ran.out);
    let report = json(&file);
    assert_eq!(report["format"], "rowscan-bench/1");
    for key in ["adapter", "driver", "commit", "command", "timer", "tiers"] {
        assert!(report[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {report}");
    }
    let rows = report["rows"].as_array().unwrap();
    let of = |family: &str, direction: &str| {
        rows.iter().find(|r| r["family"] == family && r["direction"] == direction).unwrap()
    };
    assert_eq!(rows.len(), 6, "scale, and conv1d of two kinds, in two directions at one shape: {report}");
    let conv = of("conv1d", "forward");
    assert_eq!((&conv["case"], &conv["compared"]), (&"tiny 98x2".into(), &"all".into()));
    // the two scan directions read x once and write u each: 4·3·B·L·E bytes
    assert_eq!(conv["bytes"], 12 * 2 * 98 * 384);
    for row in rows {
        assert!(["ms", "ms_min", "floor_ms", "floor_ratio"].iter().all(|key| row[key].as_f64().unwrap() > 0.0));
    }
    // dumps for other implementations: inputs, results, and gradients of both
    let files = ["conv1d-tiny_98x2.safetensors", "conv1d-tiny_98x2__same.safetensors", "scale-tiny_98x2.safetensors"];
    assert_eq!(names(&dump), files);
    let dumped = rowscan::run::weights_on_disk::read(&dump.join("conv1d-tiny_98x2.safetensors")).unwrap();
    let found: Vec<&str> = dumped.keys().map(String::as_str).collect();
    let wanted = ["dout.u", "grad.bias", "grad.w", "grad.xz", "input.bias", "input.w", "input.xz", "output.u"];
    assert_eq!(found, wanted);
    assert_eq!(dumped["output.u"].0, [2, 2, 98, 384]);
}

#[test]
fn bench_says_what_there_is() {
    if skip() {
        return;
    }
    run(program().args(["bench", "--family=scan"]).take()).fails(2, &["--family", "`scan`", "selective_scan"]);
    run(program().args(["bench", "--size=giant"]).take()).fails(2, &["--size", "`giant`", "tiny"]);
    run(program().args(["bench", "--batch=0"]).take()).fails(2, &["--batch", "0"]);
}

/// Two models that train in milliseconds, and between them one that does not fit: the positions of four million patches
/// are 12.9 GB, more than an adapter binds at once.
#[test]
fn throughput_of_models_and_a_line_for_one_that_does_not_fit() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("throughput.json");
    let large = "map_base_patch2_4096";
    let models = format!("map_micro_patch4_16,{large},vit_micro_patch8_16");
    let mut command = program();
    command.args(["bench", "--throughput", "--train", "--batch-size=2", "--warm-up=1", "--steps=3", "--model"]);
    let ran = run(command.arg(&models).arg("--json").arg(&file).take());
    assert_eq!(ran.code, Some(1), "{}{}", ran.out, ran.err);
    assert!(ran.out.contains("images/s") && ran.out.contains("peak memory"), "{}", ran.out);
    let refused: Vec<_> = ran.out.lines().filter(|line| line.contains("SKIPPED: ")).collect();
    assert!(refused.len() == 2 && refused.iter().all(|line| line.starts_with(large)), "{}", ran.out);

    let report = json(&file);
    assert_eq!(report["format"], "rowscan-throughput/1");
    assert_eq!((&report["warm_up"], &report["steps"]), (&1.into(), &3.into()));
    let rows = report["rows"].as_array().unwrap();
    let of = |model: &str, direction: &str| {
        rows.iter().find(|row| row["model"] == model && row["direction"] == direction).unwrap()
    };
    assert_eq!(rows.len(), 6);
    for model in ["map_micro_patch4_16", "vit_micro_patch8_16"] {
        let [forward, training] = ["forward", "training"].map(|direction| of(model, direction));
        for row in [forward, training] {
            assert_eq!((&row["image_size"], &row["batch_size"], &row["samples"]), (&16.into(), &2.into(), &3.into()));
            let number = |key: &str| row[key].as_f64().unwrap();
            assert!((number("images/s") * number("ms") - 2000.0).abs() < 1e-6, "two images in a step: {row}");
            assert!(number("ms_min") > 0.0 && number("ms_min") <= number("ms"));
            assert!(number("flops_per_image") > 2.0 * number("parameters"), "{row}");
        }
        // training keeps weights, gradients and two moments; classifying only weights
        let [forward, training] = [forward, training].map(|row| row["peak_bytes"].as_u64().unwrap());
        let weights = 4 * of(model, "forward")["parameters"].as_u64().unwrap();
        assert!(forward > weights && training > forward + 3 * weights, "{forward}, {training}, {weights}");
    }
    let why = of(large, "training")["skipped"].as_str().unwrap();
    assert!(why.contains("needs 12884901888"), "{why}");
}

#[test]
fn throughput_refuses_before_a_device_is_opened() {
    let throughput = |args: &[&str]| {
        let mut command = program();
        command.env("VK_DRIVER_FILES", "/nonexistent").env("VK_ICD_FILENAMES", "/nonexistent");
        run(command.args(["bench", "--throughput"]).args(args).take())
    };
    throughput(&["--model=micro,map_tny_patch16_224"]).fails(2, &["`map_tny_patch16_224`", "map_tiny_patch16_224"]);
    throughput(&["--model=map_tiny_patch16_225"]).fails(2, &["image_size", "225"]);
    throughput(&["--model=micro", "--batch-size=0"]).fails(2, &["--batch-size", "0"]);
    throughput(&["--model=micro", "--steps=0"]).fails(2, &["--steps", "0"]);
    throughput(&[]).fails(2, &["--model"]);
    throughput(&["--model=micro", "--family=scale"]).fails(2, &["--throughput", "--family"]);
}

#[test]
fn profile_writes_a_trace_of_every_launch() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trace.json");
    let mut command = program();
    command.arg("profile").args(NANO).args([HYBRID, "--batch-size=2", "--launches", "--trace"]);
    let ran = run(command.arg(&file).take()).ok();
    assert!(ran.out.contains("Forward: layers.0") && ran.out.contains("Backward: layers.0"), "{}", ran.out);
    let trace = json(&file);
    let events = trace["traceEvents"].as_array().unwrap();
    let slices: Vec<&Value> = events.iter().filter(|e| e["cat"] == "launch").collect();
    let all = ran.out.lines().find(|line| line.starts_with("all")).unwrap();
    assert_eq!(all.split_whitespace().nth(1).unwrap(), slices.len().to_string(), "{all}");
    let tracks: Vec<&Value> =
        events.iter().filter(|e| e["name"] == "thread_name").map(|e| &e["args"]["name"]).collect();
    assert_eq!(tracks, ["forward", "backward", "update"]);
    for track in 1..=3 {
        assert!(slices.iter().any(|e| e["tid"] == track), "nothing on track {track}");
    }
    assert!(slices.iter().any(|e| e["name"] == "adamw.step" && e["tid"] == 3));
    assert!(slices.iter().any(|e| e["args"]["scope"] == "layers.0.mixer" || e["args"]["scope"] == "layers.0"));
}

#[test]
fn compiled_pipelines_are_kept_and_a_broken_file_is_ignored() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().join("pipelines");
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chamfer.safetensors");
    let check = |folder: &Path| {
        let mut command = program();
        command.env("ROWSCAN_PIPELINE_CACHE", folder).arg("check").arg(&fixture);
        run(command).ok()
    };
    check(&folder);
    if !folder.exists() {
        return; // the backend does not give out compiled pipelines
    }
    let kept = names(&folder);
    assert!(kept.iter().any(|name| name.starts_with("chamfer.forward-")), "{kept:?}");
    let bytes = |name: &String| std::fs::read(folder.join(name)).unwrap();
    let before: Vec<_> = kept.iter().map(bytes).collect();
    let again = check(&folder);
    assert!(!again.err.contains("compiling again"), "{}", again.err);
    assert_eq!(kept.iter().map(bytes).collect::<Vec<_>>(), before, "a pipeline that was found is not written again");
    let broken = kept.iter().position(|name| name.starts_with("chamfer.forward-")).unwrap();
    std::fs::write(folder.join(&kept[broken]), b"half of it").unwrap();
    let warned = check(&folder);
    assert!(warned.err.contains("chamfer.forward") && warned.err.contains("compiling again"), "{}", warned.err);
    assert_eq!(names(&folder), kept);
    assert_ne!(bytes(&kept[broken]), b"half of it", "the broken file is written anew");
    let off = dir.path().join("off");
    run(program()
        .env("ROWSCAN_PIPELINE_CACHE", "off")
        .env("XDG_CACHE_HOME", &off)
        .args(["info", "--adapter-only"])
        .take())
    .ok();
    assert!(!off.join("rowscan").exists()); // `off` itself may exist: the driver has a cache there
}
