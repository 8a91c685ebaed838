//! Kind `tables`: single operators. Activations, the decoder's mask, RMSNorm with residual, and resizing of position
//! embeddings.

use super::compare::{FixtureReport, OUTPUT};
use super::fixture::Fixture;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::resize_positions;
use crate::ops::activation;
use crate::ops::attention::{AttentionMask, AttentionOptions, Regions, self_attention};
use crate::ops::norm::{NormOptions, rms_norm};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

type Function = fn(&mut Recorder, &Var) -> Result<Var>;

pub fn check(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let functions: [(&str, &str, Function); 4] = [
        ("ops.gelu_erf", "ops.x", activation::gelu),
        ("ops.gelu_tanh", "ops.x", activation::gelu_tanh),
        ("ops.silu", "ops.x", activation::silu),
        ("ops.softplus", "ops.softplus_x", activation::softplus),
    ];
    let load = |name: &str| {
        let array = f.get(name)?;
        Tensor::from_slice(g, &array.shape, &array.f32()).map(Var::constant)
    };
    for (name, input, function) in functions {
        if let Some(theirs) = f.find(name) {
            let mut r = Recorder::inference(g);
            let y = function(&mut r, &load(input)?)?;
            r.run()?;
            report.relative(name, &y.data.to_vec(g)?, theirs, OUTPUT);
        }
    }
    for side in 1..=16usize {
        let name = format!("decoder_attn_mask_{side}x{side}");
        if let Some(theirs) = f.find(&name) {
            report.relative(&name, &decoder_mask(g, side)?, &allowed(theirs), OUTPUT);
        }
    }
    if let Some(theirs) = f.find("rmsnorm.y") {
        let (x, residual, weight) = (load("rmsnorm.x")?, load("rmsnorm.residual")?, load("rmsnorm.weight")?);
        let mut r = Recorder::inference(g);
        let (y, sum) =
            rms_norm(&mut r, &x, &weight, NormOptions { residual: Some(&residual), ..NormOptions::eps(1e-5) })?;
        r.run()?;
        report.relative("rmsnorm.y", &y.data.to_vec(g)?, theirs, OUTPUT);
        if let Some(theirs) = f.find("rmsnorm.new_residual") {
            report.relative("rmsnorm.new_residual", &sum.data.to_vec(g)?, theirs, OUTPUT);
        }
    }
    if let Some(grid) = f.find("posembed.in") {
        let width = grid.shape.last().copied().unwrap_or(1);
        for (side, theirs) in f.with_prefix("posembed.out") {
            let Ok(side) = side.parse() else { continue };
            report.relative(
                &format!("posembed.out{side}"),
                &resize_positions(&grid.f32(), width, side)?,
                theirs,
                OUTPUT,
            );
        }
    }
    Ok(())
}

/// Converts an additive attention mask (0 or −∞) to 1 for seen and 0 for hidden keys.
fn allowed(mask: &super::fixture::Array) -> super::fixture::Array {
    let values = mask.values.iter().map(|&v| if v == 0.0 { 1.0 } else { 0.0 }).collect();
    super::fixture::Array { shape: mask.shape.clone(), values }
}

/// The row-causal mask as the attention kernel applies it, 1 for seen and 0 for hidden keys. All scores are equal and
/// the values are one-hot, so the output is 1 / (number of seen keys) for each seen key and 0 for the others.
fn decoder_mask(g: &Gpu, side: usize) -> Result<Vec<f32>> {
    let l = side * side;
    let row = |i: usize| (0..3 * l).map(move |c| if c == 2 * l + i { 1.0 } else { 0.0 });
    let qkv: Vec<f32> = (0..l).flat_map(row).collect();
    let qkv = Var::constant(Tensor::from_slice(g, &[1, l, 3 * l], &qkv)?);
    let heads = l.div_ceil(128);
    let rows = Regions::rows(g, side, side)?;
    let mut r = Recorder::inference(g);
    let out = self_attention(
        &mut r,
        &qkv,
        AttentionOptions { heads, mask: AttentionMask::RegionCausal, regions: Some(&rows) },
    )?;
    r.run()?;
    Ok(out.data.to_vec(g)?.into_iter().map(|weight| if weight > 0.0 { 1.0 } else { 0.0 }).collect())
}
