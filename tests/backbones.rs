//! Properties of every backbone that hold for any weights.

use rowscan::Result;
use rowscan::gpu::Gpu;
use rowscan::models::{Classifier, Config, Map, MaskedBatch, PixelPretext, Purpose, backbone};
use rowscan::nn::{Directions, InitScheme, MambaConfig, MambaMixer, Params, Weights};
use rowscan::ops::reduce::mean;
use rowscan::tape::{Recorder, Var};
use rowscan::tensor::Tensor;

use crate::common::{Random, Tol, close, gpu, values, wide};

const MODELS: [&str; 5] = [
    "map_micro_patch4_32",
    "mambar_micro_patch4_32",
    "vim_micro_patch4_32",
    "vim_micro_patch4_32_columns",
    "vit_micro_patch4_32",
];

/// The preset at 16×16 pixels: a grid of 4×4 patches.
fn config(name: &str) -> Config {
    Config { image_size: 16, ..Config::preset(name).unwrap() }
}

fn patches(g: &Gpu, config: &Config, b: usize) -> Tensor {
    let shape = [b, config.tokens(), config.patch_len()];
    Tensor::from_slice(g, &shape, &Random::new(5).normal(shape.iter().product())).unwrap()
}

/// A batch of two images. `order` lists the visible tokens of both by raster position, in the order of encoding.
fn batch(g: &Gpu, config: &Config, order: &[u32]) -> MaskedBatch {
    let (l, v) = (config.tokens(), order.len());
    let mut inverse = vec![u32::MAX; l];
    order.iter().enumerate().for_each(|(at, &token)| inverse[token as usize] = at as u32);
    let mask: Vec<f32> = inverse.iter().map(|&i| if i == u32::MAX { 1.0 } else { 0.0 }).collect();
    MaskedBatch {
        patches: patches(g, config, 2),
        visible: Tensor::from_indices(g, &[2, v], &order.repeat(2)).unwrap(),
        inverse: Tensor::from_indices(g, &[2, l], &inverse.repeat(2)).unwrap(),
        scale: 0.5 / mask.iter().sum::<f32>().max(1.0),
        counted: None,
        second: None,
        mask: Tensor::from_slice(g, &[2, l], &mask.repeat(2)).unwrap(),
    }
}

/// The order in which the encoder scans a whole image: raster positions, row by row or column by column.
fn scan(config: &Config) -> Vec<u32> {
    let side = config.grid() as u32;
    let columns = config.name.ends_with("_columns");
    (0..side * side).map(|t| if columns { t % side * side + t / side } else { t }).collect()
}

/// If no token is hidden, `encode_visible`, which pretraining uses, gives the features that `tokens` gives to probes.
/// They differ in order: `encode_visible` returns scan order, `tokens` raster order.
#[test]
fn all_visible_is_all_tokens() -> Result<()> {
    let Some(g) = gpu() else { return Ok(()) };
    for name in MODELS {
        let config = config(name);
        let mut params = Params::new(g);
        let net = backbone(g, &mut params, &config, Purpose::Pretraining)?;
        params.init(g, 3)?;
        let order = scan(&config);
        let batch = batch(g, &config, &order);
        let visible = values(g, |r| Ok(net.encode_visible(r, &batch, None)?.data));
        let patches = Var::constant(batch.patches.clone());
        let tokens = values(g, |r| Ok(net.tokens(r, &patches, None)?.data));
        let (l, d) = (config.tokens(), config.width);
        let mut raster = vec![0.0; visible.len()];
        for (i, row) in visible.chunks_exact(d).enumerate() {
            let place = i / l * l + order[i % l] as usize;
            raster[place * d..][..d].copy_from_slice(row);
        }
        // exact: the same kernels on the same numbers
        close(name, &tokens, &wide(&raster), Tol::EXACT);
    }
    Ok(())
}

/// A ViT encodes a token alike at any place in the sequence; a Mamba encoder does not. Tokens 2 and 5 swap places here.
#[test]
fn only_scans_feel_the_order() -> Result<()> {
    let Some(g) = gpu() else { return Ok(()) };
    for name in ["vit_micro_patch4_32", "mambar_micro_patch4_32"] {
        let config = config(name);
        let mut params = Params::new(g);
        let net = backbone(g, &mut params, &config, Purpose::Pretraining)?;
        params.init(g, 3)?;
        let features = |order: &[u32]| values(g, |r| Ok(net.encode_visible(r, &batch(g, &config, order), None)?.data));
        let (straight, swapped) = (features(&[2, 3, 5, 8]), features(&[5, 3, 2, 8]));
        let rows: Vec<&[f32]> = swapped.chunks_exact(config.width).collect();
        let back: Vec<f32> = [2, 1, 0, 3, 6, 5, 4, 7].iter().flat_map(|&i| rows[i].to_vec()).collect();
        let apart = straight.iter().zip(&back).fold(0.0, |m, (a, b)| f32::max(m, (a - b).abs()));
        // in a ViT only the order of sums over keys changes: a few roundings of values near 1
        assert_eq!(apart < 1e-5, name.starts_with("vit"), "{name}: {apart:.1e}");
    }
    Ok(())
}

