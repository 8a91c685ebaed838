// conv2d — convolution of maps and its gradients (F.conv2d with stride, groups, four paddings and bias), in f32, as
// products of matrices whose operand is gathered while it is loaded (implicit GEMM): no matrix of patches is stored.
//   maps      x, dx (B, H, W, C)   y, dy (B, H', W', O)   H' = ⌊(H + top + bottom − kh)/sy⌋ + 1, W' likewise
//             Channels come last. So tokens (B, L, C) are a map without a copy, a 1×1 convolution is a linear layer,
//             four neighboring k of a product are one vec4 of a pixel, and norms read rows.
//   weights   w, dw (O, C/G, kh, kw), as in a checkpoint. `pack` copies w to (O, kh, kw, C/G), channels last too; dw is
//             put back in order when it is stored. bias (O)
//   y[b,i,j,o]  = bias[o] + Σ_{ky,kx,c} w[o,c,ky,kx]·x[b, i·sy + ky − top, j·sx + kx − left, c]   c in the group of o
//   dx[b,y,x,c] = Σ_{ky,kx,o} w[o,c,ky,kx]·dy[b, (y + top − ky)/sy, (x + left − kx)/sx, o]   where both are whole
//   dw[o,c,ky,kx] = Σ_{b,i,j} dy[b,i,j,o]·x[b, i·sy + ky − top, j·sx + kx − left, c]
//             Pixels outside of a map count as 0. dbias is the column sum of dy (reduce.wgsl).
//   FORM      product    rows m        columns n    sum k            a          b
//   0 Nt      y          pixels of y   o            (ky, kx, c)      x          w, packed
//   1 Nn      dx         pixels of dx  c            (ty, tx, o)      dy         w, packed
//   2 Tn      dw         o             (ky, kx, c)  pixels of y      dy         x
//             A gather, so no atomics. With a stride, dx is a product for each phase, that is for each rest of (y, x)
//             by the stride: its pixels read the same taps ky = tap + sy·ty, so no sum has holes.
//             The products of a batch are the groups, of dx groups and phases.
//             A transposed convolution is Nn with x in place of dy and a bias; its gradients are Nt and Tn.
//   saves     nothing but the operands. y, dx and dw are overwritten; the gradient that x has so far is `residual`.
//   threads, splits   those of matmul.wgsl, whose source follows this one: its kernels call a4, b4, k_end and the
//             stores below. The tile is the one that is chosen for a dense product of these sizes. dw is split, and its
//             parts are added in order by `combine`, which always gives the same bits.
//   VEC = 1   channels of a group are multiples of 4, on both sides of the product: operands are loaded as vec4s.
//   C4 = 1    results are stored as vec4s.  LAST = 1: results are the gradient dw itself, not parts of it.
//   A16, B16, R16, C16 = 1   the operand, the residual or the result holds f16, two in a word. Weights, and with them
//             the b of Nt and Nn, are f32. C16 = 1 needs C4 = 1, and is never dw.
//   floor     2·B·H'·W'·O·(C/G)·kh·kw flops;  4·(|x| + |y| + |w|) bytes for each of the three products, in f32
//   what is left   For every 16 k of a tile, NVK computes the row and column of each pixel again, with 8 divisions,
//             because it does not move them out of the loop (cargo xtask static turing).
// uses ../matmul, lib/grid, lib/half, lib/element, lib/operands, lib/results
struct Params {
    batch: u32, m: u32, n: u32, k: u32, lda: u32, ldb: u32, a_stride: u32, b_stride: u32, splits: u32, k_split: u32,
    has_bias: u32, has_residual: u32,
    ldc: u32,                                            // channels of a pixel of the result
    rows: u32, cols: u32,                                // grid of pixels of a sample that m (dw: k) runs over
    h: u32, w: u32, c: u32, cg: u32,                     // the gathered map: its size, channels, channels of a group
    kh: u32, kw: u32, stride_y: u32, stride_x: u32, top: u32, left: u32,
    out_h: u32, out_w: u32,                              // size of dx
}
const NN = 1u;
@group(0) @binding(0) var<uniform> p: Params;
// bindings 1 to 5, a, b, bias, residual and c, are those of lib/operands and lib/results; 6, part, is matmul.wgsl's
@group(0) @binding(7) var<storage, read> weight: array<f32>;        // pack
@group(0) @binding(8) var<storage, read_write> packed: array<f32>;  // pack

