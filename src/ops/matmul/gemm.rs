//! A product of matrices as data: form, sizes, epilogue, and the kernels that compute it.

use crate::gpu::{Bind, Choice, Const, Kernel, LaunchArgs, Needs, Precision, Work, params, read, wgsl, write};

params! {
    /// Scalars of `matmul.wgsl`.
    pub(crate) struct Matmul {
        batch: u32, m: u32, n: u32, k: u32, lda: u32, ldb: u32, ldc: u32, a_stride: u32, b_stride: u32, c_stride: u32,
        splits: u32, k_split: u32, has_bias: u32, has_residual: u32, act_at: u32,
    }
}

const SRC: &str = wgsl!(
    "matmul",
    "grid",
    "math",
    "half",
    "element",
    "operands",
    "blocks",
    "gemm",
    "gemm_blocks",
    "results",
    "store4",
    "no_sums"
);
const PRODUCT: &[Bind] = &[
    read(1, "a").f16_if("A16"),
    read(2, "b").f16_if("B16"),
    read(3, "bias"),
    read(4, "residual").f16_if("R16"),
    write(5, "c").f16_if("C16"),
];
/// [`PRODUCT`] and the sums of a over k. The products have no bias and no residual.
const WITH_SUMS: &[Bind] = &[PRODUCT[0], PRODUCT[1], PRODUCT[2], PRODUCT[3], PRODUCT[4], write(9, "sums")];
/// Constants of the kernels without cooperative matrices: the forms, activations and roundings of the products, and the
/// blocks in which lanes compute them.
const fn constants([forms, acts, rounds]: [&'static [u32]; 3], tiles: &'static [u32], blocks: Blocks) -> [Const; 13] {
    [
        Const::of("FORM", forms),
        Const::of("VEC", &[1, 0]),
        Const::of("ACT", acts),
        Const::of("ROUND", rounds),
        Const::of("TILE_M", tiles),
        Const::of("TILE_N", tiles),
        Const::flag("A16"),
        Const::flag("B16"),
        Const::flag("R16"),
        Const::flag("C16"),
        Const::of("C4", blocks.c4),
        Const::of("ROWS", blocks.rows),
        Const::of("COLS", blocks.cols),
    ]
}
/// Rows and columns that a lane computes, and whether it stores four at a time.
struct Blocks {
    c4: &'static [u32],
    rows: &'static [u32],
    cols: &'static [u32],
}
/// All products.
const ALL: [&[u32]; 3] = [&[0, 1, 2], &[0, 1, 2, 3, 4], &[0, 1]];
/// The gradient of a weight, whose operands are not rounded.
const WEIGHT: [&[u32]; 3] = [&[Form::Tn as u32], &[0], &[0]];
const fn tiled(of: [&'static [u32]; 3]) -> [Const; 13] {
    constants(of, &[64, 128], Blocks { c4: &[1, 0], rows: &[8], cols: &[8] })
}
/// Constants of the kernels for CPUs, which store single elements whatever the rows.
const fn direct(of: [&'static [u32]; 3]) -> [Const; 13] {
    constants(of, &[64], Blocks { c4: &[0], rows: &[8, 16], cols: &[8, 4] })
}
const TILED_ALL: &[Const] = &tiled(ALL);
const TILED_WEIGHT: &[Const] = &tiled(WEIGHT);
const DIRECT_ALL: &[Const] = &direct(ALL);
const DIRECT_WEIGHT: &[Const] = &direct(WEIGHT);
/// Constants of the kernels on cooperative matrices, with the lanes that a subgroup may have.
const fn on_lanes(lanes: &'static [u32]) -> [Const; 12] {
    [
        Const::of("FORM", &[0, 1, 2]),
        Const::of("VEC", &[2, 1, 0]),
        Const::of("ACT", &[0, 1, 2, 3, 4]),
        Const::of("LANES", lanes),
        Const::of("TILE", &[64, 128]),
        Const::of("KS", &[KS as u32]),
        Const::flag("HIGH"),
        Const::flag("A16"),
        Const::flag("B16"),
        Const::flag("R16"),
        Const::flag("C16"),
        Const::of("C4", &[1, 0]),
    ]
}
const CONSTS16: &[Const] = &on_lanes(&[32, 64]);
const CONSTS8: &[Const] = &on_lanes(&[32, 8, 16]);

/// With HIGH = 1 each operand is two f16 matrices, which exceed workgroup memory in tiles of 128 × 128.
fn on_matrices_in_quads(c: &Choice<'_>) -> bool {
    in_quads(c) && (c.get("HIGH") == 0 || c.get("TILE") == 64)
}
/// Results in f16 are stored four at a time.
fn in_quads(c: &Choice<'_>) -> bool {
    c.get("C16") == 0 || c.get("C4") == 1
}
/// Columns of k that a cooperative-matrix kernel stages at a time; k_split is a multiple of it.
pub(in crate::ops) const KS: usize = 32;

/// Tiles of 128 × 128 take more than 16 KiB of workgroup memory. `Variant::check` allows them where the adapter has it.
fn both_wide(c: &Choice<'_>) -> bool {
    c.get("TILE_M") == 128 && c.get("TILE_N") == 128
}

/// A kernel for products that does without cooperative matrices.
const fn plain(
    name: &'static str, source: &'static str, binds: &'static [Bind], consts: &'static [Const],
    least: fn(&LaunchArgs<'_>) -> Work,
) -> Kernel {
    Kernel::new::<Matmul>(name, source, binds).consts(consts).rounds().product().least(least)
}

pub(super) const DIRECT: Kernel = plain(
    "matmul.direct",
    wgsl!("matmul", "grid", "math", "half", "element", "operands", "blocks", "gemm", "gemm_blocks", "store", "no_sums"),
    PRODUCT,
    DIRECT_ALL,
    product,
);
pub(super) const TILED: Kernel =
    plain("matmul.tiled", SRC, PRODUCT, TILED_ALL, product).admits(in_quads).large(both_wide);
/// [`DIRECT`] that also sums a over k.
pub(super) const DIRECT_SUMS: Kernel = plain(
    "matmul.direct_sums",
    wgsl!("matmul", "grid", "math", "half", "element", "operands", "blocks", "gemm", "gemm_blocks", "store", "sums"),
    WITH_SUMS,
    DIRECT_WEIGHT,
    product_and_sums,
);
/// [`TILED`] that also sums a over k.
pub(super) const TILED_SUMS: Kernel = plain(
    "matmul.tiled_sums",
    wgsl!(
        "matmul",
        "grid",
        "math",
        "half",
        "element",
        "operands",
        "blocks",
        "gemm",
        "gemm_blocks",
        "results",
        "store4",
        "sums"
    ),
    WITH_SUMS,
    TILED_WEIGHT,
    product_and_sums,
)
.admits(in_quads)
.large(both_wide);
pub(super) const COMBINE: Kernel = Kernel::new::<Matmul>(
    "matmul.combine",
    SRC,
    &[read(3, "bias"), read(4, "residual").f16_if("R16"), write(5, "c").f16_if("C16"), read(6, "part")],
)
.consts(TILED_ALL)
.admits(in_quads)
.rounds()
.least(combine);
/// A kernel for products on cooperative matrices.
const fn on_matrices(name: &'static str, source: &'static str, consts: &'static [Const]) -> Kernel {
    let kernel = Kernel::new::<Matmul>(name, source, PRODUCT).consts(consts).admits(on_matrices_in_quads);
    kernel.needs(Needs::COOP).rounds().product().least(product)
}

pub(super) const COOP16: Kernel = on_matrices(
    "matmul_coop.product16",
    wgsl!(
        "matmul_coop",
        "grid",
        "math",
        "half",
        "element",
        "operands",
        "patches",
        "gemm",
        "gemm_coop",
        "results",
        "store4",
        "coop16",
        "product16"
    ),
    CONSTS16,
);
pub(super) const COOP8: Kernel = on_matrices(
    "matmul_coop.product8",
    wgsl!(
        "matmul_coop",
        "grid",
        "math",
        "half",
        "element",
        "operands",
        "patches",
        "gemm",
        "gemm_coop",
        "results",
        "store4",
        "coop8",
        "product8"
    ),
    CONSTS8,
);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&DIRECT, &TILED, &DIRECT_SUMS, &TILED_SUMS, &COMBINE, &COOP16, &COOP8];

/// Least work of a product: 2·M·N·K flops; operands, bias and residual are read, and the product is written, once per
/// part if k is split, and once more if the activated product is kept beside it.
fn product(launch: &LaunchArgs<'_>) -> Work {
    let p: Matmul = launch.scalars();
    let [batch, m, n, k, splits] = [p.batch, p.m, p.n, p.k, p.splits].map(|size| size as usize);
    let bytes = |constant: &str| launch.bytes_of(constant);
    let operands = m * k * bytes("A16") + n * k * bytes("B16");
    let added = 4 * n * p.has_bias as usize + m * n * bytes("R16") * p.has_residual as usize;
    let stored = m * n * bytes("C16") * (splits + usize::from(p.act_at > 0));
    let exps = usize::from(launch.constant("ACT") > 0) * batch * m * n;
    Work::of(batch * (operands + added + stored), 2 * batch * m * n * k, exps)
}

/// [`product`], and the sums of a over k, which is read for the product.
fn product_and_sums(launch: &LaunchArgs<'_>) -> Work {
    let p: Matmul = launch.scalars();
    let [sums, k, splits] = [p.batch * p.m, p.k, p.splits].map(|size| size as usize);
    product(launch) + Work::of(4 * sums * splits, sums * k, 0)
}

/// Least work of adding the parts: parts and residual are read, and the product is written, twice if the activated
/// product is kept beside it.
fn combine(launch: &LaunchArgs<'_>) -> Work {
    let p: Matmul = launch.scalars();
    let [products, splits, residual] = [p.batch * p.m * p.n, p.splits, p.has_residual].map(|size| size as usize);
    let bytes = |constant: &str| launch.bytes_of(constant);
    let each = 4 * splits + residual * bytes("R16") + bytes("C16") * (1 + usize::from(p.act_at > 0));
    let exps = usize::from(launch.constant("ACT") > 0) * products;
    Work::of(products * each, products * (splits + residual), exps)
}

/// Which operands lie transposed in memory, named as in BLAS: n for no, t for transposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// C = A·Bᵀ of A (M, K) and B (N, K): y = x·wᵀ of a linear layer.
    Nt,
    /// C = A·B of A (M, K) and B (K, N): dx = dy·w.
    Nn,
    /// C = Aᵀ·B of A (K, M) and B (K, N): dw = dyᵀ·x.
    Tn,
}

/// The activations that an epilogue can apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    /// GELU in its erf form: `F.gelu(x)`.
    Gelu,
    /// x·σ(x): `F.silu(x)`.
    Silu,
}

/// The last step of a product, before it is stored. v is the product with bias and residual.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Epilogue {
    /// c = v.
    #[default]
    None,
    /// c = act(v). If the number `at` is not 0, c holds v too, which the backward pass reads: v from element 0 on and
    /// act(v) from element `at` on.
    Activate(Act, usize),
    /// c = a·b·act'(residual), where the residual is the v that `Activate` kept: the backward pass of `Activate`.
    Slope(Act),
}

