//! Kinds of point clouds that are computed on the GPU.

use super::compare::{FixtureReport, GRADIENT, OUTPUT};
use super::fixture::Fixture;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::ops::chamfer::{ChamferForm, chamfer as distance};
use crate::ops::reduce::sum;
use crate::tape::{Grads, Recorder, Var};
use crate::tensor::Tensor;

pub fn chamfer(g: &Gpu, f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let leaf = |name: &str| {
        let array = f.get(name)?;
        Tensor::from_slice(g, &array.shape, &array.f32()).map(Var::leaf)
    };
    for (name, form) in [("cdl1", ChamferForm::L1), ("cdl2", ChamferForm::L2)] {
        let (a, b) = (leaf("input.a")?, leaf("input.b")?);
        let mut r = Recorder::new(g);
        let shares = distance(&mut r, &a, &b, form)?;
        let loss = sum(&mut r, &shares)?;
        let grads = r.backward(&loss, Grads::default())?;
        r.run()?;
        report.relative(&format!("output.{name}"), &loss.data.to_vec(g)?, f.get(&format!("output.{name}"))?, OUTPUT);
        for (var, input) in [(&a, "input.a"), (&b, "input.b")] {
            let name = format!("grad.{name}.{input}");
            let ours = grads.get(var).map(|grad| grad.to_vec(g)).transpose()?.unwrap_or_default();
            report.relative(&name, &ours, f.get(&name)?, GRADIENT);
        }
    }
    Ok(())
}
