//! Files that are missing, truncated, of another kind or of another model: exit code 1 and one error that names the
//! file.

use std::path::Path;

use super::runs::WHOLE;
use super::{copy, names, pretrain, program, run, skip};

fn rowscan(args: &[&str]) -> super::Ran {
    let mut command = program();
    command.args(args);
    run(command)
}

#[test]
fn data_that_cannot_be_used() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (empty, foreign, broken) = (at("empty"), at("foreign"), at("broken"));
    [&empty, &foreign, &broken].iter().for_each(|folder| std::fs::create_dir(folder).unwrap());
    std::fs::write(foreign.join("notes.txt"), "no picture").unwrap();
    (0..4).for_each(|i| std::fs::write(broken.join(format!("{i}.png")), "no picture").unwrap());
    let fails = |data: &Path, args: &[&str], words: &[&str]| {
        let data = format!("--data={}", data.display());
        run(pretrain(&at("out"), &[&[data.as_str(), "--batch-size=2", "--epochs=1"], args].concat())).fails(1, words);
        assert!(!at("out").join("checkpoint-1").exists());
    };
    fails(&at("nowhere"), &[], &["no data set at", "nowhere"]);
    fails(&empty, &[], &["no images in", "empty"]);
    fails(&foreign, &[], &["no images in", "foreign"]);
    fails(&foreign.join("notes.txt"), &[], &["notes.txt", "no known layout"]);
    assert!(!at("out").exists(), "nothing may be written");
    fails(&broken, &[], &["none of the 4 images", "broken"]);
    let few = run(pretrain(&at("few"), &["--data=synthetic:8", "--batch-size=9", "--epochs=1"]));
    few.fails(1, &["8 images", "9", "--batch-size 8"]);
    // the error advises a --batch-size that counts accumulation, and a run with it works
    let parts = ["--data=synthetic:9", "--accum-iter=4", "--epochs=1"];
    let few = run(pretrain(&at("few"), &[&parts[..], &["--batch-size=3"]].concat()));
    few.fails(1, &["9 images", "one step of 4 batches of 3", "use --batch-size 2 or less"]);
    run(pretrain(&at("enough"), &[&parts[..], &["--batch-size=2"]].concat())).ok();
    assert!(!at("few").exists(), "nothing may be written");
}

#[test]
fn checkpoints_that_cannot_be_used() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let (good, bad, out) = (WHOLE.0.path().join("checkpoint-15"), at("bad"), at("features.safetensors"));
    let features = |folder: &Path, words: &[&str]| {
        let (folder, out) = (folder.to_str().unwrap(), out.to_str().unwrap());
        rowscan(&["features", "--data=synthetic:4", "--checkpoint", folder, "-o", out]).fails(1, words);
        assert!(names(dir.path()).iter().all(|n| n == "bad" || n == "out"), "{:?}", names(dir.path()));
    };
    let resume = |words: &[&str]| {
        let (folder, out) = (bad.to_str().unwrap(), at("out"));
        rowscan(&["pretrain", "--resume", folder, "--output-dir", out.to_str().unwrap()]).fails(1, words);
        assert!(!out.exists(), "nothing may be written");
    };
    features(&at("nowhere"), &["nowhere", "no checkpoint folder"]);
    let spoil = |file: &str, bytes: &[u8]| {
        let _ = std::fs::remove_dir_all(&bad);
        copy(&good, &bad);
        std::fs::write(bad.join(file), bytes).unwrap();
    };
    let model = std::fs::read(good.join("model.safetensors")).unwrap();
    let optimizer = std::fs::read(good.join("optimizer.safetensors")).unwrap();
    let config = std::fs::read_to_string(good.join("config.json")).unwrap();
    let state = std::fs::read_to_string(good.join("state.json")).unwrap();
    for bytes in [
        &model[..model.len() - 1],
        &model[..100],
        &model[..3],
        b"",
        b"\xff\xff\xff\xff\xff\xff\xff\xff",
        b"GIF89a, not tensors",
    ] {
        spoil("model.safetensors", bytes);
        features(&bad, &["model.safetensors", "not a whole safetensors file"]);
        resume(&["model.safetensors", "not a whole safetensors file"]);
    }
    spoil("model.safetensors", &optimizer);
    features(&bad, &["model.safetensors", "missing", "blocks.0"]);
    spoil("optimizer.safetensors", &model);
    resume(&["optimizer.safetensors", "neither exp_avg nor exp_avg_sq"]);
    for text in ["", "{", "[]", "null", "{\"name\": 3}", &config.replace("\"width\": 16", "\"width\": \"16\"")] {
        spoil("config.json", text.as_bytes());
        features(&bad, &["config.json", "not what a checkpoint holds"]);
    }
    spoil("config.json", config.replace("\"patch_size\": 4", "\"patch_size\": 5").as_bytes());
    features(&bad, &["config.json", "image_size", "multiple"]);
    spoil("config.json", config.replace("\"classes\": 2", "\"classes\": 18446744073709551615").as_bytes());
    features(&bad, &["config.json", "classes"]);
    spoil("config.json", config.replace("\"mlp_ratio\": 2.0", "\"mlp_ratio\": 3.0").as_bytes());
    features(&bad, &["model.safetensors", "mlp.fc1.weight", "expected"]);
    for text in ["", "{}", &state.replace("\"step\"", "\"stop\""), &state.replace("\"seed\": 5", "\"seed\": -5")] {
        spoil("state.json", text.as_bytes());
        resume(&["state.json", "not what a checkpoint holds"]);
    }
    spoil("state.json", state.replace("\"version\": 1", "\"version\": 99").as_bytes());
    resume(&["state.json", "version 99, expected 1"]);
    spoil("state.json", state.replace("\"step\": 90", "\"step\": 18446744073709551615").as_bytes());
    resume(&["state.json", "step 18446744073709551615"]);
    spoil("state.json", state.replace("\"images\": 24", "\"images\": 25").as_bytes());
    resume(&["25 images", "24"]);
    std::fs::remove_file(bad.join("state.json")).unwrap();
    resume(&["no state.json"]);
    let empty = at("empty");
    std::fs::create_dir(&empty).unwrap();
    rowscan(&["pretrain", "--resume", "--output-dir", empty.to_str().unwrap()]).fails(1, &["empty", "no checkpoint"]);
    rowscan(&["pretrain", "--resume", "--output-dir", "/no/such/out"]).fails(1, &["/no/such/out", "no checkpoint"]);
}

