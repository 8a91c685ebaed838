//! `Session`, training without files as in a browser: it learns, is saved and loaded, and refuses wrong files.

use std::path::Path;
use std::sync::Arc;

use pollster::block_on;
use rowscan::data::stream::{Stream, StreamPurpose};
use rowscan::data::{Cursor, Dataset, Loader, LoaderOptions, Rgb8, Scratch, Split, Transform};
use rowscan::gpu::{Gpu, Program};
use rowscan::infer::attention_maps::AttentionMaps;
use rowscan::infer::features::FrozenEncoder;
use rowscan::infer::probe::{Features, linear_probe};
use rowscan::infer::scan_path::ScanPath;
use rowscan::models::{Config, Map, Method, Objective, Order, Pretext, TestView};
use rowscan::nn::{Params, Weights};
use rowscan::session::Session;
use rowscan::tape::{Recorder, Var};
use rowscan::train::image_input::Images;
use rowscan::train::pretrain::settings::PretrainSettings;
use rowscan::train::settings::RunSettings;
use rowscan::train::weights_file;
use rowscan::{Result, cpu};

use crate::common::gpu;

fn micro() -> Config {
    Config { image_size: 32, ..Config::preset("micro").expect("a preset") }
}

fn open(g: &Gpu, settings: &PretrainSettings) -> Result<Session> {
    let data = |split| Dataset::synthetic("synthetic:64", 32, split);
    Session::new(g, &micro(), settings, data(Split::Train)?, &data(Split::Test)?)
}

fn settings() -> PretrainSettings {
    let run =
        RunSettings { data: "synthetic:64".into(), batch_size: 8, blr: 2.4e-2, seed: 3, ..RunSettings::default() };
    PretrainSettings { run, ..PretrainSettings::default() }
}

fn steps(session: &mut Session, count: usize) -> Vec<f32> {
    let step = |_| bytemuck::pod_read_unaligned(&session.step().and_then(|loss| loss.wait()).expect("a step"));
    (0..count).map(step).collect()
}

#[test]
fn a_session_learns_and_goes_on_bit_for_bit() {
    let Some(g) = gpu() else { return };
    let mut session = open(g, &settings()).expect("opens");
    let first = steps(&mut session, 30);
    let mean = |part: &[f32]| part.iter().sum::<f32>() / part.len() as f32;
    assert!(mean(&first[20..]) < 0.8 * mean(&first[..5]), "{first:?}");
    let (pictures, before) = block_on(session.pictures()).expect("pictures").expect("of MAP");
    let files = block_on(session.save()).expect("saves");
    let rest = steps(&mut session, 5);

    let mut again = open(g, &settings()).expect("opens");
    again.adjust(1.0, 0.25).expect("adjusts");
    again.load(&files).expect("loads");
    assert_eq!((again.state().step, again.state().epoch, again.state().batch), (30, 3, 6));
    let (same, after) = block_on(again.pictures()).expect("pictures").expect("of MAP");
    assert_eq!((before, &pictures[0].reconstruction), (after, &same[0].reconstruction));
    assert_eq!(steps(&mut again, 5), rest);
    assert_eq!(again.lr(), 2.4e-2 * 8.0 / 256.0);
    for lr in [1e-3, 2e-3] {
        again.adjust(lr, 0.25).expect("adjusts");
        assert_eq!(again.lr(), lr, "also where a rate was given before");
    }
}

#[test]
fn errors_of_patches_add_up_to_the_loss() {
    let Some(g) = gpu() else { return };
    let session = open(g, &settings()).expect("opens");
    let (pictures, loss) = block_on(session.pictures()).expect("pictures").expect("of MAP");
    let errors: Vec<f32> = pictures.iter().flat_map(|p| p.errors.iter().copied()).filter(|&e| e > 0.0).collect();
    assert_eq!(errors.len(), pictures.len() * 8, "half of 16 patches are hidden");
    let mean = errors.iter().sum::<f32>() / errors.len() as f32;
    assert!((mean - loss).abs() < 1e-5 * loss, "{mean} is not {loss}");
}

