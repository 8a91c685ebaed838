// matmul_coop — the products of matmul.wgsl on cooperative matrices (CUDA: tensor cores), operands rounded to f16, sums
// in f32 (PyTorch: F.linear under torch.autocast with float16).
//   Scalars, forms, splits and epilogue are those of matmul.wgsl. Operands in f32 are rounded when they are loaded.
//   HIGH = 0  c = Σ_k f16(a)·f16(b)                                        relative error of a product ≤ 2⁻¹⁰
//   HIGH = 1  x = hi + lo/2048,  hi = f16(x),  lo = f16((x − hi)·2048)      ≤ about 2⁻²¹, for |x| from 1e-4 to 65504
//             c = Σ hi·hi + (Σ hi·lo + Σ lo·hi)/2048                        two accumulators; lo·lo is below f32
//             quantizeToF16 computes hi: a compiler may simplify f32(f16(x)) to x, and then lo would be 0.
//   Numbers larger than 65504 become infinite. Dynamic loss scaling (loss_scale.wgsl) finds this in the gradients.
//   saves     nothing. c is overwritten.
//   threads   A workgroup of 4 subgroups of LANES computes a 2·SM × 2·SN tile of c, each subgroup SM × SN of it in
//             fragments of FRAG × FRAG. KS values of k at a time go from global memory to registers, to f16 in
//             workgroup memory, to fragments, while the next KS are loaded.
//             A tile in workgroup memory keeps the operand's order in memory, so that four neighboring numbers stay
//             together. If its rows run along k, it is read row-major for a and column-major for b; if they run along m
//             or n, the reverse. Rows are padded by 8 for fewer bank conflicts.
//             A kernel cannot access single elements of a fragment, so results pass through workgroup memory, one
//             fragment of each subgroup at a time.
//             Rows and columns past the end repeat the last ones and are not stored. k past the end is 0.
//             Every subgroup must consist of LANES invocations with consecutive indices: the self-test of the tier
//             finds LANES. The kernel uses no subgroup operations, because some drivers crashed on a module with both.
//   floor     2·batch·M·N·K flops at the f16 rate (three times that with HIGH);  4·batch·(M·K + N·K + M·N) bytes
//   tried     Fragments of 8 and of 16, tiles of 64 and of 128, on llvmpipe (Mesa 26.1): tested, not timed.
//             NVIDIA H200 (benches/runs/2026-11-28-nvidia-h200): 28 TFLOP/s with fragments of 16. That is no faster
//             than f32, and a twentieth of cuBLAS in bf16.
// lib/coop16 (Vulkan) or lib/coop8 (Metal) defines FRAG, Lhs, Rhs and Sum; lib/product16 or lib/product8 the entry
// point.
// uses lib/grid, lib/math, lib/half, lib/element, lib/gemm, lib/store4, lib/coop16 and lib/product16 or lib/coop8 and
// lib/product8
const NT = 0u;
const TN = 2u;
const THREADS = 4u * LANES;
const TM = 2u * SM;
const TN_ = 2u * SN;
const PAD = 8u;
const FM = SM / FRAG;
const FN = SN / FRAG;
const SIZE = FRAG * FRAG;
const A_SIZE = TM * KS + PAD * max(TM, KS);
const B_SIZE = TN_ * KS + PAD * max(TN_, KS);
const A_QUADS = TM * KS / 4u;
const B_QUADS = TN_ * KS / 4u;
const A_LOADS = (A_QUADS + THREADS - 1u) / THREADS;
const B_LOADS = (B_QUADS + THREADS - 1u) / THREADS;
const SHIFT = 2048.0;
const STORED = 1u + 3u * C4;                           // elements that an invocation stores together
var<workgroup> sh_a: array<f16, (1u + HIGH) * A_SIZE>;
var<workgroup> sh_b: array<f16, (1u + HIGH) * B_SIZE>;
var<workgroup> sh_c: array<f32, 4u * (1u + HIGH) * SIZE>;

