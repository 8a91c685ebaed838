//! Point clouds, as people train on them: the commands of images, on generated solids.

use super::{features_of, rowscan, skip};

const SMALL: &[&str] = &["--data=synthetic-clouds:24", "--batch-size=4", "--seed=3"];

#[test]
fn clouds_are_pretrained_on_and_classified() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let pretrain = [&["pretrain", "--model=map3d_micro", "--epochs=2"], SMALL].concat();
    rowscan(&pretrain, &[("--output-dir", &at("out"))]).ok();
    rowscan(&["pretrain"], &[("--resume", &at("out/checkpoint-1")), ("--output-dir", &at("again"))]).ok();
    for file in ["model.safetensors", "optimizer.safetensors"] {
        let bytes = |run: &str| std::fs::read(at(run).join("checkpoint-2").join(file)).unwrap();
        assert!(bytes("out") == bytes("again"), "{file}");
    }
    let last = at("out/checkpoint-2");
    let tune = [&["finetune", "--epochs=1", "--warmup-epochs=0"], SMALL].concat();
    let tuned = rowscan(&tune, &[("--checkpoint", &last), ("--output-dir", &at("tuned"))]).ok();
    assert!(tuned.err.contains("fresh (cls_head_finetune"), "{}", tuned.err);
    let scored = rowscan(&["eval", "--data=synthetic-clouds:24"], &[("--checkpoint", &at("tuned/best"))]).ok();
    assert!(scored.out.contains("6 clouds, 12 classes"), "{}", scored.out);
    let voted = ["eval", "--data=synthetic-clouds:24", "--vote=3"];
    let voted = rowscan(&voted, &[("--checkpoint", &at("tuned/best"))]).ok();
    assert!(voted.out.contains("3 views: top-1 ") && voted.out.contains("their vote: top-1 "), "{}", voted.out);
    rowscan(&["features", "--data=synthetic-clouds:24"], &[("--checkpoint", &last), ("-o", &at("features"))]).ok();
    assert_eq!(features_of(&at("features"), "indices").0["features"].0, [24, 64]);

    // a cloud and a mesh by their paths: rebuilt, and classified
    let corners = |i: u32| format!("{} {} {}\n", i % 5, i / 5 % 5, i / 25);
    std::fs::write(at("grid.xyz"), (0..125).map(corners).collect::<String>()).unwrap();
    let mesh = "OFF\n4 4 6\n0 0 0\n1 0 0\n0 1 0\n0 0 1\n3 0 1 2\n3 0 1 3\n3 0 2 3\n3 1 2 3\n";
    std::fs::write(at("mesh.off"), mesh).unwrap();
    let files = [at("grid.xyz"), at("mesh.off")].map(|path| path.display().to_string());
    let files = [&files[0][..], &files[1]];
    let paths = [("--checkpoint", &*last), ("--tensors", &at("rebuilt.safetensors")), ("-o", &at("rebuilt.png"))];
    let rebuilt = rowscan(&[&["reconstruct"], &files[..]].concat(), &paths).ok();
    assert!(rebuilt.out.contains("over the hidden patches, as Chamfer distance"), "{}", rebuilt.out);
    assert_eq!(image::image_dimensions(at("rebuilt.png")).unwrap(), (6 * 194 - 2, 2 * 194 - 2));
    assert!(at("out/grid-0002.png").is_file());
    let predict = [&["predict"], &files[..]].concat();
    let predicted = rowscan(&predict, &[("--checkpoint", &at("tuned/best")), ("-o", &at("predicted"))]).ok();
    assert!(predicted.out.contains("mesh.off"), "{}", predicted.out);
    assert!(std::fs::read_to_string(at("predicted/predictions.svg")).unwrap().contains("<image"));
    let empty = at("empty.off");
    std::fs::write(&empty, "OFF\n0 0 0\n").unwrap();
    let wrong = ["reconstruct", empty.to_str().unwrap()];
    rowscan(&wrong, &[("--checkpoint", &last), ("-o", &at("wrong.png"))]).fails(1, &["empty.off"]);

    // each kind of data with the other kind of model
    let wrong = [&["pretrain", "--model=micro", "--epochs=1"], SMALL].concat();
    rowscan(&wrong, &[("--output-dir", &at("wrong"))]).fails(1, &["synthetic cloud", "a point cloud", "an image"]);
    let wrong = ["pretrain", "--model=map3d_micro", "--epochs=1", "--data=synthetic:24", "--batch-size=4"];
    rowscan(&wrong, &[("--output-dir", &at("wrong"))]).fails(1, &["synthetic", "an image", "a point cloud"]);
    let mixed = [&tune[..], &["--mixup=0.8"]].concat();
    rowscan(&mixed, &[("--checkpoint", &last), ("--output-dir", &at("wrong"))]).fails(2, &["mixup", "not mixed"]);
}

/// Files that make no patches: a broken one is skipped and named, and a cloud of too few points ends the run.
#[test]
fn clouds_that_cannot_be_trained_on_are_named() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let good: String = (0..300).map(|i| format!("{} {} {}\n", i % 7, i / 7 % 7, i / 49)).collect();
    let few: String = good.lines().take(10).map(|line| format!("{line}\n")).collect();
    let flat = "OFF\n3 1 0\n0 0 0\n1 1 1\n2 2 2\n3 0 1 2\n";
    let nan = format!("0 0 0\nnan 1 2\n{good}");
    let cases = [
        ("nan.xyz", &nan[..], "has the point [NaN, 1.0, 2.0] at place 1, expected finite numbers"),
        ("empty.off", "OFF\n0 0 0\n", "has 0 triangles, none of them with an area"),
        ("flat.off", flat, "has 1 triangles, none of them with an area"),
        ("few.xyz", &few, "points of a cloud: got 10, expected at least 16, for 16 patches of 16 points"),
    ];
    for (i, (name, text, reason)) in cases.into_iter().enumerate() {
        let data = dir.path().join(i.to_string());
        std::fs::create_dir_all(data.join("train/chair")).unwrap();
        (0..3).for_each(|i| std::fs::write(data.join(format!("train/chair/{i}.xyz")), &good).unwrap());
        std::fs::write(data.join("train/chair").join(name), text).unwrap();
        let args = ["pretrain", "--model=map3d_micro", "--epochs=1", "--batch-size=4", "--grid-every=0"];
        let ran = rowscan(&args, &[("--data", &data), ("--output-dir", &data.join("out"))]);
        if name == "few.xyz" {
            ran.fails(1, &[name, reason]);
        } else {
            let said = ran.ok().err;
            assert!(said.contains(name) && said.contains(reason), "{said}");
            assert!(said.contains("1 broken clouds were skipped"), "{said}");
        }
    }
    let no_square = [&["pretrain", "--model=map3d_micro", "--num-groups=12"], SMALL].concat();
    let out = dir.path().join("out");
    rowscan(&no_square, &[("--output-dir", &out)]).fails(1, &["points.groups for MAP", "got 12", "a square"]);
    let side = [&["pretrain", "--model=map3d_micro", "--image-size=32"], SMALL].concat();
    rowscan(&side, &[("--output-dir", &out)]).fails(2, &["--image-size of", "map3d", "--num-groups"]);
}
