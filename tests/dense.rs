//! Networks for dense tasks: sizes, what they read of a backbone, training, and a detector's step in two halves.

use std::collections::BTreeSet;

use rowscan::Result;
use rowscan::gpu::{Caps, Gpu, Precision, Program};
use rowscan::models::dense::boxes::{Candidates, Region, proposals};
use rowscan::models::dense::{
    BoxRows, Dense, Detection, MaskTargets, PictureBoxes, PixelDecoder, RegionTargets, Segmentation,
};
use rowscan::models::{Backbone, Config, Detector, Proposed, Purpose, Segmenter, backbone};
use rowscan::nn::Params;
use rowscan::ops::box_refine::RefinedBoxes;
use rowscan::tape::{Recorder, Var};
use rowscan::tensor::Tensor;
use rowscan::train::dense_recipes::{DenseRecipe, DetectionRecipe, RecipeModel, SegmentationRecipe};
use rowscan::train::detect;
use rowscan::train::detect::recipes::detect_recipe;
use rowscan::train::detect::step::DetectInputs;
use rowscan::train::optimizer::{DecayRule, Group};
use rowscan::train::segment::recipes::segment_recipe;
use rowscan::train::segment::step::SegmentInputs;
use rowscan::train::settings::RunSettings;
use rowscan::train::supervised::Supervised;
use rowscan::train::update::{Hyper, Update};

use crate::common::{Random, close_l2, each_tier, gpu, one_in, wide};

const MODELS: [&str; 6] = [
    "map_micro_patch4_32",
    "mambar_micro_patch4_32",
    "vim_micro_patch4_32",
    "vim_micro_patch4_32_columns",
    "vit_micro_patch4_32",
    "arm_micro_patch4_32",
];
const CLASSES: usize = 5;

fn segmentation() -> Dense {
    Dense::Segmentation(Segmentation { channels: 12, auxiliary: 8, ..Segmentation::default() })
}

/// The preset on maps of 4×4 cells.
fn segmenter(name: &str) -> Config {
    Config { image_size: 16, ..Config::preset(name).unwrap() }.for_dense(segmentation(), CLASSES)
}

fn patches(g: &Gpu, config: &Config, b: usize) -> Var {
    let shape = [b, config.tokens(), config.patch_len()];
    Var::constant(Tensor::from_slice(g, &shape, &Random::new(5).normal(shape.iter().product())).unwrap())
}

/// Labels whose class is the quarter of the image, and an ignored row.
fn labels(g: &Gpu, config: &Config, b: usize) -> Tensor {
    let side = config.image_size;
    let of = |i: usize| match (i / side % side, i % side) {
        (0, _) => 255,
        (y, x) => (2 * (2 * y / side) + 2 * x / side) as u32,
    };
    let values: Vec<u32> = (0..b * side * side).map(of).collect();
    Tensor::from_indices(g, &[b, side, side], &values).unwrap()
}

/// Parameters of a network, counted without a device.
fn count(build: impl Fn(&Gpu, &mut Params) -> Result<()>) -> usize {
    let g = Gpu::dry(Caps::portable());
    let mut params = Params::new(&g);
    build(&g, &mut params).unwrap();
    params.count()
}

#[test]
fn sizes_of_the_papers() {
    let of = |name: &str, channels: usize| {
        let dense = Dense::Segmentation(Segmentation { channels, ..Segmentation::default() });
        let config = Config { image_size: 512, ..Config::preset(name).unwrap() }.for_dense(dense, 150);
        count(|g, p| Segmenter::new(g, p, &config).map(drop))
    };
    assert_eq!(of("vim_tiny_patch16_224", 192), 12_311_276);
    let tenths = |channels| (of("map_small_patch16_224", channels) as f64 / 1e5).round();
    assert_eq!((tenths(384), tenths(512)), (549.0, 671.0));
    // backbones without their classifiers, norms on four maps (but EfficientNet), and mmsegmentation's heads; the first
    // two are published as 60 and 62 million
    let on_maps = ["convnext_tiny", "vmamba_tiny", "mambavision_tiny_1k", "efficientnet_b3"].map(|name| of(name, 512));
    assert_eq!(on_maps, [60_242_636, 62_359_340, 62_518_764, 39_163_732]);
    let dense = Dense::Detection(Detection::default());
    let config = Config { image_size: 1024, ..Config::preset("vim_tiny_patch16_224").unwrap() }.for_dense(dense, 80);
    let plain = count(|g, p| backbone(g, p, &config, Purpose::Pretraining).map(drop));
    let all = count(|g, p| Detector::new(g, p, &config).map(drop));
    assert_eq!(all - plain, 2_664_880 + 1_184_015 + 45_883_647 + 2_644_304);
}

