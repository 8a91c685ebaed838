//! Weights at another image size than they were pretrained at: Table 8 pretrains at 224 pixels and fine-tunes at 384.

use rowscan::gpu::{Caps, Gpu, Precision};
use rowscan::models::{Config, adapt, resize_positions};
use rowscan::nn::Weights;
use rowscan::train::finetune::step::Finetuner;
use rowscan::train::pretrain::settings::PretrainSettings;
use rowscan::train::pretrain::step::Pretrainer;
use rowscan::train::settings::RunSettings;
use rowscan::train::supervised::Tuning;

use crate::common::gpu;

const BATCH: usize = 2;
const TUNING: Tuning = Tuning { layer_decay: 0.75, average: None, by_name: false };

fn run_settings() -> RunSettings {
    RunSettings { batch_size: BATCH, ..RunSettings::default() }
}

/// Smooth pictures (n, S, S, 3), each of another color and direction.
fn pictures(side: usize) -> Vec<u8> {
    let value = |at: usize| {
        let (image, x, y, c) = (at / 3 / side / side, at / 3 % side, at / 3 / side % side, at % 3);
        let along = if image == 0 { x } else { y } as f64 / side as f64;
        (128.0 + 90.0 * (9.0 * along + (c * (image + 1)) as f64).sin()) as u8
    };
    (0..BATCH * side * side * 3).map(value).collect()
}

/// The weights of a model after three steps of pretraining.
fn pretrained(g: &Gpu, config: &Config) -> Weights {
    let settings = PretrainSettings { run: run_settings(), ..PretrainSettings::default() };
    settings.check(config).unwrap();
    let masker = settings.masker(config).unwrap();
    let hyper = settings.run.hyper().unwrap();
    let mut trainer = Pretrainer::new(g, config, &settings.objective, BATCH, hyper, 7).unwrap();
    for step in 0..3 {
        trainer.step(&pictures(config.image_size), &masker.draw(step, BATCH), step, 1e-3).unwrap();
    }
    pollster::block_on(trainer.params.weights(g)).unwrap()
}

/// A hybrid and a network on maps with windows, pretrained at a small size, are fine-tuned at a larger one: positions
/// are interpolated, all other layers taken as they are, registers and windows follow the new grid, and the loss falls.
#[test]
fn a_pretrained_model_is_fine_tuned_at_a_larger_size() {
    let Some(g) = gpu() else { return };
    for (name, large, positions) in [("map_micro_patch4_32", 64, true), ("mambavision_micro", 96, false)] {
        let config = Config { classes: 2, drop_path: 0.0, ..Config::preset(name).unwrap() };
        let found = pretrained(g, &config);
        let config = Config { image_size: large, ..config };
        let mut tuner = Finetuner::new(g, &config, BATCH, run_settings().hyper().unwrap(), TUNING, 3).unwrap();
        let adapted = adapt(found.clone(), &config, &tuner.params, 3).unwrap();
        assert_eq!(adapted.resized, if positions { vec!["pos_embed"] } else { vec![] }, "{name}");
        if positions {
            let expected = resize_positions(&found["pos_embed"].1, config.width, config.grid()).unwrap();
            assert_eq!(adapted.weights["pos_embed"], (vec![1, config.tokens(), config.width], expected), "{name}");
        }
        let layers = |name: &&String| name.starts_with("layers.") || name.starts_with("levels.");
        assert!(found.keys().filter(layers).all(|layer| adapted.weights[layer] == found[layer]), "{name}");
        tuner.params.load(g, &adapted.weights).unwrap();
        let mut step = |step| {
            let loss = tuner.step((&pictures(large), &[1.0, 0.0, 0.0, 1.0]), step, 1e-3).unwrap();
            loss.to_vec(g).unwrap()[0]
        };
        let losses: Vec<f32> = (0..12).map(&mut step).collect();
        assert!(losses[11] < 0.7 * losses[0], "{name}: {losses:?}");
    }
}

/// The paper fine-tunes HybridNet-B at 384 pixels and batch 128 in 76.1 GB. Steps of 128 images in mixed precision take
/// less here, of L too: by computing blocks again, by micro-batches, or by both. (micro-batch, whether blocks are
/// computed again, GB at most)
#[test]
fn a_step_at_384_pixels_takes_less_memory_than_in_the_paper() {
    let caps = Caps { max_binding: 2 << 30, max_buffer: 2 << 30, ..Caps::portable() };
    for (size, ways) in [
        ("base", [(128, true, 19.5), (64, false, 40.5), (64, true, 11.5)]),
        ("large", [(64, true, 30.0), (32, false, 61.0), (32, true, 22.0)]),
    ] {
        let config = Config { image_size: 384, ..Config::preset(size).unwrap() };
        assert_eq!((config.tokens(), config.classes), (576, 1000));
        for (batch_size, checkpoint_blocks, most) in ways {
            let accum_iter = 128 / batch_size;
            let precision = Precision::Mixed;
            let run = RunSettings { batch_size, accum_iter, checkpoint_blocks, precision, ..RunSettings::default() };
            let (g, hyper) = (Gpu::dry(caps.clone()), run.hyper().unwrap());
            let plan = Finetuner::new(&g, &config, batch_size, hyper, TUNING, 0).unwrap().plan().unwrap();
            let total = plan.total() as f64 / 1e9;
            assert!(total < most && most < 76.1, "{size}, {accum_iter} × {batch_size}: {plan}");
        }
    }
}

/// Attention holds no scores, whose memory would grow with the square of the tokens: 4096 tokens, as many as the
/// paper's detection has, take sixteen times the memory of 256.
#[test]
fn memory_of_attention_grows_with_tokens_and_not_with_their_square() {
    let caps = Caps { max_binding: 2 << 30, max_buffer: 2 << 30, ..Caps::portable() };
    for precision in [Precision::F32, Precision::Mixed] {
        let step = |image_size| {
            let config = Config { image_size, ..Config::preset("deit_tiny_patch16_224").unwrap() };
            let hyper = RunSettings { precision, ..RunSettings::default() }.hyper().unwrap();
            let plan = Finetuner::new(&Gpu::dry(caps.clone()), &config, 1, hyper, TUNING, 0).unwrap().plan().unwrap();
            (config.tokens(), plan.activations + plan.scratch)
        };
        let [few, many] = [256, 1024].map(step);
        assert_eq!((few.0, many.0), (256, 4096));
        assert!(many.1 < 17 * few.1, "{precision:?}: {few:?}, {many:?} bytes");
    }
}
