//! Weights that come and go: `import`, `export`, and what `eval` and `features` make of them. Also small models and
//! pictures for other tests.

mod import;
mod names;
mod onnx;
mod options;
mod python;

use std::path::Path;

use rowscan::gpu::{Caps, Gpu};
use rowscan::models::{Classifier, Config};
use rowscan::nn::{Params, Weights};
use rowscan::train::weights_file::to_bytes;

use super::{Ran, rowscan};

/// A ViT that is computed in a moment.
pub fn vit() -> Config {
    let preset = Config::preset("vit_micro_patch4_32").unwrap();
    Config { image_size: 16, width: 32, heads: 2, pattern: "TT".into(), classes: 3, ..preset }
}

/// The options of [`vit`].
pub const VIT: &[&str] = &["--model=vit_micro_patch4_16", "--width=32", "--pattern=TT"];

/// Values for every tensor of a classifier, far from initial ones, so that none can be left out unseen.
pub fn drawn(config: &Config, seed: u64) -> Weights {
    let dry = Gpu::dry(Caps::portable());
    let mut params = Params::new(&dry);
    Classifier::new(&dry, &mut params, config).unwrap();
    drawn_of(&params, seed)
}

/// Values for every tensor of a model, far from initial ones.
pub fn drawn_of(params: &Params, seed: u64) -> Weights {
    let mut random = crate::common::Random::new(seed);
    let entries = params.entries().iter();
    let value = |e: &rowscan::nn::Entry, random: &mut crate::common::Random| {
        let flat = e.shape.len() < 2;
        random.normal(e.len()).iter().map(|v| if flat { 1.0 + 0.3 * v } else { 0.2 * v }).collect()
    };
    entries.map(|e| (e.name.clone(), (e.shape.clone(), value(e, &mut random)))).collect()
}

pub fn write(path: &Path, weights: &Weights) {
    std::fs::write(path, to_bytes(weights, Default::default()).unwrap()).unwrap();
}

/// A data set of three classes with two pictures each, in the folders of these names.
pub fn pictures(dir: &Path, names: &[&str]) {
    let mut random = crate::common::Random::new(3);
    for name in names {
        let folder = dir.join(name);
        std::fs::create_dir_all(&folder).unwrap();
        for i in 0..2 {
            let bytes: Vec<u8> = random.below(20 * 20 * 3, 256).iter().map(|v| *v as u8).collect();
            image::RgbImage::from_raw(20, 20, bytes).unwrap().save(folder.join(format!("{i}.png"))).unwrap();
        }
    }
}
