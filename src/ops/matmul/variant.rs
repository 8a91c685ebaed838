//! Which kernel computes a product: the paths an adapter offers, and the one that is taken.

use super::gemm::{COOP8, COOP16, DIRECT, Form, Gemm, TILED};
use crate::error::{Error, Result};
use crate::gpu::{Caps, Kernel, Precision};
use crate::tape::Recorder;

/// Where the operands of a product go on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path {
    /// Straight from global memory into registers.
    Direct,
    /// Through workgroup memory; rows and columns of a tile, 64 or 128.
    Tiled(usize, usize),
    /// Through workgroup memory into cooperative matrices; tiles of this side, 64 or 128.
    Coop(usize),
}

/// How a product is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// Where the operands go.
    pub path: Path,
    /// Parts of k that are summed apart and combined; 1 for none.
    pub splits: usize,
    /// Of the operands. Cooperative matrices have no f32; elsewhere [`Precision::High`] is f32.
    pub precision: Precision,
}

/// Every path. All that one adapter and precision offer make the same bits: they add in the same order.
pub(super) const PATHS: [Path; 7] = [
    Path::Direct,
    Path::Tiled(64, 64),
    Path::Tiled(128, 64),
    Path::Tiled(64, 128),
    Path::Tiled(128, 128),
    Path::Coop(64),
    Path::Coop(128),
];

impl Path {
    /// Those that make the same bits as [`pick`] does on an adapter.
    pub fn candidates(caps: &Caps, precision: Precision) -> Vec<Self> {
        let coop = precision != Precision::F32 && caps.tiers.coop && !caps.software;
        let same = |path: &&Self| matches!(path, Self::Coop(_)) == coop;
        let fits = |path: &&Self| Variant { path: **path, splits: 1, precision }.check(caps).is_ok();
        PATHS.iter().filter(same).filter(fits).copied().collect()
    }
}

/// Workgroups that keep a GPU busy, and the least k that is worth a part.
const BUSY: usize = 512;
const PART: usize = 256;
/// As many workgroups with tiles of 128 × 128 keep one busy too: each works longer.
const BUSY_WIDE: usize = 128;

/// The variant for a shape if nothing was measured: no barriers on a CPU; on a GPU parts of k where the tiles alone are
/// too few.
pub fn pick(caps: &Caps, precision: Precision, p: &Gemm) -> Variant {
    let tiles = |side: usize| p.m.div_ceil(side) * p.n.div_ceil(side) * p.batch;
    let path = match precision {
        _ if caps.software => Path::Direct,
        Precision::F32 => Path::Tiled(64, 64),
        _ if !caps.tiers.coop => Path::Tiled(64, 64),
        // both halves of the operands of a wide tile are more than a workgroup may hold
        Precision::Mixed if tiles(128) >= BUSY_WIDE => Path::Coop(128),
        _ => Path::Coop(64),
    };
    let splits = if caps.software { 1 } else { (BUSY / tiles(64).max(1)).min(p.k / PART).max(1) };
    Variant { path, splits, precision }
}

/// [`pick`], with the path that was found fastest if it was measured.
pub(super) fn best(r: &Recorder, p: &Gemm) -> Variant {
    let (caps, precision) = (r.caps(), r.precision());
    let picked = pick(caps, precision, p);
    if caps.software {
        return picked;
    }
    let found = r.gpu().choice(&p.class(precision)).and_then(|at| PATHS.get(at as usize).copied());
    let path = found.filter(|path| Path::candidates(caps, precision).contains(path));
    Variant { path: path.unwrap_or(picked.path), ..picked }
}

/// How large products are computed on an adapter, in words.
pub fn products(caps: &Caps, precision: Precision) -> &'static str {
    let large = Gemm::dense(Form::Nt, 1, 4096, 4096, 4096);
    match (precision, pick(caps, precision, &large).path) {
        (Precision::F32, _) => "f32",
        (Precision::Mixed, Path::Coop(_)) => "f16 with f32 sums, on cooperative matrices",
        (Precision::Mixed, _) => "f32 of operands rounded to f16: no cooperative matrices are used here",
        (Precision::High, Path::Coop(_)) => "three f16 products with f32 sums, on cooperative matrices",
        (Precision::High, _) => "f32: no cooperative matrices are used here",
    }
}

impl Variant {
    /// The kernel, its constants, and rows and columns of a tile.
    pub(super) fn kernel(self, caps: &Caps, p: &Gemm) -> (&'static Kernel, Vec<(&'static str, u32)>, (usize, usize)) {
        let mut consts = vec![("FORM", p.form as u32), ("VEC", p.quads() as u32), ("ACT", p.epilogue.number())];
        let round = ("ROUND", (self.precision == Precision::Mixed) as u32);
        match self.path {
            Path::Direct => {
                consts.push(round);
                (&DIRECT, consts, (64, 64))
            }
            Path::Tiled(m, n) => {
                consts.extend([round, ("TILE_M", m as u32), ("TILE_N", n as u32)]);
                (&TILED, consts, (m, n))
            }
            Path::Coop(side) => {
                let (half, lanes) = (side as u32 / 2, caps.subgroup_sizes.0);
                let high = ("HIGH", (self.precision == Precision::High) as u32);
                consts.extend([("LANES", lanes), ("SM", half), ("SN", half), high]);
                (if caps.fragment == 8 { &COOP8 } else { &COOP16 }, consts, (side, side))
            }
        }
    }

    /// An error unless an adapter can compute this.
    pub fn check(self, caps: &Caps) -> Result<()> {
        let fits = match (self.path, self.precision) {
            (Path::Direct | Path::Tiled(64 | 128, 64 | 128), _) => true,
            (Path::Coop(64), Precision::Mixed | Precision::High) | (Path::Coop(128), Precision::Mixed) => {
                caps.tiers.coop
            }
            _ => false,
        };
        let expected = "tiles of 64 or 128, and cooperative matrices only where the adapter has them";
        if !fits {
            return Err(Error::argument("matmul: variant", format!("{self:?}"), expected));
        }
        let needed = match self.path {
            Path::Tiled(m, n) => 16 * 16 * (m as u64 / 4 + n as u64 / 4 + 2), // 16 k of both operands, a vec4 more each
            _ => 0, // the tier is there only if its kernels fit
        };
        let allowed = caps.workgroup_memory.into();
        if needed > allowed {
            let what = format!("matmul: workgroup memory of {:?}", self.path);
            return Err(Error::Limit { what: what.into(), needed, allowed });
        }
        Ok(())
    }
}
