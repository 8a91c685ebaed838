//! Backbones on maps: what masked pretraining may see, training with batch norms, and what is refused.

use rowscan::gpu::{Caps, Gpu, Precision};
use rowscan::models::{Config, MapOnMaps, MaskedBatch, Method, Objective, PixelPretext};
use rowscan::nn::Params;
use rowscan::tape::Recorder;
use rowscan::tensor::Tensor;
use rowscan::train::finetune::step::Finetuner;
use rowscan::train::pretrain::mask::PatchMask;
use rowscan::train::pretrain::settings::PretrainSettings;
use rowscan::train::pretrain::step::Pretrainer;
use rowscan::train::settings::RunSettings;
use rowscan::train::supervised::Tuning;

use crate::common::{Random, gpu, one_in};
use crate::nano::settings;

/// A MambaVision for images of 64×64 pixels, whose windows do not fit its maps.
fn nano() -> Config {
    let mut config = Config { classes: 2, drop_path: 0.2, width: 32, ..Config::preset("mambavision_micro").unwrap() };
    let net = config.hierarchy.as_mut().unwrap();
    net.stem = 4;
    for (i, stage) in net.stages.iter_mut().enumerate() {
        (stage.depth, stage.width, stage.window) = ([1, 1, 2, 1][i], 4 << i, 3);
    }
    config.decoder.width = 16;
    config.decoder.depth = 1;
    config.decoder.heads = 2;
    config
}

fn masked(g: &Gpu, config: &Config, patches: &[f32], hidden: &[f32]) -> MaskedBatch {
    let (l, n) = (config.tokens(), config.patch_len());
    let b = hidden.len() / l;
    let mask = PatchMask::from_mask(hidden, &config.scan()).unwrap();
    MaskedBatch {
        patches: Tensor::from_slice(g, &[b, l, n], patches).unwrap(),
        visible: Tensor::from_indices(g, &[b, mask.visible_len], &mask.visible).unwrap(),
        inverse: Tensor::from_indices(g, &[b, l], &mask.inverse).unwrap(),
        mask: Tensor::from_slice(g, &[b, l], &mask.mask).unwrap(),
        scale: 1.0 / mask.mask.iter().sum::<f32>(),
        counted: None,
        second: None,
    }
}

