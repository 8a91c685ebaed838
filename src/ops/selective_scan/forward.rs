//! The forward pass of selective_scan. Maths: `shaders/selective_scan.wgsl`.

use super::call::{Algorithm, Inputs, ScanCall, WG, channel_layout, chunk_fits, grid_is_f32};
use crate::error::Result;
use crate::gpu::{
    Bind, Choice, Const, DType, Grid, Kernel, LaunchArgs, Work, params, read, scalars, update, wgsl, write,
};
use crate::tape::Recorder;
use crate::tensor::Tensor;

params! {
    /// Scalars of `selective_scan.wgsl`.
    pub(crate) struct ScanScalars {
        b: u32, l: u32, e: u32, r: u32, chunks: u32, d_at: u32, bias_at: u32,
        softplus: u32, has_d: u32, has_bias: u32, has_z: u32, save: u32, pair: u32, height: u32, width: u32,
        z_at: u32,
    }
}

const SRC: &str = wgsl!("selective_scan", "math", "half", "element", "gate");
const STN: &[Const] = &[
    Const::of("S", &[2, 1]),
    Const::within("N", 1, 64, &[16, 1, 3, 8, 33, 48]),
    Const::of("T", &[16, 8]),
    Const::flag("HALF"),
    Const::flag("GRID"),
];

/// Whether the constants go together: a launch over a grid does two opposite directions.
fn fits(c: &Choice<'_>) -> bool {
    chunk_fits(c) && grid_is_f32(c) && (c.get("GRID") == 0 || c.get("S") == 2)
}

const fn forward(name: &'static str, binds: &'static [Bind]) -> Kernel {
    Kernel::new::<ScanScalars>(name, SRC, binds).consts(STN).admits(fits).rounds()
}

/// The operands of a kernel that does the forward pass by itself.
pub(super) const BINDS: &[Bind] = &[
    read(1, "u").f16_if("HALF"),
    read(2, "delta").f16_if("HALF"),
    read(3, "xdbl"),
    read(4, "channel_params"),
    read(5, "xz").f16_if("HALF"),
    write(8, "out").f16_if("HALF"),
    write(6, "states").f16_if("HALF"),
];
pub(super) const SEQUENTIAL: Kernel = forward("selective_scan.sequential", BINDS).least(|x| steps(x, applied(x), 6));
pub(super) const CHUNK_SCAN: Kernel = forward(
    "selective_scan.chunk_scan",
    &[
        read(1, "u").f16_if("HALF"),
        read(2, "delta").f16_if("HALF"),
        read(3, "xdbl"),
        read(4, "channel_params"),
        write(6, "states").f16_if("HALF"),
        write(9, "total"),
    ],
)
.least(|x| match x.constant("GRID") {
    0 => steps(x, 2 * x.constant("S"), 4),
    _ => steps(x, 1 + 4, 2 * 4), // u of all four directions is one
});
pub(super) const CHUNK_CARRY: Kernel = forward(
    "selective_scan.chunk_carry",
    &[read(4, "channel_params"), read(10, "totals"), update(6, "states").f16_if("HALF")],
);
pub(super) const CHUNK_APPLY: Kernel = forward(
    "selective_scan.chunk_apply",
    &[
        read(1, "u").f16_if("HALF"),
        read(2, "delta").f16_if("HALF"),
        read(3, "xdbl"),
        read(4, "channel_params"),
        read(5, "xz").f16_if("HALF"),
        read(7, "saved").f16_if("HALF"),
        write(8, "out").f16_if("HALF"),
    ],
)
.least(|x| steps(x, applied(x), 6));
pub(super) const LAST_STATE: Kernel =
    forward("selective_scan.last_state", &[read(7, "saved").f16_if("HALF"), write(11, "last")])
        .least(|x| Work::bytes(8 * x.len("last")));

/// Numbers that are moved for each (b, t, e): u, delta, z and out, or over a grid u once, delta and out, which the
/// second pair reads too.
fn applied(launch: &LaunchArgs<'_>) -> usize {
    let p: ScanScalars = launch.scalars();
    let s = launch.constant("S");
    if launch.constant("GRID") == 0 { 2 * s + 2 } else { 1 + s + 1 + p.pair as usize }
}

