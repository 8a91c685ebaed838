// conv2d — convolution of maps and its gradients (F.conv2d with stride, dilation, groups, four paddings and bias), as
// products of matrices whose operand is gathered while it is loaded (implicit GEMM): no matrix of patches is stored.
//   maps      x, dx (B, H, W, C)   y, dy (B, H', W', O)   H' = ⌊(H + top + bottom − ey·(kh − 1) − 1)/sy⌋ + 1, W' alike
//             Channels come last. So tokens (B, L, C) are a map without a copy, a 1×1 convolution is a linear layer,
//             four neighboring k of a product are one vec4 of a pixel, and norms read rows.
//   weights   w, dw (O, C/G, kh, kw), as in a checkpoint. `pack` copies w to (O, kh, kw, C/G), channels last too, and
//             for dx to a matrix (taps of a phase, O/G; C/G) for each group and phase, so that both are read as
//             matrices. dw is put back in order when it is stored. bias (O)
//   y[b,i,j,o]  = bias[o] + Σ_{ky,kx,c} w[o,c,ky,kx]·x[b, i·sy + ey·ky − top, j·sx + ex·kx − left, c]   c in o's group
//   dx[b,y,x,c] = Σ_{ky,kx,o} w[o,c,ky,kx]·dy[b, (y + top − ey·ky)/sy, (x + left − ex·kx)/sx, o]   where whole
//   dw[o,c,ky,kx] = Σ_{b,i,j} dy[b,i,j,o]·x[b, i·sy + ey·ky − top, j·sx + ex·kx − left, c]
//             Strides are sy, sx and dilations ey, ex; with a dilation strides are 1. Pixels outside of a map count as
//             0. dbias is the column sum of dy (reduce.wgsl).
//   FORM      product    rows m        columns n    sum k            a          b
//   0 Nt      y          pixels of y   o            (ky, kx, c)      x          w, packed
//   1 Nn      dx         pixels of dx  c            (ty, tx, o)      dy         w, packed
//   2 Tn      dw         o             (ky, kx, c)  pixels of y      dy         x
//             A gather, so no atomics. With a stride, dx is a product for each phase, that is for each rest of (y, x)
//             by the stride: its pixels read the same taps ky = tap + sy·ty, so no sum has holes.
//             The products of a batch are the groups, of dx groups and phases.
//             A transposed convolution is Nn with x in place of dy and a bias; its gradients are Nt and Tn.
//   saves     nothing but the operands. y, dx and dw are overwritten; the gradient that x has so far is `residual`.
//   threads, splits   those of matmul.wgsl, whose source follows this one: its kernels call a_rows, a_block and
//             likewise b here, and k_end and the stores of lib/conv2d. The tile is the one that is chosen for a dense
//             product of these sizes. dw is split, and its parts are added in order by `combine`, which always gives
//             the same bits. On cooperative matrices conv2d_coop.wgsl computes the products.
//   ROUND     1: operands are rounded to f16 when loaded, as in matmul.wgsl: mixed precision without cooperative
//             matrices
//   VEC = 1   channels of a group are multiples of 4, on both sides of the product: operands are loaded as vec4s.
//   C4 = 1    results are stored as vec4s.  LAST = 1: results are the gradient dw itself, not parts of it.
//   A16, B16, R16, C16 = 1   the operand, the residual or the result holds f16, two in a word. Weights, and with them
//             the b of Nt and Nn, are f32. C16 = 1 needs C4 = 1, and is never dw.
//   floor     2·B·H'·W'·O·(C/G)·kh·kw flops;  4·(|x| + |y| + |w|) bytes for each of the three products, in f32
//   gathered  Where a pixel of m, or a column n of dw, lies in the map is computed before the loop. In it a block of
//             4 × 4 takes two divisions, for its first k; the others carry. NVK moves no divisions out of loops by
//             itself.
//   tried     instructions on NVK Turing (benches/static), of y in f32: the loop of `direct` 1404, 944 of them on
//             integers, with a division for each pixel of a block; 854 and 502 as it is now. `tiled` 3955 in all and
//             899 in a loop that only loads; 3528, and no loop longer than the 85 that multiply. It takes 136
//             registers, 8 more than before.
//             Single elements are gathered by loops, which compilers of GPUs unroll. Written out, they are so many that
//             SwiftShader, the software adapter of Chrome, took over 90 s and 10 GB to compile one kernel.
// uses ../matmul, lib/conv2d, lib/grid, lib/half, lib/element, lib/operands, lib/blocks, lib/results, lib/no_sums
@group(0) @binding(7) var<storage, read> weight: array<f32>;        // pack
@group(0) @binding(8) var<storage, read_write> packed: array<f32>;  // pack