/// MAP pretrains every family: each parameter of encoder and decoder gets a gradient, and no parameter of the
/// classifier does.
#[test]
fn map_takes_every_family() -> Result<()> {
    let Some(g) = gpu() else { return Ok(()) };
    for name in MODELS {
        let config = config(name);
        let mut params = Params::new(g);
        let map = Map::new(g, &mut params, &config)?;
        params.init(g, 3)?;
        let mut r = Recorder::new(g);
        let order: Vec<u32> = scan(&config).into_iter().filter(|t| t % 3 != 0).collect();
        let out = map.reconstruct(&mut r, &batch(g, &config, &order), None)?;
        let grads = r.backward(&out.loss, params.grads())?;
        r.run()?;
        let loss = out.loss.data.to_vec(g)?[0];
        assert!((0.5..3.0).contains(&loss), "{name}: {loss}");
        for entry in params.entries() {
            let own = ["cls_token", "pos_embed_cls", "head"].iter().any(|own| entry.name.starts_with(own));
            let trained = !own || (name.starts_with("vit") && entry.name == "cls_token");
            assert_eq!(params.has_gradient(&entry.name, &grads), trained, "{name}: {}", entry.name);
        }
    }
    Ok(())
}

/// MAP's decoder predicts a row from that row and the rows above. A change of a visible token changes no bit of the
/// predictions above its row (src/models/README.md, "Decoder masks").
#[test]
fn rows_do_not_see_those_below() -> Result<()> {
    let Some(g) = gpu() else { return Ok(()) };
    let config = config("map_micro_patch4_32");
    let mut params = Params::new(g);
    let map = Map::new(g, &mut params, &config)?;
    params.init(g, 3)?;
    let order = [1, 4, 6, 9, 12, 14]; // of rows 0, 1, 1, 2, 3, 3
    let batch = batch(g, &config, &order);
    let features = Random::new(6).normal(2 * order.len() * config.width);
    let pred = |features: &[f32]| {
        let features = Tensor::from_slice(g, &[2, order.len(), config.width], features).unwrap();
        values(g, |r| Ok(map.decode(r, &Var::constant(features), &batch)?.data))
    };
    let straight = pred(&features);
    let row = config.grid() * config.patch_len();
    for (at, token) in order.iter().enumerate() {
        let mut moved = features.clone();
        moved[at * config.width..][..config.width].iter_mut().for_each(|v| *v += 1.0);
        let moved = pred(&moved);
        let first = (*token as usize / config.grid()) * row;
        assert_eq!(straight[..first], moved[..first], "token {token}");
        assert_ne!(straight[first..][..row], moved[first..][..row], "token {token}");
        assert_eq!(straight[4 * row..], moved[4 * row..], "the other image");
    }
    Ok(())
}

/// Every parameter of a classifier has a gradient.
#[test]
fn classifiers_use_all_they_have() -> Result<()> {
    let Some(g) = gpu() else { return Ok(()) };
    for name in MODELS.into_iter().chain(["hybrid_micro_tttttttt_patch4_32", "hybrid_micro_ttmmmmmm_patch4_32"]) {
        let config = config(name);
        let mut params = Params::new(g);
        let model = Classifier::new(g, &mut params, &config)?;
        params.init(g, 3)?;
        let mut r = Recorder::new(g);
        let out = model.forward(&mut r, &Var::constant(patches(g, &config, 2)), None)?;
        assert_eq!(out.features.data.shape(), [2, config.features()], "{name}");
        assert_eq!(out.logits.data.shape(), [2, 10], "{name}");
        let loss = mean(&mut r, &out.logits)?;
        let grads = r.backward(&loss, params.grads())?;
        r.run()?;
        for entry in params.entries() {
            assert!(params.has_gradient(&entry.name, &grads), "{name}: {}", entry.name);
        }
        assert!(
            pollster::block_on(params.gradients(g))?.values().flat_map(|(_, v)| v).all(|v| v.is_finite()),
            "{name}"
        );
    }
    Ok(())
}

/// If both scan directions have equal weights, a palindrome of tokens stays a palindrome (src/models/README.md, "Two
/// directions").
#[test]
fn a_palindrome_stays_one() -> Result<()> {
    let Some(g) = gpu() else { return Ok(()) };
    let config = MambaConfig {
        width: 24,
        states: 16,
        conv: 4,
        expand: 2,
        directions: Directions::Mean,
        init: InitScheme::Mamba,
        out_scale: 1.0,
    };
    let mut params = Params::new(g);
    let mixer = MambaMixer::new(&mut params, "mixer", &config)?;
    params.init(g, 7)?;
    let mut weights: Weights = pollster::block_on(params.weights(g))?;
    for (forward, backward) in [
        ("A_log", "A_b_log"),
        ("D", "D_b"),
        ("conv1d.weight", "conv1d_b.weight"),
        ("conv1d.bias", "conv1d_b.bias"),
        ("x_proj.weight", "x_proj_b.weight"),
        ("dt_proj.weight", "dt_proj_b.weight"),
        ("dt_proj.bias", "dt_proj_b.bias"),
    ] {
        let same = weights[&format!("mixer.{forward}")].clone();
        weights.insert(format!("mixer.{backward}"), same);
    }
    params.load(g, &weights)?;
    let (l, d) = (13, 24);
    let first = Random::new(2).normal(7 * d);
    let palindrome: Vec<f32> = (0..l).flat_map(|i: usize| first[i.min(l - 1 - i) * d..][..d].to_vec()).collect();
    let x = Var::constant(Tensor::from_slice(g, &[1, l, d], &palindrome)?);
    let y = values(g, |r| Ok(mixer.forward(r, &x)?.data));
    let flipped: Vec<f32> = y.chunks_exact(d).rev().flatten().copied().collect();
    assert!(y.iter().any(|v| v.abs() > 1e-3));
    // the two directions swap roles, so each pair is added in the other order
    close("flipped", &flipped, &wide(&y), Tol { rel: 1e-6, abs: 1e-7 });
    Ok(())
}
