//! Every pretraining method: its loss falls, its decoder sees only what the mask allows, and a resumed run has the same
//! bits.

use std::path::Path;
use std::sync::atomic::AtomicBool;

use rowscan::data::imagenet::{MEAN, STD};
use rowscan::gpu::Gpu;
use rowscan::infer::reconstruct::Reconstructor;
use rowscan::models::{
    Config, DecoderKind, DecoderMask, Map, MaskedBatch, Method, Objective, Order, PixelPretext, Target, pretext_model,
};
use rowscan::nn::Params;
use rowscan::run::Silent;
use rowscan::run::pretrain;
use rowscan::run::weights_on_disk::read;
use rowscan::run::{Ended, Outputs, RecordSettings, Run, open_data};
use rowscan::tape::Var;
use rowscan::tensor::Tensor;
use rowscan::train::pretrain::mask::{MaskRatio, Masker, PatchMask};
use rowscan::train::pretrain::settings::PretrainSettings;
use rowscan::train::pretrain::step::Pretrainer;
use rowscan::train::settings::RunSettings;

use crate::common::{Random, gpu, some, values};
use crate::nano::{arm, nano, objective, one_way, settings, vim_columns, vit};

const SIDE: usize = 16;

/// Eight pictures of stripes and blobs, (8, S, S, 3).
fn pictures(side: usize) -> Vec<u8> {
    let wave = |i: usize, x: usize, y: usize, c: usize| {
        let phase = (x * (i % 3) + y * (i / 3) + c * i) as f64 * 0.5;
        (128.0 + 100.0 * phase.sin()) as u8
    };
    let each = |i: usize| (0..side * side * 3).map(move |at| wave(i, at / 3 % side, at / 3 / side, at % 3));
    (0..8).flat_map(each).collect()
}

/// The losses of `steps` training steps. Even steps train on the first four of [`pictures`], odd ones on the last four.
fn losses(g: &Gpu, config: &Config, settings: &PretrainSettings, steps: u64) -> Vec<f32> {
    settings.check(config).unwrap();
    let (batch, hyper) = (settings.run.batch_size, settings.run.hyper().unwrap());
    let mut trainer = Pretrainer::new(g, config, &settings.objective, batch, hyper, 7).unwrap();
    let (masker, pictures) = (settings.masker(config).unwrap(), pictures(config.image_size));
    let crops = trainer.model().crops();
    let mut losses = Vec::new();
    for step in 0..steps {
        let half = pictures.len() / 2;
        let mut images = pictures[step as usize % 2 * half..][..half].to_vec();
        let second: Vec<u8> = images.iter().map(|v| v.saturating_add(9)).collect();
        images.extend(second.iter().take(if crops == 2 { half } else { 0 }));
        let loss = trainer.step(&images, &masker.draw(step, batch), step, 3e-3).unwrap();
        losses.push(loss.to_vec(g).unwrap()[0]);
    }
    losses
}

/// Settings of shifted AR.
fn shifted(shift: usize) -> PretrainSettings {
    let settings = settings(Method::AR_SHIFT);
    PretrainSettings { objective: Objective { shift, ..settings.objective }, ..settings }
}

