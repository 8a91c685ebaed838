//! Networks on point clouds: training by every method, and what is refused.

use rowscan::data::points::{CloudView, PointPatches};
use rowscan::gpu::Gpu;
use rowscan::infer::reconstruct_clouds::CloudReconstructor;
use rowscan::infer::scores::scores_of;
use rowscan::models::{Classifier, Config, Method, PointMixers, Points};
use rowscan::nn::Params;
use rowscan::train::finetune::step::Finetuner;
use rowscan::train::pretrain::settings::PretrainSettings;
use rowscan::train::pretrain::step::Pretrainer;
use rowscan::train::settings::RunSettings;
use rowscan::train::supervised::Tuning;

use crate::common::{Random, gpu};
use crate::nano::settings;

/// A network on clouds of 32 points in 9 patches.
fn nano(mixers: PointMixers) -> Config {
    let points = Points {
        mixers,
        depth: 3,
        count: 32,
        groups: 9,
        group_size: 6,
        neighbors: 3,
        encoder_hidden: [8, 12, 16],
        pos_hidden: 8,
        head_hidden: 8,
        ..Points::default()
    };
    let mut config =
        Config { width: 16, heads: 2, classes: 2, points: Some(points), ..Config::preset("mamba3d_micro").unwrap() };
    config.decoder.depth = 1;
    config
}

const ALL: [PointMixers; 4] =
    [PointMixers::Mamba, PointMixers::Hybrid, PointMixers::HybridAttention, PointMixers::Transformer];

/// Four clouds, round ones and flat ones by turns, as a batch has them.
fn clouds(points: &Points) -> Vec<u8> {
    let cloud = |i: usize| {
        let values = Random::new(i as u64).normal(points.count * 3);
        let flat = if i.is_multiple_of(2) { 1.0 } else { 0.05 };
        let positions: Vec<[f32; 3]> = values.as_chunks::<3>().0.iter().map(|[x, y, z]| [*x, y * flat, *z]).collect();
        PointPatches::new(&positions, points.groups, points.group_size).unwrap().packed()
    };
    let values: Vec<f32> = (0..4).flat_map(cloud).collect();
    bytemuck::cast_slice(&values).to_vec()
}

fn bits(values: Vec<f32>) -> Vec<u32> {
    values.into_iter().map(f32::to_bits).collect()
}

fn mean(part: &[f32]) -> f32 {
    part.iter().sum::<f32>() / part.len() as f32
}

/// The losses of pretraining steps and the bits of the model behind them.
fn pretrained(g: &Gpu, config: &Config, method: Method, checkpoint_blocks: bool, steps: u64) -> (Vec<f32>, Vec<u32>) {
    let run = RunSettings { batch_size: 4, checkpoint_blocks, ..RunSettings::default() };
    let settings = PretrainSettings { run, ..settings(method) };
    settings.check(config).unwrap();
    let hyper = settings.run.hyper().unwrap();
    let mut trainer = Pretrainer::new(g, config, &settings.objective, 4, hyper, 7).unwrap();
    let (masker, clouds) = (settings.masker(config).unwrap(), clouds(config.points().unwrap()));
    let mut step = |step| trainer.step(&clouds, &masker.draw(step, 4), step, 3e-3).unwrap().to_vec(g).unwrap()[0];
    let losses = (0..steps).map(&mut step).collect();
    let weights = pollster::block_on(trainer.params.weights(g)).unwrap();
    (losses, weights.into_values().flat_map(|(_, values)| bits(values)).collect())
}

/// The loss falls with every mixer, and a block that is computed again for its gradients changes no bit.
#[test]
fn both_methods_train_on_clouds() {
    let Some(g) = gpu() else { return };
    for (mixers, method) in ALL.into_iter().zip([Method::MAP, Method::MAP, Method::POINT_MAE, Method::POINT_MAE]) {
        let config = Config { drop_path: 0.1, ..nano(mixers) };
        let (losses, _) = pretrained(g, &config, method, false, 40);
        assert!(mean(&losses[35..]) < 0.9 * mean(&losses[..5]), "{mixers:?} {method}: {losses:?}");
        let [plain, again] = [false, true].map(|checkpoint| pretrained(g, &config, method, checkpoint, 3));
        assert_eq!(plain, again, "{mixers:?} {method}");
    }
}

/// Fine-tuning learns to tell flat clouds from round ones, with DropPath and dropout.
#[test]
fn classifiers_of_clouds_learn() {
    let Some(g) = gpu() else { return };
    for mixers in ALL {
        let config = Config { drop_path: 0.1, dropout: 0.2, ..nano(mixers) };
        let run = RunSettings { batch_size: 4, ..RunSettings::default() };
        let tuning = Tuning { layer_decay: 0.9, average: None, by_name: false };
        let mut tuner = Finetuner::new(g, &config, 4, run.hyper().unwrap(), tuning, 3).unwrap();
        let (clouds, targets) = (clouds(config.points().unwrap()), [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]);
        let mut step = |step| tuner.step((&clouds, &targets), step, 1e-2).unwrap().to_vec(g).unwrap()[0];
        let losses: Vec<f32> = (0..30).map(&mut step).collect();
        assert!(mean(&losses[25..]) < 0.8 * mean(&losses[..3]), "{mixers:?}: {losses:?}");
    }
}

