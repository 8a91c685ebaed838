//! What a run shows of itself while it goes on: its page, probes of its features, and a map of them.

use std::path::Path;

use rowscan::run::record::{read_log, read_probes};

use super::{RANDOM, SharedFolder, features_of, log, names, pretrain, program, run, skip};

/// Four epochs with a probe after the second and the last.
const PROBED: &[&str] = &["--epochs=4", "--probe-every=3", "--probe-images=10", "--threads=1"];

fn page(dir: &Path) -> String {
    std::fs::read_to_string(dir.join("report.html")).unwrap()
}

#[test]
fn a_run_shows_itself_and_is_the_same_run() {
    if skip() {
        return;
    }
    let dir = SharedFolder::new("watched");
    let ran = run(pretrain(dir.path(), &[RANDOM, PROBED, &["--grid-every=2"]].concat())).ok();
    assert_eq!(ran.err.matches("probe top-1 ").count(), 2, "{}", ran.err);
    assert!(ran.err.contains(", data wait "), "{}", ran.err);
    let probes = read_probes(&dir.path().join("log.jsonl")).unwrap();
    let at: Vec<(u64, f64)> = probes.iter().map(|probe| (probe.step, probe.epoch)).collect();
    assert_eq!(at, [(17, 3.0), (23, 4.0)], "every third epoch, and after the last");
    for probe in &probes {
        let shares = [probe.probe_top1, probe.probe_top5, probe.knn_top1];
        assert!(shares.iter().all(|share| (0.0..=100.0).contains(share)) && shares[1] >= shares[0], "{probe:?}");
    }
    let waits: Vec<f64> = read_log(&dir.path().join("log.jsonl")).unwrap().iter().filter_map(|l| l.data_wait).collect();
    assert!(waits.len() == 24 && waits.iter().all(|share| (0.0..=1.0).contains(share)), "{waits:?}");
    let left = names(dir.path());
    assert!(left.contains(&"probe.svg".into()) && !left.contains(&"best".into()), "{left:?}");

    let page = page(dir.path());
    for part in [
        "rowscan pretrain: finished; step 24 of 24",
        "<dt>best ",
        "loss over steps",
        "epoch 2</figcaption>",
        "epoch 4</figcaption>",
        "synthetic:24, 24 images",
        "probe-every = 3",
        concat!("rowscan ", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(page.contains(part), "`{part}` is missing");
    }
    assert_eq!(page.matches("<img src=\"data:image/png;base64,").count(), 4, "original, visible, two epochs");
    assert!(!page.contains("http-equiv=\"refresh\"") && !page.contains("NaN"));

    // probes and pictures change no bit, nor does a stop between them
    let plain = tempfile::tempdir().unwrap();
    run(pretrain(plain.path(), &[RANDOM, &["--epochs=4", "--threads=1"]].concat())).ok();
    assert_eq!(log(plain.path()), log(dir.path()));
    assert!(!names(plain.path()).contains(&"probe.svg".into()));
    let mut again = program();
    again.args(["pretrain", "--epochs=5", "--resume", "--output-dir"]).arg(dir.path());
    run(again).ok();
    let after = read_probes(&dir.path().join("log.jsonl")).unwrap();
    assert_eq!((&after[..2], after.len()), (&probes[..], 3), "the options of the records go on");
    assert!(self::page(dir.path()).contains("step 30 of 30"));
}

#[test]
fn a_set_that_cannot_be_probed_is_named() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let (images, out) = (dir.path().join("images"), dir.path().join("out"));
    std::fs::create_dir(&images).unwrap();
    for i in 0..4 {
        image::RgbImage::from_pixel(16, 16, image::Rgb([i * 40, 9, 9])).save(images.join(format!("{i}.png"))).unwrap();
    }
    let data = format!("--data={}", images.display());
    run(pretrain(&out, &[&data, "--batch-size=4", "--epochs=1", "--probe-every=1"]))
        .fails(1, &["images", "has no labels"]);
    assert!(!out.exists(), "refused before anything is written");
}

#[test]
fn a_map_of_features() {
    if skip() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    run(pretrain(&at("out"), &["--data=synthetic:24", "--batch-size=4", "--epochs=1", "--grid-every=0"])).ok();
    let features = |map: &str| {
        let mut command = program();
        command.args(["features", "--data=synthetic:24", "--checkpoint"]).arg(at("out/checkpoint-1"));
        command.arg("-o").arg(at("f.safetensors")).arg("--map").arg(at(map));
        run(command)
    };
    features("map.png").fails(2, &["--map", "ends in .svg"]);
    assert!(!at("f.safetensors").exists());
    assert!(features("map.svg").ok().out.contains("map.csv"));
    let (floats, labels) = features_of(&at("f.safetensors"), "labels");
    let rows = std::fs::read_to_string(at("map.csv")).unwrap();
    let places: Vec<[f64; 2]> = rows
        .lines()
        .skip(1)
        .map(|line| {
            let mut cells = line.rsplit(',');
            let [y, x] = [cells.next(), cells.next()].map(|cell| cell.unwrap().parse::<f64>().unwrap());
            [x, y]
        })
        .collect();
    // the components' variances are those of the places, largest first, and no more than all there is
    let (shape, values) = &floats["features"];
    let variance = |values: &[f64]| {
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        values.iter().map(|v| (v - mean).powi(2)).sum::<f64>()
    };
    let column = |c: usize| values.iter().skip(c).step_by(shape[1]).map(|v| f64::from(*v)).collect::<Vec<_>>();
    let all: f64 = (0..shape[1]).map(|c| variance(&column(c))).sum();
    let along = [0, 1].map(|axis| variance(&places.iter().map(|place| place[axis]).collect::<Vec<_>>()));
    assert_eq!((places.len(), labels.len()), (24, 24));
    assert!(along[0] >= along[1] && along[0] + along[1] <= all * (1.0 + 1e-6), "{along:?} of {all}");
    let widest = (0..shape[1]).map(|c| variance(&column(c))).fold(0.0, f64::max);
    assert!(along[0] >= widest * (1.0 - 1e-6), "no direction has a larger variance: {along:?}, {widest}");
    let svg = std::fs::read_to_string(at("map.svg")).unwrap();
    assert_eq!(svg.matches("<title>").count(), 24, "each sample is there");
    assert!(svg.contains("<image ") && svg.contains("24 of 24 samples"));
}