#[test]
fn every_method_learns() {
    let Some(g) = gpu() else { return };
    let raw = PretrainSettings {
        objective: Objective { target: Target::Raw, ..objective(Method::MAP) },
        ..settings(Method::MAP)
    };
    let plain = Objective { vlb: false, ..objective(Method::DIFFUSION) };
    let squared = PretrainSettings { objective: plain, ..settings(Method::DIFFUSION) };
    let all = PretrainSettings { mask_ratio: Some(0.0), ..settings(Method::MAP) };
    let cases = [
        ("ar", nano(), settings(Method::AR)),
        ("ar, columns", vim_columns(), PretrainSettings { mask: "sequential".into(), ..settings(Method::AR) }),
        ("ar, shifted", one_way(nano()), shifted(1)),
        ("ar, shifted by three, columns", one_way(vim_columns()), shifted(3)),
        ("ar, shifted, on a ViT", one_way(vit(DecoderKind::Map)), shifted(1)),
        ("local mae", nano(), settings(Method::LOCAL_MAE)),
        ("mae in map's pipeline", nano(), settings(Method::MAE)),
        ("mae", vit(DecoderKind::Mae), settings(Method::MAE)),
        ("map on a ViT", vit(DecoderKind::Map), settings(Method::MAP)),
        ("map, raw pixels", nano(), raw),
        ("map, nothing hidden", nano(), all),
        ("diffusion", nano(), settings(Method::DIFFUSION)),
        ("diffusion without vlb", nano(), squared),
        ("contrastive", nano(), settings(Method::CONTRASTIVE)),
        ("contrastive on a ViT", vit(DecoderKind::Map), settings(Method::CONTRASTIVE)),
        ("arm", arm(), settings(Method::ARM)),
    ];
    for (name, config, settings) in some(cases) {
        let losses = losses(g, &config, &settings, 60);
        let mean = |part: &[f32]| part.iter().sum::<f32>() / part.len() as f32;
        // The contrastive queue of 16 starts with random vectors, which are easy negatives, and holds only keys after
        // four steps of four images. So the first losses are left out.
        let (first, last) = (mean(&losses[8..18]), mean(&losses[50..]));
        eprintln!("{name}: {first} to {last}");
        assert!(last < 0.95 * first, "{name}: {losses:?}");
        let again = self::losses(g, &config, &settings, 3);
        assert_eq!(again, losses[..3], "{name}: the same bits again");
    }
}

/// Networks on maps read both crops pixel by pixel, not in the patches that their decoder would predict.
#[test]
fn networks_on_maps_are_pretrained_by_contrast() {
    let Some(g) = gpu() else { return };
    let config = Config { image_size: 64, ..Config::preset("mambavision_micro").unwrap() };
    let losses = losses(g, &config, &settings(Method::CONTRASTIVE), 16);
    // after four steps of four images the queue of 16 holds keys of images only
    assert!(losses[12..].iter().all(|last| *last < 0.7 * losses[3]), "{losses:?}");
}

/// A batch of one blank image with half of its tokens visible, and the positions of the visible tokens.
fn batch(g: &Gpu, config: &Config) -> (MaskedBatch, Vec<u32>) {
    let l = config.tokens();
    let hidden: Vec<f32> = (0..l).map(|t| (t * 7 % 16 % 2) as f32).collect();
    let mask = PatchMask::from_mask(&hidden, &config.scan()).unwrap();
    let batch = MaskedBatch {
        patches: Tensor::from_slice(g, &[1, l, config.patch_len()], &vec![0.0; l * config.patch_len()]).unwrap(),
        visible: Tensor::from_indices(g, &[1, mask.visible_len], &mask.visible).unwrap(),
        inverse: Tensor::from_indices(g, &[1, l], &mask.inverse).unwrap(),
        mask: Tensor::from_slice(g, &[1, l], &mask.mask).unwrap(),
        scale: 1.0,
        counted: None,
        second: None,
    };
    (batch, mask.visible)
}

/// A change of one visible token's features changes the predictions of the tokens that may attend to it, and no bit of
/// any other (src/models/README.md, "Decoder masks").
#[test]
fn predictions_depend_on_what_the_decoder_may_see() {
    let Some(g) = gpu() else { return };
    let (side, config) = (4, nano());
    for mask in [DecoderMask::Map, DecoderMask::Ar, DecoderMask::LocalMae, DecoderMask::Mae] {
        for order in [Order::Rows, Order::Columns] {
            let objective = Objective { decoder_mask: Some(mask), decode_order: Some(order), ..Objective::default() };
            let mut params = Params::new(g);
            let model = Map::with(g, &mut params, &config, &objective).unwrap();
            params.init(g, 3).unwrap();
            let (batch, visible) = batch(g, &config);
            let features = Random::new(1).normal(visible.len() * config.width);
            let predict = |features: &[f32]| {
                let features = Tensor::from_slice(g, &[1, visible.len(), config.width], features).unwrap();
                values(g, |r| Ok(model.decode(r, &Var::constant(features), &batch)?.data))
            };
            let before = predict(&features);
            let (ranks, lines) = (order.ranks((side, side)), order.lines((side, side)));
            for (at, &changed) in visible.iter().enumerate() {
                let mut features = features.clone();
                features[at * config.width..(at + 1) * config.width].iter_mut().for_each(|v| *v += 1.0);
                let after = predict(&features);
                for token in 0..side * side {
                    let of = |pred: &[f32]| -> Vec<u32> {
                        let n = config.patch_len();
                        pred[token * n..(token + 1) * n].iter().map(|v| v.to_bits()).collect()
                    };
                    let (i, j) = (token, changed as usize);
                    let sees = match mask {
                        DecoderMask::Map => lines[j] <= lines[i],
                        DecoderMask::Ar => ranks[j] <= ranks[i],
                        DecoderMask::LocalMae => lines[j] == lines[i],
                        DecoderMask::Mae => true,
                    };
                    assert_eq!(of(&before) != of(&after), sees, "{mask:?} {order:?}: token {i} after a change of {j}");
                }
            }
        }
    }
}

