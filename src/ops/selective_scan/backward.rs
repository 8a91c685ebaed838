//! The backward pass of selective_scan. Maths: `shaders/selective_scan_backward.wgsl`.

use super::call::{Algorithm, Inputs, ScanCall, channel_layout, chunk, chunk_fits, grid_is_f32};
use super::workspace::Workspace;
use crate::error::Result;
use crate::gpu::{Bind, Caps, Choice, Const, Grid, Kernel, LaunchArgs, Work, params, read, scalars, wgsl, write};

use crate::tape::Recorder;
use crate::tensor::Tensor;

params! {
    /// Scalars of `selective_scan_backward.wgsl`.
    pub(crate) struct BackwardScanScalars {
        s: u32, b: u32, l: u32, e: u32, r: u32, chunks: u32, d_at: u32, bias_at: u32, channel_params_len: u32,
        softplus: u32, has_d: u32, has_bias: u32, has_z: u32, clear: u32,
        ddelta_at: u32, bc_at: u32, dchannel_params_at: u32, tiles: u32, height: u32, width: u32, bc_groups: u32,
        z_at: u32,
    }
}

const SRC: &str = wgsl!("selective_scan_backward", "grid", "math", "half", "element", "gate", "scan_sums");
const SUBGROUP: &str =
    wgsl!("selective_scan_backward", "grid", "math", "half", "element", "gate", "scan_sums_subgroup");

const CONSTS: &[Const] = &[
    Const::within("N", 1, 64, &[16, 1, 5, 8, 9, 17, 33, 48, 64]),
    Const::of("T", &[16, 8]),
    Const::of("WG", &[64, 128]),
    Const::of("J", &[4, 2, 1]),
    Const::of("LANES", &[32, 2, 4, 8, 16, 64]),
    Const::flag("HALF"),
    Const::flag("GRID"),
];
/// The constants of the portable variant, which has no subgroup shuffles.
const PORTABLE: &[Const] = &[
    Const::within("N", 1, 64, &[16, 1, 5, 8, 9, 17, 33, 48, 64]),
    Const::of("T", &[16, 8]),
    Const::of("WG", &[64, 128]),
    Const::of("J", &[4, 2, 1]),
    Const::of("LANES", &[0]),
    Const::flag("HALF"),
    Const::flag("GRID"),
];

const fn kernel(name: &'static str, binds: &'static [Bind]) -> Kernel {
    Kernel::new::<BackwardScanScalars>(name, SRC, binds).consts(CONSTS).admits(lanes_hold).rounds()
}

/// Whether the constants go together: T is the length of a chunk for N states, LANES lanes hold all states of two
/// groups (0 means no shuffles), and the variant fits into 16 KiB of workgroup memory.
fn lanes_hold(c: &Choice<'_>) -> bool {
    let lanes = Lanes::of(c);
    chunk_fits(c)
        && grid_is_f32(c)
        && (lanes.together == 0 || lanes.together >= 2 * lanes.quads)
        && lanes.shared(c.get("T") as usize) <= 16 << 10
}

/// Whether a variant exceeds 16 KiB in the portable source, where sums go through workgroup memory.
fn sums_are_large(c: &Choice<'_>) -> bool {
    Lanes { together: 0, ..Lanes::of(c) }.shared(c.get("T") as usize) > 16 << 10
}

/// Lanes of a group, which hold all states of its channels: one lane for four states (a quad), rounded up to a power of
/// two.
fn quads(states: usize) -> usize {
    states.div_ceil(4).next_power_of_two()
}

/// The operands of a kernel that computes all gradients but that of the gate.
pub(super) const BINDS: &[Bind] = &[
    read(1, "u").f16_if("HALF"),
    read(2, "delta").f16_if("HALF"),
    read(3, "xdbl"),
    read(4, "channel_params"),
    read(5, "xz").f16_if("HALF"),
    read(7, "saved").f16_if("HALF"),
    read(12, "dout").f16_if("HALF"),
    write(13, "gradients").f16_until("HALF", "bc_at"),
];
/// `SCAN` without shuffles, for devices whose subgroups may be smaller than a group of lanes.
const SCAN_PORTABLE: Kernel = kernel("selective_scan_backward.scan", BINDS).consts(PORTABLE).least(steps_back);
pub(super) const SCAN: Kernel = SCAN_PORTABLE.consts(CONSTS).large(sums_are_large).subgroup(SUBGROUP);
pub(super) const SUM_PARTS: Kernel =
    kernel("selective_scan_backward.sum_parts", &[read(14, "parts"), write(15, "dxdbl"), write(16, "dchannel_params")])
        .least(sum_parts);
