// selective_scan — the scan of Mamba-1, in S directions over one sequence, gated and averaged.
//   u, delta (S, B, L, E), delta raw    xdbl (S, B, L, R+2N): dt | B | C    xz (B, L, 2E): x | z    out (B, L, E)
//   chan, the parameters of a channel:  A_log (S, E, N) at 0 | D (S, E) at d_at | delta_bias (S, E) at bias_at
//   δ = softplus(delta + delta_bias)    A = −exp(A_log)    ā = exp(δ·A)
//   h_t = ā·h_{t−1} + δ·u·B,  0 before the first step     y = Σ_n C·h + D·u     out = 1/S·Σ_s y·SiLU(z)
// Direction 0 steps t = 0, 1, …, L−1 and direction 1 steps t = L−1, …, 0; every array stays in image order.
// Saves, for the backward pass, the inputs and `states` (S, B, chunks, N/4, E, 4): h after the last step of each
// direction inside tokens c·T..(c+1)·T; the backward pass starts from them and computes h again. That is
// 4·N/T bytes per (s, b, t, e).
//
// N is padded to whole vec4s (quads); a padded state has A = B = C = 0 and stays 0.
// 1  sequential   A lane is a channel, its states are registers, one loop over t. Both directions share a workgroup: until
//                 they meet in the middle each writes out, from there on each adds to what the other wrote. No traffic
//                 is extra and the order of the sum is fixed. For S·B·E lanes or more than the device can fill.
// 2  chunked      Parallel prefix over L in three launches, for few or long sequences. A run of steps maps h to a·h + b,
//                 and (a1, b1) then (a2, b2) is (a1·a2, a2·b1 + b2). `chunk_scan`: the pair of each chunk, where a is
//                 exp(A·Σδ), so that only Σδ is kept. `chunk_carry`: the prefix over chunks, in place in states.
//                 `chunk_apply`: each chunk again from its true start, both directions in turn.
// B and C of T tokens at a time lie in workgroup memory. Lanes past E step nothing.
// HALF = 1: u, delta, xz and out are f16, two in a word, and E is even; so is `states` (S, B, chunks, N/8, E, 8). What is
// computed stays f32. Results wait for their neighbours in workgroup memory, T tokens at a time; the sum of two directions
// is rounded twice then.
// Floor per (b, t, e): 4·(2S+2) bytes and S·N exponentials; chunked moves and computes about twice that.
// With HALF half the bytes.
// Tried, ms at B 2, L 98, E 384, N 16 | B 1, L 592, in brackets with HALF; llvmpipe, 2 cores, Mesa 22.3.6, which says little
// about a GPU:
//   sequential 3.9 (5.0) | 14.1 (15.3)   kept, and chosen on a CPU; f16 for the bytes, it is unpacked one by one here
//   chunked    4.1 (4.3) | 12.1 (12.8)   kept: on a GPU few or short rows of lanes leave it idle otherwise. Not run on one
// uses lib/math, lib/half, lib/gate
// const S: directions, 1 or 2; const N: states, 1 to 64; const T: tokens of a chunk; const HALF
struct Params {
    b: u32, l: u32, e: u32, r: u32, chunks: u32, d_at: u32, bias_at: u32,
    softplus: u32, has_d: u32, has_bias: u32, has_z: u32, save: u32,
}
const WG = 64u;
const CH = WG / S;              // channels of a workgroup that holds every direction
const NQ = (N + 3u) / 4u;       // quads of states
const SQ = (NQ + HALF) / (1u + HALF);   // vec4s that hold them in memory
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> u: array<u32>;
@group(0) @binding(2) var<storage, read> delta: array<u32>;
@group(0) @binding(3) var<storage, read> xdbl: array<f32>;
@group(0) @binding(4) var<storage, read> chan: array<f32>;
@group(0) @binding(5) var<storage, read> xz: array<u32>;
@group(0) @binding(6) var<storage, read_write> states: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read> saved: array<vec4<u32>>;           // states, read
@group(0) @binding(8) var<storage, read_write> out: array<u32>;
@group(0) @binding(9) var<storage, read_write> total: array<f32>;           // Σδ (S, B, chunks, E)
@group(0) @binding(10) var<storage, read> totals: array<f32>;               // the same, read
@group(0) @binding(11) var<storage, read_write> last: array<f32>;           // (S, B, E, N)

