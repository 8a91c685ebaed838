//! selective_scan: launchers and tape rule of the scan of Mamba-1. Maths: `shaders/selective_scan.wgsl` and
//! `shaders/selective_scan_backward.wgsl`.

mod backward;
pub use backward::{Backward, backward_tiling};
use backward::{GATE, SCAN, SUM_BC, SUM_CHAN};

use crate::error::{Error, Result};
use crate::gpu::Bind::{Read, Update, Write};
use crate::gpu::{Bind, Caps, Gpu, Grid, Kernel, Launch, Work, params, wgsl};
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `selective_scan.wgsl`.
    pub struct Forward {
        b: u32, l: u32, e: u32, r: u32, chunks: u32, d_at: u32, bias_at: u32,
        softplus: u32, has_d: u32, has_bias: u32, has_z: u32, save: u32,
    }
}

const SRC: &str = wgsl!("selective_scan", "math", "half", "gate");
const STN: &[(&str, u32)] = &[("S", 2), ("N", 16), ("T", 16), ("HALF", 0)];

const fn forward(name: &'static str, binds: &'static [Bind]) -> Kernel {
    Kernel::new::<Forward>(name, SRC, binds).consts(STN)
}

const SEQUENTIAL: Kernel =
    forward("selective_scan.sequential", &[Read(1), Read(2), Read(3), Read(4), Read(5), Write(8), Write(6)])
        .halves(&[(1, "HALF"), (2, "HALF"), (5, "HALF"), (8, "HALF")])
        .work(|x| steps(x, 4 * (2 * x.constant("S") + 2), 6));
const CHUNK_SCAN: Kernel =
    forward("selective_scan.chunk_scan", &[Read(1), Read(2), Read(3), Read(4), Write(6), Write(9)])
        .halves(&[(1, "HALF"), (2, "HALF")])
        .work(|x| steps(x, 8 * x.constant("S"), 4));
const CHUNK_CARRY: Kernel = forward("selective_scan.chunk_carry", &[Read(4), Read(10), Update(6)]);
const CHUNK_APPLY: Kernel =
    forward("selective_scan.chunk_apply", &[Read(1), Read(2), Read(3), Read(4), Read(5), Read(7), Write(8)])
        .halves(&[(1, "HALF"), (2, "HALF"), (5, "HALF"), (8, "HALF")])
        .work(|x| steps(x, 4 * (2 * x.constant("S") + 2), 6));
const LAST_STATE: Kernel =
    forward("selective_scan.last_state", &[Read(7), Write(11)]).work(|x| Work::bytes(8 * x.len(1)));

/// The kernels of this family.
pub const KERNELS: &[&Kernel] =
    &[&SEQUENTIAL, &CHUNK_SCAN, &CHUNK_CARRY, &CHUNK_APPLY, &LAST_STATE, &SCAN, &SUM_BC, &SUM_CHAN, &GATE];

/// Lanes of a workgroup.
const WG: usize = 64;

/// So many bytes per token and channel, half of them in f16; so many flops and one exponential per state of each direction.
fn steps(launch: &Launch, bytes: usize, flops: usize) -> Work {
    let p: Forward = launch.scalars();
    let channels = (p.b * p.l * p.e) as usize;
    let states = channels * launch.constant("S") * launch.constant("N");
    Work::of(bytes / (1 + launch.constant("HALF")) * channels, flops * states, states)
}

/// Where the parameters of the channels lie in their one tensor, in elements; the gradient has the same layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChanLayout {
    /// A_log (S, E, N).
    pub a_log: usize,
    /// D (S, E).
    pub d: usize,
    /// delta_bias (S, E).
    pub bias: usize,
    /// Elements in all.
    pub len: usize,
}

/// The layout for `s` directions, `e` channels and `n` states: every part starts at a multiple of 64, so that it can be
/// bound on its own.
pub fn chan_layout(s: usize, e: usize, n: usize) -> ChanLayout {
    let d = (s * e * n).next_multiple_of(64);
    let part = (s * e).next_multiple_of(64);
    ChanLayout { a_log: 0, d, bias: d + part, len: d + 2 * part }
}

/// How the forward scan is computed; both give the same numbers up to rounding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// A lane is a channel and loops over the tokens.
    Sequential,
    /// Parallel prefix over chunks of tokens.
    Chunked,
}

/// What kind of scan.
#[derive(Debug, Clone, Copy)]
pub struct Scan {
    /// States of a channel, 1 to 64.
    pub states: usize,
    /// δ = softplus(delta + bias), else delta + bias.
    pub softplus: bool,
    /// Whether the D in `chan` is used.
    pub has_d: bool,
    /// Whether the delta_bias in `chan` is used.
    pub has_bias: bool,
    /// Forces an algorithm.
    pub algorithm: Option<Algorithm>,
}

