//! Pretraining steps: nothing is allocated after the second, runs repeat bit for bit, mixed precision follows f32.

use rowscan::gpu::{Caps, Gpu, Precision};
use rowscan::models::{Config, Objective};
use rowscan::tensor::Tensor;
use rowscan::train::finetune::step::Finetuner;
use rowscan::train::pretrain::mask::{Masker, PatchMask};
use rowscan::train::pretrain::settings::PretrainSettings;
use rowscan::train::pretrain::step::Pretrainer;
use rowscan::train::settings::RunSettings;
use rowscan::train::sums::{Sums, middle};
use rowscan::train::supervised::Tuning;

use crate::common::{Random, gpu, some};
use crate::nano::nano;

/// Pretraining on the same two images in every step.
struct Training {
    trainer: Pretrainer,
    masker: Masker,
    images: Vec<u8>,
}

impl Training {
    fn new(g: &Gpu, mask_ratio: Option<f64>) -> Self {
        let run = RunSettings { batch_size: 2, ..RunSettings::default() };
        let settings = PretrainSettings { run, mask_ratio, ..PretrainSettings::default() };
        let config = nano();
        let trainer = Pretrainer::new(g, &config, &Objective::default(), 2, settings.run.hyper().unwrap(), 7).unwrap();
        let images = Random::new(1).below(2 * 16 * 16 * 3, 256).iter().map(|&v| v as u8).collect();
        Self { trainer, masker: settings.masker(&config).unwrap(), images }
    }