// A phase of dx, in rows and columns: its pixels are first + stride·i, and they get their gradients through the taps
// tap + stride·t, t < taps, from the pixels i + shift − t of dy.
struct Phase { first: vec2<u32>, tap: vec2<u32>, taps: vec2<u32>, shift: vec2<u32> }
// Product s of the batch of dx has the phase s % phases of the group s / phases. Others have one phase.
fn phases() -> u32 {
    if FORM == NN { return p.stride_y * p.stride_x; }
    return 1u;
}
fn phase(s: u32) -> Phase {
    let stride = vec2(p.stride_y, p.stride_x);
    let first = vec2(s / p.stride_x % p.stride_y, s % p.stride_x);
    let padded = first + vec2(p.top, p.left);
    let tap = padded % stride;
    let left = max(vec2(p.kh, p.kw), tap) - tap;
    return Phase(first, tap, (left + stride - 1u) / stride, padded / stride);
}
// Where the part of k that starts at `start` ends. Phases of dx differ in the number of their taps.
fn k_end(s: u32, start: u32) -> u32 {
    if FORM == NN {
        let taps = phase(s).taps;
        return taps.x * taps.y * p.cg;
    }
    return min(start + p.k_split, p.k);
}

// Sample, row and column of pixel i of the grid.
fn pixel(i: u32) -> vec3<u32> {
    let line = i / p.cols;
    return vec3(line / p.rows, line % p.rows, i % p.cols);
}
// Where a tap of a pixel finds its source: index of the first channel, and 1, or 0 outside of the map. Rows and columns
// below 0 wrap to huge numbers, and so are outside too.
fn source(s: u32, at: vec3<u32>, tap: u32) -> vec2<u32> {
    var src: vec2<u32>;
    if FORM == NN {
        let of_dx = phase(s);
        let across = max(of_dx.taps.y, 1u);
        src = at.yz + of_dx.shift - vec2(tap / across, tap % across);
    } else {
        src = at.yz * vec2(p.stride_y, p.stride_x) + vec2(tap / p.kw, tap % p.kw) - vec2(p.top, p.left);
    }
    if src.x >= p.h || src.y >= p.w { return vec2(0u); }
    return vec2(((at.x * p.h + src.x) * p.w + src.y) * p.c, 1u);
}
// The source of a gathered value, likewise: k (dw: n) counts channels of a group within taps.
fn channel(s: u32, at: vec3<u32>, k: u32) -> vec2<u32> {
    let src = source(s, at, k / p.cg);
    return vec2(src.x + s / phases() * p.cg + k % p.cg, src.y);
}
// Product and rest of a row, which counts through all products of the batch: `each` rows a product.
fn product_of(row: u32, each: u32) -> vec2<u32> {
    if p.batch == 1u { return vec2(0u, row); }
    return vec2(row / each, row % each);
}

// Elements at..at+4 of row `row` of a, as lib/gemm has them. Rows of y and dx have lda = 1, so `row` counts pixels.
fn a4(row: u32, at: u32, limit: u32) -> vec4<f32> {
    let quad = min(at, max(limit, 4u) - 4u);
    let last = limit - 1u;
    let four = vec4(min(at, last), min(at + 1u, last), min(at + 2u, last), min(at + 3u, last));
    if FORM == TN {
        if VEC == 1u { return a_quad(row + quad); }
        return vec4(a1(row + four.x), a1(row + four.y), a1(row + four.z), a1(row + four.w));
    }
    let s = product_of(row, p.m);
    let cell = pixel(s.y);
    if VEC == 1u {
        let src = channel(s.x, cell, quad);
        return select(vec4<f32>(), a_quad(src.x), src.y == 1u);
    }
    return vec4(a_at(channel(s.x, cell, four.x)), a_at(channel(s.x, cell, four.y)),
                a_at(channel(s.x, cell, four.z)), a_at(channel(s.x, cell, four.w)));
}
fn a_at(src: vec2<u32>) -> f32 { return select(0.0, a1(src.x), src.y == 1u); }
fn b_at(src: vec2<u32>) -> f32 { return select(0.0, b1(src.x), src.y == 1u); }