impl Scan {
    /// The scan of a Mamba mixer: softplus, D and bias.
    pub fn mamba(states: usize) -> Self {
        Self { states, softplus: true, has_d: true, has_bias: true, algorithm: None }
    }
}

/// Scans u (S, B, L, E) with step sizes delta (S, B, L, E), B and C in xdbl (S, B, L, R+2N) and the parameters of
/// [`chan_layout`]; gates with the z half of (B, L, 2E) and averages over the directions -> out (B, L, E), and the states
/// after the last step (S, B, E, N). The gradient of z is zero in the x half, that of xdbl in columns 0..R.
#[allow(clippy::too_many_arguments, reason = "the scan's inputs as the papers list them")]
pub fn selective_scan(
    g: &Gpu, t: &mut Tape, u: &Var, delta: &Var, xdbl: &Var, chan: &Var, z: Option<&Var>, spec: Scan,
) -> Result<(Var, Tensor)> {
    let inputs = Inputs {
        u: u.data.clone(),
        delta: delta.data.clone(),
        xdbl: xdbl.data.clone(),
        chan: chan.data.clone(),
        xz: z.map(|z| z.data.clone()),
    };
    let case = Case::new(&inputs, spec)?;
    let (out, states) = case.forward(g, &inputs, true)?;
    let last = case.last_state(g, &states)?;
    let vars = (u.clone(), delta.clone(), xdbl.clone(), chan.clone(), z.cloned());
    let saved = out.clone();
    let out = t.push(g, out, move |g, dout, grads| {
        let (u, delta, xdbl, chan, z) = vars;
        let work = case.backward(g, &inputs, &states, dout)?;
        drop(states);
        if let (Some(z), Some(xz)) = (&z, &inputs.xz)
            && grads.wants(z)
        {
            let dxz = grads.alloc(z);
            case.gate(g, xz, &saved, dout, &dxz)?;
            grads.add(g, z, dxz)?;
        }
        if grads.wants(&xdbl) {
            let dxdbl = grads.alloc(&xdbl);
            case.sum_bc(g, &work, &dxdbl, true)?;
            grads.add(g, &xdbl, dxdbl)?;
        }
        if grads.wants(&chan) {
            let dchan = grads.alloc(&chan);
            case.sum_chan(g, &work, &dchan)?;
            grads.add(g, &chan, dchan)?;
        }
        grads.add(g, &delta, work.ddelta()?)?;
        grads.add(g, &u, work.du()?)
    });
    Ok((out, last))
}

/// The tensors that a scan reads, forward and backward. u, delta and xz are f16 or none of them is.
#[derive(Debug, Clone)]
pub(super) struct Inputs {
    pub u: Tensor,
    pub delta: Tensor,
    pub xdbl: Tensor,
    pub chan: Tensor,
    pub xz: Option<Tensor>,
}

impl Inputs {
    /// Something to bind where there is no gate.
    fn xz(&self) -> &Tensor {
        self.xz.as_ref().unwrap_or(&self.u)
    }
}

/// Sizes and kind of one scan.
#[derive(Debug, Clone, Copy)]
pub(super) struct Case {
    s: usize,
    b: usize,
    l: usize,
    e: usize,
    r: usize,
    has_z: bool,
    half: bool,
    spec: Scan,
}

/// Tokens of a chunk.
fn chunk(states: usize) -> usize {
    if states <= 32 { 16 } else { 8 }
}

impl Case {
    pub(super) fn new(x: &Inputs, spec: Scan) -> Result<Self> {
        let [s, b, l, e] = x.u.dims("selective_scan: u")?;
        let n = spec.states;
        x.delta.expect_shape("selective_scan: delta", &[s, b, l, e])?;
        let [.., cols] = x.xdbl.dims::<4>("selective_scan: xdbl")?;
        x.xdbl.expect_shape("selective_scan: xdbl", &[s, b, l, cols])?;
        if !(1..=2).contains(&s) || !(1..=64).contains(&n) || cols < 2 * n || x.u.is_empty() {
            let got = format!("u (S, B, L, E) = {:?}, xdbl {:?}, {n} states", x.u.shape(), x.xdbl.shape());
            let expected = "S of 1 or 2, 1 to 64 states, at least 2N columns of xdbl, nothing empty";
            return Err(Error::argument("selective_scan: sizes", got, expected));
        }
        if x.u.is_half() && !e.is_multiple_of(2) {
            return Err(Error::argument("selective_scan: channels in f16", e, "an even number"));
        }
        x.chan.expect_shape("selective_scan: chan", &[chan_layout(s, e, n).len])?;
        if let Some(xz) = &x.xz {
            xz.expect_shape("selective_scan: z", &[b, l, 2 * e])?;
        }
        Ok(Self { s, b, l, e, r: cols - 2 * n, has_z: x.xz.is_some(), half: x.u.is_half(), spec })
    }

