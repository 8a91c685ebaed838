//! The kernels of attention in f32, and the declarations that those on cooperative matrices share.

use crate::gpu::{Bind, Choice, Const, Kernel, LaunchArgs, Work, params, read, wgsl, write};

params! {
    /// Scalars of `attention.wgsl`.
    pub(crate) struct Attention {
        lq: u32, lk: u32, heads: u32, groups: u32,
        q_row: u32, kv_row: u32, k_at: u32, v_at: u32,
        mask: u32, scale: f32,
    }
}

const SRC: &str = wgsl!("attention", "grid", "half", "element", "attention");
const CONSTS: &[Const] = &[
    Const::within("DH", 1, MAX_HEAD as u32, &[64, 1, 12, 16, 32, 48, 128]),
    Const::of("SPLIT", &[4, 2, 1]),
    Const::of("ROWS", &[16, 32, 64]),
    Const::of("TILE", &[8, 16, 32]),
    Const::flag("ROUND"),
    Const::flag("HALF"),
    Const::flag("DIRECT"),
];
pub(super) const FORWARD_BINDS: &[Bind] = &[
    read(1, "q").f16_if("HALF"),
    read(2, "k").f16_if("HALF"),
    read(3, "v").f16_if("HALF"),
    read(4, "regions").u32(),
    write(8, "out").f16_if("HALF"),
    write(9, "lse"),
];
const fn kernel(name: &'static str, binds: &'static [Bind]) -> Kernel {
    Kernel::new::<Attention>(name, SRC, binds).consts(CONSTS).admits(tiles_fit).rounds()
}
pub(super) const FORWARD: Kernel = kernel("attention.forward", FORWARD_BINDS).least(|x| pairs(x, 2, 2, 4));
pub(super) const WEIGHTS: Kernel = kernel(
    "attention.weights",
    &[
        read(1, "q").f16_if("HALF"),
        read(2, "k").f16_if("HALF"),
        read(4, "regions").u32(),
        read(6, "saved_lse"),
        write(13, "probs"),
    ],
);
pub(super) const BACKWARD_DELTA: Kernel = kernel(
    "attention.backward_delta",
    &[read(5, "saved_out").f16_if("HALF"), read(11, "dout").f16_if("HALF"), write(10, "delta")],
);
pub(super) const BACKWARD_BINDS: &[Bind] = &[
    read(1, "q").f16_if("HALF"),
    read(2, "k").f16_if("HALF"),
    read(3, "v").f16_if("HALF"),
    read(4, "regions").u32(),
    read(6, "saved_lse"),
    read(7, "saved_delta"),
    read(11, "dout").f16_if("HALF"),
    write(12, "grad").f16_if("HALF"),
];
pub(super) const BACKWARD_DQ: Kernel = kernel("attention.backward_dq", BACKWARD_BINDS).least(|x| pairs(x, 3, 2, 6));
pub(super) const BACKWARD_DKV: Kernel = kernel("attention.backward_dkv", BACKWARD_BINDS).least(|x| pairs(x, 2, 4, 8));

/// Least work: `rows_q` arrays (B, Lq, C) and `rows_k` arrays (B, Lk, C) are moved. Each pair of a query and a key that
/// see each other takes `flops` per column and an exponential per head.
///
/// The number of such pairs is an estimate, because the regions are on the device: half of all under a causal mask, and
/// one per query under [`AttentionMask::SameRegion`].
pub(super) fn pairs(launch: &LaunchArgs<'_>, rows_q: usize, rows_k: usize, flops: usize) -> Work {
    let p: Attention = launch.scalars();
    let [lq, lk, groups] = [p.lq, p.lk, p.groups].map(|size| size as usize);
    let dh = launch.constant("DH");
    let seen = match p.mask {
        mask if mask == AttentionMask::Full as u32 => lq * lk,
        mask if mask == AttentionMask::RegionCausal as u32 => lq * lk / 2,
        _ => lq,
    };
    let bytes = launch.bytes_of("HALF");
    Work::of(bytes * groups * dh * (rows_q * lq + rows_k * lk), flops * groups * seen * dh, groups * seen)
}