var<workgroup> sh_bc: array<vec4<f32>, S * T * 2u * NQ>;   // (S, T, B|C, NQ)
var<workgroup> sh_y: array<f32, 1u + HALF * (T * WG - 1u)>;   // results on their way to out
var<private> a: array<vec4<f32>, NQ>;                      // A of this lane's channel and direction
var<private> h: array<vec4<f32>, NQ>;                      // its states

// Quad q of the row (s, b, t) of xdbl, B first, then C.
fn bc_quad(row: u32, q: u32) -> vec4<f32> {
    var v = vec4(0.0);
    let n = q % NQ * 4u;
    let at = row * (p.r + 2u * N) + p.r + q / NQ * N + n;
    for (var k = 0u; k < 4u; k++) {
        if n + k < N { v[k] = xdbl[at + k]; }
    }
    return v;
}
fn a_quad(s: u32, e: u32, q: u32) -> vec4<f32> {
    var v = vec4(0.0);
    for (var k = 0u; k < 4u; k++) {
        if q * 4u + k < N { v[k] = -exp(clamp(chan[(s * p.e + e) * N + q * 4u + k], -80.0, 80.0)); }
    }
    return v;
}
fn row_of(s: u32, b: u32, t: u32) -> u32 {
    return (s * p.b + b) * p.l + t;
}
// Where quad q of a chunk's states lies in memory, with its neighbour in f16.
fn state_at(s: u32, b: u32, c: u32, q: u32, e: u32) -> u32 {
    return (((s * p.b + b) * p.chunks + c) * SQ + q / (1u + HALF)) * p.e + e;
}
fn packed(first: vec4<f32>, second: vec4<f32>) -> vec4<u32> {
    if HALF == 1u { return vec4(halves(first), halves(second)); }
    return bitcast<vec4<u32>>(first);
}
fn quad_of(v: vec4<u32>, q: u32) -> vec4<f32> {
    if HALF == 1u { return floats(select(v.xy, v.zw, q % 2u == 1u)); }
    return bitcast<vec4<f32>>(v);
}
// Keeps h as the states of a chunk.
fn put_states(s: u32, b: u32, c: u32, e: u32) {
    for (var q = 0u; q < NQ; q += 1u + HALF) { states[state_at(s, b, c, q, e)] = packed(h[q], h[min(q + 1u, NQ - 1u)]); }
}
// Step i of direction s is at this token.
fn token(s: u32, i: u32) -> u32 {
    return select(p.l - 1u - i, i, s == 0u);
}
// Stages steps first..first+count of direction s; `lane` of `lanes` does its share.
fn stage(s: u32, b: u32, first: u32, count: u32, lane: u32, lanes: u32) {
    for (var i = lane; i < count * 2u * NQ; i += lanes) {
        let row = row_of(s, b, token(s, first + i / (2u * NQ)));
        sh_bc[s * T * 2u * NQ + i] = bc_quad(row, i % (2u * NQ));
    }
}
fn u_at(i: u32) -> f32 {
    if HALF == 1u { return unpack2x16float(u[i >> 1u])[i & 1u]; }
    return bitcast<f32>(u[i]);
}
fn delta_at(i: u32) -> f32 {
    if HALF == 1u { return unpack2x16float(delta[i >> 1u])[i & 1u]; }
    return bitcast<f32>(delta[i]);
}
fn step_size(i: u32, bias: f32) -> f32 {
    let v = delta_at(i) + bias;
    if p.softplus == 1u { return softplus(v); }
    return v;
}
// δ·A is not positive where δ is not negative: exp is safe, down to where it would be denormal.
fn decay(delta: f32, a: vec4<f32>) -> vec4<f32> {
    return exp(max(delta * a, vec4(-80.0)));
}
// One step with the j-th staged token of direction s: advances h, returns Σ_n C·h.
fn advance(s: u32, j: u32, delta: f32, u: f32) -> f32 {
    let at = (s * T + j) * 2u * NQ;
    var y = vec4(0.0);
    for (var q = 0u; q < NQ; q++) {
        h[q] = decay(delta, a[q]) * h[q] + delta * u * sh_bc[at + q];
        y += sh_bc[at + NQ + q] * h[q];
    }
    return y.x + y.y + y.z + y.w;
}
// SiLU(z)/S
fn gate(row: u32, e: u32) -> f32 {
    if p.has_z == 0u { return 1.0 / f32(S); }
    let i = (row * 2u + 1u) * p.e + e;
    if HALF == 1u { return gate_of(unpack2x16float(xz[i >> 1u])[i & 1u]) / f32(S); }
    return gate_of(bitcast<f32>(xz[i])) / f32(S);
}
fn skip(s: u32, e: u32) -> f32 {
    if p.has_d == 0u { return 0.0; }
    return chan[p.d_at + s * p.e + e];
}
fn delta_bias(s: u32, e: u32) -> f32 {
    if p.has_bias == 0u { return 0.0; }
    return chan[p.bias_at + s * p.e + e];
}

