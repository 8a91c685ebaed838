// lib/attention — the parts that attention.wgsl and attention_coop.wgsl share: scalars, bindings, loads, and the region
// mask. The header of attention.wgsl explains the names. EXACT: no load reaches past a head.
// uses lib/half, lib/element
struct Params {
    lq: u32, lk: u32, heads: u32, groups: u32, // groups = B·H
    q_row: u32, kv_row: u32, k_at: u32, v_at: u32,
    mask: u32, scale: f32,
}
const QUADS = DH % 4u == 0u;               // heads start and end at multiples of 4 elements
const LAST = max(DH, 4u) - 4u;
const FAR = 0xffffffffu;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> k: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> v: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> regions: array<u32>;
@group(0) @binding(5) var<storage, read> saved_out: array<vec4<u32>>;
@group(0) @binding(6) var<storage, read> saved_lse: array<f32>;
@group(0) @binding(7) var<storage, read> saved_delta: array<f32>;
@group(0) @binding(8) var<storage, read_write> out: array<u32>;
@group(0) @binding(9) var<storage, read_write> lse: array<f32>;
@group(0) @binding(10) var<storage, read_write> delta: array<f32>;
@group(0) @binding(11) var<storage, read> dout: array<vec4<u32>>;
@group(0) @binding(12) var<storage, read_write> grad: array<u32>; // dq, or dk and dv

// q4, k4, v4, dout4 and out4 load columns c..c+4 of the head that starts at `at`; c is a multiple of 4. Columns past
// the head are 0. `quad` is the index of a whole vec4. `at4` are the indices of four elements, for heads that are not
// aligned.
fn at4(at: u32, c: u32) -> vec4<u32> { return at + min(vec4(c, c + 1u, c + 2u, c + 3u), vec4(DH - 1u)); }
fn quad(at: u32, c: u32) -> u32 { return (at + min(c, LAST)) >> 2u; }
fn whole4(x: vec4<f32>, c: u32) -> vec4<f32> {
    if EXACT { return x; }
    return select(vec4<f32>(), x, vec4(c, c + 1u, c + 2u, c + 3u) < vec4(DH));
}
fn q1(i: u32) -> f32 { return element4(q[i >> (2u + HALF)], i >> 2u, HALF)[i & 3u]; }
fn k1(i: u32) -> f32 { return element4(k[i >> (2u + HALF)], i >> 2u, HALF)[i & 3u]; }
fn v1(i: u32) -> f32 { return element4(v[i >> (2u + HALF)], i >> 2u, HALF)[i & 3u]; }
fn dout1(i: u32) -> f32 { return element4(dout[i >> (2u + HALF)], i >> 2u, HALF)[i & 3u]; }
fn q4(at: u32, c: u32) -> vec4<f32> {
    let i = quad(at, c);
    if QUADS { return whole4(element4(q[i >> HALF], i, HALF), c); }
    let e = at4(at, c);
    return whole4(vec4(q1(e.x), q1(e.y), q1(e.z), q1(e.w)), c);
}
fn k4(at: u32, c: u32) -> vec4<f32> {
    let i = quad(at, c);
    if QUADS { return whole4(element4(k[i >> HALF], i, HALF), c); }
    let e = at4(at, c);
    return whole4(vec4(k1(e.x), k1(e.y), k1(e.z), k1(e.w)), c);
}
fn v4(at: u32, c: u32) -> vec4<f32> {
    let i = quad(at, c);
    if QUADS { return whole4(element4(v[i >> HALF], i, HALF), c); }
    let e = at4(at, c);
    return whole4(vec4(v1(e.x), v1(e.y), v1(e.z), v1(e.w)), c);
}
fn dout4(at: u32, c: u32) -> vec4<f32> {
    let i = quad(at, c);
    if QUADS { return whole4(element4(dout[i >> HALF], i, HALF), c); }
    let e = at4(at, c);
    return whole4(vec4(dout1(e.x), dout1(e.y), dout1(e.z), dout1(e.w)), c);
}

fn out1(i: u32) -> f32 { return element4(saved_out[i >> (2u + HALF)], i >> 2u, HALF)[i & 3u]; }
fn out4(at: u32, c: u32) -> vec4<f32> {
    let i = quad(at, c);
    if QUADS { return whole4(element4(saved_out[i >> HALF], i, HALF), c); }
    let e = at4(at, c);
    return whole4(vec4(out1(e.x), out1(e.y), out1(e.z), out1(e.w)), c);
}
// Stores x.x as element i. In f16 it also stores x.y as element i + 1, in the same word.
fn put_out(i: u32, x: vec2<f32>) {
    if HALF == 1u { out[i >> 1u] = pair(x); } else { out[i] = bitcast<u32>(x.x); }
}
fn put_grad(i: u32, x: vec2<f32>) {
    if HALF == 1u { grad[i >> 1u] = pair(x); } else { grad[i] = bitcast<u32>(x.x); }
}

// The rows that a workgroup owns: ROWS rows from `first` on, of sample b and head h. None if group >= p.groups.
struct Owned { group: u32, first: u32, b: u32, h: u32 }
fn owned(wid: vec3<u32>, rows: u32) -> Owned {
    let tiles = (rows + ROWS - 1u) / ROWS;
    let group = grid_row(wid) / tiles;
    return Owned(group, grid_row(wid) % tiles * ROWS, group / p.heads, group % p.heads);
}

// Index of a head's first column in its buffer: of query i, of key j, of row i of out.
fn q_at(b: u32, h: u32, i: u32) -> u32 { return (b * p.lq + i) * p.q_row + h * DH; }
fn kv_at(b: u32, h: u32, j: u32) -> u32 { return (b * p.lk + j) * p.kv_row + h * DH; }
fn out_at(b: u32, h: u32, i: u32) -> u32 { return ((b * p.lq + i) * p.heads + h) * DH; }

// Ranges of regions, as (least, largest). `bounds`: of some tokens. `seen`: of the keys that queries in this range may
// see. `seers`: of the queries that may see keys in this range. `apart`: whether two ranges do not overlap. Without a
// mask every token is in region 0.
fn region(i: u32) -> u32 {
    if p.mask == 0u { return 0u; }
    return regions[i];
}
fn bounds(first: u32, count: u32) -> vec2<u32> {
    if p.mask == 0u { return vec2(0u); }
    var r = vec2(FAR, 0u);
    let end = min(first + count, p.lq);
    for (var n = first / 8u; n * 8u < end; n++) {
        r = vec2(min(r.x, regions[p.lq + 2u * n]), max(r.y, regions[p.lq + 2u * n + 1u]));
    }
    return r;
}
fn seen(queries: vec2<u32>) -> vec2<u32> { return vec2(select(0u, queries.x, p.mask == 2u), queries.y); }
fn seers(keys: vec2<u32>) -> vec2<u32> { return vec2(keys.x, select(FAR, keys.y, p.mask == 2u)); }
fn apart(a: vec2<u32>, b: vec2<u32>) -> bool { return a.y < b.x || b.y < a.x; }
