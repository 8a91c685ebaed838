//! Both passes of selective_scan on a CPU. Maths: `shaders/selective_scan_whole.wgsl`.

use super::call::{Inputs, ScanCall, WHOLE_CHANNELS, WHOLE_CHUNK, channel_layout, grid_is_f32};
use super::workspace::Workspace;
use crate::error::Result;
use crate::gpu::{Bind, Const, Grid, Kernel, LaunchArgs, Work, params, read, scalars, wgsl, write};
use crate::tape::Recorder;
use crate::tensor::Tensor;

params! {
    /// Scalars of `selective_scan_whole.wgsl`.
    pub(crate) struct WholeScanScalars {
        s: u32, b: u32, l: u32, e: u32, r: u32, chunks: u32, d_at: u32, bias_at: u32, channel_params_len: u32,
        softplus: u32, has_d: u32, has_bias: u32, has_z: u32, save: u32,
        ddelta_at: u32, bc_at: u32, dchannel_params_at: u32, tiles: u32, height: u32, width: u32,
        z_at: u32,
    }
}

const SRC: &str = wgsl!("selective_scan_whole", "math", "half", "element", "gate");
const CONSTS: &[Const] = &[
    Const::within("N", 5, 16, &[16, 5, 9]),
    Const::of("T", &[WHOLE_CHUNK as u32]),
    Const::flag("HALF"),
    Const::flag("GRID"),
    Const::flag("LOOPS"),
];

const fn kernel(name: &'static str, binds: &'static [Bind]) -> Kernel {
    Kernel::new::<WholeScanScalars>(name, SRC, binds).consts(CONSTS).admits(grid_is_f32).rounds().for_cpus()
}

pub(super) const FORWARD: Kernel = kernel(
    "selective_scan_whole.forward",
    &[
        read(1, "u").f16_if("HALF"),
        read(2, "delta").f16_if("HALF"),
        read(3, "xdbl"),
        read(4, "channel_params"),
        read(5, "xz").f16_if("HALF"),
        write(8, "out").f16_if("HALF"),
        write(6, "states").f16_if("HALF"),
    ],
)
.least(|x| least(x, [2, 2], [1, 2], 6));
pub(super) const BACKWARD: Kernel = kernel(
    "selective_scan_whole.backward",
    &[
        read(1, "u").f16_if("HALF"),
        read(2, "delta").f16_if("HALF"),
        read(3, "xdbl"),
        read(4, "channel_params"),
        read(5, "xz").f16_if("HALF"),
        read(7, "saved").f16_if("HALF"),
        read(12, "dout").f16_if("HALF"),
        write(13, "gradients").f16_until("HALF", "bc_at"),
    ],
)
.least(|x| least(x, [4, 2], [3, 2], 18));

/// Least work: numbers that are moved for each (b, t, e), `each` of every direction and `once`, over a grid other ones;
/// `flops` and an exponential for each state.
fn least(launch: &LaunchArgs<'_>, sequence: [usize; 2], grid: [usize; 2], flops: usize) -> Work {
    let p: WholeScanScalars = launch.scalars();
    let (channels, s) = ((p.b * p.l * p.e) as usize, p.s as usize);
    let states = channels * s * launch.constant("N");
    let [each, once] = if launch.constant("GRID") == 0 { sequence } else { grid };
    Work::of(launch.bytes_of("HALF") * (each * s + once) * channels, flops * states, states)
}

impl ScanCall {
    fn whole(self, save: bool, work: Option<&Workspace>) -> WholeScanScalars {
        let f = self.params(save);
        scalars!(WholeScanScalars {
            s: self.s,
            b: f.b,
            l: f.l,
            e: f.e,
            r: f.r,
            chunks: f.chunks,
            d_at: f.d_at,
            bias_at: f.bias_at,
            channel_params_len: channel_layout(self.s, self.e, self.spec.states).len,
            softplus: f.softplus,
            has_d: f.has_d,
            has_bias: f.has_bias,
            has_z: f.has_z,
            save: save,
            ddelta_at: work.map_or(0, |w| w.ddelta_at),
            bc_at: work.map_or(0, |w| w.bc_at),
            dchannel_params_at: work.map_or(0, |w| w.dchannel_params_at),
            tiles: work.map_or(0, |w| w.tiles),
            height: self.spec.grid.map_or(0, |(height, _)| height),
            width: self.spec.grid.map_or(0, |(_, width)| width),
            z_at: f.z_at,
        })
    }

    fn whole_consts(self, r: &Recorder) -> [(&'static str, u32); 4] {
        let [n, t, pairs] = [self.spec.states, self.chunk(), self.pairs()].map(|n| n as u32);
        [("N", n), ("T", t), ("GRID", pairs - 1), ("LOOPS", r.caps().browser_cpu().into())]
    }

    /// Launches the forward pass → `out` (B, L, E), and with `save` the states at the ends of chunks.
    pub(super) fn whole_forward(
        self, r: &mut Recorder, x: &Inputs, save: bool, out: &Tensor, states: &Tensor,
    ) -> Result<()> {
        let [u, delta, xdbl, channel_params] = [&x.u, &x.delta, &x.xdbl, &x.channel_params].map(Some);
        let args = [u, delta, xdbl, channel_params, x.xz.as_ref(), Some(out), Some(states)];
        let grid = Grid::of(self.e.div_ceil(WHOLE_CHANNELS), self.b, 1);
        r.launch_with(&FORWARD, &self.whole_consts(r), grid, &self.whole(save, None), &args)
    }

    /// Launches the backward pass → all of `work`.
    pub(super) fn whole_backward(
        self, r: &mut Recorder, x: &Inputs, states: &Tensor, dout: &Tensor, work: &Workspace,
    ) -> Result<()> {
        // flush takes 32 iterations for 16 lanes and 4 tokens
        self.expect_at_most(r.caps(), 20_000, "tokens of a backward pass")?;
        let [u, delta, xdbl, channel_params] = [&x.u, &x.delta, &x.xdbl, &x.channel_params].map(Some);
        let args = [u, delta, xdbl, channel_params, x.xz.as_ref(), Some(states), Some(dout), Some(&work.all)];
        let grid = Grid::of(work.tiles, self.b, self.s);
        r.launch_with(&BACKWARD, &self.whole_consts(r), grid, &self.whole(true, Some(work)), &args)
    }
}