/// The predictions (L, P·P·3) of a model with weights drawn from a seed, as a function of the pixels of one image.
fn predictions(g: &Gpu, config: &Config, objective: &Objective) -> impl Fn(&[f32]) -> Vec<Vec<u32>> {
    let mut params = Params::new(g);
    let model = pretext_model(g, &mut params, config, objective).unwrap();
    params.init(g, 3).unwrap();
    let (g, config) = (g.clone(), config.clone());
    move |pixels: &[f32]| {
        let patches = Tensor::from_slice(&g, &[1, config.tokens(), config.patch_len()], pixels).unwrap();
        let batch = MaskedBatch { patches, ..batch(&g, &config).0 };
        let found = values(&g, |r| Ok(model.predict(r, &batch)?.expect("a prediction").pred.data));
        found.chunks_exact(config.patch_len()).map(|patch| patch.iter().map(|v| v.to_bits()).collect()).collect()
    }
}

/// Shifted AR predicts the patch at rank p from ranks of p − n or less: a change of the pixels at rank q changes every
/// prediction from rank q + n on, and no bit of the others. This holds for mixers, for attention, beside a class token
/// and in either order.
#[test]
fn shifted_ar_sees_nothing_less_than_its_shift_before() {
    let Some(g) = gpu() else { return };
    let models = [nano(), vim_columns(), vit(DecoderKind::Map), Config { order: Order::Columns, ..nano() }];
    for (config, shift) in models.into_iter().zip([1, 2, 3, 5]) {
        let (config, objective) = (one_way(config), shifted(shift).objective);
        let (l, n, scan) = (config.tokens(), config.patch_len(), config.scan());
        let predict = predictions(g, &config, &objective);
        let pixels = Random::new(2).normal(l * n);
        let before = predict(&pixels);
        for (q, &changed) in scan.iter().enumerate() {
            let mut pixels = pixels.clone();
            pixels[changed as usize * n..][..n].iter_mut().for_each(|v| *v += 1.0);
            let after = predict(&pixels);
            for (p, &token) in scan.iter().enumerate() {
                let token = token as usize;
                let differs = before[token] != after[token];
                assert_eq!(differs, p >= q + shift, "{:?}: rank {p} after a change of rank {q}", config.family);
            }
        }
    }
}

/// ARM predicts a cluster of 4×4 patches from the clusters before it: a change of one cluster's pixels changes every
/// prediction behind it, and no bit of the others.
#[test]
fn arm_predicts_a_cluster_from_those_before_it() {
    let Some(g) = gpu() else { return };
    let (config, objective) = (arm(), objective(Method::ARM));
    let (l, n) = (config.tokens(), config.patch_len());
    let pixels = Random::new(2).normal(l * n);
    let predict = predictions(g, &config, &objective);
    let before = predict(&pixels);
    for changed in 0..4 {
        let moved = |(i, v): (usize, &f32)| if cluster(i / n) == changed { v + 1.0 } else { *v };
        let after = predict(&pixels.iter().enumerate().map(moved).collect::<Vec<_>>());
        for token in 0..l {
            let differs = before[token] != after[token];
            assert_eq!(differs, cluster(token) > changed, "token {token}, cluster {changed} changed");
        }
    }
}

/// The cluster of a patch of [`arm`], which has 8 patches a side.
fn cluster(token: usize) -> usize {
    token / 8 / 4 * 2 + token % 8 / 4
}