    /// Tokens of a chunk: as many as their B and C fit into workgroup memory beside the sums of the backward pass.
    fn chunk(self) -> usize {
        chunk(self.spec.states)
    }

    fn chunks(self) -> usize {
        self.l.div_ceil(self.chunk())
    }

    fn quads(self) -> usize {
        self.spec.states.div_ceil(4)
    }

    /// The vec4s of `states` for a channel: a quad of states each, or two in f16.
    fn state_words(self) -> usize {
        if self.half { self.quads().div_ceil(2) } else { self.quads() }
    }

    /// [`Case::consts`] for kernels that know the storage by nothing but `states`.
    fn state_consts(self) -> [(&'static str, u32); 4] {
        let [s, n, t] = self.consts();
        [s, n, t, ("HALF", self.half.into())]
    }

    fn consts(self) -> [(&'static str, u32); 3] {
        [("S", self.s as u32), ("N", self.spec.states as u32), ("T", self.chunk() as u32)]
    }

    fn params(self, save: bool) -> Forward {
        let chan = chan_layout(self.s, self.e, self.spec.states);
        Forward {
            b: self.b as u32,
            l: self.l as u32,
            e: self.e as u32,
            r: self.r as u32,
            chunks: self.chunks() as u32,
            d_at: chan.d as u32,
            bias_at: chan.bias as u32,
            softplus: self.spec.softplus.into(),
            has_d: self.spec.has_d.into(),
            has_bias: self.spec.has_bias.into(),
            has_z: self.has_z.into(),
            save: save.into(),
        }
    }

    /// Sequential where its lanes fill the device. A CPU is full at once, and short sequences have nothing to share out.
    fn pick(self, caps: &Caps) -> Algorithm {
        let few = self.s * self.b * self.e < 32_768;
        if few && self.l > 2 * self.chunk() && !caps.software { Algorithm::Chunked } else { Algorithm::Sequential }
    }

    /// -> out (B, L, E), and the states at the chunk ends, (S, B, chunks, N/4, E, 4) or in f16 (S, B, chunks, N/8, E, 8),
    /// which `save: false` may leave out.
    pub(super) fn forward(self, g: &Gpu, x: &Inputs, save: bool) -> Result<(Tensor, Tensor)> {
        let Self { s, b, l, e, .. } = self;
        let algorithm = self.spec.algorithm.unwrap_or_else(|| self.pick(g.caps()));
        let (p, consts, tiles) = (self.params(save), self.consts(), e.div_ceil(WG));
        let out = x.u.scratch_like("selective_scan", &[b, l, e]);
        let keep = save || algorithm == Algorithm::Chunked;
        let shape = if keep { [s, b, self.chunks(), self.state_words(), e, 4] } else { [1, 1, 1, 1, 1, 4] };
        let states = Tensor::scratch("selective_scan states", &shape);
        match algorithm {
            Algorithm::Sequential => {
                let args = [&x.u, &x.delta, &x.xdbl, &x.chan, x.xz(), &out, &states];
                g.launch_with(&SEQUENTIAL, &consts, Grid::of((e * s).div_ceil(WG), b, 1), &p, &args)?;
            }
            Algorithm::Chunked => {
                let total = Tensor::scratch("selective_scan step sizes", &[s, b, self.chunks(), e]);
                let args = [&x.u, &x.delta, &x.xdbl, &x.chan, &states, &total];
                g.launch_with(&CHUNK_SCAN, &consts, Grid::of(tiles, self.chunks(), s * b), &p, &args)?;
                let args = [&x.chan, &total, &states];
                let grid = Grid::of(tiles, self.state_words(), s * b);
                g.launch_with(&CHUNK_CARRY, &self.state_consts(), grid, &p, &args)?;
                let args = [&x.u, &x.delta, &x.xdbl, &x.chan, x.xz(), &states, &out];
                g.launch_with(&CHUNK_APPLY, &consts, Grid::of(tiles, self.chunks(), b), &p, &args)?;
            }
        }
        Ok((out, states))
    }

    /// -> (S, B, E, N)
    fn last_state(self, g: &Gpu, states: &Tensor) -> Result<Tensor> {
        let last = Tensor::scratch("selective_scan last state", &[self.s, self.b, self.e, self.spec.states]);
        let grid = Grid::of(self.e.div_ceil(WG), 1, self.s * self.b);
        g.launch_with(&LAST_STATE, &self.state_consts(), grid, &self.params(true), &[states, &last])?;
        Ok(last)
    }
}
