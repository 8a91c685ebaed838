//! Kinds `mamba_mixer`, one Mamba mixer in one or two directions, and `mambavision_mixer`. Weights have their official
//! names.

use super::compare::{FixtureReport, GRADIENT, OUTPUT};
use super::fixture::Fixture;
use super::model::directions;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::nn::{Directions, InitScheme, MambaConfig, MambaMixer, MambaVisionMixer, Params, Weights};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

pub fn check(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let config = MambaConfig {
        width: f.size("d_model", 0)?,
        states: f.size("d_state", 16)?,
        conv: f.size("d_conv", 4)?,
        expand: f.size("expand", 2)?,
        directions: match f.flag("biscan", true)? {
            true => directions(f.flag("if_divide_out", true)?),
            false => Directions::One,
        },
        init: InitScheme::MapRepo,
        out_scale: 1.0,
    };
    let mut params = Params::new(g);
    let mixer = MambaMixer::new(&mut params, "mixer", &config)?;
    compare(g, f, report, &params, |r, x| mixer.forward(r, x))
}

/// Kind `mambavision_mixer`.
pub fn mambavision(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let mut params = Params::new(g);
    let (width, states) = (f.size("d_model", 0)?, f.size("d_state", 8)?);
    let mixer = MambaVisionMixer::new(&mut params, "mixer", width, states)?;
    compare(g, f, report, &params, |r, x| mixer.forward_onto(r, x, None))
}

/// Runs `forward` on the file's tokens with the file's weights, and compares the result and every gradient.
fn compare(
    g: &Gpu, f: &Fixture, report: &mut FixtureReport, params: &Params,
    forward: impl FnOnce(&mut Recorder, &Var) -> Result<Var>,
) -> Result<()> {
    let named =
        |(name, array): (&str, &super::fixture::Array)| (format!("mixer.{name}"), (array.shape.clone(), array.f32()));
    let weights: Weights = f.with_prefix("param.").map(named).collect();
    params.load(g, &weights)?;

    let x = f.get("input.x")?;
    let x = Var::leaf(Tensor::from_slice(g, &x.shape, &x.f32())?);
    let mut r = Recorder::new(g);
    let out = forward(&mut r, &x)?;
    let dout = f.get("input.dout")?;
    let dout = Tensor::from_slice(g, &dout.shape, &dout.f32())?;
    let grads = r.backward_from(&out, dout, params.grads())?;
    r.run()?;
    if let Some(theirs) = f.find("output.out") {
        report.relative("output.out", &out.data.to_vec(g)?, theirs, OUTPUT);
    }
    let dx = grads.get(&x).map(|grad| grad.to_vec(g)).transpose()?.unwrap_or_default();
    let found = pollster::block_on(params.gradients(g))?;
    for (name, theirs) in f.with_prefix("grad.") {
        let ours = match (name, found.get(&format!("mixer.{name}"))) {
            ("input.x", _) => &dx,
            (_, Some((_, values))) => values,
            _ => return Err(f.error(format!("`grad.{name}` belongs to no parameter or input"))),
        };
        report.relative(&format!("grad.{name}"), ours, theirs, GRADIENT);
    }
    Ok(())
}