fn outputs(dir: &Path) -> Outputs {
    let record = RecordSettings { log_every: 1, threads: 1, ..RecordSettings::default() };
    Outputs { dir: dir.into(), options: String::new(), record }
}

fn train(g: &Gpu, dir: &Path, config: &Config, settings: &PretrainSettings, resume: Option<&Path>) {
    let outputs = outputs(dir);
    let data = open_data(&settings.run).unwrap();
    let mut run = Run::<pretrain::Pretraining>::new(g, config, settings, &outputs, resume, data).unwrap();
    assert!(matches!(run.train(&AtomicBool::new(false), &mut Silent), Ok(Ended::Finished(Some(_)))));
}

#[test]
fn every_method_goes_on_with_the_same_bits() {
    let Some(g) = gpu() else { return };
    for (method, mut config) in some([
        (Method::AR, vim_columns()),
        (Method::MAE, vit(DecoderKind::Mae)),
        (Method::DIFFUSION, nano()),
        (Method::CONTRASTIVE, nano()),
        (Method::ARM, arm()),
        (Method::AR_SHIFT, one_way(nano())),
    ]) {
        config.drop_path = 0.2;
        let mut settings = settings(method);
        settings.run = RunSettings { data: "synthetic:12".into(), epochs: 2, blr: 0.1, seed: 3, ..settings.run };
        let (whole, again) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        train(g, whole.path(), &config, &settings, None);
        train(g, again.path(), &config, &settings, Some(&whole.path().join("checkpoint-1")));
        let mut files = vec!["model.safetensors", "optimizer.safetensors"];
        if method == Method::CONTRASTIVE {
            files.extend(["keys.safetensors", "queue.safetensors"]);
        }
        assert_eq!(whole.path().join("grid-0002.png").exists(), method.predicts, "{method}");
        for file in files {
            let at = |dir: &Path, epoch: &str| read(&dir.join(epoch).join(file)).unwrap();
            let (end, resumed) = (at(whole.path(), "checkpoint-2"), at(again.path(), "checkpoint-2"));
            assert!(end == resumed, "{method}: {file}");
            assert!(end != at(whole.path(), "checkpoint-1"), "{method}: {file} did not change");
        }
        let other =
            PretrainSettings { objective: Objective { temperature: 0.1, ..settings.objective.clone() }, ..settings };
        let outputs = outputs(again.path());
        let from = whole.path().join("checkpoint-1");
        let data = open_data(&other.run).unwrap();
        let refused = Run::<pretrain::Pretraining>::new(g, &config, &other, &outputs, Some(&from), data);
        let Err(error) = refused else { panic!("{method}: another temperature was taken") };
        assert!(error.to_string().contains("temperature was 0.2, now 0.1"), "{error}");
    }
}

/// MoCo's queue and key encoder: keys are unit vectors, the newest replace the oldest, and each weight of the key
/// encoder becomes momentum·key + (1 − momentum)·query.
#[test]
fn the_queue_and_the_key_encoder_follow() {
    let Some(g) = gpu() else { return };
    let (config, mut settings) = (nano(), settings(Method::CONTRASTIVE));
    settings.objective.key_momentum = 0.9;
    let hyper = settings.run.hyper().unwrap();
    let mut trainer = Pretrainer::new(g, &config, &settings.objective, 4, hyper, 7).unwrap();
    let images: Vec<u8> = [pictures(SIDE), pictures(SIDE)].concat()[..8 * SIDE * SIDE * 3].to_vec();
    let mask = settings.masker(&config).unwrap().draw(0, 4);
    let weights = |params: &Params| pollster::block_on(params.weights(g)).unwrap();
    let keys = |trainer: &Pretrainer| {
        let [("keys.safetensors", keys), ("queue.safetensors", queue)] = trainer.model().companions()[..] else {
            panic!("another method")
        };
        (weights(keys), weights(queue)["queue"].1.clone())
    };
    let (start, queue) = keys(&trainer);
    assert_eq!(start, weights(&trainer.params));
    let norm = |row: &[f32]| row.iter().map(|x| x * x).sum::<f32>().sqrt();
    assert!(queue.chunks(128).all(|row| (norm(row) - 1.0).abs() < 1e-5));
    trainer.step(&images, &mask, 0, 1e-2).unwrap();
    let (after, turned) = keys(&trainer);
    assert!(turned[..4 * 128] != queue[..4 * 128] && turned[4 * 128..] == queue[4 * 128..]);
    assert!(turned.chunks(128).all(|row| (norm(row) - 1.0).abs() < 1e-5));
    let now = weights(&trainer.params);
    for (name, (_, values)) in &after {
        for ((key, was), query) in values.iter().zip(&start[name].1).zip(&now[name].1) {
            assert!((key - (0.9 * was + 0.1 * query)).abs() < 1e-6, "{name}");
        }
    }
    assert!(now["projector.2.weight"] != start["projector.2.weight"]);
}

