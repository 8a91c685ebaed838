//! Activation checkpointing (`torch.utils.checkpoint`): the same bits with less memory.

use rowscan::Result;
use rowscan::gpu::{Caps, Gpu, Phase, Plan, Precision};
use rowscan::models::{Config, DecoderKind, Method, Objective};
use rowscan::nn::{Params, Weights};
use rowscan::ops::activation::gelu;
use rowscan::ops::add::add;
use rowscan::ops::matmul::{MatmulOptions, matmul};
use rowscan::tape::{Grads, Recorder, Var};
use rowscan::tensor::Tensor;
use rowscan::train::finetune::step::Finetuner;
use rowscan::train::pretrain::settings::PretrainSettings;
use rowscan::train::pretrain::step::Pretrainer;
use rowscan::train::settings::RunSettings;
use rowscan::train::supervised::Tuning;

use crate::common::{Random, as_hardware, gpu, leaf, one_in};
use crate::nano::{nano, one_way, vit};

/// A graph of x and v (3, 4) and w (4, 4) with every use of a segment. Launches before, between and after the segments
/// read their inputs. A segment returns a result that it also reads inside, a result twice, one of its own inputs, and
/// a result that is not used. One segment lies in another, and nothing depends on a third.
fn graph(r: &mut Recorder, [x, v, w]: &[Var; 3]) -> Result<Var> {
    let early = gelu(r, x)?;
    let (a, b) = (x.clone(), w.clone());
    let [y, z, twice, same, _unused] = r.segment(move |r| {
        let y = matmul(r, &a, &b, MatmulOptions::default())?;
        let inner = y.clone();
        let [z] = r.segment(move |r| {
            let z = gelu(r, &inner)?;
            Ok([add(r, &z, &inner)?])
        })?;
        let unused = gelu(r, &z)?;
        Ok([y, z.clone(), z, a.clone(), unused])
    })?;
    assert_eq!((same.id(), twice.id()), (x.id(), z.id()));
    let a = v.clone();
    let [_] = r.segment(move |r| Ok([gelu(r, &a)?]))?;
    let mut sum = early;
    for each in [&same, &y, &twice, v, &z, x] {
        sum = add(r, &sum, each)?;
    }
    let (a, b) = (v.clone(), w.clone());
    let [out] = r.segment(move |r| {
        let moved = matmul(r, &sum, &b, MatmulOptions { residual: Some(&a), ..MatmulOptions::default() })?;
        gelu(r, &moved).map(|out| [out])
    })?;
    add(r, &out, &y)
}

#[test]
fn gradients_are_the_same_bits_with_and_without_segments() {
    let Some(g) = gpu() else { return };
    let values = Random::new(4).normal(12 + 12 + 16 + 12);
    let found = |mut r: Recorder| {
        let leaf = |from: usize, shape: &[usize]| leaf(g, shape, &values[from..from + shape.iter().product::<usize>()]);
        let leaves = [leaf(0, &[3, 4]), leaf(12, &[3, 4]), leaf(24, &[4, 4])];
        let out = graph(&mut r, &leaves).unwrap();
        let place = Tensor::input("place", &[4, 4]);
        let home = Grads::with_places([(leaves[2].id(), place)].into());
        let seed = Tensor::from_slice(g, &[3, 4], &values[40..]).unwrap();
        let grads = r.backward_from(&out, seed, home).unwrap();
        r.run().unwrap();
        let tensors = [Some(&out.data), grads.get(&leaves[0]), grads.get(&leaves[1]), grads.get(&leaves[2])];
        tensors.map(|tensor| bits(&tensor.unwrap().to_vec(g).unwrap()))
    };
    let plain = found(Recorder::new(g));
    assert!(plain.iter().all(|values| values.iter().any(|v| *v != 0)));
    assert_eq!(found(Recorder::new(g).checkpointing(true)), plain);
    assert_eq!(found(Recorder::new(g).checkpointing(false)), plain);
}