#[test]
fn what_cannot_be_loaded_is_named() {
    let Some(g) = gpu() else { return };
    let mut session = open(g, &settings()).expect("opens");
    let mut files = block_on(session.save()).expect("saves");
    // moments that do not fit leave the weights as they are
    steps(&mut session, 1);
    let now = block_on(session.save()).expect("saves");
    let mut mixed = files.clone();
    mixed[2].1.clone_from(&files[1].1);
    let error = session.load(&mixed).expect_err("weights for moments").to_string();
    assert!(error.contains("neither exp_avg"), "{error}");
    assert!(block_on(session.save()).expect("saves") == now);
    let mut fails = |files: &[(String, Vec<u8>)], hint: &str| {
        let error = session.load(files).expect_err(hint).to_string();
        assert!(error.contains(hint), "{error}");
    };
    fails(&files[1..], "config.json: is missing");
    fails(&files[..3], "state.json: is missing");
    files[1].1.truncate(1000);
    fails(&files, "not a whole safetensors file");
    files[0].1 = serde_json::to_vec(&Config::preset("micro").expect("a preset")).expect("JSON");
    fails(&files, "another model (micro)");
    let photo = || Dataset::from_images("photos", vec![Rgb8 { width: 8, height: 8, pixels: vec![0; 192] }]);
    let opens = |settings: &PretrainSettings| {
        Session::new(g, &micro(), settings, photo().expect("a set"), &photo().expect("a set"))
    };
    assert!(opens(&settings()).expect_err("too few").to_string().contains("at most the 1 images"));
    let mut parts = settings();
    (parts.run.batch_size, parts.run.accum_iter) = (1, 2);
    assert!(opens(&parts).expect_err("parts").to_string().contains("accum_iter"));
    // a run on other images, and one with other settings
    let files = block_on(session.save()).expect("saves");
    let mut others = settings();
    others.run.batch_size = 1;
    let error = opens(&others).expect("opens").load(&files).expect_err("others").to_string();
    assert!(error.contains("state.json: is of a run on other images (synthetic:64)"), "{error}");
    let mut faster = settings();
    faster.run.weight_decay = 0.0;
    let error = open(g, &faster).expect("opens").load(&files).expect_err("settings").to_string();
    assert!(error.contains("other settings than rate"), "{error}");
}

#[test]
fn heads_look_at_their_row_and_the_rows_above() {
    let Some(g) = gpu() else { return };
    let (config, mut params) = (micro(), Params::new(g));
    let map = Map::new(g, &mut params, &config).expect("a model");
    params.init(g, 5).expect("weights");
    let data = Dataset::synthetic("synthetic:2", 32, Split::Train).expect("images");
    let images = [0, 1].map(|i| data.image(i).expect("an image").pixels).concat();
    let mask = settings().masker(&config).expect("a mask").draw(0, 2);
    let maps = AttentionMaps::new(g, &map, &config, 2, mask.visible_len).expect("records");
    let blocks = block_on(maps.run(&images, &mask)).expect("runs");
    assert_eq!((blocks.len(), blocks[0].len()), (2, 2 * 4 * 16 * 16));
    assert_ne!(blocks[0], blocks[1]);
    for (n, token) in blocks.iter().flat_map(|block| block.chunks_exact(16).enumerate()) {
        let (seen, beyond) = token.split_at((n % 16 / 4 + 1) * 4);
        assert!((seen.iter().sum::<f32>() - 1.0).abs() < 1e-5 && seen.iter().all(|w| *w > 0.0), "token {n}: {token:?}");
        assert!(beyond.iter().all(|w| *w == 0.0), "token {n}: {token:?}");
    }
}

/// The crops of a session are byte for byte those of the command line's loader, over two epochs, for one crop an image
/// and for two.
#[test]
fn a_session_sees_the_images_that_the_loader_gives() {
    let Some(g) = gpu() else { return };
    for method in [Method::MAP, Method::CONTRASTIVE] {
        let mut settings = settings();
        settings.objective = Objective { queue: 64, ..Objective::of(method) };
        let set = |split| Dataset::synthetic("synthetic:64", 96, split).expect("images");
        let mut session = Session::new(g, &micro(), &settings, set(Split::Train), &set(Split::Test)).expect("opens");
        let options = LoaderOptions {
            crops: method.crops,
            seed: settings.run.seed,
            ..LoaderOptions::new(8, Transform::pretraining(&micro(), settings.recipe))
        };
        let loader = Loader::train(Arc::new(set(Split::Train)), &options, Cursor::default()).expect("a loader");
        for (n, batch) in loader.take(16).enumerate() {
            assert_eq!(session.images().expect("images"), batch.expect("a batch").images, "{method:?}, batch {n}");
            session.step().expect("a step").wait().expect("a loss");
        }
    }
}