impl Epilogue {
    /// The kernels' constant `ACT`.
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

/// A batch of products: form, sizes, leading dimensions and batch strides in elements, and epilogue.
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
    /// `batch` products of dense matrices that lie one after the other, as in `torch.bmm`.
    pub fn dense(form: Form, batch: usize, m: usize, n: usize, k: usize) -> Self {
        let (lda, ldb, epilogue) = (0, 0, Epilogue::None);
        let (a_stride, b_stride, c_stride) = (m * k, n * k, m * n);
        let mut p = Self { form, batch, m, n, k, lda, ldb, ldc: n, a_stride, b_stride, c_stride, epilogue };
        (p.lda, p.ldb) = (p.a_rows_cols().1, p.b_rows_cols().1);
        p
    }
    /// The name of the class of this product: kernel source, form, precision, width of loads, and sizes rounded up to
    /// powers of two. The tuner measures one product of a class, and all products of the class take the same path.
    pub(super) fn class(&self, precision: Precision) -> String {
        let kernel = if precision == Precision::F32 { &TILED } else { &COOP16 };
        let [batch, m, n, k] = [self.batch, self.m, self.n, self.k].map(usize::next_power_of_two);
        let loads = if self.quads() { "vec4" } else { "f32" };
        format!("matmul {:016x} {precision} {:?} {loads} {batch}x{m}x{n}x{k}", kernel.fingerprint(), self.form)
    }
    /// Whether the kernel may load vec4s: rows of a and b start and end at multiples of 4 elements.
    pub(super) fn quads(&self) -> bool {
        self.multiples_of(4)
    }
    /// Whether rows of a and b start and end at multiples of this many elements.
    pub(super) fn multiples_of(&self, elements: usize) -> bool {
        let (a, b) = (self.a_rows_cols().1, self.b_rows_cols().1);
        [a, self.lda, self.a_stride, b, self.ldb, self.b_stride].iter().all(|size| size % elements == 0)
    }
    pub(super) fn a_rows_cols(&self) -> (usize, usize) {
        if self.form == Form::Tn { (self.k, self.m) } else { (self.m, self.k) }
    }
    pub(super) fn b_rows_cols(&self) -> (usize, usize) {
        if self.form == Form::Nt { (self.n, self.k) } else { (self.k, self.n) }
    }
}