// Writes pair i of the two neighbours that wait at `at`, and adds to what is there if `more`.
fn put_pair(i: u32, at: u32, more: bool) {
    var v = vec2(sh_y[at], sh_y[HALF * (at + 1u)]);
    if more { v += unpack2x16float(out[i]); }
    out[i] = pair(v);
}

@compute @workgroup_size(WG)
fn sequential(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let b = wid.y;
    let s = tid / CH;
    let e = wid.x * CH + tid % CH;
    var d = 0.0;
    var bias = 0.0;
    if e < p.e {
        d = skip(s, e);
        bias = delta_bias(s, e);
        for (var q = 0u; q < NQ; q++) { a[q] = a_quad(s, e, q); }
    }
    // steps before the meeting; of an odd L direction 0 takes the middle token first
    let half = select((p.l + 1u - s) / 2u, p.l, S == 1u);
    let longest = select((p.l + 1u) / 2u, p.l, S == 1u);
    for (var part = 0u; part < S; part++) {
        let begin = select(half, 0u, part == 0u);
        let end = select(p.l, half, part == 0u);
        for (var i = 0u; i < longest; i += T) {
            let first = min(begin + i, end);
            let count = min(T, end - first);
            stage(s, b, first, count, tid % CH, CH);
            workgroupBarrier();
            for (var j = 0u; j < count && e < p.e; j++) {
                let t = token(s, first + j);
                let at = row_of(s, b, t) * p.e + e;
                let y = advance(s, j, step_size(at, bias), u_at(at)) + d * u_at(at);
                let o = (b * p.l + t) * p.e + e;
                let v = y * gate(b * p.l + t, e);
                if HALF == 1u {
                    sh_y[HALF * (j * WG + tid)] = v;
                } else if part == 0u {
                    out[o] = bitcast<u32>(v);
                } else {
                    out[o] = bitcast<u32>(bitcast<f32>(out[o]) + v);
                }
                let chunk_ends = select(t % T == 0u, t % T == T - 1u || t == p.l - 1u, s == 0u);
                if chunk_ends && p.save == 1u { put_states(s, b, t / T, e); }
            }
            workgroupBarrier();
            for (var k = tid % CH; k < HALF * count * CH / 2u; k += CH) {
                let j = k / (CH / 2u);
                let c = k % (CH / 2u) * 2u;
                let e = wid.x * CH + c;
                let o = (b * p.l + token(s, first + j)) * p.e + e;
                if e < p.e { put_pair(o >> 1u, j * WG + s * CH + c, part == 1u); }
            }
        }
        storageBarrier();
    }
}

