//! A product of matrices as data: form, sizes, epilogue, and the kernels that compute it.

use crate::gpu::{Args, Bind, Kernel, Precision, Work, params, wgsl};

params! {
    /// Scalars of `matmul.wgsl`.
    pub struct Matmul {
        batch: u32, m: u32, n: u32, k: u32, lda: u32, ldb: u32, ldc: u32, a_stride: u32, b_stride: u32, c_stride: u32,
        splits: u32, k_split: u32, has_bias: u32, has_residual: u32, act_at: u32,
    }
}

const SRC: &str = wgsl!("matmul", "grid", "math", "half", "gemm");
const PRODUCT: &[Bind] = &[Bind::Read(1), Bind::Read(2), Bind::Read(3), Bind::Read(4), Bind::Write(5)];
const CONSTS: &[(&str, u32)] = &[
    ("FORM", 0),
    ("VEC", 1),
    ("ACT", 0),
    ("ROUND", 0),
    ("TILE_M", 64),
    ("TILE_N", 64),
    ("A16", 0),
    ("B16", 0),
    ("R16", 0),
    ("C16", 0),
];
const COOP: &[(&str, u32)] = &[
    ("FORM", 0),
    ("VEC", 1),
    ("ACT", 0),
    ("LANES", 32),
    ("SM", 32),
    ("SN", 32),
    ("KS", KS as u32),
    ("HIGH", 0),
    ("A16", 0),
    ("B16", 0),
    ("R16", 0),
    ("C16", 0),
];
/// Bindings that may hold f16.
const HALVES: &[(u32, &str)] = &[(1, "A16"), (2, "B16"), (4, "R16"), (5, "C16")];
/// What k_split is a multiple of: the k that cooperative matrices take at a time.
pub(super) const KS: usize = 32;

pub(super) const DIRECT: Kernel =
    Kernel::new::<Matmul>("matmul.direct", SRC, PRODUCT).consts(CONSTS).halves(HALVES).work(product);
pub(super) const TILED: Kernel =
    Kernel::new::<Matmul>("matmul.tiled", SRC, PRODUCT).consts(CONSTS).halves(HALVES).work(product);
pub(super) const COMBINE: Kernel =
    Kernel::new::<Matmul>("matmul.combine", SRC, &[Bind::Read(3), Bind::Read(4), Bind::Write(5), Bind::Read(6)])
        .consts(CONSTS)
        .halves(&[(4, "R16"), (5, "C16")])
        .work(combine);
pub(super) const COOP16: Kernel = Kernel::new::<Matmul>(
    "matmul_coop.product16",
    wgsl!("matmul_coop", "grid", "math", "half", "gemm", "coop16", "product16"),
    PRODUCT,
)
.consts(COOP)
.halves(HALVES)
.work(product);
pub(super) const COOP8: Kernel = Kernel::new::<Matmul>(
    "matmul_coop.product8",
    wgsl!("matmul_coop", "grid", "math", "half", "gemm", "coop8", "product8"),
    PRODUCT,
)
.consts(COOP)
.halves(HALVES)
.work(product);

/// The kernels of this family.
pub const KERNELS: &[&Kernel] = &[&DIRECT, &TILED, &COMBINE, &COOP16, &COOP8];

/// 2·M·N·K flops; both operands and what the epilogue reads, the product or its parts written, and what is activated of it.
fn product(launch: &Args<'_>) -> Work {
    let p: Matmul = launch.scalars();
    let [batch, m, n, k, splits] = [p.batch, p.m, p.n, p.k, p.splits].map(|size| size as usize);
    let bytes = |half: &str| 4 - 2 * launch.constant(half);
    let operands = m * k * bytes("A16") + n * k * bytes("B16");
    let added = 4 * n * p.has_bias as usize + m * n * bytes("R16") * p.has_residual as usize;
    let stored = m * n * bytes("C16") * (splits + usize::from(p.act_at > 0));
    let exps = usize::from(launch.constant("ACT") > 0) * batch * m * n;
    Work::of(batch * (operands + added + stored), 2 * batch * m * n * k, exps)
}

/// The parts and what the epilogue takes read, the product written, and what is activated of it.
fn combine(launch: &Args<'_>) -> Work {
    let p: Matmul = launch.scalars();
    let [products, splits, residual] = [p.batch * p.m * p.n, p.splits, p.has_residual].map(|size| size as usize);
    let bytes = |half: &str| 4 - 2 * launch.constant(half);
    let each = 4 * splits + residual * bytes("R16") + bytes("C16") * (1 + usize::from(p.act_at > 0));
    let exps = usize::from(launch.constant("ACT") > 0) * products;
    Work::of(products * each, products * (splits + residual), exps)
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

/// The activations that a product can apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// GELU in its erf form.
    Gelu,
    /// x·σ(x)
    Silu,
}

/// What is done to a sum, with its bias and residual, before it is stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Epilogue {
    /// Nothing.
    #[default]
    None,
    /// It is activated. The activated product lies at `at` in `c`, the product itself in front of it; 0 if that is not kept.
    Activate(Act, usize),
    /// It is multiplied by the slope of the activation at the residual, in place of adding that: the gradient of what was
    /// activated.
    Slope(Act),
}

impl Epilogue {
    /// `ACT` of the kernels.
    pub(super) fn number(self) -> u32 {
        match self {
            Self::None => 0,
            Self::Activate(Act::Gelu, _) => 1,
            Self::Activate(Act::Silu, _) => 2,
            Self::Slope(Act::Gelu) => 3,
            Self::Slope(Act::Silu) => 4,
        }
    }
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
    pub epilogue: Epilogue,
}

impl Gemm {
    /// `batch` products of dense matrices, one after the other.
    pub fn dense(form: Form, batch: usize, m: usize, n: usize, k: usize) -> Self {
        let (lda, ldb, epilogue) = (0, 0, Epilogue::None);
        let (a_stride, b_stride, c_stride) = (m * k, n * k, m * n);
        let mut p = Self { form, batch, m, n, k, lda, ldb, ldc: n, a_stride, b_stride, c_stride, epilogue };
        (p.lda, p.ldb) = (p.a_rows_cols().1, p.b_rows_cols().1);
        p
    }
    /// Products of one class are computed the same way: form, precision, loads, and sizes rounded up to powers of two.
    pub(super) fn class(&self, precision: Precision) -> String {
        let kernel = if precision == Precision::F32 { &TILED } else { &COOP16 };
        let [batch, m, n, k] = [self.batch, self.m, self.n, self.k].map(usize::next_power_of_two);
        let loads = if self.quads() { "vec4" } else { "f32" };
        format!("matmul {:016x} {precision} {:?} {loads} {batch}x{m}x{n}x{k}", kernel.fingerprint(), self.form)
    }
    /// Whether rows are aligned and end at multiples of 4.
    pub(super) fn quads(&self) -> bool {
        let (a, b) = (self.a_rows_cols().1, self.b_rows_cols().1);
        [a, self.lda, self.a_stride, b, self.ldb, self.b_stride].iter().all(|size| size % 4 == 0)
    }
    pub(super) fn a_rows_cols(&self) -> (usize, usize) {
        if self.form == Form::Tn { (self.k, self.m) } else { (self.m, self.k) }
    }
    pub(super) fn b_rows_cols(&self) -> (usize, usize) {
        if self.form == Form::Nt { (self.n, self.k) } else { (self.k, self.n) }
    }
}