/// The flags for parity with the official code give its rates and decays name by name, and the defaults those of D-24
/// and D-25.
#[test]
fn rates_and_decays_of_the_official_code() {
    let g = Gpu::dry(Caps::portable());
    let of = |config: &Config| -> Params {
        let mut params = Params::new(&g);
        match &config.dense {
            Some(Dense::Segmentation(_)) => drop(Segmenter::new(&g, &mut params, config).unwrap()),
            _ => drop(Detector::new(&g, &mut params, config).unwrap()),
        }
        params
    };
    let net = |name: &str, dense| Config { image_size: 64, ..Config::preset(name).unwrap() }.for_dense(dense, 3);
    let close = |name: &str, ours: f64, theirs: f64| assert!((ours - theirs).abs() < 1e-12, "{name}: {ours}, {theirs}");
    for (name, layers) in [("map_micro_patch8_64", 6), ("vim_micro_patch4_32", 7), ("vit_micro_patch4_32", 6)] {
        let config = net(name, Dense::Segmentation(Segmentation::of_width(64)));
        let recipe = SegmentationRecipe { layers, ..SegmentationRecipe::VIM_SMALL };
        for entry in of(&config).entries() {
            let (name, theirs) = (&*entry.name, recipe.of(&entry.name, entry.shape.len()));
            assert_eq!(DecayRule::Mmsegmentation.decays(entry), theirs.decay > 0.0, "{name}");
            let depth = SegmentInputs::depth_by_name(&config, name) as i32;
            close(name, recipe.layer_decay.powi(depth), theirs.rate);
            if name == "backbone.pos_embed" || name.contains("A_log") {
                assert!(theirs.decay > 0.0 && !DecayRule::Recommended.decays(entry), "{name}");
            }
        }
        let config = net(name, Dense::Detection(Detection::micro()));
        let recipe = DetectionRecipe { layers, ..DetectionRecipe::VIM_TINY };
        for entry in of(&config).entries() {
            let (name, theirs) = (&*entry.name, recipe.of(&entry.name));
            let is_block_norm = name.contains(".blocks.") && name.contains(".norm");
            assert_eq!(DecayRule::Detectron2.decays(entry), theirs.decay > 0.0 && !is_block_norm, "{name}");
            let depth = DetectInputs::depth_by_name(&config, name) as i32;
            if config.pattern.contains('M') {
                close(name, recipe.layer_decay.powi(depth), theirs.rate);
            } else {
                assert_eq!(depth, DetectInputs::depth(&config, name) as i32, "{name}");
            }
        }
    }
    // the last block of a hybrid has the rate of the layer before it, in the official code a lower one
    let config = net("map_micro_patch8_64", Dense::Segmentation(Segmentation::of_width(64)));
    let block = "backbone.blocks.1.mlp.fc1.weight";
    let depths = (SegmentInputs::depth(&config, block), SegmentInputs::depth_by_name(&config, block));
    assert_eq!(depths, (1, 5));
    let layer = "backbone.layers.0.mixer.in_proj.weight";
    assert_eq!((SegmentInputs::depth(&config, layer), SegmentInputs::depth_by_name(&config, layer)), (6, 0));
}

/// The networks of the recipes have the sizes of Tables 9 and 10.
#[test]
fn sizes_of_the_recipes() {
    let thousands = |count: usize| (count as f64 / 1e3).round();
    let config = |model: RecipeModel, dense| Config::preset(model.name).unwrap().for_dense(dense, model.classes);
    let segmenting = |name: &str| {
        let DenseRecipe { model, heads, .. } = segment_recipe(name).unwrap();
        let config = config(model, Dense::Segmentation(heads));
        count(|g, p| Segmenter::new(g, p, &config).map(drop))
    };
    assert_eq!(segmenting("vim_tiny_ade20k"), 12_311_276);
    let tenths = |name| (thousands(segmenting(name)) / 100.0).round();
    assert_eq!((tenths("map_small_ade20k"), tenths("map_small_paper_ade20k")), (549.0, 671.0));
    // mmsegmentation's `upernet_r50`, `upernet_r101` and `deeplabv3plus_r101-d8` in training, with the 7×7 stem
    let on_maps = ["resnet50_ade20k", "resnet101_ade20k", "deeplab_resnet101_ade20k"].map(segmenting);
    assert_eq!(on_maps, [66_496_876, 85_489_004, 62_663_644]);
    for (name, _) in detect::recipes::RECIPES {
        let DenseRecipe { model, heads, .. } = detect_recipe(name).unwrap();
        let config = config(model, Dense::Detection(heads));
        let plain = count(|g, p| backbone(g, p, &config, Purpose::Pretraining).map(drop));
        let all = count(|g, p| Detector::new(g, p, &config).map(drop));
        assert_eq!(all - plain, 2_664_880 + 1_184_015 + 45_883_647 + 2_644_304, "{name}");
    }
}

