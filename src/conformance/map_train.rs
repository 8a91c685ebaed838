//! Kind `map_train`: losses and weights of a short training run, one fixed mask per step.

use super::compare::FixtureReport;
use super::fixture::Fixture;
use super::map_pretrain::{batch, config};
use super::model::weights;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::{Map, PixelPretext};
use crate::nn::{Entry, Params};
use crate::ops::adamw::AdamwConfig;
use crate::ops::step::StepState;
use crate::tape::Recorder;
use crate::tensor::Tensor;
use crate::train::optimizer::{DecayRule, Group, Optimizer};

/// Absolute tolerance of a loss: 25 times the difference that f32 rounding makes in the reference.
const LOSS: f64 = 2e-5;
/// Relative L2 tolerance of a weight.
const WEIGHT: f64 = 3e-4;

pub fn check(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let config = config(f)?;
    let lrs = f.numbers("lrs").ok_or_else(|| f.error("config `lrs` is not a list of numbers"))?;
    let betas = f.numbers("betas").unwrap_or_else(|| vec![0.9, 0.95]);
    let &[beta1, beta2] = betas.as_slice() else { return Err(f.error("config `betas` are not two numbers")) };
    let adamw = AdamwConfig { betas: (beta1, beta2), eps: f.number("eps", 1e-8)? as f32 };
    let clip = f.config("clip_grad_norm").as_f64();
    let decay = f.number("weight_decay", 0.0)?;
    let mut params = Params::new(g);
    let model = Map::new(g, &mut params, &config)?;
    params.init(g, 0)?;
    params.load(g, &weights(f))?;

    let (images, masks, losses) = (f.get("input.images")?, f.get("input.mask")?, f.get("output.losses")?);
    let &[pool, b, _, _, _] = images.shape.as_slice() else {
        return Err(f.error("input.images is not [S, B, C, H, W]"));
    };
    if images.values.is_empty() {
        return Err(f.error("input.images holds no image"));
    }
    let each = images.values.len() / pool;
    let inputs: Vec<Tensor> = images
        .f32()
        .chunks(each)
        .map(|values| Tensor::from_slice(g, &images.shape[1..], values))
        .collect::<Result<_>>()?;
    let (state, mut optimizer) = (StepState::tensor(), None);
    for (step, (lr, mask)) in lrs.iter().zip(masks.f32().chunks(b * config.tokens())).enumerate() {
        let mut r = Recorder::new(g);
        let batch = batch(&mut r, f, &inputs[step % pool], mask, config.patch_size)?;
        let out = model.reconstruct(&mut r, &batch, None)?;
        let grads = r.backward(&out.loss, params.grads())?;
        let weight_decay = |entry: &Entry| if DecayRule::MapRepo.decays(entry) { decay } else { 0.0 };
        let group = |entry: &Entry| Group { lr_scale: 1.0, weight_decay: weight_decay(entry) };
        let optimizer = match &mut optimizer {
            Some(optimizer) => optimizer,
            none => none.insert(Optimizer::new(g, &params, &grads, adamw, clip, state.clone(), group)?),
        };
        StepState::new(step as u32 + 1, *lr as f32, adamw.betas, 0).write(g, &state)?;
        optimizer.launch(&mut r, &params, &params.flat_gradients(), None)?;
        r.run()?;
        let ours = f64::from(out.loss.data.to_vec(g)?[0]);
        let theirs = losses.values.get(step).copied().unwrap_or(f64::NAN);
        report.absolute(&format!("output.losses[{step}]"), ours, theirs, LOSS);
    }
    let found = pollster::block_on(params.weights(g))?;
    for (name, theirs) in f.with_prefix("output.param.") {
        let Some((_, ours)) = found.get(name) else { return Err(f.error(format!("no parameter `{name}`"))) };
        report.relative(&format!("output.param.{name}"), ours, theirs, WEIGHT);
    }
    Ok(())
}