/// Least work: `arrays` numbers per (b, t, e), half as large if HALF = 1; `flops` and one exponential per (s, b, t, e,
/// n).
fn steps(launch: &LaunchArgs<'_>, arrays: usize, flops: usize) -> Work {
    let p: ScanScalars = launch.scalars();
    let channels = (p.b * p.l * p.e) as usize;
    let states = channels * launch.constant("S") * launch.constant("N");
    Work::of(launch.bytes_of("HALF") * arrays * channels, flops * states, states)
}

impl ScanCall {
    pub(super) fn params(self, save: bool) -> ScanScalars {
        let channel_params = channel_layout(self.s, self.e, self.spec.states);
        scalars!(ScanScalars {
            b: self.b,
            l: self.l,
            e: self.e,
            r: self.r,
            chunks: self.chunks(),
            d_at: channel_params.d,
            bias_at: channel_params.bias,
            softplus: self.spec.softplus,
            has_d: self.spec.has_d,
            has_bias: self.spec.has_bias,
            has_z: self.has_z,
            save: save,
            pair: 0,
            height: self.spec.grid.map_or(0, |(height, _)| height),
            width: self.spec.grid.map_or(0, |(_, width)| width),
            z_at: if self.spec.swapped { 0 } else { self.e },
        })
    }

    /// Launches the forward pass → out (B, L, E), and the states at the ends of chunks for the backward pass. The
    /// states are (S, B, chunks, N/4, E, 4), or (S, B, chunks, N/8, E, 8) in f16. Without `save` they may be left out.
    pub fn forward(self, r: &mut Recorder, x: &Inputs, save: bool) -> Result<(Tensor, Tensor)> {
        let Self { s, b, l, e, .. } = self;
        let (p, consts, tiles) = (self.params(save), self.consts(), e.div_ceil(WG));
        let out = x.u.scratch_like("selective_scan", &[b, l, e]);
        let keep = save || self.algorithm == Algorithm::Chunked;
        let dtype = DType::f16_if(self.half);
        let word = 16 / dtype.size() as usize; // states in 16 bytes
        let shape = if keep { [s, b, self.chunks(), self.state_words(), e, word] } else { [1, 1, 1, 1, 1, word] };
        let states = Tensor::scratch_of(dtype, "selective_scan states", &shape);
        match self.algorithm {
            Algorithm::Whole => self.whole_forward(r, save, &x.and([&out, &states]))?,
            Algorithm::Sequential => {
                let args = x.and([&out, &states]);
                let grid = Grid::of((e * s / self.pairs()).div_ceil(WG), b, 1);
                for pair in 0..self.pairs() {
                    r.launch_with(&SEQUENTIAL, &consts, grid, &scalars!(ScanScalars { pair, ..p }), &args)?;
                }
            }
            Algorithm::Chunked => {
                let total = Tensor::scratch("selective_scan step sizes", &[s, b, self.chunks(), e]);
                let args = [&x.u, &x.delta, &x.xdbl, &x.channel_params, &states, &total];
                r.launch_with(&CHUNK_SCAN, &consts, Grid::of(tiles, self.chunks(), s * b), &p, &args)?;
                let args = [&x.channel_params, &total, &states];
                let grid = Grid::of(tiles, self.state_words(), s * b);
                r.launch_with(&CHUNK_CARRY, &self.consts(), grid, &p, &args)?;
                let args = x.and([&states, &out]);
                let grid = Grid::of(tiles, self.chunks(), b);
                for pair in 0..self.pairs() {
                    r.launch_with(&CHUNK_APPLY, &consts, grid, &scalars!(ScanScalars { pair, ..p }), &args)?;
                }
            }
        }
        Ok((out, states))
    }

    /// Launches the copy of the states after the last step → (S, B, E, N).
    pub(super) fn last_state(self, r: &mut Recorder, states: &Tensor) -> Result<Tensor> {
        let last = Tensor::scratch("selective_scan last state", &[self.s, self.b, self.e, self.spec.states]);
        let grid = Grid::of(self.e.div_ceil(WG), 1, self.s * self.b);
        r.launch_with(&LAST_STATE, &self.consts(), grid, &self.params(true), &[states, &last])?;
        Ok(last)
    }
}