/// The last depth is what leaves the last layer: behind the last norm it is what a probe reads.
#[test]
fn the_last_depth_is_what_the_last_norm_reads() -> Result<()> {
    let Some(g) = gpu() else { return Ok(()) };
    for name in MODELS {
        let config = segmenter(name);
        let mut params = Params::new(g);
        let net: Backbone = backbone(g, &mut params, &config, Purpose::Pretraining)?;
        params.draw(g, 3)?;
        let x = patches(g, &config, 2);
        let mut r = Recorder::inference(g);
        let (depths, tokens) = (net.depths(&mut r, &x, None, 2)?, net.tokens(&mut r, &x, None)?);
        r.run()?;
        assert_eq!(depths[0].data.shape(), [2, 4, 4, config.width]);
        let (last, first) = (depths[1].data.to_vec(g)?, depths[0].data.to_vec(g)?);
        assert_ne!(first, last);
        // new norms have a weight of 1 and a bias of 0
        let is_layer = name.starts_with("vit") || name.starts_with("arm");
        let normed = last.chunks(config.width).flat_map(|row| {
            let mean = if is_layer { row.iter().sum::<f32>() / row.len() as f32 } else { 0.0 };
            let square = row.iter().map(|v| (v - mean).powi(2)).sum::<f32>() / row.len() as f32;
            let scale = (square + config.eps()).powf(-0.5);
            row.iter().map(move |v| (v - mean) * scale).collect::<Vec<f32>>()
        });
        // sums of 64 squares
        close_l2(name, &normed.collect::<Vec<f32>>(), &wide(&tokens.data.to_vec(g)?), 1e-5);
    }
    Ok(())
}

/// A backbone on maps of one block a stage or two, with one of the two heads.
fn on_maps(name: &str, decoder: PixelDecoder, image_size: usize) -> Config {
    let heads = Segmentation { decoder, channels: 12, auxiliary: 8, ..Segmentation::default() };
    Config { image_size, ..Config::preset(name).unwrap() }.for_dense(Dense::Segmentation(heads), CLASSES)
}

/// Both heads on backbones on maps: sizes of maps, a loss near that of chance, a gradient for every parameter, and what
/// they learn. Images of 36 pixels have an odd number of cells.
#[test]
fn a_segmenter_on_maps_scores_every_fourth_pixel() -> Result<()> {
    let Some(g) = gpu() else { return Ok(()) };
    let (upernet, deeplab) = (PixelDecoder::UperNet, PixelDecoder::DeepLab);
    let all = [
        ("resnet_micro", upernet, 36, [9, 5, 3, 2]),
        ("convnext_micro", upernet, 32, [8, 4, 2, 1]),
        ("mambavision_micro", upernet, 32, [8, 4, 2, 1]),
        ("resnet_micro", deeplab, 36, [9, 5, 5, 5]),
        ("vmamba_micro", upernet, 36, [9, 5, 3, 2]),
    ];
    for (name, decoder, size, sides) in one_in(3, all) {
        let config = on_maps(name, decoder, size);
        let what = format!("{name}, {decoder:?}");
        let mut params = Params::new(g);
        let model = Segmenter::new(g, &mut params, &config)?;
        params.init(g, 3)?;
        let shape = [2, size * size, 3];
        let x = Var::constant(Tensor::from_slice(g, &shape, &Random::new(5).normal(shape.iter().product()))?);
        let mut r = Recorder::new(g);
        let scores = model.forward(&mut r, &x, None, [None; 2])?;
        let losses = model.losses(&mut r, &scores, &labels(g, &config, 2))?;
        let grads = r.backward(&losses.total, params.grads())?;
        r.run()?;
        let found = scores.levels.each_ref().map(|level| level.data.shape()[1]);
        let cells = [2, sides[0], sides[0], CLASSES];
        assert_eq!((found, scores.logits.data.shape()), (sides, &cells[..]), "{what}");
        let loss = losses.decode.data.to_vec(g)?[0];
        let share = (size - 1) as f32 / size as f32 * (CLASSES as f32).ln(); // a row is ignored
        assert!((loss - share).abs() < 0.2, "{what}: {loss}, expected about {share}");
        let without: Vec<&str> = params
            .entries()
            .iter()
            .map(|entry| entry.name.as_str())
            .filter(|name| !params.has_gradient(name, &grads))
            .collect();
        assert_eq!(without, [""; 0], "{what}");
        let losses = train_on(g, &config, &x, 30, false)?;
        assert!(losses[29] < 0.75 * losses[0], "{what}: {losses:?}");
        assert_eq!(train_on(g, &config, &x, 2, true)?, losses[..2], "{what} with blocks computed again");
    }
    Ok(())
}

