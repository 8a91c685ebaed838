// lib/conv2d — what the kernels of conv2d.wgsl and conv2d_coop.wgsl share: scalars, where gathered operands lie, and
// stores. conv2d.wgsl explains the names.
struct Params {
    batch: u32, m: u32, n: u32, k: u32, lda: u32, ldb: u32, a_stride: u32, b_stride: u32, splits: u32, k_split: u32,
    has_bias: u32, has_residual: u32,
    ldc: u32,                                            // channels of a pixel of the result
    rows: u32, cols: u32,                                // grid of pixels of a sample that m (dw: k) runs over
    h: u32, w: u32, c: u32, cg: u32,                     // the gathered map: its size, channels, channels of a group
    kh: u32, kw: u32, stride_y: u32, stride_x: u32, dilation_y: u32, dilation_x: u32, top: u32, left: u32,
    out_h: u32, out_w: u32,                              // size of dx
}
const NN = 1u;
@group(0) @binding(0) var<uniform> p: Params;

// A phase of dx, in rows and columns: its pixels are first + stride·i, and they get their gradients through the taps
// tap + stride·t, t < taps, from the pixels i + shift − dilation·t of dy. With a dilation there is one phase.
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
// The first weight of product s. Those of dx are packed by phases; one without taps reads none.
fn weights_at(s: u32) -> u32 {
    if FORM != NN { return s * p.b_stride; }
    let own = phase(s).taps;
    if own.x * own.y == 0u { return 0u; }
    let column = s % p.stride_x;
    var rows = 0u;                                       // taps of the phases above, and of those left
    var columns = 0u;
    for (var i = 0u; i < s / p.stride_x % p.stride_y; i++) { rows += phase(i * p.stride_x).taps.x; }
    for (var i = 0u; i < column; i++) { columns += phase(i).taps.y; }
    let taps = s / phases() * p.kh * p.kw + rows * p.kw + own.x * columns;
    return taps * p.cg * p.n;
}

// Sample, row and column of pixel i of the grid.
fn pixel(i: u32) -> vec3<u32> {
    return split(i, vec2(p.cols, p.rows));
}
// The digits of i, the lowest last. `radix` holds the base of the last digit, and that of the one before.
fn split(i: u32, radix: vec2<u32>) -> vec3<u32> {
    let high = i / radix.x;
    return vec3(high / radix.y, high % radix.y, i % radix.x);
}
// The digits of a sum, by carrying: divisions are slow, so they stay out of loops.
fn plus(a: vec3<u32>, b: vec3<u32>, radix: vec2<u32>) -> vec3<u32> {
    var sum = a + b;
    if sum.z >= radix.x { sum = vec3(sum.x, sum.y + 1u, sum.z - radix.x); }
    if sum.y >= radix.y { sum = vec3(sum.x + 1u, sum.y - radix.y, sum.z); }
    return sum;
}

// Lanes of a gathered operand: four pixels, or in dw four columns n, that is channels of taps. An element of a lane
// also depends on its k: (tap row, tap column, channel), or in dw (sample, row, column) of a pixel.
//   at   index of a lane's first channel in the gathered map, less what k adds
//   y, x row and column in that map, likewise. Those below 0 wrap to huge numbers, and so are outside.
struct Gather { at: vec4<u32>, y: vec4<u32>, x: vec4<u32> }
// The bases of the digits of k.
fn radix(s: u32) -> vec2<u32> {
    if FORM == TN { return vec2(p.cols, p.rows); }
    if FORM == NN { return vec2(p.cg, max(phase(s).taps.y, 1u)); }
    return vec2(p.cg, p.kw);
}
fn gather_pixels(s: u32, m: vec4<u32>) -> Gather {
    let one = gather_pixel(s, m.x);
    let two = gather_pixel(s, m.y);
    let three = gather_pixel(s, m.z);
    let four = gather_pixel(s, m.w);
    return Gather(vec4(one.x, two.x, three.x, four.x), vec4(one.y, two.y, three.y, four.y),
                  vec4(one.z, two.z, three.z, four.z));
}
fn gather_pixel(s: u32, m: u32) -> vec3<u32> {
    let at = pixel(m);
    var src = at.yz * vec2(p.stride_y, p.stride_x) - vec2(p.top, p.left);
    if FORM == NN { src = at.yz + phase(s).shift; }
    return vec3(((at.x * p.h + src.x) * p.w + src.y) * p.c + s / phases() * p.cg, src);
}
fn gather_columns(s: u32, n: vec4<u32>) -> Gather {
    let tap = n / p.cg;
    return Gather(vec4(s * p.cg) + n % p.cg, tap / p.kw * p.dilation_y - p.top, tap % p.kw * p.dilation_x - p.left);
}
// Index of a lane's element at k, and 1, or 0 outside of the map.
fn found(g: Gather, lane: u32, k: vec3<u32>) -> vec2<u32> {
    var src = vec2(g.y[lane], g.x[lane]);
    var at = g.at[lane];
    if FORM == TN {
        src += k.yz * vec2(p.stride_y, p.stride_x);
        at += ((k.x * p.h + src.x) * p.w + src.y) * p.c;
    } else if FORM == NN {
        let taps = k.xy * vec2(p.dilation_y, p.dilation_x);
        src -= taps;
        at += k.z - (taps.x * p.w + taps.y) * p.c;
    } else {
        let taps = k.xy * vec2(p.dilation_y, p.dilation_x);
        src += taps;
        at += k.z + (taps.x * p.w + taps.y) * p.c;
    }
    let inside = src.x < p.h && src.y < p.w;
    return select(vec2(0u), vec2(at, 1u), inside);
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
