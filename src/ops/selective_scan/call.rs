//! One scan: its options, and its tensors and sizes, checked.

use std::ops::RangeInclusive;

use crate::error::{Error, Result};
use crate::gpu::{Caps, Choice};
use crate::tensor::Tensor;

/// Lanes of a workgroup.
pub(super) const WG: usize = 64;

/// Where the parameters of the channels begin in the one tensor that holds them, in elements. The gradient has the same
/// layout.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelLayout {
    /// A_log (S, E, N).
    pub a_log: usize,
    /// D (S, E).
    pub d: usize,
    /// delta_bias (S, E).
    pub bias: usize,
    /// Length of the tensor.
    pub len: usize,
}

/// The layout for `s` directions, `e` channels and `n` states. Each part begins at a multiple of 64, so that it can be
/// bound by itself.
pub fn channel_layout(s: usize, e: usize, n: usize) -> ChannelLayout {
    let d = (s * e * n).next_multiple_of(64);
    let part = (s * e).next_multiple_of(64);
    ChannelLayout { a_log: 0, d, bias: d + part, len: d + 2 * part }
}

/// How a scan is computed. All give the same result up to rounding. The first two differ in the forward pass alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// One lane per channel, which loops over the tokens.
    Sequential,
    /// A parallel prefix scan over chunks of tokens, for few or long sequences.
    Chunked,
    /// One lane per four channels of 5 to 16 states, forward and backward, for CPUs.
    Whole,
}

/// The options of a scan with packed operands.
#[derive(Debug, Clone, Copy)]
pub struct Scan {
    /// States N of a channel, 1 to 64: `d_state` of mamba_ssm.
    pub states: usize,
    /// Whether δ = softplus(delta + bias). Otherwise δ = delta + bias.
    pub softplus: bool,
    /// Whether the D in `channel_params` is used.
    pub has_d: bool,
    /// Whether the delta_bias in `channel_params` is used.
    pub has_bias: bool,
    /// The algorithm. If None, it depends on sizes and device.
    pub algorithm: Option<Algorithm>,
    /// Rows and columns of a grid that is scanned in four directions: 0 by rows, 1 by columns, and 2 and 3 the same
    /// from last to first. If None, there are S = 1 or 2 directions over the sequence.
    pub grid: Option<(usize, usize)>,
    /// Whether the columns of xz are z | x instead of x | z.
    pub swapped: bool,
}

impl Scan {
    /// The scan of a Mamba mixer: softplus, D and bias.
    pub fn mamba(states: usize) -> Self {
        Self { states, softplus: true, has_d: true, has_bias: true, algorithm: None, grid: None, swapped: false }
    }
}

/// The tensors that a scan reads, forward and backward. u, delta and xz are all f32 or all f16.
#[derive(Debug, Clone)]
pub(crate) struct Inputs {
    pub u: Tensor,
    pub delta: Tensor,
    pub xdbl: Tensor,
    pub channel_params: Tensor,
    pub xz: Option<Tensor>,
}

impl Inputs {
    /// The operands of a launch that reads all of these, and `others` behind them.
    pub fn and<'a>(&'a self, others: impl IntoIterator<Item = &'a Tensor>) -> Vec<Option<&'a Tensor>> {
        let mine = [Some(&self.u), Some(&self.delta), Some(&self.xdbl), Some(&self.channel_params), self.xz.as_ref()];
        mine.into_iter().chain(others.into_iter().map(Some)).collect()
    }
}

/// Sizes and options of one scan. `s` counts all directions, 4 over a grid.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ScanCall {
    pub s: usize,
    pub b: usize,
    pub l: usize,
    pub e: usize,
    pub r: usize,
    pub has_z: bool,
    pub half: bool,
    pub spec: Scan,
    /// How it is computed.
    pub algorithm: Algorithm,
}

/// Tokens of a chunk where lanes hold states of one channel. Their B and C have to fit into workgroup memory beside the
/// sums of the backward pass.
pub(super) fn chunk(states: usize) -> usize {
    if states > 32 { 8 } else { 16 }
}

/// Whether T is the length of a chunk for N states.
pub(super) fn chunk_fits(c: &Choice<'_>) -> bool {
    c.get("T") as usize == chunk(c.get("N") as usize)
}

/// Numbers of states that [`Algorithm::Whole`] takes.
pub(super) const WHOLE_STATES: RangeInclusive<usize> = 5..=16;
/// Tokens of its chunks.
pub(super) const WHOLE_CHUNK: usize = 4;
/// Channels of its workgroups.
pub(super) const WHOLE_CHANNELS: usize = 64;

/// Whether a grid, if it is one, is stored in f32.
pub(super) fn grid_is_f32(c: &Choice<'_>) -> bool {
    c.get("GRID") == 0 || c.get("HALF") == 0
}

impl ScanCall {
    pub fn new(caps: &Caps, x: &Inputs, spec: Scan) -> Result<Self> {
        let call = match spec.grid {
            Some(grid) => Self::of_grid(x, spec, grid)?,
            None => Self::of_sequence(x, spec)?,
        };
        let call = Self { algorithm: spec.algorithm.unwrap_or_else(|| call.pick(caps)), ..call };
        if call.algorithm == Algorithm::Whole && !WHOLE_STATES.contains(&spec.states) {
            return Err(Error::argument("selective_scan: states of the algorithm Whole", spec.states, "5 to 16"));
        }
        call.expect_few_steps(caps)?;
        Ok(call)
    }