    fn mask(&self, step: u64) -> PatchMask {
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
    // a device of its own: counters of the shared one would count the tests that run at the same time
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

/// Gradient accumulation: three micro-batches of two images make the same step as one batch of six.
#[test]
fn accumulated_gradients_are_those_of_the_whole_batch() {
    let Some(g) = gpu() else { return };
    let config = nano();
    let images: Vec<u8> = Random::new(2).below(6 * 16 * 16 * 3, 256).iter().map(|&v| v as u8).collect();
    let train = |batch_size: usize, accum_iter: usize| {
        // With a large eps AdamW's step is a smooth function of the gradients, so rounding has little effect on it.
        let run = RunSettings { batch_size, accum_iter, eps: 0.01, clip_grad: 0.5, ..RunSettings::default() };
        let settings = PretrainSettings { run, ..PretrainSettings::default() };
        let masker = settings.masker(&config).unwrap();
        let mut trainer =
            Pretrainer::new(g, &config, &Objective::default(), batch_size, settings.run.hyper().unwrap(), 7).unwrap();
        let step = |step| {
            let loss = trainer.step(&images, &masker.draw(step, 6), step, 1e-2).unwrap();
            f64::from(loss.to_vec(g).unwrap()[0])
        };
        let losses: Vec<f64> = (0..4).map(step).collect();
        (losses, pollster::block_on(trainer.params.weights(g)).unwrap())
    };
    let (whole, parts) = (train(6, 1), train(2, 3));
    assert!(whole.0[3] < whole.0[0] - 1e-3, "{:?}", whole.0);
    for (a, b) in whole.0.iter().zip(&parts.0) {
        assert!((a - b).abs() < 2e-6 * a.abs(), "{a} and {b}");
    }
    for (name, (_, values)) in &whole.1 {
        let pairs = values.iter().zip(&parts.1[name].1);
        let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0f32, f32::max);
        // weights move by up to 0.01 in each of four steps; only the order of sums over images differs
        assert!(largest < 2e-6, "{name}: {largest}");
    }
    let refused = |images: &[u8]| {
        let run = RunSettings { batch_size: 2, accum_iter: 3, ..RunSettings::default() };
        let mut trainer = Pretrainer::new(g, &config, &Objective::default(), 2, run.hyper().unwrap(), 7).unwrap();
        let masker = PretrainSettings { run, ..PretrainSettings::default() }.masker(&config).unwrap();
        trainer.step(images, &masker.draw(0, 6), 0, 0.0).map(drop).unwrap_err().to_string()
    };
    assert!(refused(&images[1..]).contains("4608 bytes"));
}

/// A weight is NaN, so the loss is NaN: that step and all later ones make no update.
#[test]
fn a_loss_that_is_no_number_stops_all_updates() {
    let Some(g) = gpu() else { return };
    let mut run = Training::new(g, Some(0.5));
    run.step(g, 0);
    let weights = |run: &Training| pollster::block_on(run.trainer.params.weights(g)).unwrap();
    let mut spoilt = weights(&run);
    spoilt.get_mut("decoder_embed.weight").unwrap().1[5] = f32::NAN;
    run.trainer.params.load(g, &spoilt).unwrap();
    assert!((1..4).all(|step| run.step(g, step).is_nan()));
    let bits = |w: &rowscan::nn::Weights| -> Vec<u32> { w.values().flat_map(|v| &v.1).map(|v| v.to_bits()).collect() };
    assert_eq!(bits(&weights(&run)), bits(&spoilt));
}

#[test]
fn the_same_seed_gives_the_same_bits_and_another_does_not() {
    let Some(g) = gpu() else { return };
    // the mask ratio is drawn, so steps use programs for several numbers of visible tokens in turn
    let losses = || {
        let mut run = Training::new(g, None);
        (0..20).map(|step| run.step(g, step).to_bits()).collect::<Vec<_>>()
    };
    let once = losses();
    assert_eq!(once, losses());
    assert!(once.windows(2).any(|pair| pair[0] != pair[1]));
}

/// In mixed precision the loss follows that of f32, no step is skipped, and a second run has the same bits.
#[test]
fn mixed_precision_follows_f32() {
    let Some(g) = gpu() else { return };
    let losses = |precision: Precision, accum_iter: usize| {
        let run = RunSettings { batch_size: 2, accum_iter, precision, clip_grad: 1.0, ..RunSettings::default() };
        let settings = PretrainSettings { run, ..PretrainSettings::default() };
        let config = nano();
        let hyper = settings.run.hyper().unwrap();
        let mut trainer = Pretrainer::new(g, &config, &Objective::default(), 2, hyper, 7).unwrap();
        let masker = settings.masker(&config).unwrap();
        let images: Vec<u8> =
            Random::new(1).below(2 * accum_iter * 16 * 16 * 3, 256).iter().map(|&v| v as u8).collect();
        let step = |step| {
            let mask = masker.draw(step, 2 * accum_iter);
            trainer.step(&images, &mask, step, 1e-3).unwrap().to_vec(g).unwrap()[0]
        };
        let losses: Vec<f32> = (0..60).map(step).collect();
        let scaler = trainer.scaler().map(|scaler| scaler.state().to_vec(g).unwrap());
        (losses, scaler)
    };
    for accum_iter in some([1, 3]) {
        let (f32, none) = losses(Precision::F32, accum_iter);
        let (mixed, scaler) = losses(Precision::Mixed, accum_iter);
        assert!(none.is_none());
        assert_eq!(scaler.unwrap()[..3], [0.0, 60.0, 0.0], "60 steps taken, none skipped, the scale as it was");
        // f16 operands are off by at most 2⁻¹¹, and so about is a sum of products; 60 steps at a rate of 1e-3 amplify
        // that little
        let largest = f32.iter().zip(&mixed).map(|(a, b)| ((a - b) / a).abs()).fold(0.0, f32::max);
        assert!(largest > 0.0 && largest < 0.02, "{largest}");
        assert!(mixed[59] < 0.9 * mixed[0], "{} to {}", mixed[0], mixed[59]);
        assert_eq!(mixed, losses(Precision::Mixed, accum_iter).0, "the same bits");
        let (high, scaler) = losses(Precision::High, accum_iter);
        assert!(scaler.is_some());
        let largest = f32.iter().zip(&high).map(|(a, b)| ((a - b) / a).abs()).fold(0.0, f32::max);
        assert!(largest < 1e-3, "{largest}");
    }
}

/// Dynamic loss scaling (`torch.amp.GradScaler`): a step whose gradients overflow f16 halves the scale and changes
/// neither weights nor moments.
#[test]
fn a_step_that_overflows_is_skipped_and_the_scale_halved() {
    let Some(g) = gpu() else { return };
    let run = RunSettings { batch_size: 2, precision: Precision::Mixed, ..RunSettings::default() };
    let settings = PretrainSettings { run, ..PretrainSettings::default() };
    let mut trainer = Pretrainer::new(g, &nano(), &Objective::default(), 2, settings.run.hyper().unwrap(), 7).unwrap();
    let (images, masker) = (vec![90u8; 2 * 16 * 16 * 3], settings.masker(&nano()).unwrap());
    let state = trainer.scaler().unwrap().state().clone();
    // a scale of 2²⁴, at which the gradient of the prediction alone exceeds 65504; a level of 0 is 2¹⁶
    state.write(g, &[8.0f32, 0.0, 0.0, 0.0, 0.0]).unwrap();
    let everything = |trainer: &Pretrainer| {
        let moments = pollster::block_on(trainer.params.moments(g)).unwrap();
        (pollster::block_on(trainer.params.weights(g)).unwrap(), moments)
    };
    let before = everything(&trainer);
    let mut skipped = 0.0;
    for step in 0..40 {
        trainer.step(&images, &masker.draw(step, 2), step, 1e-3).unwrap();
        let [level, good, lost, ..] = state.to_vec(g).unwrap()[..] else { panic!("the state is five numbers") };
        if lost > skipped {
            assert_eq!((level, good), (8.0 - lost, 0.0));
            assert_eq!(everything(&trainer), before, "step {step} changed something");
            skipped = lost;
        } else {
            assert!(skipped > 0.0, "nothing overflowed at 2^24");
            assert!(everything(&trainer) != before, "a step that is taken moves the weights");
            return;
        }
    }
    panic!("no step was taken");
}

/// Each launch costs microseconds of host and GPU, whatever it computes. The sums of parts are joined
/// (`ops::parts::join`), and the gradient of a bias comes with that of its weight.
#[test]
fn a_step_takes_few_launches() {
    let caps = Caps { max_binding: 2 << 30, max_buffer: 2 << 30, ..Caps::portable() };
    for size in ["tiny", "small", "base"] {
        let (g, config, hyper) =
            (Gpu::dry(caps.clone()), Config::preset(size).unwrap(), RunSettings::default().hyper().unwrap());
        let mut trainer = Pretrainer::new(&g, &config, &Objective::default(), 128, hyper, 0).unwrap();
        let recording = trainer.record(98).unwrap().0;
        let (step, block) = (recording.launches().len(), recording.count("layers.1").1);
        assert!(step <= 800, "{size}: {step} launches");
        assert!(block <= 22, "{size}: {block} launches of a Mamba block");
    }
}

/// Sums over micro-batches are balanced binary trees over their index: bit for bit what the CPU makes of the tree. Two
/// and three summands are added one after the other, as always; more are not.
#[test]
fn micro_batches_are_summed_in_a_tree() {
    let Some(g) = gpu() else { return };
    fn tree(parts: &[Vec<f32>]) -> Vec<f32> {
        match parts {
            [one] => one.clone(),
            _ => {
                let (left, right) = parts.split_at(middle(parts.len()));
                tree(left).iter().zip(tree(right)).map(|(a, b)| a + b).collect()
            }
        }
    }
    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    for parts in 1..=11 {
        let summands = [Tensor::input("a", &[320]), Tensor::input("b", &[1])];
        let mut sums = Sums::new(g, parts, summands.to_vec());
        sums.prepare().unwrap();
        // twice: what the first step left behind must not be in the second
        for step in 0..2 {
            let mut random = Random::new(step * 100 + parts as u64);
            let given: Vec<Vec<f32>> = (0..parts).map(|_| random.normal(321)).collect();
            for (part, values) in given.iter().enumerate() {
                summands[0].write(g, &values[..320]).unwrap();
                summands[1].write(g, &values[320..]).unwrap();
                sums.add(part).unwrap();
            }
            let found: Vec<f32> = sums.totals().iter().flat_map(|total| total.to_vec(g).unwrap()).collect();
            assert_eq!(bits(&found), bits(&tree(&given)), "{parts} summands");
            let mut one_by_one = given[0].clone();
            for next in &given[1..] {
                one_by_one.iter_mut().zip(next).for_each(|(sum, x)| *sum += x);
            }
            assert_eq!(bits(&found) == bits(&one_by_one), parts <= 3, "{parts} summands");
        }
    }
}

/// The running statistics of batch norms follow those of each micro-batch in turn, and the average of the weights
/// follows them: three micro-batches of a network without other memory are three forward passes.
#[test]
fn statistics_of_micro_batches_are_folded_in_order() {
    let Some(g) = gpu() else { return };
    let config = Config { classes: 2, ..Config::preset("resnet_micro").unwrap() };
    let config = Config { image_size: 32, ..config };
    let bytes = 32 * 32 * 3;
    let images: Vec<u8> = Random::new(5).below(12 * bytes, 256).iter().map(|&v| v as u8).collect();
    let targets: Vec<f32> = (0..12).flat_map(|i| [(i % 2) as f32, (1 - i % 2) as f32]).collect();
    let tuning = Tuning { layer_decay: 1.0, average: None, by_name: false };
    // at a rate of 0 the weights stay, so three steps of one micro-batch see what one step of three sees
    let run = |parts: usize| {
        let settings = RunSettings { batch_size: 4, accum_iter: parts, ..RunSettings::default() };
        let mut tuner = Finetuner::new(g, &config, 4, settings.hyper().unwrap(), tuning, 3).unwrap();
        for step in 0..3 / parts {
            let of = |all: usize| step * parts * all..(step + 1) * parts * all;
            tuner.step((&images[of(4 * bytes)], &targets[of(8)]), step as u64, 0.0).unwrap();
        }
        pollster::block_on(tuner.params.weights(g)).unwrap()
    };
    let (one, three) = (run(1), run(3));
    let fresh = Finetuner::new(g, &config, 4, RunSettings::default().hyper().unwrap(), tuning, 3).unwrap();
    let fresh = pollster::block_on(fresh.params.weights(g)).unwrap();
    assert!(one.keys().any(|name| name.ends_with("running_var")));
    for (name, (_, values)) in &one {
        // two kernels compute keep·old + take·new, each with its own rounding
        let near = values.iter().zip(&three[name].1).all(|(a, b)| (a - b).abs() <= 4e-7 * a.abs().max(1e-3));
        assert!(near, "{name}");
        assert_eq!(*values == fresh[name].1, !name.contains("running"), "{name}");
    }
}