// A tile is loaded in groups of four neighbors. Returns (row of m or n, k) of the first element of group `at`. by_k:
// the four lie along k, else along m or n.
fn place(at: u32, by_k: bool, side: u32) -> vec2<u32> {
    if by_k { return vec2(at / (KS / 4u), at % (KS / 4u) * 4u); }
    return vec2(at % (side / 4u) * 4u, at / (side / 4u));
}
// Index of element (row, k) of a tile in workgroup memory.
fn slot(row: u32, k: u32, by_k: bool, side: u32) -> u32 {
    return select(k * (side + PAD) + row, row * (KS + PAD) + k, by_k);
}
fn masked(v: vec4<f32>, k: u32, end: u32, by_k: bool) -> vec4<f32> {
    if by_k { return select(vec4(0.0), v, vec4(k, k + 1u, k + 2u, k + 3u) < vec4(end)); }
    return select(vec4(0.0), v, k < end);
}
fn load_a(base: u32, m: u32, k: u32, at: u32, end: u32) -> vec4<f32> {
    let by_k = FORM != TN;
    let to = place(at, by_k, TM);
    if by_k { return masked(a4(base + min(m + to.x, p.m - 1u) * p.lda, k + to.y, p.k), k + to.y, end, true); }
    return masked(a4(base + min(k + to.y, p.k - 1u) * p.lda, m + to.x, p.m), k + to.y, end, false);
}
fn load_b(base: u32, n: u32, k: u32, at: u32, end: u32) -> vec4<f32> {
    let by_k = FORM == NT;
    let to = place(at, by_k, TN_);
    if by_k { return masked(b4(base + min(n + to.x, p.n - 1u) * p.ldb, k + to.y, p.k), k + to.y, end, true); }
    return masked(b4(base + min(k + to.y, p.k - 1u) * p.ldb, n + to.x, p.n), k + to.y, end, false);
}
fn keep_a(at: u32, v: vec4<f32>) {
    let to = place(at, FORM != TN, TM);
    let i = slot(to.x, to.y, FORM != TN, TM);
    let hi = vec4<f16>(select(v, quantizeToF16(v), HIGH == 1u));
    for (var j = 0u; j < 4u; j++) { sh_a[i + j] = hi[j]; }
    if HIGH == 1u {
        let lo = vec4<f16>((v - quantizeToF16(v)) * SHIFT);
        for (var j = 0u; j < 4u; j++) { sh_a[HIGH * A_SIZE + i + j] = lo[j]; }
    }
}
fn keep_b(at: u32, v: vec4<f32>) {
    let to = place(at, FORM == NT, TN_);
    let i = slot(to.x, to.y, FORM == NT, TN_);
    let hi = vec4<f16>(select(v, quantizeToF16(v), HIGH == 1u));
    for (var j = 0u; j < 4u; j++) { sh_b[i + j] = hi[j]; }
    if HIGH == 1u {
        let lo = vec4<f16>((v - quantizeToF16(v)) * SHIFT);
        for (var j = 0u; j < 4u; j++) { sh_b[HIGH * B_SIZE + i + j] = lo[j]; }
    }
}
fn lhs(row: u32, k: u32, part: u32) -> Lhs {
    if FORM == TN { return coopLoad<Lhs>(&sh_a[part * A_SIZE + k * (TM + PAD) + row], TM + PAD); }
    return coopLoadT<Lhs>(&sh_a[part * A_SIZE + row * (KS + PAD) + k], KS + PAD);
}
fn rhs(col: u32, k: u32, part: u32) -> Rhs {
    if FORM == NT { return coopLoad<Rhs>(&sh_b[part * B_SIZE + col * (KS + PAD) + k], KS + PAD); }
    return coopLoadT<Rhs>(&sh_b[part * B_SIZE + k * (TN_ + PAD) + col], TN_ + PAD);
}