pub(super) const GATE: Kernel = kernel(
    "selective_scan_backward.gate",
    &[
        read(5, "xz").f16_if("HALF"),
        read(8, "out").f16_if("HALF"),
        read(12, "dout").f16_if("HALF"),
        write(17, "dxz").f16_if("HALF"),
    ],
)
.least(|x| {
    let n = x.len("out");
    Work::of(4 * x.bytes_of("HALF") * n, 6 * n, n)
});

/// Least work of the scan: u, delta, z and dout are read, du and ddelta are written. Each state takes h (computed
/// again), p, λ, and its terms of du, ddelta, dB, dC and dA.
fn steps_back(launch: &LaunchArgs<'_>) -> Work {
    let p: BackwardScanScalars = launch.scalars();
    let (channels, s) = ((p.b * p.l * p.e) as usize, p.s as usize);
    let states = channels * s * launch.constant("N");
    let arrays = if launch.constant("GRID") == 0 { 4 * s + 2 } else { 3 * s + 2 }; // all directions share one u, no z
    Work::of(launch.bytes_of("HALF") * arrays * channels, 18 * states, 2 * states)
}

/// Least work of `sum_parts`: the partial sums are read, and the columns of B and C and the parameters are written.
fn sum_parts(launch: &LaunchArgs<'_>) -> Work {
    let p: BackwardScanScalars = launch.scalars();
    let sums = if p.bc_groups > 0 { (p.s * p.b * p.l) as usize * 2 * launch.constant("N") } else { 0 };
    Work::of(4 * (launch.len("parts") + sums + launch.len("dchannel_params")), launch.len("parts"), 0)
}

/// How the backward scan divides states, channels and tokens among lanes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lanes {
    /// Lanes of a workgroup.
    all: usize,
    /// Lanes of a group.
    quads: usize,
    /// Lanes that are sure to share a subgroup, at most 64. 0 means the portable variant.
    together: usize,
    /// Tokens J of a batch, between two barriers.
    batch: usize,
}

impl Lanes {
    fn new(states: usize, caps: &Caps) -> Self {
        let quads = quads(states);
        let smallest = if caps.tiers.subgroup { caps.subgroup_sizes.0 as usize } else { 0 };
        let together = if smallest < 2 * quads { 0 } else { (1 << smallest.ilog2()).min(64) };
        // Each workgroup writes sums of dB and dC: wide ones write less. Batches of four tokens have fewer barriers.
        let widths: &[usize] = if together == 0 && quads < 4 { &[64] } else { &[128, 64] };
        let shapes = widths.iter().flat_map(|&all| [4, 2, 1].map(|batch| Self { all, quads, together, batch }));
        let narrow = Self { all: 64, quads, together, batch: 1 };
        shapes.into_iter().find(|lanes| lanes.shared(chunk(states)) <= 16 << 10).unwrap_or(narrow)
    }

    fn of(c: &Choice<'_>) -> Self {
        let [all, together, batch] = ["WG", "LANES", "J"].map(|name| c.get(name) as usize);
        Self { all, quads: quads(c.get("N") as usize), together, batch }
    }

    /// Channels of a workgroup.
    fn channels(self) -> usize {
        self.all / self.quads
    }

    /// Bytes of workgroup memory for chunks of `chunk` tokens: B and C of a chunk, then δ, u, gy and the slope of
    /// softplus for as many of its tokens as 8 KiB hold, then the sums of a batch.
    fn shared(self, chunk: usize) -> usize {
        let Self { all, quads, together, batch } = self;
        let tokens = chunk.min(512 / self.channels());
        let sums = all.checked_div(together).map_or(all * 40, |parts| parts * quads * 32);
        chunk * 2 * quads * 16 + tokens * self.channels() * 16 + batch * sums
    }
}