/// What a method trains besides the weights is saved too: the keys and the queue of contrastive pretraining.
#[test]
fn a_contrastive_session_goes_on_bit_for_bit() {
    let Some(g) = gpu() else { return };
    let mut settings = settings();
    settings.objective = Objective { queue: 64, ..Objective::of(Method::CONTRASTIVE) };
    let mut session = open(g, &settings).expect("opens");
    steps(&mut session, 3);
    assert!(block_on(session.pictures()).expect("asks").is_none(), "it predicts no pixels");
    let files = block_on(session.save()).expect("saves");
    let rest = steps(&mut session, 3);
    let mut again = open(g, &settings).expect("opens");
    again.load(&files).expect("loads");
    assert_eq!(steps(&mut again, 3), rest);
    let without: Vec<_> = files.into_iter().filter(|(name, _)| name != "queue.safetensors").collect();
    let error = again.load(&without).expect_err("no queue").to_string();
    assert!(error.contains("queue.safetensors: is missing"), "{error}");

    // weights from elsewhere: the key encoder follows from there
    let weights = |files: &[(String, Vec<u8>)], name: &str| {
        let bytes = &files.iter().find(|(file, _)| file == name).expect("the file").1;
        weights_file::from_bytes(Path::new(name), bytes).expect("weights")
    };
    let trained = weights(&without, "model.safetensors");
    let fresh = open(g, &settings).expect("opens");
    fresh.load_weights(&trained).expect("loads");
    assert!(weights(&block_on(fresh.save()).expect("saves"), "keys.safetensors") == trained);
}

/// The features of a probe are those of `rowscan features`, and tell more classes apart than chance.
#[test]
fn a_session_is_probed() {
    let Some(g) = gpu() else { return };
    let session = open(g, &settings()).expect("opens");
    let set = |split| Dataset::synthetic("synthetic:160", 96, split).expect("images");
    let (train, test) = (set(Split::Train), set(Split::Test));
    let scores = block_on(session.probe(&train, &test, 60)).expect("scores");
    // the encoder with the same weights, image by image, its features probed the same way
    let files = block_on(session.save()).expect("saves");
    let weights = weights_file::from_bytes(Path::new("model"), &files[1].1).expect("weights");
    let encoder = FrozenEncoder::open(g, &micro(), Some(weights), 0).expect("an encoder");
    let program = encoder.program(g, &micro(), 1).expect("a program");
    let view = Transform::testing(&micro(), TestView::crop(1.0));
    let features = |set: &Dataset| {
        let mut rows = Vec::new();
        for i in 0..set.len() {
            let (mut image, mut stream) = (vec![0; view.bytes()], Stream::new(StreamPurpose::Augment, [0; 3]));
            view.apply(&set.image(i).expect("an image"), &mut stream, &mut Scratch::default(), &mut image)
                .expect("a view");
            rows.extend(block_on(program.run(&image)).expect("features"));
        }
        let labels = (0..set.len()).map(|i| set.label(i).expect("a label")).collect();
        Features::new(rows, program.width(), labels).expect("features")
    };
    let expected = block_on(linear_probe(g, &features(&train), &features(&test), 10, 60)).expect("scores");
    // products over 1 and over 32 images may round differently, and 60 steps of training follow
    assert!((scores.loss - expected.loss).abs() <= 1e-3 * expected.loss, "{} and {}", scores.loss, expected.loss);
    assert!((scores.top1 - expected.top1).abs() <= 5.0, "{} and {}", scores.top1, expected.top1);
    let photos = Dataset::from_images("photos", vec![train.image(0).expect("an image")]).expect("a set");
    let error = block_on(session.probe(&photos, &test, 1)).expect_err("no label").to_string();
    assert!(error.contains("photos, image 0: got no label"), "{error}");
}