fn bits(values: Vec<f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

/// Other pixels in hidden patches change no bit of the features, the predictions and the running statistics. They do
/// change the loss, whose target they are. Other pixels in a visible patch change all of them.
#[test]
fn hidden_pixels_do_not_leak() {
    let Some(g) = gpu() else { return };
    let config = nano();
    let (b, l, n) = (2, config.tokens(), config.patch_len());
    let mut random = Random::new(11);
    for round in 0..3 {
        // half of the patches of each image, drawn anew
        let mut hidden = Vec::new();
        for _ in 0..b {
            let mut order: Vec<(u32, usize)> = random.below(l, 1 << 20).into_iter().zip(0..l).collect();
            order.sort_unstable();
            let mut mask = vec![0.0f32; l];
            order[..l / 2].iter().for_each(|(_, patch)| mask[*patch] = 1.0);
            hidden.extend(mask);
        }
        let (patches, other) = (random.normal(b * l * n), random.normal(b * l * n));
        let seen = hidden.iter().position(|h| *h == 0.0).unwrap();
        let replaced = |which: &dyn Fn(usize) -> bool| -> Vec<f32> {
            patches.iter().zip(&other).enumerate().map(|(i, (a, b))| if which(i / n) { *b } else { *a }).collect()
        };
        let run = |patches: &[f32]| {
            let mut params = Params::new(g);
            let model = MapOnMaps::with(g, &mut params, &config, &Objective::default()).unwrap();
            params.init(g, round).unwrap();
            let batch = masked(g, &config, patches, &hidden);
            let mut r = Recorder::new(g);
            let out = model.reconstruct(&mut r, &batch, None).unwrap();
            r.run().unwrap();
            let weights = pollster::block_on(params.weights(g)).unwrap();
            let running = weights.into_iter().filter(|(name, _)| name.contains("running"));
            let running: Vec<f32> = running.flat_map(|(_, (_, values))| values).collect();
            ([&out.encoder, &out.pred, &out.loss].map(|v| bits(v.data.to_vec(g).unwrap())), bits(running))
        };
        let ([encoder, pred, loss], running) = run(&patches);
        let (blind, blind_running) = run(&replaced(&|patch| hidden[patch] == 1.0));
        assert!(blind[0] == encoder && blind[1] == pred && blind_running == running, "round {round}: a leak");
        assert_ne!(blind[2], loss);
        let (sighted, sighted_running) = run(&replaced(&|patch| patch == seen));
        assert!(sighted[0] != encoder && sighted[1] != pred && sighted_running != running);
    }
}

/// Pictures of stripes, (4, `side`, `side`, 3).
fn images(side: usize) -> Vec<u8> {
    let image = side * side * 3;
    let wave = |i: usize| ((i / 3 % side * (1 + i / image) + i % image / (side * 3) * 2) as f64 * 0.2).sin();
    (0..4 * image).map(|i| (128.0 + 90.0 * wave(i)) as u8).collect()
}

/// The losses of MAP steps and the bits of the model behind them.
fn pretrained(
    g: &Gpu, config: &Config, precision: Precision, checkpoint_blocks: bool, steps: u64,
) -> (Vec<f32>, Vec<u32>) {
    let run = RunSettings { batch_size: 4, checkpoint_blocks, precision, ..RunSettings::default() };
    let settings = PretrainSettings { run, ..settings(Method::MAP) };
    settings.check(config).unwrap();
    let hyper = settings.run.hyper().unwrap();
    let mut trainer = Pretrainer::new(g, config, &settings.objective, 4, hyper, 7).unwrap();
    let (masker, images) = (settings.masker(config).unwrap(), images(64));
    let mut step = |step| trainer.step(&images, &masker.draw(step, 4), step, 3e-3).unwrap().to_vec(g).unwrap()[0];
    let losses = (0..steps).map(&mut step).collect();
    let weights = pollster::block_on(trainer.params.weights(g)).unwrap();
    (losses, weights.into_values().flat_map(|(_, values)| bits(values)).collect())
}

/// The loss of MAP falls. A block that is computed again for its gradients does not move running statistics again.
#[test]
fn map_trains_on_maps() {
    let Some(g) = gpu() else { return };
    let config = nano();
    let (losses, _) = pretrained(g, &config, Precision::F32, false, 40);
    let mean = |part: &[f32]| part.iter().sum::<f32>() / part.len() as f32;
    assert!(mean(&losses[35..]) < 0.9 * mean(&losses[..5]), "{losses:?}");
    let [plain, again] = [false, true].map(|checkpoint| pretrained(g, &config, Precision::F32, checkpoint, 3));
    assert_eq!(plain, again);
    // maps in f16, which are hidden, gathered and restored as such
    let [mixed, again] = [false, true].map(|checkpoint| pretrained(g, &config, Precision::Mixed, checkpoint, 3));
    assert_eq!(mixed, again);
    let off = mixed.0.iter().zip(&plain.0).map(|(a, b)| (a / b - 1.0).abs()).fold(0.0, f32::max);
    assert!(off > 0.0 && off < 0.02, "{off}: {:?} and {:?}", mixed.0, plain.0);
}

/// Fine-tuning of each small network learns two classes from four images, in f32 and with maps in f16, and its bits do
/// not depend on what is kept for the backward pass.
#[test]
fn networks_on_maps_learn() {
    let Some(g) = gpu() else { return };
    let images = images(32);
    let targets = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0];
    for name in one_in(4, ["resnet_micro", "efficientnet_micro", "convnext_micro", "mambavision_micro"]) {
        let config = Config { classes: 2, image_size: 32, dropout: 0.1, ..Config::preset(name).unwrap() };
        let tune = |precision, checkpoint_blocks, steps| {
            let run = RunSettings { batch_size: 4, checkpoint_blocks, precision, ..RunSettings::default() };
            let tuning = Tuning { layer_decay: 0.9, average: None, by_name: false };
            let mut tuner = Finetuner::new(g, &config, 4, run.hyper().unwrap(), tuning, 3).unwrap();
            let step = |step| tuner.step((&images, &targets), step, 1e-3).unwrap().to_vec(g).unwrap()[0];
            (0..steps).map(step).collect::<Vec<f32>>()
        };
        let losses = tune(Precision::F32, false, 16);
        assert!(losses[15] < 0.9 * losses[0], "{name}: {losses:?}");
        assert_eq!(tune(Precision::F32, true, 3), losses[..3], "{name}");
        // maps in f16 are off by at most 2⁻¹¹ each, and the last batch norms see 4 to 16 values a channel
        let mixed = tune(Precision::Mixed, false, 16);
        assert!((mixed[0] / losses[0] - 1.0).abs() < 0.02, "{name}: {} and {}", mixed[0], losses[0]);
        assert!(mixed[15] < 0.9 * mixed[0] && mixed != losses, "{name}: {mixed:?}");
        assert_eq!(tune(Precision::Mixed, true, 3), mixed[..3], "{name}");
    }
}

#[test]
fn what_does_not_fit_is_named() {
    let says = |config: Config, words: &str| {
        let (g, objective) = (Gpu::dry(Caps::portable()), Objective::default());
        let hyper = RunSettings::default().hyper().unwrap();
        let made = config.validate().and_then(|()| Pretrainer::new(&g, &config, &objective, 4, hyper, 0).map(|_| ()));
        let e = made.unwrap_err().to_string();
        assert!(e.contains(words), "{e}");
    };
    says(Config { image_size: 48, ..nano() }, "image_size: got 48, expected a multiple of 32");
    says(Config { patch_size: 8, ..nano() }, "patch_size: got 8, expected 16");
    says(Config { hierarchy: None, ..nano() }, "hierarchy of a MambaVision: got none, expected stages");
    says(Config { hierarchy: nano().hierarchy, ..Config::preset("micro").unwrap() }, "expected none");
    let alone = "family to pretrain: got resnet, expected for the method map: hybrid, vim, vit, mambavision";
    says(Config::preset("resnet_micro").unwrap(), alone);
    let mut odd = nano();
    odd.hierarchy.as_mut().unwrap().stages[3].heads = 5;
    says(odd, "level of a MambaVision: got 32 wide with 5 heads");
    let mut wild = nano();
    wild.hierarchy.as_mut().unwrap().stages[1].width = 0;
    says(wild, "hierarchy.stages[1].width: got 0");

    // a batch norm needs two values, and the last map of this image has one cell
    let g = Gpu::dry(Caps::portable());
    let config = Config { image_size: 32, ..Config::preset("resnet_micro").unwrap() };
    let tuning = Tuning { layer_decay: 1.0, average: None, by_name: false };
    let mut tuner = Finetuner::new(&g, &config, 1, RunSettings::default().hyper().unwrap(), tuning, 0).unwrap();
    let e = tuner.record().unwrap_err().to_string();
    assert!(e.contains("batch_norm: rows: got 1, expected at least 2 in training"), "{e}");
}
