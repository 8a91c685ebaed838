//! Kind `mae_pretrain`: MAE, with the configuration keys and parameter names of transformers' ViTMAE.

use super::compare::{FixtureReport, OUTPUT};
use super::fixture::Fixture;
use super::model::{gradients, loss, output, weights};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::{
    Config, Decoder, DecoderKind, Family, InitPositions, Mae, MaskedBatch, Method, Objective, PixelPretext, Pool,
    Positions, Target, from_transformers, our_name,
};
use crate::nn::Params;
use crate::ops::patchify;
use crate::tape::Recorder;
use crate::tensor::Tensor;

fn config(f: &Fixture) -> Result<Config> {
    let (width, hidden) = (f.size("hidden_size", 768)?, f.size("intermediate_size", 3072)?);
    let (decoder_width, decoder_hidden) =
        (f.size("decoder_hidden_size", 512)?, f.size("decoder_intermediate_size", 2048)?);
    if f.size("num_channels", 3)? != 3 {
        return Err(f.error(format!("config `num_channels` is {}, expected 3", f.config("num_channels"))));
    }
    Ok(Config {
        name: "fixture".into(),
        family: Family::VIT,
        image_size: f.size("image_size", 224)?,
        patch_size: f.size("patch_size", 16)?,
        width,
        pattern: "T".repeat(f.size("num_hidden_layers", 12)?),
        heads: f.size("num_attention_heads", 12)?,
        mlp_ratio: hidden as f64 / width.max(1) as f64,
        qkv_bias: f.flag("qkv_bias", true)?,
        norm_eps: Some(f.number("layer_norm_eps", 1e-12)?),
        pool: Pool::Token,
        classes: 0,
        positions: Positions::SinCos,
        init_positions: InitPositions::Normal,
        position_scale: 1.0,
        mask_token_std: 0.02,
        drop_path: 0.0,
        decoder: Decoder {
            kind: DecoderKind::Mae,
            width: decoder_width,
            depth: f.size("decoder_num_hidden_layers", 8)?,
            heads: f.size("decoder_num_attention_heads", 16)?,
            mlp_ratio: decoder_hidden as f64 / decoder_width.max(1) as f64,
        },
        ..Config::preset("vit_base_patch16_224")?
    })
}

/// The batch and the mask (B, L) that follow from MAE's noise (B, L): the (1 − ratio)·L tokens with the least noise are
/// visible, in ascending order of noise.
fn batch(r: &mut Recorder, f: &Fixture, config: &Config, images: &Tensor) -> Result<(MaskedBatch, Vec<f32>)> {
    let noise = f.get("input.noise")?;
    let (l, b) = (config.tokens(), images.shape().first().copied().unwrap_or(0));
    if noise.values.len() != b * l || b == 0 {
        return Err(f.error(format!("input.noise has {} values, expected {b} × {l}", noise.values.len())));
    }
    let v = (l as f64 * (1.0 - f.number("mask_ratio", 0.75)?)) as usize;
    if v == 0 {
        return Err(f.error("config `mask_ratio` leaves no token visible"));
    }
    let (mut visible, mut inverse, mut mask) = (Vec::new(), vec![u32::MAX; b * l], vec![1.0f32; b * l]);
    for (b, noise) in noise.values.chunks_exact(l).enumerate() {
        let mut order: Vec<usize> = (0..l).collect();
        order.sort_by(|&i, &j| noise[i].total_cmp(&noise[j]));
        for (at, &token) in order[..v].iter().enumerate() {
            visible.push(token as u32);
            inverse[b * l + token] = at as u32;
            mask[b * l + token] = 0.0;
        }
    }
    let patches = patchify::from_nchw(r, images, config.patch_size)?;
    let g = r.gpu();
    let batch = MaskedBatch {
        patches,
        visible: Tensor::from_indices(g, &[b, v], &visible)?,
        inverse: Tensor::from_indices(g, &[b, l], &inverse)?,
        mask: Tensor::from_slice(g, &[b, l], &mask)?,
        scale: 1.0 / mask.iter().sum::<f32>(),
        counted: None,
        second: None,
    };
    Ok((batch, mask))
}

pub fn check(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let config = config(f)?;
    let images = f.get("input.images")?;
    let mut params = Params::new(g);
    let target = if f.flag("norm_pix_loss", false)? { Target::Normalized } else { Target::Raw };
    let objective = Objective { target, ..Objective::of(Method::MAE) };
    let model = Mae::with(g, &mut params, &config, &objective)?;
    params.load(g, &from_transformers(weights(f))?)?;
    let images = Tensor::from_slice(g, &images.shape, &images.f32())?;
    let mut r = Recorder::new(g);
    let (batch, mask) = batch(&mut r, f, &config, &images)?;
    let out = model.reconstruct(&mut r, &batch, None)?;
    let grads = r.backward(&out.loss, params.grads())?;
    r.run()?;
    if let Some(theirs) = f.find("output.mask") {
        report.relative("output.mask", &mask, theirs, OUTPUT);
    }
    output(g, f, report, "output.encoder", &out.encoder)?;
    output(g, f, report, "output.pred", &out.pred)?;
    loss(g, f, report, "output.loss", &out.loss)?;
    gradients(g, f, report, &params, &grads, |name| our_name(name).unwrap_or_else(|| (name.to_string(), None)))
}