/// Clouds of a batch see each other in local norms, so a short batch has the scores of a batch of its own.
#[test]
fn a_short_batch_is_a_batch_of_its_own() {
    let Some(g) = gpu() else { return };
    let config = nano(PointMixers::Mamba);
    let mut params = Params::new(g);
    let model = Classifier::new(g, &mut params, &config).unwrap();
    params.init(g, 3).unwrap();
    let clouds = clouds(config.points().unwrap());
    let [three, four] = [3, 4].map(|batch| {
        let forward = scores_of(g, &model, &config, batch).unwrap();
        let scores = |count: usize| bits(pollster::block_on(forward.run(&clouds[..clouds.len() / 4 * count])).unwrap());
        (scores(3), scores(3), (batch == 4).then(|| scores(4)))
    });
    assert_eq!((&three.0, &three.1), (&four.0, &four.1));
    let whole = four.2.unwrap();
    assert_eq!((three.0.len(), whole.len()), (6, 8));
    assert_ne!(three.0, whole[..6]);
}

/// The pictures show the clouds that were given, and rebuilt points whose distance from the true ones is the loss.
#[test]
fn reconstructions_are_about_their_centers() {
    let Some(g) = gpu() else { return };
    let config = nano(PointMixers::Hybrid);
    let points = config.points().unwrap();
    let settings = settings(Method::MAP);
    let hyper = settings.run.hyper().unwrap();
    let trainer = Pretrainer::new(g, &config, &settings.objective, 4, hyper, 7).unwrap();
    let mask = settings.masker(&config).unwrap().draw(5, 4);
    let reconstructor = CloudReconstructor::new(g, trainer.model(), &config, 4, mask.visible_len).unwrap();
    let patches = clouds(points);
    let (rebuilt, loss) = pollster::block_on(reconstructor.run(&patches, &mask)).unwrap();
    let near = |from: &[[f32; 3]], to: &[[f32; 3]]| -> f64 {
        let squared = |a: &[f32; 3], b: &[f32; 3]| (0..3).map(|i| f64::from(a[i] - b[i]).powi(2)).sum::<f64>();
        let nearest = |a| to.iter().map(|b| squared(a, b)).fold(f64::INFINITY, f64::min);
        from.iter().map(nearest).sum::<f64>() / from.len() as f64
    };
    let mut distances = Vec::new();
    for (cloud, inverse) in rebuilt.iter().zip(mask.inverse.chunks(points.groups)) {
        let parts = |hidden: bool| {
            let patches = cloud.original.chunks(points.group_size).zip(inverse);
            patches.filter(move |(_, place)| (**place == u32::MAX) == hidden).map(|(patch, _)| patch)
        };
        assert_eq!(parts(false).flatten().collect::<Vec<_>>(), cloud.visible.iter().collect::<Vec<_>>());
        let made = cloud.rebuilt.chunks(points.group_size);
        assert_eq!(parts(true).count(), made.len());
        distances.extend(parts(true).zip(made).map(|(patch, made)| near(patch, made) + near(made, patch)));
    }
    let expected = distances.iter().sum::<f64>() / distances.len() as f64;
    assert!((f64::from(loss) - expected).abs() < 1e-4 * expected, "{loss} {expected}"); // f32 coordinates are rounded
}

#[test]
fn what_fits_no_cloud_is_named() {
    let says = |config: Config, what: &str| {
        let e = config.validate().unwrap_err().to_string();
        assert!(e.contains(what), "{e}");
    };
    let with = |change: &dyn Fn(&mut Points)| {
        let mut config = nano(PointMixers::Mamba);
        change(config.points.as_mut().unwrap());
        config
    };
    says(Config { points: None, ..nano(PointMixers::Mamba) }, "points of a network on point clouds: got none");
    says(with(&|points| points.groups = 300), "points.groups: got 300");
    says(with(&|points| points.neighbors = 10), "points.neighbors: got 10, expected 1 to 9");
    says(with(&|points| points.count = 8), "points.count: got 8, expected 9 to");
    says(Config { heads: 5, ..nano(PointMixers::Hybrid) }, "heads: got 5");
    let points = nano(PointMixers::Mamba).points;
    says(Config { points, ..Config::preset("micro").unwrap() }, "expected none");

    let Some(g) = gpu() else { return };
    let odd = with(&|points| points.groups = 8);
    let hyper = RunSettings::default().hyper().unwrap();
    let error = |method| match Pretrainer::new(g, &odd, &settings(method).objective, 4, hyper, 7) {
        Ok(_) => String::new(),
        Err(e) => e.to_string(),
    };
    assert!(error(Method::MAP).contains("points.groups for MAP: got 8, expected a square"), "{}", error(Method::MAP));
    assert_eq!(error(Method::POINT_MAE), "");
    assert!(CloudView::test(odd.points().unwrap()).check().is_ok());
}
