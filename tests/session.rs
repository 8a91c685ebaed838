//! `Session`, training without files as in a browser: it learns, is saved and loaded, and refuses wrong files.

use pollster::block_on;
use rowscan::Result;
use rowscan::data::{Dataset, Rgb8, Split};
use rowscan::gpu::Gpu;
use rowscan::infer::attention_maps::AttentionMaps;
use rowscan::models::{Config, Map};
use rowscan::nn::Params;
use rowscan::session::Session;
use rowscan::train::pretrain::settings::PretrainSettings;
use rowscan::train::settings::RunSettings;

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
    let (pictures, before) = block_on(session.pictures()).expect("pictures");
    let files = block_on(session.save()).expect("saves");
    let rest = steps(&mut session, 5);

    let mut again = open(g, &settings()).expect("opens");
    again.adjust(1.0, 0.25).expect("adjusts");
    again.load(&files).expect("loads");
    again.adjust(2.4e-2, 0.5).expect("adjusts");
    assert_eq!((again.state().step, again.state().epoch, again.state().batch), (30, 3, 6));
    let (same, after) = block_on(again.pictures()).expect("pictures");
    assert_eq!((before, &pictures[0].reconstruction), (after, &same[0].reconstruction));
    assert_eq!(steps(&mut again, 5), rest);
    assert_eq!(again.lr(), 2.4e-2 * 8.0 / 256.0);
}

#[test]
fn errors_of_patches_add_up_to_the_loss() {
    let Some(g) = gpu() else { return };
    let session = open(g, &settings()).expect("opens");
    let (pictures, loss) = block_on(session.pictures()).expect("pictures");
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
    let mut one = settings();
    one.run.batch_size = 1;
    let error = Session::new(g, &micro(), &one, photo().expect("a set"), &photo().expect("a set")).expect_err("size");
    assert!(error.to_string().contains("photos, image 0: got 8 × 8, expected 32 × 32 pixels"), "{error}");
    let error = Session::new(g, &micro(), &settings(), photo().expect("a set"), &photo().expect("a set"));
    assert!(error.expect_err("too few").to_string().contains("at most the 1 images"));
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