@compute @workgroup_size(WG)
fn chunk_scan(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let e = wid.x * WG + tid;
    let c = wid.y;
    let s = wid.z / p.b;
    let b = wid.z % p.b;
    let count = min(T, p.l - c * T);
    let first = select(p.l - c * T - count, c * T, s == 0u);
    stage(s, b, first, count, tid, WG);
    workgroupBarrier();
    if e >= p.e { return; }
    for (var q = 0u; q < NQ; q++) { a[q] = a_quad(s, e, q); }
    let bias = delta_bias(s, e);
    var sum = 0.0;
    for (var j = 0u; j < count; j++) {
        let at = row_of(s, b, token(s, first + j)) * p.e + e;
        let delta = step_size(at, bias);
        sum += delta;
        _ = advance(s, j, delta, u_at(at));
    }
    total[((s * p.b + b) * p.chunks + c) * p.e + e] = sum;
    put_states(s, b, c, e);
}

@compute @workgroup_size(WG)
fn chunk_carry(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let e = wid.x * WG + tid;
    let q = wid.y * (1u + HALF);
    let s = wid.z / p.b;
    let b = wid.z % p.b;
    if e >= p.e { return; }
    let a0 = a_quad(s, e, q);
    let a1 = a_quad(s, e, q + 1u);
    var h0 = vec4(0.0);
    var h1 = vec4(0.0);                     // in f16 only
    for (var i = 0u; i < p.chunks; i++) {
        let c = select(p.chunks - 1u - i, i, s == 0u);
        let at = state_at(s, b, c, q, e);
        let sum = totals[((s * p.b + b) * p.chunks + c) * p.e + e];
        h0 = decay(sum, a0) * h0 + quad_of(states[at], 0u);
        if HALF == 1u { h1 = decay(sum, a1) * h1 + quad_of(states[at], 1u); }
        states[at] = packed(h0, h1);
    }
}

@compute @workgroup_size(WG)
fn chunk_apply(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let e = wid.x * WG + tid;
    let c = wid.y;
    let b = wid.z;
    let count = min(T, p.l - c * T);
    var sums: array<f32, T>;                // Σ_s y by token of the chunk
    for (var s = 0u; s < S; s++) {
        stage(s, b, select(p.l - c * T - count, c * T, s == 0u), count, tid, WG);
    }
    workgroupBarrier();
    for (var s = 0u; s < S && e < p.e; s++) {
        let bias = delta_bias(s, e);
        let d = skip(s, e);
        let starts = select(c + 1u == p.chunks, c == 0u, s == 0u);
        for (var q = 0u; q < NQ; q++) {
            a[q] = a_quad(s, e, q);
            h[q] = vec4(0.0);
            if !starts { h[q] = quad_of(saved[state_at(s, b, select(c + 1u, c - 1u, s == 0u), q, e)], q); }
        }
        for (var j = 0u; j < count; j++) {
            let k = select(count - 1u - j, j, s == 0u);
            let at = row_of(s, b, c * T + k) * p.e + e;
            sums[k] += advance(s, j, step_size(at, bias), u_at(at)) + d * u_at(at);
        }
    }
    for (var k = 0u; k < count && e < p.e; k++) {
        let row = b * p.l + c * T + k;
        let v = sums[k] * gate(row, e);
        if HALF == 1u { sh_y[HALF * (k * WG + tid)] = v; } else { out[row * p.e + e] = bitcast<u32>(v); }
    }
    if HALF == 0u { return; }
    workgroupBarrier();
    for (var i = tid; i < count * WG / 2u; i += WG) {
        let k = i / (WG / 2u);
        let at = i % (WG / 2u) * 2u;
        let e = wid.x * WG + at;
        if e < p.e { put_pair(((b * p.l + c * T + k) * p.e + e) >> 1u, k * WG + at, false); }
    }
}

// h after the last step, as (S, B, E, N).
@compute @workgroup_size(WG)
fn last_state(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let e = wid.x * WG + tid;
    let s = wid.z / p.b;
    let b = wid.z % p.b;
    if e >= p.e { return; }
    let c = select(0u, p.chunks - 1u, s == 0u);
    for (var n = 0u; n < N; n++) {
        last[(wid.z * p.e + e) * N + n] = quad_of(saved[state_at(s, b, c, n / 4u, e)], n / 4u)[n % 4u];
    }
}
