//! Both passes of selective_scan on a CPU. Maths: `shaders/selective_scan_whole.wgsl`.

use super::backward::{self, BackwardScanScalars};
use super::call::{Inputs, ScanCall, WHOLE_CHANNELS, WHOLE_CHUNK, grid_is_f32};
use super::forward;
use super::workspace::Workspace;
use crate::error::Result;
use crate::gpu::{Bind, Const, Grid, Kernel, LaunchArgs, Work, scalars, wgsl};
use crate::tape::Recorder;
use crate::tensor::Tensor;

const SRC: &str = wgsl!("selective_scan_whole", "math", "half", "element", "gate");
const CONSTS: &[Const] = &[
    Const::within("N", 5, 16, &[16, 5, 9]),
    Const::of("T", &[WHOLE_CHUNK as u32]),
    Const::flag("HALF"),
    Const::flag("GRID"),
    Const::flag("LOOPS"),
];

const fn kernel(name: &'static str, binds: &'static [Bind]) -> Kernel {
    Kernel::new::<BackwardScanScalars>(name, SRC, binds).consts(CONSTS).admits(grid_is_f32).rounds().for_cpus()
}

pub(super) const FORWARD: Kernel =
    kernel("selective_scan_whole.forward", forward::BINDS).least(|x| least(x, [2, 2], [1, 2], 6));
pub(super) const BACKWARD: Kernel =
    kernel("selective_scan_whole.backward", backward::BINDS).least(|x| least(x, [4, 2], [3, 2], 18));

/// Least work: numbers that are moved for each (b, t, e), `each` of every direction and `once`, over a grid other ones;
/// `flops` and an exponential for each state.
fn least(launch: &LaunchArgs<'_>, sequence: [usize; 2], grid: [usize; 2], flops: usize) -> Work {
    let p: BackwardScanScalars = launch.scalars();
    let (channels, s) = ((p.b * p.l * p.e) as usize, p.s as usize);
    let states = channels * s * launch.constant("N");
    let [each, once] = if launch.constant("GRID") == 0 { sequence } else { grid };
    Work::of(launch.bytes_of("HALF") * (each * s + once) * channels, flops * states, states)
}

impl ScanCall {
    fn whole_consts(self, r: &Recorder) -> [(&'static str, u32); 4] {
        let [n, t, pairs] = [self.spec.states, self.chunk(), self.pairs()].map(|n| n as u32);
        [("N", n), ("T", t), ("GRID", pairs - 1), ("LOOPS", r.caps().browser_cpu().into())]
    }

    /// Launches the forward pass; `args` end with `out` (B, L, E) and the states at the ends of chunks, which are
    /// written with `save`.
    pub(super) fn whole_forward(self, r: &mut Recorder, save: bool, args: &[Option<&Tensor>]) -> Result<()> {
        let p = self.back(None, false);
        let p = scalars!(BackwardScanScalars { chunks: if save { p.chunks } else { 0 }, ..p });
        let grid = Grid::of(self.e.div_ceil(WHOLE_CHANNELS), self.b, 1);
        r.launch_with(&FORWARD, &self.whole_consts(r), grid, &p, args)
    }

    /// Launches the backward pass → its gradients and partial sums.
    pub(super) fn whole_backward(
        self, r: &mut Recorder, x: &Inputs, states: &Tensor, dout: &Tensor,
    ) -> Result<Workspace> {
        // flush takes 32 iterations for 16 lanes and 4 tokens
        self.expect_at_most(r.caps(), 20_000, "tokens of a backward pass")?;
        let work = Workspace::new(self, WHOLE_CHANNELS);
        let grid = Grid::of(work.tiles, self.b, self.s);
        let args = x.and([states, dout, &work.all]);
        r.launch_with(&BACKWARD, &self.whole_consts(r), grid, &self.back(Some(&work), false), &args)?;
        Ok(work)
    }
}
