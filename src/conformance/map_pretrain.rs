//! Kind `map_pretrain`, and the model of kind `map_train`: HybridNet with the MAP decoder, configured by the arguments
//! of the official constructor.

use super::compare::FixtureReport;
use super::fixture::Fixture;
use super::model::{axis, count, drop_path, gradients, loss, output, weights};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::{
    Config, Decoder, DecoderKind, Family, InitPositions, InitScheme, Map, MaskedBatch, Order, PixelPretext, Pool,
    Positions, TestView,
};
use crate::nn::{Directions, Params};
use crate::ops::patchify;
use crate::tape::Recorder;
use crate::tensor::Tensor;
use crate::train::pretrain::mask::PatchMask;

/// The model configuration from the official constructor's arguments, with its defaults, and from the shapes of the
/// weights.
pub(super) fn config(f: &Fixture) -> Result<Config> {
    let depth = f.size("depth", 24)?;
    let width = f.size("embed_dim", 192)?;
    let ratio = f.number("mlp_ratio", 4.0)?;
    let inner = |name: &str, at: usize, default: usize| axis(f, name, at).unwrap_or(default);
    let decoder_width = f.size("decoder_embed_dim", 192)?;
    let decoder_depth = count(f, "decoder_blocks.", "norm2.weight");
    let blocks = count(f, "blocks.", "norm1.weight");
    let mlp = inner("param.blocks.0.mlp.fc1.weight", 0, (width as f64 * ratio / 2.0) as usize);
    let decoder_mlp = inner("param.decoder_blocks.0.mlp.fc1.weight", 0, (decoder_width as f64 * ratio) as usize);
    let mixer = "param.layers.0.mixer";
    let config = Config {
        name: "fixture".into(),
        family: Family::HYBRID,
        image_size: f.size("img_size", 224)?,
        image_width: None,
        patch_size: f.size("patch_size", 16)?,
        width,
        pattern: if blocks == depth / 3 { pattern(depth) } else { "M".repeat(depth) },
        heads: f.size("num_heads", 12)?,
        mlp_ratio: mlp as f64 / width as f64,
        qkv_bias: true,
        norm_eps: Some(f.number("norm_epsilon", 1e-5)?),
        extra_residual: true,
        registers: inner("param.cls_token", 1, 0),
        cls_reduce: f.size("cls_reduce", 1)?.max(1),
        pool: Pool::Registers,
        classes: inner("param.head.weight", 0, 0),
        states: inner(&format!("{mixer}.A_log"), 1, 16),
        conv: inner(&format!("{mixer}.conv1d.weight"), 2, 4),
        expand: inner(&format!("{mixer}.A_log"), 0, 2 * width) / width.max(1),
        rms_norm: f.flag("rms_norm", true)?,
        directions: Directions::Mean,
        order: Order::Rows,
        positions: Positions::Learned,
        init_positions: InitPositions::Normal,
        position_scale: 1.0,
        mask_token_std: 0.02,
        drop_path: f.number("drop_path_rate", 0.1)?,
        dropout: 0.0,
        test_view: TestView::default(),
        hierarchy: None,
        points: None,
        dense: None,
        init: InitScheme::MapRepo,
        decoder: Decoder {
            kind: DecoderKind::Map,
            width: decoder_width,
            depth: decoder_depth,
            heads: f.size("decoder_num_heads", 16)?,
            mlp_ratio: decoder_mlp as f64 / decoder_width as f64,
        },
    };
    config.validate()?;
    Ok(config)
}

/// The pattern MMMT repeated; `depth` counts the Mamba layers, and every third one is followed by a T.
fn pattern(depth: usize) -> String {
    (1..=depth).map(|n| if n % 3 == 0 { "MT" } else { "M" }).collect()
}

/// A batch from normalized images (B, 3, H, W) and a mask (B, L), in which 1 is hidden.
pub(super) fn batch(r: &mut Recorder, f: &Fixture, images: &Tensor, mask: &[f32], patch: usize) -> Result<MaskedBatch> {
    let patches = patchify::from_nchw(r, images, patch)?;
    let [b, l, _] = patches.dims("patches")?;
    if mask.len() != b * l {
        return Err(f.error(format!("input.mask has {} values, expected {b} × {l}", mask.len())));
    }
    let mask = PatchMask::from_mask(mask, &(0..l as u32).collect::<Vec<_>>())?;
    let g = r.gpu();
    Ok(MaskedBatch {
        visible: Tensor::from_indices(g, &[b, mask.visible_len], &mask.visible)?,
        inverse: Tensor::from_indices(g, &[b, l], &mask.inverse)?,
        scale: 1.0 / mask.mask.iter().sum::<f32>(),
        counted: None,
        second: None,
        mask: Tensor::from_slice(g, &[b, l], &mask.mask)?,
        patches,
    })
}

pub fn check(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let config = config(f)?;
    let images = f.get("input.images")?;
    let b = images.shape.first().copied().unwrap_or(0);
    let drop_path = drop_path(g, f, b, &config)?;
    let mut params = Params::new(g);
    let model = Map::new(g, &mut params, &config)?;
    params.load(g, &weights(f))?;
    let images = Tensor::from_slice(g, &images.shape, &images.f32())?;
    let mut r = Recorder::new(g);
    let batch = batch(&mut r, f, &images, &f.get("input.mask")?.f32(), config.patch_size)?;
    let out = model.reconstruct(&mut r, &batch, drop_path.as_ref())?;
    let grads = r.backward(&out.loss, params.grads())?;
    r.run()?;
    output(g, f, report, "output.encoder", &out.encoder)?;
    output(g, f, report, "output.pred", &out.pred)?;
    loss(g, f, report, "output.loss", &out.loss)?;
    gradients(g, f, report, &params, &grads, |name| (name.to_string(), None))
}
