//! Which kernel computes a product: the paths that an adapter offers, and the choice among them.

use super::gemm::{COOP8, COOP16, DIRECT, DIRECT_SUMS, Form, Gemm, TILED, TILED_SUMS};
use crate::error::{Error, Result};
use crate::gpu::{Caps, Kernel, Precision};
use crate::tape::Recorder;

/// How operands get from global memory to the arithmetic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// Straight into registers. An invocation computes a block of these rows (8 or 16) and columns (4 or 8).
    Direct(usize, usize),
    /// Through workgroup memory into registers. A workgroup computes a tile of these rows and columns, 64 or 128 each.
    Tiled(usize, usize),
    /// Through workgroup memory into cooperative matrices. A workgroup computes a square tile, 64 or 128 wide.
    Coop(usize),
}

/// How a product is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Variant {
    /// How operands reach the arithmetic.
    pub path: Route,
    /// Number of parts of k that are summed separately and then added (split-k); 1 if k is not split.
    pub splits: usize,
    /// Precision of the operands. Cooperative matrices have no f32; without them [`Precision::High`] is f32.
    pub precision: Precision,
}

/// Every path. The candidates of one adapter and precision give the same bits, because they add in the same order.
pub(super) const ROUTES: [Route; 9] = [
    Route::Direct(8, 8),
    Route::Direct(16, 4),
    Route::Direct(16, 8),
    Route::Tiled(64, 64),
    Route::Tiled(128, 64),
    Route::Tiled(64, 128),
    Route::Tiled(128, 128),
    Route::Coop(64),
    Route::Coop(128),
];

impl Route {
    /// The paths that give the same bits as the path of [`pick`] on an adapter. The tuner chooses among them. A GPU has
    /// one shape of [`Route::Direct`], as a reference.
    pub fn candidates(caps: &Caps, precision: Precision) -> Vec<Self> {
        let coop = precision != Precision::F32 && caps.tiers.coop && !caps.software;
        let same = |path: &&Self| matches!(path, Self::Coop(_)) == coop;
        let fits = |path: &&Self| Variant { path: **path, splits: 1, precision }.check(caps).is_ok();
        let useful = |path: &&Self| caps.software || !matches!(path, Self::Direct(16, _));
        ROUTES.iter().filter(same).filter(fits).filter(useful).copied().collect()
    }
}

/// Workgroups with tiles of 64 × 64 that keep a GPU busy. Where there are fewer, k is split.
pub(in crate::ops) const BUSY: usize = 512;
/// Least k of a part.
const PART: usize = 256;
/// Workgroups with tiles of 128 × 128 that keep a GPU busy: fewer than [`BUSY`], because each works longer.
const BUSY_WIDE: usize = 128;

/// The variant for a shape where nothing was measured. A CPU takes the path without barriers. A GPU splits k where the
/// tiles alone are too few to keep it busy.
pub fn pick(caps: &Caps, precision: Precision, p: &Gemm) -> Variant {
    let tiles = |side: usize| p.m.div_ceil(side) * p.n.div_ceil(side) * p.batch;
    let path = match precision {
        _ if caps.software => on_a_cpu(caps, p),
        Precision::F32 => Route::Tiled(64, 64),
        _ if !caps.tiers.coop => Route::Tiled(64, 64),
        // not for High: its operands are two f16 matrices each, which exceed workgroup memory in tiles of 128 × 128
        Precision::Mixed if tiles(128) >= BUSY_WIDE => Route::Coop(128),
        _ => Route::Coop(64),
    };
    let splits = if caps.software { 1 } else { (BUSY / tiles(64).max(1)).min(p.k / PART).max(1) };
    Variant { path, splits, precision }
}

/// Multiplications from which a product on a CPU takes blocks of 16 × 8, where a workgroup shares loads and where not.
/// They are 7 and 20 % faster than smaller ones, but llvmpipe compiles at every start, and takes 0.03 and 0.08 s longer
/// for each kernel of them. So they pay off within 150 launches.
const LARGE: [usize; 2] = [1 << 26, 1 << 24];
/// Most workgroups of a launch in one dimension.
const MOST: usize = 65_535;

/// The path on a CPU adapter, by the measurements in `shaders/matmul.wgsl`. Where a workgroup shares loads, small
/// blocks have more rows than columns.
fn on_a_cpu(caps: &Caps, p: &Gemm) -> Route {
    let [shared, alone] = LARGE;
    match (p.batch * p.m * p.n * p.k, caps.shares_loads()) {
        _ if p.m > 8 * MOST => Route::Tiled(64, 64),
        (work, true) if work < shared => Route::Direct(16, 4),
        (work, false) if work < alone => Route::Direct(8, 8),
        _ => Route::Direct(16, 8),
    }
}

