//! matmul: the general product and the linear layer with its tape rule. Maths: `shaders/matmul.wgsl`, and on cooperative
//! matrices `shaders/matmul_coop.wgsl`.

#[cfg(feature = "native")]
mod tune;
#[cfg(feature = "native")]
pub use tune::tune;

use crate::error::{Error, Result};
use crate::gpu::{Bind, Caps, Gpu, Grid, Kernel, Launch, Precision, Work, params, wgsl};
use crate::ops::reduce::column_sum;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `matmul.wgsl`.
    pub struct Matmul {
        batch: u32, m: u32, n: u32, k: u32, lda: u32, ldb: u32, ldc: u32, a_stride: u32, b_stride: u32, c_stride: u32,
        splits: u32, k_split: u32, has_bias: u32, has_residual: u32,
    }
}

const SRC: &str = wgsl!("matmul", "grid", "gemm");
const PRODUCT: &[Bind] = &[Bind::Read(1), Bind::Read(2), Bind::Read(3), Bind::Read(4), Bind::Write(5)];
const CONSTS: &[(&str, u32)] = &[("FORM", 0), ("VEC", 1), ("ROUND", 0), ("TILE_M", 64), ("TILE_N", 64)];
const COOP: &[(&str, u32)] =
    &[("FORM", 0), ("VEC", 1), ("LANES", 32), ("SM", 32), ("SN", 32), ("KS", KS as u32), ("HIGH", 0)];

const DIRECT: Kernel = Kernel::new::<Matmul>("matmul.direct", SRC, PRODUCT).consts(CONSTS).work(product);
const TILED: Kernel = Kernel::new::<Matmul>("matmul.tiled", SRC, PRODUCT).consts(CONSTS).work(product);
const COMBINE: Kernel =
    Kernel::new::<Matmul>("matmul.combine", SRC, &[Bind::Read(3), Bind::Read(4), Bind::Write(5), Bind::Read(6)])
        .consts(CONSTS)
        .work(combine);
const COOP16: Kernel =
    Kernel::new::<Matmul>("matmul_coop.product16", wgsl!("matmul_coop", "grid", "gemm", "coop16"), PRODUCT)
        .consts(COOP)
        .work(product);
const COOP8: Kernel =
    Kernel::new::<Matmul>("matmul_coop.product8", wgsl!("matmul_coop", "grid", "gemm", "coop8"), PRODUCT)
        .consts(COOP)
        .work(product);

/// The kernels of this family.
pub const KERNELS: &[&Kernel] = &[&DIRECT, &TILED, &COMBINE, &COOP16, &COOP8];

/// 2·M·N·K flops; both operands, bias and residual read, the product or its parts written.
fn product(launch: &Launch) -> Work {
    let p: Matmul = launch.scalars();
    let [batch, m, n, k, splits] = [p.batch, p.m, p.n, p.k, p.splits].map(|size| size as usize);
    let extra = p.has_bias as usize * n + p.has_residual as usize * m * n;
    Work::of(4 * batch * (m * k + n * k + splits * m * n + extra), 2 * batch * m * n * k, 0)
}

/// The parts read and added, the product written.
fn combine(launch: &Launch) -> Work {
    let p: Matmul = launch.scalars();
    let [products, splits, residual] = [p.batch * p.m * p.n, p.splits, p.has_residual].map(|size| size as usize);
    Work::of(4 * products * (splits + 1 + residual), products * (splits + residual), 0)
}

/// Which operand is transposed: what a row of memory holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// C\[m,n\] = Σ_k A\[m,k\]·B\[n,k\]
    Nt,
    /// C\[m,n\] = Σ_k A\[m,k\]·B\[k,n\]
    Nn,
    /// C\[m,n\] = Σ_k A\[k,m\]·B\[k,n\]
    Tn,
}

/// Sizes of a product, its leading dimensions and batch strides in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the WGSL header documents each size")]
pub struct Gemm {
    pub form: Form,
    pub batch: usize,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub lda: usize,
    pub ldb: usize,
    pub ldc: usize,
    pub a_stride: usize,
    pub b_stride: usize,
    pub c_stride: usize,
}