// Where blocks of an operand lie: in a matrix, or gathered.
struct Rows { base: u32, first: u32, lanes: Gather, radix: vec2<u32> }
fn a_rows(s: u32, m: u32) -> Rows {
    var r = Rows(s * p.a_stride, m, Gather(), radix(s));
    if FORM != TN { r.lanes = gather_pixels(s, min(vec4(m, m + 1u, m + 2u, m + 3u), vec4(p.m - 1u))); }
    return r;
}
fn b_rows(s: u32, n: u32) -> Rows {
    var r = Rows(weights_at(s), n, Gather(), radix(s));
    if FORM == TN {
        var four = min(vec4(n, n + 1u, n + 2u, n + 3u), vec4(p.n - 1u));
        if VEC == 1u { four = vec4(min(n, p.n - 4u)); }
        r.lanes = gather_columns(s, four);
    }
    return r;
}
fn a_block(r: Rows, k: u32) -> mat4x4<f32> {
    if FORM == TN { return a_matrix(r.base, r.first, k); }
    var at = split(min(k, max(p.k, 4u) - 4u), r.radix);
    if VEC == 1u {
        return transpose(mat4x4(gathered4(r.lanes, 0u, at), gathered4(r.lanes, 1u, at),
                                gathered4(r.lanes, 2u, at), gathered4(r.lanes, 3u, at)));
    }
    at = split(k, r.radix);
    var four: array<vec4<f32>, 4>;
    for (var j = 0u; j < 4u; j++) {
        four[j] = gathered(r.lanes, at);
        at = plus(at, vec3(0u, 0u, 1u), r.radix);
    }
    return mat4x4(four[0], four[1], four[2], four[3]);
}
fn b_block(r: Rows, k: u32) -> mat4x4<f32> {
    if FORM != TN { return b_matrix(r.base, r.first, k); }
    // pixels past the last repeat it
    let last = p.k - 1u;
    var at = split(min(k, last), r.radix);
    var four: array<vec4<f32>, 4>;
    for (var j = 0u; j < 4u; j++) {
        if VEC == 1u { four[j] = gathered4(r.lanes, 0u, at); } else { four[j] = gathered(r.lanes, at); }
        at = plus(at, vec3(0u, 0u, u32(k + j < last)), r.radix);
    }
    return mat4x4(four[0], four[1], four[2], four[3]);
}
// Four channels of a lane from k on, or one of each of four lanes. Outside of the map they are 0.
fn gathered4(g: Gather, lane: u32, k: vec3<u32>) -> vec4<f32> {
    let src = found(g, lane, k);
    if FORM == TN { return select(vec4(0.0), b_quad(src.x), src.y == 1u); }
    return select(vec4(0.0), a_quad(src.x), src.y == 1u);
}
fn gathered(g: Gather, k: vec3<u32>) -> vec4<f32> {
    var lanes = vec4(0.0);
    for (var i = 0u; i < 4u; i++) { lanes[i] = gathered1(g, i, k); }
    return lanes;
}
fn gathered1(g: Gather, lane: u32, k: vec3<u32>) -> f32 {
    let src = found(g, lane, k);
    if FORM == TN { return select(0.0, b1(src.x), src.y == 1u); }
    return select(0.0, a1(src.x), src.y == 1u);
}

// packed from weight (O, C/G, taps), for y as (O, taps, C/G): one invocation per element. The depthwise kernels take
// (taps, C), which are m = 1 and cg = C. For dx (NN) it is, for each group, phase and tap of the phase, the matrix
// (O/G, C/G), where the scalars are those of the product.
@compute @workgroup_size(256)
fn pack(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * 256u + tid;
    let taps = p.kh * p.kw;
    if FORM == NN {
        let each = p.cg * p.n;
        if i >= p.batch / phases() * taps * each { return; }
        var at = i / each % taps;                        // tap, by phases
        var s = 0u;
        var own = phase(0u);
        for (; at >= own.taps.x * own.taps.y; s++) {
            at -= own.taps.x * own.taps.y;
            own = phase(s + 1u);
        }
        let tap = own.tap + vec2(p.stride_y, p.stride_x) * vec2(at / own.taps.y, at % own.taps.y);
        let o = i / (each * taps) * p.cg + i % each / p.n;
        packed[i] = weight[(o * p.n + i % p.n) * taps + tap.x * p.kw + tap.y];
        return;
    }
    if i >= p.m * taps * p.cg { return; }
    let o = i / (taps * p.cg);
    packed[i] = weight[(o * p.cg + i % p.cg) * taps + i / p.cg % taps];
}