#[test]
fn a_segment_runs_again_where_it_was_if_a_gradient_comes() {
    let g = Gpu::dry(Caps::portable());
    let x = Var::leaf(Tensor::input("x", &[4, 4]));
    let launches = |on: bool| {
        let mut r = Recorder::new(&g).checkpointing(on);
        let mut one = |name: &str| {
            let x = x.clone();
            let [y] = r.scope(name, |r| r.segment(move |r| Ok([gelu(r, &x)?]))).unwrap();
            y
        };
        let (needed, _) = (one("needed"), one("unneeded"));
        r.backward(&needed, Grads::default()).unwrap();
        let forward = r.launches().iter().filter(|l| l.name() == "activation.gelu_forward");
        forward.map(|l| (l.scope.to_string(), l.phase)).collect::<Vec<_>>()
    };
    let [needed, unneeded] = ["needed", "unneeded"].map(|name| (name.to_string(), Phase::Forward));
    assert_eq!(launches(false), [needed.clone(), unneeded.clone()]);
    assert_eq!(launches(true), [needed, unneeded, ("needed".into(), Phase::Backward)]);
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

/// The bits of a run: the losses of its steps, and all weights.
fn trained(g: &Gpu, losses: Vec<u32>, params: &Params) -> (Vec<u32>, Vec<(String, Vec<u32>)>) {
    let weights: Weights = pollster::block_on(params.weights(g)).unwrap();
    (losses, weights.into_iter().map(|(name, (_, values))| (name, bits(&values))).collect())
}

/// Checkpointing keeps fewer bytes for the backward pass and makes more launches.
#[track_caller]
fn saves(kept: &Plan, checkpointed: &Plan) {
    assert!(checkpointed.activations < kept.activations, "{kept}{checkpointed}");
    assert!(checkpointed.launches > kept.launches);
}

#[test]
fn pretraining_leaves_the_same_bits() {
    let Some(g) = gpu() else { return };
    let images: Vec<u8> = Random::new(1).below(4 * 16 * 16 * 3, 256).iter().map(|&v| v as u8).collect();
    let dropping = Config { drop_path: 0.3, pattern: "MTMT".into(), ..nano() };
    let extra = Config { extra_residual: !dropping.extra_residual, ..dropping.clone() };
    let one = one_way(dropping.clone());
    let mae = Config { drop_path: 0.3, ..vit(DecoderKind::Mae) };
    let diffusion =
        Objective { diffusion_width: 32, diffusion_depth: 2, diffusion_repeats: 2, ..Objective::of(Method::DIFFUSION) };
    let cases = [
        (&dropping, Objective::default(), Precision::F32),
        (&dropping, Objective::default(), Precision::Mixed),
        (&extra, Objective::default(), Precision::F32),
        (&mae, Objective::of(Method::MAE), Precision::F32),
        (&dropping, diffusion, Precision::F32),
        (&one, Objective::of(Method::AR_SHIFT), Precision::F32),
    ];
    for (config, objective, precision) in one_in(3, cases) {
        let train = |checkpoint_blocks| {
            let run = RunSettings { batch_size: 4, checkpoint_blocks, precision, ..RunSettings::default() };
            let settings = PretrainSettings { run, objective: objective.clone(), ..PretrainSettings::default() };
            let hyper = settings.run.hyper().unwrap();
            let masker = settings.masker(config).unwrap();
            let mut trainer = Pretrainer::new(g, config, &settings.objective, 4, hyper, 7).unwrap();
            let mut step = |step| {
                let loss = trainer.step(&images, &masker.draw(step, 4), step, 1e-2).unwrap();
                loss.to_vec(g).unwrap()[0].to_bits()
            };
            let losses = (0..3).map(&mut step).collect();
            let plan = trainer.plan(masker.draw(0, 4).visible_len).unwrap();
            (plan, trained(g, losses, &trainer.params))
        };
        let (kept, checkpointed) = (train(false), train(true));
        saves(&kept.0, &checkpointed.0);
        assert_eq!(checkpointed.1, kept.1, "{} in {precision}", objective.method);
    }
}

#[test]
fn fine_tuning_leaves_the_same_bits() {
    // with the variants of a GPU (split sums and, for 65 tokens, a chunked scan), which compile for a minute, or with
    // those of the adapter
    let own = || gpu().cloned();
    for g in one_in(5, [as_hardware(), own(), own(), own(), own()]).flatten() {
        fine_tuning(&g);
    }
}

fn fine_tuning(g: &Gpu) {
    let images: Vec<u8> = Random::new(2).below(6 * 32 * 32 * 3, 256).iter().map(|&v| v as u8).collect();
    let targets = [0.75, 0.25].repeat(6);
    let config = Config { drop_path: 0.3, image_size: 32, ..nano() };
    let tune = |checkpoint_blocks| {
        let run =
            RunSettings { batch_size: 3, accum_iter: 2, clip_grad: 0.5, checkpoint_blocks, ..RunSettings::default() };
        let tuning = Tuning { layer_decay: 0.75, average: Some(0.9), by_name: false };
        let mut tuner = Finetuner::new(g, &config, 3, run.hyper().unwrap(), tuning, 7).unwrap();
        let mut step = |step| tuner.step((&images, &targets), step, 1e-2).unwrap().to_vec(g).unwrap()[0].to_bits();
        let losses = (0..3).map(&mut step).collect();
        (tuner.plan().unwrap(), trained(g, losses, &tuner.params))
    };
    let (kept, checkpointed) = (tune(false), tune(true));
    saves(&kept.0, &checkpointed.0);
    assert_eq!(checkpointed.1, kept.1);
}

/// MAP's paper gives the memory of fine-tuning at 224 pixels and batch 128, in GB (`paper`). A plan in mixed precision
/// takes less, and so does one in f32 with checkpointing. `ours` is the limit for f32 without it.
#[test]
fn a_step_of_fine_tuning_takes_less_memory_than_in_the_paper() {
    let caps = Caps { max_binding: 2 << 30, max_buffer: 2 << 30, ..Caps::portable() };
    for (size, paper, ours) in [("tiny", 7.6, 12.7), ("small", 14.6, 25.3), ("base", 30.0, 51.2)] {
        let config = Config::preset(size).unwrap();
        let plan = |checkpoint_blocks, precision| {
            let hyper = RunSettings { checkpoint_blocks, precision, ..RunSettings::default() }.hyper().unwrap();
            let tuning = Tuning { layer_decay: 1.0, average: None, by_name: false };
            Finetuner::new(&Gpu::dry(caps.clone()), &config, 128, hyper, tuning, 0).unwrap().plan().unwrap()
        };
        let (kept, checkpointed) = (plan(false, Precision::F32), plan(true, Precision::F32));
        let mixed = plan(false, Precision::Mixed);
        assert!((mixed.total() as f64) < paper * 1e9, "{size} in mixed precision: {mixed}");
        saves(&kept, &checkpointed);
        assert_eq!((config.image_size, config.classes), (224, 1000));
        assert!(kept.total() as f64 <= ours * 1e9, "{size}: {kept}");
        assert!((checkpointed.total() as f64) < paper * 1e9, "{size}: {checkpointed}");
        assert!(5 * checkpointed.activations < kept.activations, "{size}: {kept}{checkpointed}");
        assert_eq!(checkpointed.fixed(), kept.fixed());
    }
}
