//! `rowscan finetune`, `eval` and `probe`: a model, data and runs that the tests of this folder share.

mod data;
mod learn;
mod refuse;
mod resume;

use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;

use rowscan::run::record::{TestLine, read_tests};

use super::{LogBits, SharedFolder, log, program, run};
use crate::common::Random;

/// A tiny model, like [`NANO`](super::NANO) but with the classes of the data set.
const MODEL: &[&str] =
    &["--model=micro", "--image-size=16", "--patch-size=4", "--width=16", "--pattern=TT", "--heads=2", "--states=4"];
/// A run with all that is drawn at random (MixUp and CutMix, random erasing, RandAugment, DropPath), with gradient
/// accumulation and an EMA of the weights. An epoch has six steps.
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

/// A data set of four classes: noisy stripes, upright or level, in a color for each class. A class has 48 training
/// images and 16 test images.
pub static STRIPES: LazyLock<SharedFolder> = LazyLock::new(|| {
    let dir = SharedFolder::new("stripes");
    let mut random = Random::new(11);
    for (split, count) in [("train", 48), ("test", 16)] {
        for (class, color) in [[1, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 0]].into_iter().enumerate() {
            let folder = dir.path().join(split).join(format!("color-{class}"));
            std::fs::create_dir_all(&folder).unwrap();
            for i in 0..count {
                let (noise, phase) = (random.below(16 * 16 * 3, 60), random.below(2, 6));
                let picture = image::RgbImage::from_fn(16, 16, |x, y| {
                    let along = if phase[0] < 3 { x } else { y } + phase[1];
                    let bright = if along / 3 % 2 == 0 { 150 } else { 40 };
                    let channel = |c: usize| (noise[((y * 16 + x) * 3) as usize + c] + color[c] * bright) as u8;
                    image::Rgb([channel(0), channel(1), channel(2)])
                });
                picture.save(folder.join(format!("{i:02}.png"))).unwrap();
            }
        }
    }
    dir
});

pub fn stripes() -> String {
    format!("--data={}", STRIPES.path().display())
}

fn tests_of(dir: &Path) -> Vec<TestLine> {
    read_tests(&dir.join("log.jsonl")).unwrap()
}

/// The folder of a run in which the model has learned [`STRIPES`].
pub static TAUGHT: LazyLock<SharedFolder> = LazyLock::new(|| {
    let dir = SharedFolder::new("taught");
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

/// A run of [`RANDOM`] without interruption: its folder and its log.
static WHOLE: LazyLock<(SharedFolder, Vec<LogBits>)> = LazyLock::new(|| {
    let dir = SharedFolder::new("finetuned");
    run(finetune(dir.path(), &[MODEL, RANDOM].concat())).ok();
    let log = log(dir.path());
    assert_eq!(log.iter().map(|l| l.0).collect::<Vec<_>>(), (0..24).collect::<Vec<_>>());
    (dir, log)
});