/// In a step of several micro-batches all of them read the queue as it was, and their keys follow each other in it: the
/// step is that of one batch.
#[test]
fn the_queue_takes_the_keys_of_all_micro_batches() {
    let Some(g) = gpu() else { return };
    let config = nano();
    let images: Vec<u8> = [pictures(SIDE), pictures(SIDE)].concat()[..8 * SIDE * SIDE * 3].to_vec();
    let each = SIDE * SIDE * 3;
    let run = |batch_size: usize, accum_iter: usize| {
        let mut settings = settings(Method::CONTRASTIVE);
        settings.run = RunSettings { batch_size, accum_iter, eps: 0.01, ..settings.run };
        let hyper = settings.run.hyper().unwrap();
        let mut trainer = Pretrainer::new(g, &config, &settings.objective, batch_size, hyper, 7).unwrap();
        let mut loss = 0.0;
        for step in 0..3 {
            let mask = settings.masker(&config).unwrap().draw(step, 4);
            loss = trainer.step(&images[..8 * each], &mask, step, 1e-2).unwrap().to_vec(g).unwrap()[0];
        }
        let queue = trainer.model().companions()[1].1;
        (loss, pollster::block_on(queue.weights(g)).unwrap()["queue"].1.clone())
    };
    let (whole, parts) = (run(4, 1), run(2, 2));
    assert!((whole.0 - parts.0).abs() < 1e-5 * whole.0, "{} and {}", whole.0, parts.0);
    // numbers of unit vectors; only the order of sums over images differs between the two
    let largest = whole.1.iter().zip(&parts.1).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest < 1e-4, "{largest}");
}

#[test]
fn pictures_come_of_every_method_that_predicts() {
    let Some(g) = gpu() else { return };
    let target = Target::Raw;
    for (config, objective) in [
        (nano(), Objective { target, ..objective(Method::MAP) }),
        (vit(DecoderKind::Mae), objective(Method::MAE)),
        (nano(), objective(Method::DIFFUSION)),
        (vim_columns(), Objective { vlb: false, target, ..objective(Method::DIFFUSION) }),
    ] {
        let mut params = Params::new(g);
        let model = pretext_model(g, &mut params, &config, &objective).unwrap();
        params.init(g, 3).unwrap();
        let mask = Masker::new("random".parse().unwrap(), MaskRatio::Fixed(0.5), (4, 4), 1).unwrap();
        let mask = mask.in_order(config.order, objective.order(&config)).draw(0, 2);
        let reconstructor = Reconstructor::new(g, &*model, &config, 2, mask.visible_len).unwrap();
        let images = &pictures(SIDE)[..2 * SIDE * SIDE * 3];
        let (drawn, loss) = pollster::block_on(reconstructor.run(images, &mask)).unwrap();
        let (_, again) = pollster::block_on(reconstructor.run(images, &mask)).unwrap();
        // The sampler clips its estimate of x0, so the loss of an untrained denoiser is bounded too.
        assert!(loss > 0.0 && loss < 40.0 && loss == again, "{objective:?}: {loss} {again}");
        for (b, p) in drawn.iter().enumerate() {
            assert_eq!(p.original, images[b * SIDE * SIDE * 3..][..SIDE * SIDE * 3]);
            for at in 0..SIDE * SIDE * 3 {
                let token = at / 3 / SIDE / 4 * 4 + at / 3 % SIDE / 4;
                let hidden = mask.mask[b * 16 + token] == 1.0;
                assert!(hidden || p.reconstruction[at] == p.original[at], "visible patches stay");
                assert_eq!(p.masked[at], if hidden { 128 } else { p.original[at] });
            }
            assert!(p.reconstruction != p.original);
        }
    }
    let mut params = Params::new(g);
    let model = pretext_model(g, &mut params, &nano(), &objective(Method::CONTRASTIVE)).unwrap();
    let error = Reconstructor::new(g, &*model, &nano(), 1, 8).unwrap_err().to_string();
    assert!(
        error.contains("contrastive") && error.contains("map, mae, ar, ar-shift, local-mae, diffusion or arm"),
        "{error}"
    );
}