#[test]
fn fixtures_that_cannot_be_used() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("odd.safetensors");
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let check = |bytes: &[u8], words: &[&str]| {
        std::fs::write(&path, bytes).unwrap();
        rowscan(&["check", path.to_str().unwrap()]).fails(1, &[&["odd.safetensors"], words].concat());
    };
    let whole = std::fs::read(fixtures.join("scan_d1.safetensors")).unwrap();
    check(&whole[..whole.len() - 7], &["not a safetensors file"]);
    check(b"", &["not a safetensors file"]);
    check(b"hello, world, how are you", &["not a safetensors file"]);
    check(
        &std::fs::read(WHOLE.0.path().join("checkpoint-1/model.safetensors")).unwrap(),
        &["format", "rowscan-fixture/1"],
    );
    rowscan(&["check", "/no/such/fixture"]).fails(1, &["/no/such/fixture"]);
    // fixtures whose inputs have other names
    for name in ["map_small", "map_train", "scan_d1", "mixer_n8_k3_e1"] {
        let bytes = std::fs::read(fixtures.join(format!("{name}.safetensors"))).unwrap();
        let len = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        let header = String::from_utf8(bytes[8..8 + len].to_vec()).unwrap().replace("\"input.", "\"inqut.");
        check(&[&bytes[..8], header.as_bytes(), &bytes[8 + len..]].concat(), &["input.", "missing"]);
    }
}

#[test]
fn pictures_that_cannot_be_used() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let checkpoint = WHOLE.0.path().join("checkpoint-15");
    let (picture, grid) = (dir.path().join("a.png"), dir.path().join("grid.png"));
    std::fs::write(&picture, "no picture").unwrap();
    let draw = |args: &[&str]| {
        let base = ["reconstruct", "--checkpoint", checkpoint.to_str().unwrap(), "-o", grid.to_str().unwrap()];
        let ran = rowscan(&[&base, args].concat());
        assert!(!grid.exists());
        ran
    };
    draw(&[picture.to_str().unwrap()]).fails(1, &["a.png"]);
    draw(&["/no/such.png"]).fails(1, &["/no/such.png"]);
    draw(&["--mask-ratio=2", picture.to_str().unwrap()]).fails(2, &["--mask-ratio", "got 2"]);
    for mask in ["diagonal", "sequential"] {
        let seeded = ["--seed=3", &format!("--mask={mask}"), picture.to_str().unwrap()];
        draw(&seeded).fails(2, &["--seed", &format!("3 with the mask {mask}"), "the same whatever the seed"]);
    }
    draw(&[]).fails(2, &["IMAGE"]);
    image::RgbImage::new(9, 9).save(&picture).unwrap();
    // a file that is read is not written
    let picture_again = dir.path().join(".").join("a.png");
    let own = ["reconstruct", "--checkpoint", checkpoint.to_str().unwrap(), "-o"];
    let own = [&own[..], &[picture_again.to_str().unwrap(), picture.to_str().unwrap()]].concat();
    rowscan(&own).fails(2, &["--output", "an image", "a file of its own"]);
    draw(&["--tensors", grid.to_str().unwrap(), picture.to_str().unwrap()]).fails(2, &["--tensors", "--output"]);
    let nowhere = ["reconstruct", "--checkpoint", checkpoint.to_str().unwrap(), "-o", "/no/such/grid.png"];
    rowscan(&[&nowhere[..], &[picture.to_str().unwrap()]].concat()).fails(1, &["/no/such"]);
}