#[test]
fn a_segmenter_scores_every_fourth_of_a_patch() -> Result<()> {
    let Some(g) = gpu() else { return Ok(()) };
    for name in MODELS {
        let config = segmenter(name);
        let mut params = Params::new(g);
        let model = Segmenter::new(g, &mut params, &config)?;
        params.init(g, 3)?;
        let x = patches(g, &config, 2);
        let mut r = Recorder::new(g);
        let scores = model.forward(&mut r, &x, None, [None; 2])?;
        let losses = model.losses(&mut r, &scores, &labels(g, &config, 2))?;
        let grads = r.backward(&losses.total, params.grads())?;
        r.run()?;
        assert_eq!(scores.logits.data.shape(), [2, 16, 16, CLASSES], "{name}");
        let loss = losses.decode.data.to_vec(g)?[0];
        let share = 15.0 / 16.0 * (CLASSES as f32).ln(); // scores start next to zero
        assert!((loss - share).abs() < 0.2, "{name}: {loss}, expected about {share}");
        // nobody reads the last norm, and biases in front of batch norms have no gradient
        let without: BTreeSet<&str> = params
            .entries()
            .iter()
            .filter(|entry| !params.has_gradient(&entry.name, &grads))
            .map(|entry| entry.name.as_str())
            .collect();
        let biases = ["backbone.fpn1.0.bias", "backbone.fpn1.3.bias", "backbone.fpn2.0.bias"];
        let norm: &[&str] = match name.split('_').next() {
            Some("vit") => &["backbone.norm.weight", "backbone.norm.bias"],
            Some("arm") => &["backbone.norm_f.weight", "backbone.norm_f.bias"],
            _ => &["backbone.norm_f.weight"],
        };
        let expected: BTreeSet<&str> = biases.into_iter().chain(norm.iter().copied()).collect();
        assert_eq!(without, expected, "{name}");
    }
    Ok(())
}

/// Mixed precision gives scores and losses near those of f32, and no gradient that is not finite.
#[test]
fn mixed_precision_is_near() -> Result<()> {
    let Some(g) = gpu() else { return Ok(()) };
    let config = segmenter("map_micro_patch4_32");
    let mut params = Params::new(g);
    let model = Segmenter::new(g, &mut params, &config)?;
    params.init(g, 3)?;
    let run = |precision| -> Result<(Vec<f32>, rowscan::nn::Weights)> {
        let mut r = Recorder::new(g).in_precision(precision);
        let scores = model.forward(&mut r, &patches(g, &config, 2), None, [None; 2])?;
        let losses = model.losses(&mut r, &scores, &labels(g, &config, 2))?;
        r.backward(&losses.total, params.grads())?;
        r.run()?;
        Ok((scores.logits.data.to_vec(g)?, pollster::block_on(params.gradients(g))?))
    };
    let ((exact, dexact), (near, dnear)) = (run(Precision::F32)?, run(Precision::Mixed)?);
    close_l2("scores", &near, &wide(&exact), 2e-2); // the gate of mixed precision on outputs
    for name in ["decode_head.conv_seg.weight", "decode_head.psp_modules.3.1.conv.weight", "backbone.fpn1.3.weight"] {
        close_l2(name, &dnear[name].1, &wide(&dexact[name].1), 1e-1); // 2⁻¹¹ a product, through a dozen batch norms
    }
    assert!(dnear.values().flat_map(|(_, values)| values).all(|v| v.is_finite()));
    Ok(())
}