// Elements at..at+4 of row `row` of b. Rows of dx and dw have ldb = 1, so `row` counts k.
fn b4(row: u32, at: u32, limit: u32) -> vec4<f32> {
    let quad = min(at, max(limit, 4u) - 4u);
    let last = limit - 1u;
    let four = vec4(min(at, last), min(at + 1u, last), min(at + 2u, last), min(at + 3u, last));
    if FORM == TN {
        let s = product_of(row, p.k);
        let cell = pixel(s.y);
        if VEC == 1u {
            let src = channel(s.x, cell, quad);
            return select(vec4<f32>(), b_quad(src.x), src.y == 1u);
        }
        return vec4(b_at(channel(s.x, cell, four.x)), b_at(channel(s.x, cell, four.y)),
                    b_at(channel(s.x, cell, four.z)), b_at(channel(s.x, cell, four.w)));
    }
    var first = row;
    if FORM == NN {
        let s = product_of(row, p.k);
        let of_dx = phase(s.x);
        let t = s.y / p.cg;
        let across = max(of_dx.taps.y, 1u);
        let tap = of_dx.tap + vec2(p.stride_y, p.stride_x) * vec2(t / across, t % across);
        let o = s.x / phases() * p.cg + s.y % p.cg;
        first = ((o * p.kh + tap.x) * p.kw + tap.y) * p.n;
    }
    if VEC == 1u { return b_quad(first + quad); }
    return vec4(b1(first + four.x), b1(first + four.y), b1(first + four.z), b1(first + four.w));
}

// Index of element (m, n) of product z in the result, or NONE for a pixel outside of dx.
const NONE = 0xffffffffu;
fn place(z: u32, m: u32, n: u32) -> u32 {
    if FORM == TN {
        if LAST == 0u { return (z * p.m + m) * p.n + n; }
        return ((z * p.m + m) * p.cg + n % p.cg) * p.kh * p.kw + n / p.cg;
    }
    var row = m;
    if FORM == NN {
        let at = pixel(m);
        let to = phase(z).first + vec2(p.stride_y, p.stride_x) * at.yz;
        if to.x >= p.out_h || to.y >= p.out_w { return NONE; }
        row = (at.x * p.out_h + to.x) * p.out_w + to.y;
    }
    return row * p.ldc + z / phases() * p.n + n;
}
fn store(z: u32, m: u32, n: u32, sum: f32) {
    let i = place(z, m, n);
    if i == NONE { return; }
    let at = z / phases() * p.n + n;
    var v = sum;
    if p.has_bias == 1u { v += bias[at >> 2u][at & 3u]; }
    if p.has_residual == 1u { v += residual1(i); }
    c[i >> 2u][i & 3u] = bitcast<u32>(v);
}
// Stores columns n..n+4 of row m, except those past the end. n is a multiple of 4.
fn store4(z: u32, m: u32, n: u32, sum: vec4<f32>) {
    if m >= p.m || n >= p.n { return; }
    if C4 == 1u && (FORM != TN || LAST == 0u) {
        let i = place(z, m, n);
        if i == NONE { return; }
        var v = sum;
        if p.has_bias == 1u { v += bias[(z / phases() * p.n + n) >> 2u]; }
        if p.has_residual == 1u { v += residual_quad(i); }
        put4(i, v);
        return;
    }
    store(z, m, n, sum.x);
    if n + 1u < p.n { store(z, m, n + 1u, sum.y); }
    if n + 2u < p.n { store(z, m, n + 2u, sum.z); }
    if n + 3u < p.n { store(z, m, n + 3u, sum.w); }
}
fn store_block(z: u32, m: u32, n: u32, r: mat4x4<f32>) {
    store4(z, m, n, r[0]);
    store4(z, m + 1u, n, r[1]);
    store4(z, m + 2u, n, r[2]);
    store4(z, m + 3u, n, r[3]);
}

// packed (m, taps, cg) from weight (m, cg, taps): one invocation per element. The depthwise kernels take (taps, C),
// with m = 1 and cg = C.
@compute @workgroup_size(256)
fn pack(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * 256u + tid;
    let taps = p.kh * p.kw;
    if i >= p.m * taps * p.cg { return; }
    let o = i / (taps * p.cg);
    packed[i] = weight[(o * p.cg + i % p.cg) * taps + i / p.cg % taps];
}
