//! Steps: nothing allocated after the second, memory flat, the same bits again.

use rowscan::gpu::Gpu;
use rowscan::models::Config;
use rowscan::train::mask::{Mask, Masker};
use rowscan::train::settings::{RunSettings, Settings};
use rowscan::train::step::Pretrainer;

use crate::common::{Random, gpu};

/// Small enough for thousands of steps on a CPU adapter, with every kind of layer.
pub fn nano() -> Config {
    let mut config =
        Config { image_size: 16, patch_size: 4, width: 16, pattern: "MMT".into(), ..Config::preset("micro").unwrap() };
    config.name = "nano".into();
    config.heads = 2;
    config.registers = 1;
    config.classes = 2;
    config.states = 4;
    config.decoder.width = 16;
    config.decoder.depth = 1;
    config.decoder.heads = 2;
    config
}

struct Training {
    trainer: Pretrainer,
    masker: Masker,
    images: Vec<u8>,
}

impl Training {
    fn new(g: &Gpu, mask_ratio: Option<f64>) -> Self {
        let run = RunSettings { batch_size: 2, ..RunSettings::default() };
        let settings = Settings { run, mask_ratio, ..Settings::default() };
        let config = nano();
        let trainer = Pretrainer::new(g, &config, 2, settings.run.hyper().unwrap(), 7).unwrap();
        let images = Random::new(1).below(2 * 16 * 16 * 3, 256).iter().map(|&v| v as u8).collect();
        Self { trainer, masker: settings.masker(&config).unwrap(), images }
    }

    fn mask(&self, step: u64) -> Mask {
        self.masker.draw(step, 2)
    }

    fn step(&mut self, g: &Gpu, step: u64) -> f32 {
        let mask = self.mask(step);
        self.trainer.step(&self.images, &mask, step, 1e-3).unwrap().to_vec(g).unwrap()[0]
    }
}

#[test]
fn the_steady_state_makes_nothing_and_memory_is_flat_over_2000_steps() {
    let Some(g) = gpu() else { return };
    // a device of its own: other tests run beside this one and count too
    let g = &Gpu::open_blocking(&rowscan::gpu::Options {
        adapter: rowscan::gpu::AdapterChoice::Name(g.caps().name.to_lowercase()),
        portable: true,
        ..Default::default()
    })
    .unwrap();
    let mut run = Training::new(g, Some(0.5));
    let first = run.step(g, 0);
    run.step(g, 1);
    let steady = g.counters();
    let mut last = first;
    for step in 2..2000 {
        last = run.step(g, step);
    }
    let after = g.counters();
    assert_eq!(
        (after.buffers, after.bind_groups, after.pipelines),
        (steady.buffers, steady.bind_groups, steady.pipelines)
    );
    assert_eq!(after.live_bytes, steady.live_bytes, "bytes alive");
    assert!(after.launches > steady.launches);
    assert!(last < first, "2000 steps on two images: {first} to {last}");
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_does_not() {
    let Some(g) = gpu() else { return };
    // a drawn ratio: programs of several lengths take turns
    let losses = || {
        let mut run = Training::new(g, None);
        (0..20).map(|step| run.step(g, step).to_bits()).collect::<Vec<_>>()
    };
    let once = losses();
    assert_eq!(once, losses());
    assert!(once.windows(2).any(|pair| pair[0] != pair[1]));
}