fn hyper(checkpoint_blocks: bool) -> Hyper {
    Hyper { checkpoint_blocks, ..RunSettings::default().hyper().unwrap() }
}

/// Losses of `steps` steps on one batch.
fn train(g: &Gpu, config: &Config, steps: u64, checkpoint_blocks: bool) -> Result<Vec<f32>> {
    train_on(g, config, &patches(g, config, 2), steps, checkpoint_blocks)
}

fn train_on(g: &Gpu, config: &Config, x: &Var, steps: u64, checkpoint_blocks: bool) -> Result<Vec<f32>> {
    let mut params = Params::new(g);
    let model = Segmenter::new(g, &mut params, config)?;
    params.init(g, 1)?;
    let hyper = hyper(checkpoint_blocks);
    let mut update = Update::new(g, &params, hyper)?;
    let labels = labels(g, config, 2);
    let (recording, loss) = hyper.recorder(g).record(|r| {
        let scores = model.forward(r, x, None, [None; 2])?;
        let losses = model.losses(r, &scores, &labels)?;
        update.launch(r, &losses.total, &params, |_| Group { lr_scale: 1.0, weight_decay: 0.0 })
    })?;
    let program = Program::new(recording)?;
    let step = |step: u64| {
        update.begin(step, 0, 3e-3)?;
        program.run()?;
        Ok(loss.to_vec(g)?[0])
    };
    (0..steps).map(step).collect()
}

#[test]
fn a_segmenter_learns_a_picture() -> Result<()> {
    let Some(g) = gpu() else { return Ok(()) };
    let config = segmenter("map_micro_patch4_32");
    let losses = train(g, &config, 40, false)?;
    assert!(losses[39] < 0.6 * losses[0], "{losses:?}");
    assert_eq!(train(g, &config, 3, false)?, losses[..3], "the same bits again");
    assert_eq!(train(g, &config, 3, true)?, losses[..3], "the same bits with blocks computed again");
    Ok(())
}

#[test]
fn what_no_dense_network_can_be_is_named() {
    let says = |config: Config, what: &str| {
        let e = config.validate().expect_err(what).to_string();
        assert!(e.contains(what), "{e}");
    };
    let good = segmenter("vim_micro_patch4_32");
    good.validate().unwrap();
    says(Config { registers: 1, ..good.clone() }, "dense: got a Vim with 1 prefix tokens");
    says(Config { classes: 0, ..good.clone() }, "0 classes");
    says(Config { image_size: 4, ..good.clone() }, "dense.grid");
    let of = |dense| Config { dense: Some(dense), ..good.clone() };
    says(of(Dense::Segmentation(Segmentation { dropout: 1.0, ..Segmentation::default() })), "dense.dropout");
    says(of(Dense::Detection(Detection { boxes: 0, ..Detection::default() })), "dense.boxes");
    // a backbone on maps has a head that reads them
    let resnet = || Config::preset("resnet50").unwrap();
    resnet().for_dense(segmentation(), 3).validate().unwrap();
    let vitdet = || Dense::Detection(Detection::default());
    resnet().for_dense(vitdet(), 3).validate().unwrap();
    let odd = Config { image_size: 240, ..resnet() }.for_dense(vitdet(), 3);
    says(odd, "image_size: got 240 × 240, expected multiples of 32");
    let small = Config::preset("efficientnet_micro").unwrap();
    says(small.for_dense(segmentation(), 3), "maps of EfficientNet for dense tasks: got 2, expected 4");
    let deeplab = || Dense::Segmentation(Segmentation { decoder: PixelDecoder::DeepLab, ..Segmentation::default() });
    says(Config::preset("vim_micro_patch4_32").unwrap().for_dense(deeplab(), 3), "expected a ResNet");
    let dilated = resnet().for_dense(deeplab(), 3);
    says(Config { dense: Some(segmentation()), ..dilated.clone() }, "hierarchy.output_stride: got 8, expected 32");
    let mut odd = dilated;
    odd.hierarchy.as_mut().unwrap().output_stride = 12;
    says(odd, "hierarchy.output_stride: got 12, expected 8, 16 or 32");
    let mut short = resnet().for_dense(segmentation(), 3);
    short.hierarchy.as_mut().unwrap().stages.pop();
    short.width = 1024; // that of the stage which is now the last
    says(short, "maps of ResNet for dense tasks: got 3, expected 4");
    let g = Gpu::dry(Caps::portable());
    let json = serde_json::to_string(&good).unwrap();
    assert_eq!(serde_json::from_str::<Config>(&json).unwrap(), good);
    let e = Detector::new(&g, &mut Params::new(&g), &good).expect_err("another task").to_string();
    assert!(e.contains("expected detection"), "{e}");
}

