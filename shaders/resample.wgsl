// resample — maps of another size along one axis: bilinear interpolation (F.interpolate) and the average over bins
// (F.adaptive_avg_pool2d). Both are products of a step along rows and a step along columns, which are two launches.
//   shapes    x, dx (outer, side, inner)   y, dy (outer, out, inner). Rows of a map (B, H, W, C): B, H, W·C; columns:
//             B·H', W, C.
//   forward   y[o] = Σ_i w(o, i)·x[i]
//             MODE 0  half pixels: s = max((o + ½)·side/out − ½, 0), weights 1 − (s − ⌊s⌋) of ⌊s⌋ and s − ⌊s⌋ of the
//                     next cell, which is not past the last one
//             MODE 1  corners on corners: s = o·(side − 1)/(out − 1), 0 where out = 1, weights as above
//             MODE 2  the average over the bin ⌊o·side/out⌋ ≤ i < ⌈(o + 1)·side/out⌉; bins may overlap
//             s is a fraction of whole numbers, so ⌊s⌋ is exact.
//   backward  dx[i] = Σ_o w(o, i)·dy[o] over the few o that may read i, in order. A gather, so no atomics. Overwrites.
//   saves     nothing
//   threads   one invocation per item of the result: four elements of f32 or f16 (VEC = 1), or one of f32
//   HALF = 1  maps hold f16, two in a word; VEC is 1 then
//   floor     4 bytes per element of x and of y, in either direction; 2 in f16. What lies between two launches is more.
// uses lib/grid, lib/half, lib/element
struct Params { n: u32, side: u32, out: u32, inner: u32 }            // n: items of the result; inner: items
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;        // x forward, dy backward
@group(0) @binding(2) var<storage, read_write> y: array<vec4<u32>>;  // y forward, dx backward

struct Span { first: u32, count: u32, head: f32, tail: f32 }         // the weight of the first cell, and of the others

fn between(num: u32, den: u32) -> Span {
    let first = num / den;
    let part = f32(num % den) / f32(den);
    if first + 1u >= p.side { return Span(p.side - 1u, 1u, 1.0, 0.0); }
    return Span(first, 2u, 1.0 - part, part);
}
// The cells that cell o of y reads.
fn span(o: u32) -> Span {
    if MODE == 0u { return between(max((2u * o + 1u) * p.side, p.out) - p.out, 2u * p.out); }
    if MODE == 1u { return between(o * (p.side - 1u), max(p.out, 2u) - 1u); }
    let first = o * p.side / p.out;
    let count = ((o + 1u) * p.side + p.out - 1u) / p.out - first;
    return Span(first, count, 1.0 / f32(count), 1.0 / f32(count));
}
fn weight(o: u32, i: u32) -> f32 {
    let s = span(o);
    if i < s.first || i >= s.first + s.count { return 0.0; }
    return select(s.tail, s.head, i == s.first);
}
// The first and the last cell of y that may read cell i.
fn readers(i: u32) -> vec2<u32> {
    if MODE == 0u {
        let low = max(2u * i * p.out, p.out + p.side) - (p.out + p.side);
        let high = max((2u * i + 3u) * p.out, p.side) - p.side;
        return vec2(low / (2u * p.side), min(high / (2u * p.side) + 1u, p.out - 1u));
    }
    if MODE == 1u {
        if p.side == 1u || p.out == 1u { return vec2(0u, p.out - 1u); }
        let low = (max(i, 1u) - 1u) * (p.out - 1u) / (p.side - 1u);
        return vec2(low, min((i + 1u) * (p.out - 1u) / (p.side - 1u) + 1u, p.out - 1u));
    }
    return vec2(i * p.out / p.side, min((i + 1u) * p.out / p.side, p.out - 1u));
}

fn load(i: u32) -> vec4<f32> {
    if VEC == 1u { return element4(x[i >> HALF], i, HALF); }
    return vec4(bitcast<f32>(x[i >> 2u][i & 3u]), 0.0, 0.0, 0.0);
}
fn store(i: u32, v: vec4<f32>) {
    if HALF == 1u {
        let words = halves(v);
        y[i >> 1u][2u * (i & 1u)] = words.x;
        y[i >> 1u][2u * (i & 1u) + 1u] = words.y;
    } else if VEC == 1u {
        y[i] = bitcast<vec4<u32>>(v);
    } else {
        y[i >> 2u][i & 3u] = bitcast<u32>(v.x);
    }
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let s = span(i / p.inner % p.out);
    let from_ = (i / p.inner / p.out * p.side + s.first) * p.inner + i % p.inner;
    var sum = s.head * load(from_);
    for (var k = 1u; k < s.count; k++) { sum += s.tail * load(from_ + k * p.inner); }
    store(i, sum);
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let cell = i / p.inner % p.side;
    let from_ = i / p.inner / p.side * p.out * p.inner + i % p.inner;
    let range = readers(cell);
    var sum = vec4(0.0);
    for (var o = range.x; o <= range.y; o++) { sum += weight(o, cell) * load(from_ + o * p.inner); }
    store(i, sum);
}