/// The constants N, T, WG, J and LANES of the backward scan for `states` states on an adapter.
#[doc(hidden)]
pub fn backward_tiling(states: usize, caps: &Caps) -> [(&'static str, u32); 5] {
    let Lanes { all, together, batch, .. } = Lanes::new(states, caps);
    let values = [states, chunk(states), all, batch, together];
    let names = ["N", "T", "WG", "J", "LANES"];
    std::array::from_fn(|i| (names[i], values[i] as u32))
}

impl ScanCall {
    pub(super) fn back(self, work: Option<&Workspace>, clear: bool) -> BackwardScanScalars {
        let f = self.params(true);
        scalars!(BackwardScanScalars {
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
            clear: clear,
            ddelta_at: work.map_or(0, |w| w.ddelta_at),
            bc_at: work.map_or(0, |w| w.bc_at),
            dchannel_params_at: work.map_or(0, |w| w.dchannel_params_at),
            tiles: work.map_or(0, |w| w.tiles),
            height: self.spec.grid.map_or(0, |(height, _)| height),
            width: self.spec.grid.map_or(0, |(_, width)| width),
            bc_groups: 0,
            z_at: f.z_at,
        })
    }

    /// Launches the scan → du, ddelta, and the partial sums that [`ScanCall::sum_parts`] adds
    /// up.
    pub(in crate::ops) fn backward(
        self, r: &mut Recorder, x: &Inputs, states: &Tensor, dout: &Tensor,
    ) -> Result<Workspace> {
        if self.algorithm == Algorithm::Whole {
            return self.whole_backward(r, x, states, dout);
        }
        let lanes = Lanes::new(self.spec.states, r.caps());
        // At most 23 iterations a token without shuffles (64 states) or 14 (up to 4 states), and 10 with them.
        let longest = match (lanes.together, lanes.quads) {
            (0, 1) => 4000,
            (0, _) => 2000,
            _ => 6000,
        };
        self.expect_at_most(r.caps(), longest, "tokens of a backward pass")?;
        let work = Workspace::new(self, lanes.channels());
        let args = x.and([states, dout, &work.all]);
        let grid = Grid::of(work.tiles, self.b, self.s);
        let kernel = if lanes.together == 0 { &SCAN_PORTABLE } else { &SCAN };
        let consts = [&backward_tiling(self.spec.states, r.caps())[..], &[("GRID", self.pairs() as u32 - 1)]].concat();
        r.launch_with(kernel, &consts, grid, &self.back(Some(&work), false), &args)?;
        Ok(work)
    }

    /// Launches the sums of the scan's partial sums, each where it is wanted, in one launch: dB and dC into columns
    /// R..R+2N of `dxdbl` (S, B, L, R+2N), and the gradient of `channel_params`. Columns 0..R of `dxdbl` become 0 if
    /// `clear`, and stay as they are otherwise.
    pub(in crate::ops) fn sum_parts(
        self, r: &mut Recorder, work: &Workspace, dxdbl: Option<&Tensor>, clear: bool, dparams: Option<&Tensor>,
    ) -> Result<()> {
        let rows = 256 / (2 * self.spec.states); // of xdbl, of a workgroup
        let bc_groups = dxdbl.map_or(0, |_| (self.s * self.b * self.l).div_ceil(rows));
        let params_groups = dparams.map_or(0, |sums| sums.len().div_ceil(32));
        if bc_groups + params_groups == 0 {
            return Ok(());
        }
        // a range from bc_at on: in one dispatch, `gradients` may not be bound twice
        let parts = work.all.range(work.bc_at, &[work.all.len() - work.bc_at])?;
        let p = scalars!(BackwardScanScalars { bc_groups, ..self.back(Some(work), clear) });
        let unwanted = Tensor::scratch("unwanted", &[1]);
        let args = [&parts, dxdbl.unwrap_or(&unwanted), dparams.unwrap_or(&unwanted)];
        r.launch_with(&SUM_PARTS, &self.consts(), Grid::rows(bc_groups + params_groups), &p, &args)
    }

    /// Launches the gradient of the gate: dz, computed from the result `out`, in the z half of dxz (B, L, 2E), and 0 in
    /// the x half.
    pub(in crate::ops) fn gate(
        self, r: &mut Recorder, xz: &Tensor, out: &Tensor, dout: &Tensor, dxz: &Tensor,
    ) -> Result<()> {
        let grid = Grid::items(if out.is_f16() { out.len() / 2 } else { out.len() }, 256);
        r.launch_with(&GATE, &self.consts(), grid, &self.back(None, false), &[xz, out, dout, dxz])
    }
}