fn detection() -> Detection {
    Detection {
        channels: 8,
        convs: 1,
        features: 16,
        canonical_size: 14.0,
        anchors: 64,
        boxes: 16,
        objects: 4,
        truths: 3,
        candidates: [60, 30],
        proposals: 40,
        ..Detection::default()
    }
}

/// Boxes and classes of two pictures; the second is empty.
fn truths() -> [Vec<(Region, usize)>; 2] {
    [vec![([10.0, 12.0, 40.0, 44.0], 1), ([35.0, 2.0, 60.0, 30.0], 0)], vec![]]
}

/// A step of a detector whose boxes the host chooses.
struct DetectionStep {
    model: Detector,
    config: Config,
    proposed: Proposed,
    boxes: RefinedBoxes,
    masks: MaskTargets,
    update: Update,
    programs: Vec<Program>,
    losses: Vec<Tensor>,
    params: Params,
}

impl DetectionStep {
    fn new(g: &Gpu, backbone: &str) -> Result<Self> {
        let preset = Config::preset(backbone)?;
        let patch_size = if preset.hierarchy.is_some() { 1 } else { 16 };
        let config = Config { image_size: 64, patch_size, ..preset };
        let config = config.for_dense(Dense::Detection(detection()), 3);
        let mut params = Params::new(g);
        let model = Detector::new(g, &mut params, &config)?;
        params.init(g, 2)?;
        let d = detection();
        let mut update = Update::new(g, &params, hyper(false))?;
        let (boxes, objects) = (BoxRows::inputs(2 * d.boxes), 2 * d.objects);
        let masks = MaskTargets {
            rois: Tensor::input("boxes of masks", &[objects, 5]),
            classes: Tensor::indices("classes of masks", &[objects]),
            masks: Tensor::input("masks", &[objects, 28, 28]),
            valid: Tensor::input("valid masks", &[objects]),
        };
        let sizes = Tensor::from_slice(g, &[2, 2], &[64.0f32, 64.0, 60.0, 50.0])?;
        let absent = [0.0f32, 0.0, 0.0, 0.0, -1.0];
        let rows = truths().into_iter().flat_map(|of| {
            let rows =
                of.into_iter().map(|(b, class)| [b[0] as f32, b[1] as f32, b[2] as f32, b[3] as f32, class as f32]);
            rows.chain(std::iter::repeat(absent)).take(d.truths).collect::<Vec<_>>()
        });
        let known = Tensor::from_slice(g, &[2, d.truths, 5], &rows.flatten().collect::<Vec<f32>>())?;
        let x = patches(g, &config, 2);
        let (recording, (proposed, losses)) = Recorder::new(g).record(|r| {
            let proposed = model.propose(r, &x, None)?;
            r.mark();
            let anchors = anchor_targets(g, &proposed)?;
            let losses = model.losses(r, &proposed, &anchors, &boxes, Some(&masks), [&sizes, &known])?;
            let total = update.launch(r, &losses.total, &params, |_| Group { lr_scale: 1.0, weight_decay: 0.0 })?;
            let all = [&losses.proposals[0], &losses.proposals[1], losses.masks.as_ref().unwrap()];
            let stages = losses.stages.iter().flat_map(|stage| &stage.losses);
            Ok((
                proposed,
                std::iter::once(total).chain(all.into_iter().chain(stages).map(|v| v.data.clone())).collect(),
            ))
        })?;
        let programs = recording.split_at_marks().into_iter().map(Program::new).collect::<Result<Vec<_>>>()?;
        assert_eq!(programs.len(), 2);
        Ok(Self { model, config, proposed, boxes, masks, update, programs, losses, params })
    }

    /// The losses of a step: all, objectness, deltas, masks, then classes and deltas of three stages.
    fn run(&self, g: &Gpu, step: u64) -> Result<Vec<f32>> {
        self.update.begin(step, 0, 2e-3)?;
        self.programs[0].run()?;
        self.choose(g)?;
        self.programs[1].run()?;
        self.losses.iter().map(|loss| Ok(loss.to_vec(g)?[0])).collect()
    }

