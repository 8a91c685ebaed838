//! Kind `ss2d`: VMamba's mixer of maps alone. Weights have the official names under `op.`; maps of the file are
//! [B, C, H, W].

use super::compare::{FixtureReport, GRADIENT, OUTPUT};
use super::fixture::{Array, Fixture};
use super::maps::{channels_first, channels_last};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::nn::{Init, Params, Ss2dConfig, Ss2dMixer, Weights};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

pub fn check(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let width = f.size("d_model", 0)?;
    let config = Ss2dConfig {
        width,
        inner: (f.number("ssm_ratio", 2.0)? * width as f64) as usize,
        states: f.size("d_state", 1)?,
        eps: 1e-5,
        init: Init::Zeros, // the file has the weights
    };
    let mut params = Params::new(g);
    let mixer = Ss2dMixer::new(&mut params, "op", &config)?;
    let named = |(name, array): (&str, &Array)| (format!("op.{name}"), (array.shape.clone(), array.f32()));
    let weights: Weights = f.with_prefix("param.").map(named).collect();
    params.load(g, &weights)?;

    let tensor = |name: &str| {
        let (shape, values) = channels_last(f.get(name)?);
        Tensor::from_slice(g, &shape, &values)
    };
    let x = Var::leaf(tensor("input.x")?);
    let mut r = Recorder::new(g);
    let out = mixer.forward(&mut r, &x, None)?;
    let grads = r.backward_from(&out, tensor("input.dout")?, params.grads())?;
    r.run()?;
    report.relative("output.out", &channels_first(g, &out.data)?, f.get("output.out")?, OUTPUT);
    let dx = grads.get(&x).map(|grad| channels_first(g, grad)).transpose()?.unwrap_or_default();
    let found = pollster::block_on(params.gradients(g))?;
    for (name, theirs) in f.with_prefix("grad.") {
        let ours = match (name, found.get(&format!("op.{name}"))) {
            ("input.x", _) => &dx,
            (_, Some((_, values))) => values,
            _ => return Err(f.error(format!("`grad.{name}` belongs to no parameter or input"))),
        };
        report.relative(&format!("grad.{name}"), ours, theirs, GRADIENT);
    }
    Ok(())
}