    /// The algorithm for these sizes: on a CPU lanes of four channels, if they take so many states; sequential where
    /// one lane per channel fills the device, as on every CPU, and where sequences are too short to be split into
    /// chunks.
    fn pick(self, caps: &Caps) -> Algorithm {
        let few = self.s / self.pairs() * self.b * self.e < 32_768;
        if caps.software && WHOLE_STATES.contains(&self.spec.states) {
            Algorithm::Whole
        } else if few && self.l > 2 * self.chunk() && !caps.software {
            Algorithm::Chunked
        } else {
            Algorithm::Sequential
        }
    }

    /// Refuses a sequence that a CPU would not walk to its end: llvmpipe ends the loops of an invocation after 65,535
    /// iterations, without an error.
    fn expect_few_steps(self, caps: &Caps) -> Result<()> {
        let each = match self.algorithm {
            Algorithm::Whole => self.s,
            // the quads of a token, and its share of staging and of what is saved
            Algorithm::Sequential => 3 + self.quads(),
            Algorithm::Chunked => return Ok(()),
        };
        self.expect_at_most(caps, 60_000 / each, "tokens")
    }

    /// Refuses more than `most` tokens on a CPU.
    pub(super) fn expect_at_most(self, caps: &Caps, most: usize, what: &str) -> Result<()> {
        if !caps.software || self.l <= most {
            return Ok(());
        }
        let expected = format!("at most {most} on a CPU: llvmpipe ends loops after 65,535 iterations");
        Err(Error::argument(format!("selective_scan: {what}"), self.l, expected))
    }

    /// One or two directions over a sequence.
    fn of_sequence(x: &Inputs, spec: Scan) -> Result<Self> {
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
        if x.u.is_f16() && !e.is_multiple_of(2) {
            return Err(Error::argument("selective_scan: channels in f16", e, "an even number"));
        }
        x.channel_params.expect_shape("selective_scan: channel_params", &[channel_layout(s, e, n).len])?;
        if let Some(xz) = &x.xz {
            xz.expect_shape("selective_scan: z", &[b, l, 2 * e])?;
        }
        let (r, has_z, half) = (cols - 2 * n, x.xz.is_some(), x.u.is_f16());
        Ok(Self { s, b, l, e, r, has_z, half, spec, algorithm: Algorithm::Sequential })
    }

    /// Four directions over a grid: u (1, B, L, E), delta (4, B, L, E), xdbl (B, L, 4, R+2N), all f32, and no z.
    fn of_grid(x: &Inputs, spec: Scan, (height, width): (usize, usize)) -> Result<Self> {
        const S: usize = 4;
        let [one, b, l, e] = x.u.dims("selective_scan: u of a grid")?;
        let n = spec.states;
        x.delta.expect_shape("selective_scan: delta of a grid", &[S, b, l, e])?;
        let [.., cols] = x.xdbl.dims::<4>("selective_scan: xdbl of a grid")?;
        x.xdbl.expect_shape("selective_scan: xdbl of a grid", &[b, l, S, cols])?;
        let fits = height.checked_mul(width) == Some(l) && one == 1 && !x.u.is_empty();
        if !fits || !(1..=64).contains(&n) || cols < 2 * n || x.u.is_f16() || x.xz.is_some() {
            let (u, z) = (x.u.shape(), if x.xz.is_some() { "a" } else { "no" });
            let got = format!(
                "u {u:?} of {}, {height} x {width} tokens, xdbl {:?}, {n} states, {z} z",
                x.u.dtype(),
                x.xdbl.shape()
            );
            let expected = "u (1, B, rows·columns, E) of f32, 1 to 64 states, at least 2N columns of xdbl, no z";
            return Err(Error::argument("selective_scan: sizes of a grid", got, expected));
        }
        x.channel_params.expect_shape("selective_scan: channel_params", &[channel_layout(S, e, n).len])?;
        Ok(Self { s: S, b, l, e, r: cols - 2 * n, has_z: false, half: false, spec, algorithm: Algorithm::Sequential })
    }

    /// Pairs of opposite directions, of which a launch of the forward pass adds up one.
    pub fn pairs(self) -> usize {
        1 + usize::from(self.spec.grid.is_some())
    }

    /// Tokens T of a chunk.
    pub fn chunk(self) -> usize {
        if self.algorithm == Algorithm::Whole { WHOLE_CHUNK } else { chunk(self.spec.states) }
    }

    pub fn chunks(self) -> usize {
        self.l.div_ceil(self.chunk())
    }

    pub fn quads(self) -> usize {
        self.spec.states.div_ceil(4)
    }

    /// Words of 16 bytes that `states` has for a channel of a chunk. A word holds 4 states in f32 and 8 in f16.
    pub fn state_words(self) -> usize {
        if self.half { self.quads().div_ceil(2) } else { self.quads() }
    }

    /// The constants of kernels whose lanes hold one channel, and of those that do not depend on chunks.
    pub fn consts(self) -> [(&'static str, u32); 4] {
        let (s, grid) = (self.s / self.pairs(), self.pairs() - 1);
        let [s, n, t, grid] = [s, self.spec.states, chunk(self.spec.states), grid].map(|n| n as u32);
        [("S", s), ("N", n), ("T", t), ("GRID", grid)]
    }
}