    /// What the host does between the halves: proposals, samples, masks.
    fn choose(&self, g: &Gpu) -> Result<()> {
        let d = detection();
        let said = levels(g, &self.proposed)?;
        let mut rows = BoxRows::empty(2 * d.boxes);
        let mut objects = BoxRows::empty(2 * d.objects);
        let mut masks = vec![0.0f32; 2 * d.objects * 28 * 28];
        for (sample, known) in truths().iter().enumerate() {
            let anchors = anchors(&self.proposed);
            let candidates: Vec<Candidates<'_>> = anchors
                .iter()
                .zip(&said)
                .map(|(anchors, [scores, deltas])| {
                    let n = anchors.len();
                    let (scores, deltas) = (&scores[sample * n..][..n], &deltas[4 * sample * n..][..4 * n]);
                    Candidates { anchors, scores, deltas }
                })
                .collect();
            let size = [[64.0, 64.0], [60.0, 50.0]][sample];
            let (found, _) = proposals(&candidates, size, &d.proposals(true), true)?;
            let mut all: Vec<Region> = found.iter().map(|b| b.map(f64::from)).collect();
            all.extend(known.iter().map(|(b, _)| *b));
            let keys: Vec<f64> = Random::new(7).uniform(all.len(), 0.0, 1.0).into_iter().map(f64::from).collect();
            let first = sample * d.boxes;
            let stage = d.cascade(3, 16).stages[0];
            let picture = PictureBoxes { sample, candidates: &all, truths: known, keys: &keys };
            let (chosen, count) = rows.sample(first, &picture, stage, d.box_sampler(), 3);
            assert!(count <= d.boxes && (sample == 1 || !chosen.is_empty()), "truths are candidates themselves");
            for (slot, (i, truth)) in chosen.into_iter().take(d.objects).enumerate() {
                objects.put(sample * d.objects + slot, sample, &all[i], known[truth].1, None);
                masks[(sample * d.objects + slot) * 784..][..392].fill(1.0); // the upper half
            }
        }
        rows.write(g, &self.boxes)?;
        self.masks.rois.write(g, &objects.rois)?;
        self.masks.classes.write(g, &objects.labels)?;
        self.masks.valid.write(g, &objects.valid)?;
        self.masks.masks.write(g, &masks)
    }
}

fn anchors(proposed: &Proposed) -> Vec<Vec<Region>> {
    let sizes: Vec<[usize; 2]> = proposed.maps.iter().map(|map| [map.data.shape()[1], map.data.shape()[2]]).collect();
    detection().anchors(16).of(&sizes)
}

/// Scores and deltas of each level.
fn levels(g: &Gpu, proposed: &Proposed) -> Result<Vec<[Vec<f32>; 2]>> {
    proposed.levels.iter().map(|level| Ok([level.objectness.data.to_vec(g)?, level.deltas.data.to_vec(g)?])).collect()
}

/// Targets of the anchors, which follow from truths alone.
fn anchor_targets(g: &Gpu, proposed: &Proposed) -> Result<Vec<RegionTargets>> {
    use rowscan::models::dense::boxes::Matcher;
    let (levels, d) = (anchors(proposed), detection());
    let all: Vec<Region> = levels.concat();
    let mut values = [const { Vec::new() }; 3];
    for known in truths() {
        let regions: Vec<Region> = known.iter().map(|(b, _)| *b).collect();
        let matches = Matcher::proposals().of(&regions, &all);
        let keys: Vec<f64> = Random::new(9).uniform(all.len(), 0.0, 1.0).into_iter().map(f64::from).collect();
        let [objects, background] = d.anchor_sampler().draw(&matches.label, &keys);
        let of = RegionTargets::values(&all, &regions, &matches.truth, [&objects, &background]);
        values.iter_mut().zip(of).for_each(|(all, one)| all.push(one));
    }
    let mut start = 0;
    let mut targets = Vec::new();
    for level in levels {
        let n = level.len();
        let part = |values: &[Vec<f32>], each: usize| -> Vec<f32> {
            values.iter().flat_map(|of| of[start * each..][..n * each].iter().copied()).collect()
        };
        targets.push(RegionTargets {
            object: Tensor::from_slice(g, &[2, n], &part(&values[0], 1))?,
            sampled: Tensor::from_slice(g, &[2, n], &part(&values[1], 1))?,
            deltas: Tensor::from_slice(g, &[2, n, 4], &part(&values[2], 4))?,
        });
        start += n;
    }
    Ok(targets)
}