impl Gemm {
    /// `batch` products of dense matrices, one after the other.
    pub fn dense(form: Form, batch: usize, m: usize, n: usize, k: usize) -> Self {
        let mut p =
            Self { form, batch, m, n, k, lda: 0, ldb: 0, ldc: n, a_stride: m * k, b_stride: n * k, c_stride: m * n };
        (p.lda, p.ldb) = (p.a_rows_cols().1, p.b_rows_cols().1);
        p
    }
    /// Products of one class are computed the same way: form, precision, loads, and sizes rounded up to powers of two.
    fn class(&self, precision: Precision) -> String {
        let kernel = if precision == Precision::F32 { &TILED } else { &COOP16 };
        let [batch, m, n, k] = [self.batch, self.m, self.n, self.k].map(usize::next_power_of_two);
        let loads = if self.quads() { "vec4" } else { "f32" };
        format!("matmul {:016x} {precision} {:?} {loads} {batch}x{m}x{n}x{k}", kernel.fingerprint(), self.form)
    }
    /// Whether rows are aligned and end at multiples of 4.
    fn quads(&self) -> bool {
        let (a, b) = (self.a_rows_cols().1, self.b_rows_cols().1);
        [a, self.lda, self.a_stride, b, self.ldb, self.b_stride].iter().all(|size| size % 4 == 0)
    }
    fn a_rows_cols(&self) -> (usize, usize) {
        if self.form == Form::Tn { (self.k, self.m) } else { (self.m, self.k) }
    }
    fn b_rows_cols(&self) -> (usize, usize) {
        if self.form == Form::Nt { (self.n, self.k) } else { (self.k, self.n) }
    }
}

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
const PATHS: [Path; 7] = [
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
/// What k_split is a multiple of: the k that cooperative matrices take at a time.
const KS: usize = 32;

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
fn best(g: &Gpu, p: &Gemm) -> Variant {
    let (caps, precision) = (g.caps(), g.precision());
    let picked = pick(caps, precision, p);
    if caps.software {
        return picked;
    }
    let found = g.choice(&p.class(precision)).and_then(|at| PATHS.get(at as usize).copied());
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
    fn kernel(self, caps: &Caps, p: &Gemm) -> (&'static Kernel, Vec<(&'static str, u32)>, (usize, usize)) {
        let mut consts = vec![("FORM", p.form as u32), ("VEC", p.quads() as u32)];
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
            return Err(Error::Limit { what, needed, allowed });
        }
        Ok(())
    }
}

/// Launches c = a·b (+ bias) (+ residual). `bias` is (batch, n); `residual` has the layout of `c`. Elements of `c` between
/// n and ldc stay as they are.
pub fn gemm(
    g: &Gpu, p: &Gemm, a: &Tensor, b: &Tensor, bias: Option<&Tensor>, residual: Option<&Tensor>, c: &Tensor,
) -> Result<()> {
    gemm_with(g, best(g, p), p, a, b, bias, residual, c)
}

/// [`gemm`] in a given variant.
#[allow(clippy::too_many_arguments, reason = "gemm's arguments and the variant")]
pub fn gemm_with(
    g: &Gpu, variant: Variant, p: &Gemm, a: &Tensor, b: &Tensor, bias: Option<&Tensor>, residual: Option<&Tensor>,
    c: &Tensor,
) -> Result<()> {
    variant.check(g.caps())?;
    let (a_size, b_size) = (p.a_rows_cols(), p.b_rows_cols());
    fits("a", a, p.batch, a_size, p.lda, p.a_stride)?;
    fits("b", b, p.batch, b_size, p.ldb, p.b_stride)?;
    fits("c", c, p.batch, (p.m, p.n), p.ldc, p.c_stride)?;
    if let Some(bias) = bias {
        fits("bias", bias, 1, (p.batch, p.n), p.n, 0)?;
    }
    if let Some(residual) = residual {
        fits("residual", residual, p.batch, (p.m, p.n), p.ldc, p.c_stride)?;
    }
    let (kernel, consts, tile) = variant.kernel(g.caps(), p);
    let k_split = p.k.div_ceil(variant.splits.max(1)).next_multiple_of(KS);
    let splits = p.k.div_ceil(k_split);
    let whole = Matmul {
        batch: p.batch as u32,
        m: p.m as u32,
        n: p.n as u32,
        k: p.k as u32,
        lda: p.lda as u32,
        ldb: p.ldb as u32,
        ldc: p.ldc as u32,
        a_stride: p.a_stride as u32,
        b_stride: p.b_stride as u32,
        c_stride: p.c_stride as u32,
        splits: splits as u32,
        k_split: k_split as u32,
        has_bias: bias.is_some() as u32,
        has_residual: residual.is_some() as u32,
    };
    let grid = Grid::of(p.n.div_ceil(tile.1), p.m.div_ceil(tile.0), p.batch * splits);
    // what is absent is bound to some other input and not read
    let absent = a.range(0, &[1])?;
    let (bias, residual) = (bias.unwrap_or(&absent), residual.unwrap_or(&absent));
    if splits == 1 {
        return g.launch_with(kernel, &consts, grid, &whole, &[a, b, bias, residual, c]);
    }
    let part = Tensor::scratch("matmul.part", &[splits, p.batch, p.m, p.n]);
    let parts = Matmul { ldc: p.n as u32, c_stride: (p.m * p.n) as u32, has_bias: 0, has_residual: 0, ..whole };
    g.launch_with(kernel, &consts, grid, &parts, &[a, b, &absent, &absent, &part])?;
    let grid = Grid::items(p.batch * p.m * p.n, 256);
    g.launch(&COMBINE, grid, &whole, &[bias, residual, c, &part])
}