/// The variant of [`pick`], with the measured path where the tuner has measured this class of products.
pub(in crate::ops) fn best(r: &Recorder, precision: Precision, p: &Gemm) -> Variant {
    let caps = r.caps();
    let picked = pick(caps, precision, p);
    if caps.software {
        return picked;
    }
    let found = r.gpu().choice(&p.class(precision)).and_then(|at| ROUTES.get(at as usize).copied());
    let path = found.filter(|path| Route::candidates(caps, precision).contains(path));
    Variant { path: path.unwrap_or(picked.path), ..picked }
}

/// A phrase for the user that says how large products are computed on an adapter.
pub fn products(caps: &Caps, precision: Precision) -> &'static str {
    let large = Gemm::dense(Form::Nt, 1, 4096, 4096, 4096);
    match (precision, pick(caps, precision, &large).path) {
        (Precision::F32, _) => "f32",
        (Precision::Mixed, Route::Coop(_)) => "f16 with f32 sums, on cooperative matrices",
        (Precision::Mixed, _) => "f32 of operands rounded to f16: no cooperative matrices are used here",
        (Precision::High, Route::Coop(_)) => "three f16 products with f32 sums, on cooperative matrices",
        (Precision::High, _) => "f32: no cooperative matrices are used here",
    }
}

impl Variant {
    /// The kernel, the constants of its launch, and the rows and columns of a tile.
    pub(super) fn kernel(self, caps: &Caps, p: &Gemm) -> (&'static Kernel, Vec<(&'static str, u32)>, (usize, usize)) {
        let eights = matches!(self.path, Route::Coop(_)) && p.multiples_of(8);
        let width = u32::from(p.quads()) + u32::from(eights);
        let mut consts = vec![("FORM", p.form as u32), ("VEC", width), ("ACT", p.epilogue.number())];
        let round = ("ROUND", (self.precision == Precision::Mixed) as u32);
        match self.path {
            Route::Direct(rows, cols) => {
                consts.extend([round, ("ROWS", rows as u32), ("COLS", cols as u32)]);
                (&DIRECT, consts, (rows, 16 * cols))
            }
            Route::Tiled(m, n) => {
                consts.extend([round, ("TILE_M", m as u32), ("TILE_N", n as u32)]);
                (&TILED, consts, (m, n))
            }
            Route::Coop(side) => {
                let high = ("HIGH", (self.precision == Precision::High) as u32);
                consts.extend([("LANES", caps.coop_lanes), ("TILE", side as u32), high]);
                (if caps.fragment == 8 { &COOP8 } else { &COOP16 }, consts, (side, side))
            }
        }
    }

    /// The kernel of [`Variant::kernel`] that also sums a over k, if there is one. Kernels whose operands are rounded
    /// have none: the gradient of a bias is a sum of numbers that are not.
    pub(super) fn kernel_with_sums(self) -> Option<&'static Kernel> {
        match self.path {
            _ if self.precision == Precision::Mixed => None,
            Route::Direct(..) => Some(&DIRECT_SUMS),
            Route::Tiled(..) => Some(&TILED_SUMS),
            Route::Coop(_) => None,
        }
    }

    /// The constant that says whether results are stored four at a time, where rows of c consist of whole `quads`. The
    /// kernel for CPUs has no such constant.
    pub(super) fn stores(self, quads: bool) -> Option<(&'static str, u32)> {
        (!matches!(self.path, Route::Direct(..))).then_some(("C4", u32::from(quads)))
    }

    /// An error unless the adapter can compute this variant.
    pub fn check(self, caps: &Caps) -> Result<()> {
        let fits = match (self.path, self.precision) {
            (Route::Direct(8 | 16, 4 | 8) | Route::Tiled(64 | 128, 64 | 128), _) => true,
            (Route::Coop(64), Precision::Mixed | Precision::High) | (Route::Coop(128), Precision::Mixed) => {
                caps.tiers.coop
            }
            _ => false,
        };
        let expected =
            "blocks of 8 or 16 by 4 or 8, tiles of 64 or 128, and cooperative matrices only where the adapter has them";
        if !fits {
            return Err(Error::argument("matmul: variant", format!("{self:?}"), expected));
        }
        let needed = match self.path {
            Route::Tiled(m, n) => 16 * 16 * (m as u64 / 4 + n as u64 / 4 + 2), // 16 of k, padded vec4s
            _ => 0, // an adapter has the tier only if its kernels fit
        };
        let allowed = caps.workgroup_memory.into();
        if needed > allowed {
            let what = format!("matmul: workgroup memory of {:?}", self.path);
            return Err(Error::Limit { what: what.into(), needed, allowed });
        }
        Ok(())
    }
}