/// A step of fixed size, cut where the host chooses boxes: replayed to the bit, it learns two pictures, one of them
/// without objects.
#[test]
fn a_detector_learns_in_steps_of_two_halves() -> Result<()> {
    let Some(g) = gpu() else { return Ok(()) };
    for backbone in one_in(3, ["map_micro_patch4_32", "resnet_micro", "convnext_micro"]) {
        eprintln!("{backbone}");
        learns_to_detect(g, backbone)?;
    }
    Ok(())
}

fn learns_to_detect(g: &Gpu, backbone: &str) -> Result<()> {
    let (step, again) = (DetectionStep::new(g, backbone)?, DetectionStep::new(g, backbone)?);
    let first = step.run(g, 0)?;
    assert_eq!(first, again.run(g, 0)?);
    assert!(first.iter().all(|loss| loss.is_finite() && *loss >= 0.0), "{first:?}");
    let sum: f32 = first[1..].iter().sum();
    assert!((first[0] - sum).abs() < 1e-4 * sum, "the total is the sum: {first:?}");
    let mut last = Vec::new();
    for at in 1..60 {
        last = step.run(g, at)?;
        if at < 4 {
            assert_eq!(last, again.run(g, at)?, "step {at}");
        }
    }
    assert!(last[0] < 0.6 * first[0], "{first:?} to {last:?}");
    // masks start at scores of 0.001 and learn slowly
    for (what, i, share) in [("masks", 3, 0.96), ("classes", 4, 0.7)] {
        assert!(last[i] < share * first[i], "{what}: {first:?} to {last:?}");
    }
    // the trained network in evaluation, on its own proposals
    let mut r = Recorder::inference(g);
    let x = patches(g, &step.config, 2);
    let proposed = step.model.propose(&mut r, &x, None)?;
    let sizes = Tensor::from_slice(g, &[2, 2], &[64.0f32, 64.0, 60.0, 50.0])?;
    let mut rows = BoxRows::empty(2);
    rows.put(0, 0, &[12.0, 12.0, 38.0, 42.0], 0, None);
    let boxes = rows.tensors(g)?;
    let (scores, rois) = step.model.refine(&mut r, &proposed, &boxes.rois, &boxes.valid, &sizes)?;
    let masks = step.model.masks(&mut r, &proposed, &boxes.rois, &boxes.labels)?.expect("masks");
    r.run()?;
    assert_eq!((scores.len(), scores[0].data.shape()), (3, &[2, 4][..]));
    assert_eq!((rois.shape(), masks.data.shape()), (&[2, 5][..], &[2, 28, 28][..]));
    assert!(rois.to_vec(g)?.iter().all(|v| v.is_finite()));
    assert!(masks.data.to_vec(g)?[784..].iter().all(|v| *v == 0.0), "a row that is not valid has no class");
    assert!(step.params.count() > 0);
    Ok(())
}

/// Boxes of a picture that hold nothing: all losses are finite, and only scores are learned.
#[test]
fn a_step_without_any_box_has_no_box_loss() -> Result<()> {
    each_tier(|g| {
        let run = || -> Result<()> {
            let step = DetectionStep::new(g, "map_micro_patch4_32")?;
            step.update.begin(0, 0, 0.0)?;
            step.programs[0].run()?;
            BoxRows::empty(2 * detection().boxes).write(g, &step.boxes)?;
            let none = BoxRows::empty(2 * detection().objects);
            step.masks.rois.write(g, &none.rois)?;
            step.masks.classes.write(g, &none.labels)?;
            step.masks.valid.write(g, &none.valid)?;
            step.masks.masks.write(g, &vec![0.0f32; step.masks.masks.len()])?;
            step.programs[1].run()?;
            let losses: Vec<f32> = step.losses.iter().map(|loss| loss.to_vec(g).unwrap()[0]).collect();
            assert_eq!(losses[3..], [0.0; 7], "{losses:?}");
            assert!(losses[1] > 0.0 && losses[0].is_finite());
            Ok(())
        };
        run().unwrap_or_else(|e| panic!("{e}"));
    });
    Ok(())
}