/// An error unless `batch` matrices of this size, leading dimension and stride lie inside the tensor.
fn fits(
    what: &str, tensor: &Tensor, batch: usize, (rows, cols): (usize, usize), ld: usize, stride: usize,
) -> Result<()> {
    let what = || format!("matmul: {what}");
    if batch * rows * cols == 0 || ld < cols {
        let got = format!("{batch} × ({rows}, {cols}), leading dimension {ld}");
        return Err(Error::argument(what(), got, "sizes of at least 1 and a leading dimension of at least a row"));
    }
    let end = (batch - 1) * stride + (rows - 1) * ld + cols;
    if tensor.len() < end {
        return Err(Error::argument(what(), format!("{:?}", tensor.shape()), format!("at least {end} elements")));
    }
    Ok(())
}

/// The linear layer y = x·wᵀ (+ bias) (+ residual): x (.., K), w (N, K), bias (N), residual and y (.., N); or a batch of
/// them: x (S, .., K), w (S, N, K), bias (S, N), residual and y (S, .., N).
pub fn matmul(g: &Gpu, t: &mut Tape, x: &Var, w: &Var, bias: Option<&Var>, residual: Option<&Var>) -> Result<Var> {
    let (s, n, k) = match *w.data.shape() {
        [n, k] => (1, n, k),
        [s, n, k] => (s, n, k),
        ref other => return Err(Error::argument("matmul: w", format!("{other:?}"), "(N, K) or (S, N, K)")),
    };
    if s == 0 {
        return Err(Error::argument("matmul: w", format!("{:?}", w.data.shape()), "at least one matrix"));
    }
    let batched = w.data.shape().len() == 3;
    let shape = x.data.shape();
    if shape.last() != Some(&k) || batched && (shape.len() < 2 || shape[0] != s) {
        let expected = if batched { format!("({s}, .., {k})") } else { format!("(.., {k})") };
        return Err(Error::argument("matmul: x", format!("{shape:?}"), expected));
    }
    let mut out = shape.to_vec();
    out[shape.len() - 1] = n;
    let rows = shape[..shape.len() - 1].iter().product::<usize>() / s;
    let bias_shape = if batched { vec![s, n] } else { vec![n] };
    if let Some(bias) = bias {
        bias.data.expect_shape("matmul: bias", &bias_shape)?;
    }
    if let Some(residual) = residual {
        residual.data.expect_shape("matmul: residual", &out)?;
    }
    let y = Tensor::scratch("matmul", &out);
    let p = Gemm::dense(Form::Nt, s, rows, n, k);
    gemm(g, &p, &x.data, &w.data, bias.map(|v| &v.data), residual.map(|v| &v.data), &y)?;

    let (x, w, bias, residual) = (x.clone(), w.clone(), bias.cloned(), residual.cloned());
    Ok(t.push(g, y, move |g, dy, grads| {
        if let Some(residual) = &residual {
            grads.add(g, residual, dy.clone())?;
        }
        if let Some(bias) = bias.filter(|bias| grads.wants(bias)) {
            let dbias = grads.alloc(&bias);
            column_sum(g, &dy.reshape(&[s, rows, n])?, &dbias.reshape(&[s, n])?)?;
            grads.add(g, &bias, dbias)?;
        }
        if grads.wants(&w) {
            let dw = grads.alloc(&w);
            gemm(g, &Gemm::dense(Form::Tn, s, n, k, rows), dy, &x.data, None, None, &dw)?;
            grads.add(g, &w, dw)?;
        }
        if grads.wants(&x) {
            // what x has collected is added while dx is written, so dx needs memory of its own
            let before = grads.take(&x);
            let dx = if before.is_some() { Tensor::scratch("gradient", x.data.shape()) } else { grads.alloc(&x) };
            gemm(g, &Gemm::dense(Form::Nn, s, rows, k, n), dy, &w.data, None, before.as_ref(), &dx)?;
            grads.add(g, &x, dx)?;
        }
        Ok(())
    }))
}