fn product(wid: vec3<u32>, tid: u32) {
    let m = wid.y * TM;
    let n = wid.x * TN_;
    let s = wid.z % p.batch;
    let a_base = s * p.a_stride;
    let b_base = s * p.b_stride;
    let start = wid.z / p.batch * p.k_split;
    let end = min(start + p.k_split, p.k);
    let sub = tid / LANES;
    let row = sub / 2u * SM;                             // with col: the subgroup's first element in the tile
    let col = sub % 2u * SN;
    var sums: array<Sum, FM * FN>;
    var rest: array<Sum, HIGH * FM * FN + 1u - HIGH>;    // Σ hi·lo + Σ lo·hi, still to be divided by 2048
    var next_a: array<vec4<f32>, A_LOADS>;
    var next_b: array<vec4<f32>, B_LOADS>;
    for (var i = 0u; i < A_LOADS; i++) { next_a[i] = load_a(a_base, m, start, i * THREADS + tid, end); }
    for (var i = 0u; i < B_LOADS; i++) { next_b[i] = load_b(b_base, n, start, i * THREADS + tid, end); }
    for (var k = start; k < end; k += KS) {
        for (var i = 0u; i < A_LOADS; i++) { if i * THREADS + tid < A_QUADS { keep_a(i * THREADS + tid, next_a[i]); } }
        for (var i = 0u; i < B_LOADS; i++) { if i * THREADS + tid < B_QUADS { keep_b(i * THREADS + tid, next_b[i]); } }
        workgroupBarrier();
        if k + KS < end {
            for (var i = 0u; i < A_LOADS; i++) { next_a[i] = load_a(a_base, m, k + KS, i * THREADS + tid, end); }
            for (var i = 0u; i < B_LOADS; i++) { next_b[i] = load_b(b_base, n, k + KS, i * THREADS + tid, end); }
        }
        for (var j = 0u; j < KS; j += FRAG) {
            for (var y = 0u; y < FN; y++) {
                let right = rhs(col + y * FRAG, j, 0u);
                for (var x = 0u; x < FM; x++) {
                    let left = lhs(row + x * FRAG, j, 0u);
                    sums[x * FN + y] = coopMultiplyAdd(left, right, sums[x * FN + y]);
                    if HIGH == 1u {
                        let right_lo = rhs(col + y * FRAG, j, HIGH);
                        let left_lo = lhs(row + x * FRAG, j, HIGH);
                        let at = HIGH * (x * FN + y);
                        rest[at] = coopMultiplyAdd(left, right_lo, rest[at]);
                        rest[at] = coopMultiplyAdd(left_lo, right, rest[at]);
                    }
                }
            }
        }
        workgroupBarrier();
    }
    let stride = FRAG;
    let own = sub * (1u + HIGH) * SIZE;
    for (var f = 0u; f < FM * FN; f++) {
        let sum = sums[f];
        coopStoreT(sum, &sh_c[own], stride);
        if HIGH == 1u {
            let small = rest[HIGH * f];
            let behind = own + SIZE;
            coopStoreT(small, &sh_c[behind], stride);
        }
        workgroupBarrier();
        for (var i = tid % LANES * STORED; i < SIZE; i += LANES * STORED) {
            let at = vec2(m + row + f / FN * FRAG + i / FRAG, n + col + f % FN * FRAG + i % FRAG);
            var v = vec4<f32>();
            for (var j = 0u; j < STORED; j++) {
                v[j] = sh_c[own + i + j];
                if HIGH == 1u { v[j] += sh_c[own + HIGH * SIZE + i + j] / SHIFT; }
            }
            if C4 == 1u {
                store4(wid.z, at.x, at.y, v);
            } else if at.x < p.m && at.y < p.n {
                store(wid.z, at.x, at.y, v.x);
            }
        }
        workgroupBarrier();
    }
}