/// What the oracle makes of a layer, from what enters it: sizes (S, L) and what is left (S, L, L), in scan order.
fn oracle_of_the_path(config: &Config, weights: &Weights, layer: usize, x: &[f32]) -> cpu::selective_scan::Path {
    let get = |name: &str| -> Vec<f64> {
        weights[&format!("layers.{layer}.{name}")].1.iter().map(|v| f64::from(*v)).collect()
    };
    let both = |name: fn(&str) -> String| ["", "_b"].map(|s| get(&format!("mixer.{}", name(s)))).concat();
    let (l, d, x) = (config.tokens(), config.width, x.iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
    let w = get("norm.weight");
    let weights = cpu::norm::Weights { w: &w, b: None };
    let normed = cpu::norm::forward(cpu::norm::Dims { rows: l, l, d }, &x, None, None, weights, config.eps().into()).y;
    let conv_b = both(|s| format!("conv1d{s}.bias"));
    let e = conv_b.len() / 2;
    let by_in = cpu::matmul::Dims { s: 1, m: l, n: 2 * e, k: d };
    let xz = cpu::matmul::forward(by_in, &normed, &get("mixer.in_proj.weight"), None, None);
    let (a_log, dt_proj) = (both(|s| format!("A{s}_log")), both(|s| format!("dt_proj{s}.weight")));
    let conv_w = both(|s| format!("conv1d{s}.weight"));
    let (n, r, k) = (a_log.len() / 2 / e, dt_proj.len() / 2 / e, conv_w.len() / 2 / e);
    let inputs = cpu::ssm::Inputs {
        xz: &xz,
        conv_w: &conv_w,
        conv_b: &conv_b,
        x_proj: &both(|s| format!("x_proj{s}.weight")),
        dt_proj: &dt_proj,
        a_log: &a_log,
        d: &both(|s| format!("D{s}")),
        delta_bias: &both(|s| format!("dt_proj{s}.bias")),
    };
    cpu::ssm::path(cpu::ssm::Dims { s: 2, b: 1, l, e, n, r, k }, &inputs)
}

/// The state along the scan: as the oracle has it; a patch is in it from its place on, ever less; and a scan that runs
/// down knows nothing of the patches below.
#[test]
fn states_along_the_scan() {
    let Some(g) = gpu() else { return };
    for order in [Order::Rows, Order::Columns] {
        let (config, mut params) = (Config { order, ..micro() }, Params::new(g));
        let map = Map::new(g, &mut params, &config).expect("a model");
        params.init(g, 5).expect("weights");
        let weights = block_on(params.weights(g)).expect("weights");
        let encoder = &**Pretext::encoder(&map);
        let path = |layer| ScanPath::new(g, encoder, &config, &weights, layer);
        let image = Dataset::synthetic("synthetic:2", 32, Split::Train).expect("images").image(0).expect("an image");
        let scan: Vec<usize> = config.scan().into_iter().map(|t| t as usize).collect();
        let inputs = Images::new(&config, 1).expect("inputs");
        let (recording, entering) = Recorder::inference(g)
            .record(|r| {
                let patches = Var::constant(inputs.patches(r, config.patch_size)?);
                Ok(encoder.entering(r, &patches)?.into_iter().map(|x| x.data).collect::<Vec<_>>())
            })
            .expect("records");
        let program = Program::new(recording).expect("builds");
        inputs.write(g, &image.pixels, (0, 1)).expect("uploads");
        program.run().expect("runs");
        assert_eq!(entering.len(), 6);
        for layer in [0, 5] {
            let states = block_on(path(layer).expect("records").run(&image.pixels)).expect("states");
            assert_eq!((states.directions, states.size.len(), states.left.len()), (2, 32, 512));
            let expected = oracle_of_the_path(&config, &weights, layer, &entering[layer].to_vec(g).expect("tokens"));
            // two products and a convolution in f32 before it; then f64 as in the oracle
            let close = |got: f32, want: f64| (f64::from(got) - want).abs() <= 1e-4 * want + 1e-7;
            for (s, from) in (0..2).flat_map(|s| (0..16).map(move |from| (s, from))) {
                let (there, here) = (s * 16 + scan[from], s * 16 + from);
                assert!(close(states.size[there], expected.size[here]), "layer {layer}, size after {from}");
                let row: Vec<f32> = scan.iter().map(|t| states.left[there * 16 + t]).collect();
                assert!(row.iter().zip(&expected.left[here * 16..]).all(|(got, want)| close(*got, *want)), "{row:?}");
                let mut along = row.clone();
                if s == 1 {
                    along.reverse();
                }
                let (before, after) = along.split_at(if s == 0 { from } else { 15 - from });
                assert!(before.iter().all(|v| *v == 0.0), "{row:?}");
                assert!(after[0] > 0.0 && after.windows(2).all(|pair| pair[1] < pair[0]), "{row:?}");
            }
        }
        // another last patch: in the first layer, nothing before it on the way down changes
        let mut other = image.pixels.clone();
        let (last, first) = (scan[15], path(0).expect("records"));
        let before = block_on(first.run(&other)).expect("states");
        let (top, left) = (last / 4 * 8, last % 4 * 8);
        (0..8).for_each(|y| other[((top + y) * 32 + left) * 3..][..24].fill(7));
        let after = block_on(first.run(&other)).expect("states");
        for t in 0..16 {
            assert_eq!(before.size[t] == after.size[t], t != last, "patch {t} on the way there");
            assert_ne!(before.size[16 + t], after.size[16 + t], "patch {t} on the way back");
        }
        assert!(path(6).expect_err("six layers").to_string().contains("layers.6.mixer"));
    }
}
