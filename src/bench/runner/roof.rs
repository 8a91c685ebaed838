//! The roofline: peak rates of the device, measured in the same run, and the least time that a case needs at them.

use std::fmt;

use serde_json::{Value, json};

use super::clock::Clock;
use crate::bench::inputs::Fill;
use crate::error::Result;
use crate::gpu::{Gpu, Grid, Kernel, Precision, Program, Work, params, wgsl, write};
use crate::ops::matmul::{Added, Form, Gemm, Route, Variant, gemm_with};
use crate::tape::Recorder;
use crate::tensor::Tensor;

/// Measured peak rates, per second.
#[derive(Debug, Clone, Copy)]
pub struct Roof {
    /// Bytes per second, read and written, of `tensor.copy`.
    pub copy: f64,
    /// Flops per second of our fastest variant of a large square product in f32.
    pub gemm: f64,
    /// Flops per second of multiply-adds in registers. Floors do not use it; it bounds what `gemm` could reach.
    pub fma: f64,
    /// Exponentials per second, computed in registers.
    pub exp: f64,
}

params! {
    /// Scalars of `roof.wgsl`.
    pub(crate) struct Chains { n: u32 }
}

/// Operations per invocation of `roof.wgsl`: 4 independent chains of 256 dependent steps.
const STEPS: usize = 4 * 256;
const SRC: &str = wgsl!("roof");
const EXPS: Kernel = Kernel::new::<Chains>("roof.exps", SRC, &[write(1, "out")]);
const FMAS: Kernel = Kernel::new::<Chains>("roof.fmas", SRC, &[write(1, "out")]);

/// The kernels of this file, for the shader tests.
pub const KERNELS: &[&Kernel] = &[&EXPS, &FMAS];

impl Roof {
    /// Measures the four rates, in about a second on a GPU.
    pub fn measure(g: &Gpu, clock: Clock) -> Result<Self> {
        let (copied, side, groups) = if g.caps().software { (1 << 24, 512, 128) } else { (1 << 26, 4096, 16_384) };
        let copied = copied.min(g.caps().max_range() as usize / 4);
        let x = Fill::new(g)?;
        let best = |launch: &dyn Fn(&mut Recorder) -> Result<()>| best(g, clock, launch);
        let from = x.unnamed_normal(&[copied])?;
        let copy = best(&|r| Tensor::scratch("copy", &[copied]).copy_from(r, &from))?;
        let gemm = Gemm::dense(Form::Nt, 1, side, side, side);
        let (a, b) = (x.unnamed_normal(&[side, side])?, x.unnamed_normal(&[side, side])?);
        let mut product = f64::MAX;
        for path in Route::candidates(g.caps(), Precision::F32) {
            let variant = Variant { path, splits: 1, precision: Precision::F32 };
            let c = Tensor::scratch("product", &[side, side]);
            product = product.min(best(&|r| gemm_with(r, variant, &gemm, &a, &b, Added::default(), &c))?);
        }
        let n = groups * 256;
        let out = Tensor::scratch("chains", &[n]);
        let chains = |kernel| best(&|r| r.launch(kernel, Grid::of(groups, 1, 1), &Chains { n: n as u32 }, &[&out]));
        Ok(Self {
            copy: 8.0 * copied as f64 / copy,
            gemm: 2.0 * (side as f64).powi(3) / product,
            fma: (2 * STEPS * n) as f64 / chains(&FMAS)?,
            exp: (STEPS * n) as f64 / chains(&EXPS)?,
        })
    }

    /// Least time of `work` in seconds: the longest of its times for bytes, flops and exponentials, as if the three
    /// overlapped completely.
    pub fn floor(&self, work: Work) -> f64 {
        let parts = [(work.bytes, self.copy), (work.flops, self.gemm), (work.exps, self.exp)];
        parts.iter().map(|&(work, rate)| work as f64 / rate).fold(0.0, f64::max)
    }

    /// The rates as JSON, in units of 10⁹ per second.
    pub fn json(&self) -> Value {
        json!({
            "copy_GB/s": self.copy / 1e9, "gemm_GFLOP/s": self.gemm / 1e9,
            "fma_GFLOP/s": self.fma / 1e9, "Gexp/s": self.exp / 1e9,
        })
    }
}

impl fmt::Display for Roof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [copy, gemm, fma, exp] = [self.copy, self.gemm, self.fma, self.exp].map(|rate| rate / 1e9);
        write!(f, "roof: copy {copy:.1} GB/s, GEMM {gemm:.1} and FMA {fma:.1} GFLOP/s in f32, {exp:.2} Gexp/s")
    }
}

/// Time in seconds of the fastest of ten replays, after three to warm up.
fn best(g: &Gpu, clock: Clock, launch: impl Fn(&mut Recorder) -> Result<()>) -> Result<f64> {
    let program = Program::new(Recorder::inference(g).record(launch)?.0)?;
    clock.elapsed(g, &[&program], 3)?;
    let times: Result<Vec<f64>> = (0..10).map(|_| Ok(clock.elapsed(g, &[&program], 1)?.as_secs_f64())).collect();
    Ok(times?.into_iter().fold(f64::MAX, f64::min))
}
