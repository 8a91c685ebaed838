//! Kind `adamw`: a few optimizer steps over a weight and a bias. Each has its own weight decay, and one gradient norm
//! clips both.

use super::compare::{FixtureReport, OUTPUT};
use super::fixture::Fixture;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::nn::{Entry, Init, Params, Weights};
use crate::ops::adamw::AdamwConfig;
use crate::ops::step::StepState;
use crate::tape::Recorder;
use crate::train::optimizer::{Group, Optimizer};

pub fn check(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let betas = f.numbers("betas").unwrap_or_else(|| vec![0.9, 0.999]);
    let &[beta1, beta2] = betas.as_slice() else { return Err(f.error("config `betas` are not two numbers")) };
    let config = AdamwConfig { betas: (beta1, beta2), eps: f.number("eps", 1e-8)? as f32 };
    let clip = f.config("clip_grad_norm").as_f64();
    let (decay_w, decay_b) = (f.number("weight_decay_w", 0.0)?, f.number("weight_decay_b", 0.0)?);
    let mut params = Params::new(g);
    let mut vars = Vec::new();
    for name in ["w", "b"] {
        let shape = f.get(&format!("param.{name}"))?.shape.clone();
        vars.push(params.add(name, &shape, &shape, Init::Zeros)?);
    }
    let named = |prefix: &str| -> Weights {
        f.with_prefix(prefix).map(|(name, array)| (name.to_string(), (array.shape.clone(), array.f32()))).collect()
    };
    params.init(g, 0)?;
    params.load(g, &named("param."))?;
    // no backward pass runs here: every parameter's range of the gradient arena is declared to be its gradient
    let mut grads = params.grads();
    let mut r = Recorder::inference(g);
    for var in &vars {
        let place = grads.alloc(var);
        grads.add(&mut r, var, place)?;
    }
    let decay = |name: &str| if name == "w" { decay_w } else { decay_b };
    let state = StepState::tensor();
    let group = |entry: &Entry| Group { lr_scale: 1.0, weight_decay: decay(&entry.name) };
    let optimizer = Optimizer::new(g, &params, &grads, config, clip, state.clone(), group)?;
    let steps = f.with_prefix("input.step").filter_map(|(rest, _)| rest.split('.').next()?.parse::<usize>().ok()).max();
    for step in 0..steps.map_or(0, |last| last + 1) {
        params.load_gradients(g, &named(&format!("input.step{step}.grad.")))?;
        let lr = f.numbers("lrs").and_then(|lrs| lrs.get(step).copied()).unwrap_or(f.number("lr", 1e-3)?);
        StepState::new(step as u32 + 1, lr as f32, config.betas, 0).write(g, &state)?;
        let mut r = Recorder::inference(g);
        optimizer.launch(&mut r, &params, &params.flat_gradients(), None)?;
        r.run()?;
        let weights = pollster::block_on(params.weights(g))?;
        let (first, second) = pollster::block_on(params.moments(g))?;
        for (kind, found) in [("param", weights), ("exp_avg", first), ("exp_avg_sq", second)] {
            for (name, (_, ours)) in found {
                let name = format!("output.step{step}.{kind}.{name}");
                if let Some(theirs) = f.find(&name) {
                    report.relative(&name, &ours, theirs, OUTPUT);
                }
            }
        }
    }
    Ok(())
}