/// Methods that hide nothing draw every patch that they predict from others: ARM all but its first cluster, which is
/// shown as given, and shifted AR all.
#[test]
fn pictures_of_methods_that_hide_nothing_show_all_that_they_predict() {
    let Some(g) = gpu() else { return };
    let by_arm: Vec<bool> = (0..64).map(|token| cluster(token) == 0).collect();
    for (config, settings, given) in
        [(arm(), settings(Method::ARM), by_arm), (one_way(nano()), shifted(2), vec![false; 16])]
    {
        let mut params = Params::new(g);
        let model = pretext_model(g, &mut params, &config, &settings.objective).unwrap();
        params.init(g, 3).unwrap();
        let mask = settings.masker(&config).unwrap().draw(0, 2);
        let reconstructor = Reconstructor::new(g, &*model, &config, 2, mask.visible_len).unwrap();
        let images = &pictures(SIDE)[..2 * SIDE * SIDE * 3];
        let (drawn, loss) = pollster::block_on(reconstructor.run(images, &mask)).unwrap();
        let (l, side, patch) = (config.tokens(), config.grid(), config.patch_size);
        let shown: Vec<f32> = (0..2 * l).map(|i| f32::from(!given[i % l])).collect();
        assert_eq!(reconstructor.predicted(&mask), shown);
        // the loss is the mean of the errors that the pictures show, over the patches that are predicted
        let errors: Vec<f32> = drawn.iter().flat_map(|p| p.errors.clone()).collect();
        let mean = errors.iter().sum::<f32>() / shown.iter().sum::<f32>();
        assert!((mean / loss - 1.0).abs() < 1e-4, "{mean} {loss}");
        for (p, image) in drawn.iter().zip(images.chunks_exact(SIDE * SIDE * 3)) {
            for (at, &pixel) in image.iter().enumerate() {
                let given = given[at / 3 / SIDE / patch * side + at / 3 % SIDE / patch];
                assert_eq!(p.masked[at], if given { pixel } else { 128 });
                assert!(!given || p.reconstruction[at] == pixel);
            }
            assert!(p.reconstruction != image);
        }
    }
}

/// The loss of a decoder that predicts zeros is the mean square of the target: of raw pixels (minus ImageNet's mean,
/// over its deviation), or of pixels normalized per patch.
#[test]
fn raw_and_normalized_targets_differ_by_the_patch() {
    let Some(g) = gpu() else { return };
    let images = pictures(SIDE);
    let normal = |at: usize| (f32::from(images[at]) / 255.0 - MEAN[at % 3]) / STD[at % 3];
    let (batch, config) = (8, nano());
    for (target, expected) in [
        (Target::Raw, (0..images.len()).map(|at| normal(at).powi(2)).sum::<f32>() / images.len() as f32),
        (Target::Normalized, 47.0 / 48.0), // a patch of 48 numbers over its unbiased deviation
    ] {
        let objective = Objective { target, ..objective(Method::MAP) };
        let mut params = Params::new(g);
        let model = pretext_model(g, &mut params, &config, &objective).unwrap();
        params.init(g, 3).unwrap();
        let mut weights = pollster::block_on(params.weights(g)).unwrap();
        weights.get_mut("ar_pred.weight").unwrap().1.fill(0.0);
        params.load(g, &weights).unwrap();
        let mask =
            PretrainSettings { mask_ratio: Some(0.0), ..settings(Method::MAP) }.masker(&config).unwrap().draw(0, batch);
        let reconstructor = Reconstructor::new(g, &*model, &config, batch, mask.visible_len).unwrap();
        let (_, loss) = pollster::block_on(reconstructor.run(&images, &mask)).unwrap();
        assert!((loss / expected - 1.0).abs() < 1e-4, "{target:?}: {loss}, expected {expected}");
    }
}