/// Largest size C / H of a head: a row of a head has to fit into registers.
pub const MAX_HEAD: usize = 128;
/// Which keys a query sees. A token always sees itself, so no row of the softmax is empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttentionMask {
    /// Every key.
    Full,
    /// Keys whose region is at most the query's: row-causal with [`Regions::rows`](super::regions::Regions::rows), as
    /// in MAP's decoder, and token-causal with [`Regions::tokens`](super::regions::Regions::tokens), as in
    /// `F.scaled_dot_product_attention(.., is_causal=True)`.
    RegionCausal,
    /// Keys of the query's own region, as in local MAE.
    SameRegion,
}

/// Whether the constants are a [`tiling`] of this head size, and the head size is a multiple of 4 if operands are f16.
fn tiles_fit(c: &Choice<'_>) -> bool {
    let dh = c.get("DH") as usize;
    let names = ["SPLIT", "ROWS", "TILE", "DIRECT"];
    let is = |on_cpu, backward| {
        let tiling = tiling(on_cpu, dh, backward);
        names.iter().all(|name| tiling.iter().any(|(known, value)| known == name && *value == c.get(name)))
    };
    let fits =
        [(false, false), (false, true), (true, false)].into_iter().any(|(on_cpu, backward)| is(on_cpu, backward));
    fits && (c.get("HALF") == 0 || dh.is_multiple_of(4))
}

/// The constants of a launch for heads of size `dh`.
///
/// SPLIT invocations share a row, so that each holds at most 32 floats of an operand forward and 16 backward (32 for
/// heads above 64). Tiles, and the parts of dot products, fit into 16 KiB of workgroup memory. Forward they take 6 KiB
/// at heads of 64, because workgroup memory, before registers, limits how many subgroups a GPU holds at once.
///
/// On a CPU an invocation takes a whole row and reads the others where they are (DIRECT): its caches hold them, and
/// what it cannot hold in registers lies in these caches as well.
#[doc(hidden)]
pub fn tiling(on_cpu: bool, dh: usize, backward: bool) -> [(&'static str, u32); 6] {
    let (split, rows, tile) = match (dh, backward) {
        _ if on_cpu => (1, 64, 32),
        (..=16, _) | (..=32, false) => (1, 64, 32),
        (..=32, true) => (2, 32, 16),
        (..=64, false) => (2, 32, 8),
        _ => (4, 16, 8),
    };
    let direct = on_cpu.into();
    [("DH", dh as u32), ("SPLIT", split), ("ROWS", rows), ("TILE", tile), ("ROUND", 0), ("DIRECT", direct)]
}

/// A kernel of the forward or backward pass with its constants. One workgroup computes `rows` queries or keys.
pub(super) struct Step {
    pub kernel: &'static Kernel,
    pub consts: Vec<(&'static str, u32)>,
    pub rows: u32,
}

/// The kernels that compute an attention.
pub(super) struct Route {
    pub forward: Step,
    pub dq: Step,
    pub dkv: Step,
    /// Whether the kernels round operands to f16.
    pub rounds: bool,
}

impl Route {
    /// The kernels in f32 for heads of size `dh`.
    pub fn f32(on_cpu: bool, dh: usize) -> Self {
        let step = |kernel, backward| {
            let consts = tiling(on_cpu, dh, backward);
            let [_, _, (_, rows), ..] = consts;
            Step { kernel, consts: consts.into(), rows }
        };
        let [forward, dq, dkv] =
            [(&FORWARD, false), (&BACKWARD_DQ, true), (&BACKWARD_DKV, true)].map(|(k, b)| step(k, b));
        Self { forward, dq, dkv, rounds: false }
    }
}
