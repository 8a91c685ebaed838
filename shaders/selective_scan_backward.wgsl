// selective_scan_backward — gradients of selective_scan (the backward of mamba_ssm's selective_scan_fn). The names,
// shapes and formulae of the forward pass are in selective_scan.wgsl.
//   shapes    du, ddelta (S, B, L, E)   dxdbl, dchannel_params, dxz like xdbl, channel_params, xz   dout (B, L, E)
//             gradients, one buffer because WebGPU allows only eight bindings: du | ddelta | sums of dB and dC over the
//             channels of a workgroup (S, B, L, tiles, 2N) | the gradient of channel_params for each b
//   backward  gy = dout·SiLU(z)/S,  λ_t = gy·C + (ā·λ) of the step after t,  p = ā·h_{t−1}
//             du = D·gy + δ·Σ_n λ·B    ddelta = (u·Σ_n λ·B + Σ_n λ·A·p)·softplus'
//             dB = Σ_e λ·δ·u    dC = Σ_e gy·h    dA_log = A·Σ_bt λ·δ·p    dD = Σ_bt gy·u    ddelta_bias = Σ_bt ddelta
//             dz = dout·(Σ_s y/S)·SiLU'(z) = dout·out·SiLU'(z)/SiLU(z) = dout·out·(1/z + 1 − σ(z));  z = 0: lib/gate
//             p = h_t − δ·u·B would save the product but has larger rounding errors: on an H200 dA_log then had a
//             relative error of 2e-5.
//   kernels   scan writes `gradients`. sum_bc and sum_channel_params add up the parts in it in a fixed order. gate
//             writes the z half of dxz and zeroes the x half; in a Mamba mixer conv1d.wgsl does this instead. All
//             overwrite their results. Padding and absent parts of dchannel_params are 0. clear = 1: sum_bc also zeroes
//             columns 0..R of dxdbl, which belong to the backward of dt_proj.
//   reads     what forward saved: its inputs, out, and `states`, which is h at the ends of chunks
//   threads   scan: a lane holds four channels × four states (a quad) as a mat4x4 whose columns are states. A group of
//             LQ lanes holds all states of four channels. A workgroup has GROUPS groups, and so 4·GROUPS channels.
//             Group g has channels g + GROUPS·(0..3), so that neighboring lanes load neighboring channels. (HALF: 2g,
//             2g+1, 2·GROUPS + 2g and 2·GROUPS + 2g+1.)
//             Chunks are walked in reverse. First h_t of the chunk's T tokens is computed again, from the state before
//             the chunk, and kept; then the chunk is walked backward with λ in registers. For each token
//             and channel one lane computes δ, u, gy and the slope of softplus, and LQ lanes read them from workgroup
//             memory, J tokens at a time.
//             For each token a lane sums over its four channels, for a quad of dB and of dC, and over its four states,
//             for du and ddelta of its channels. `put` and `flush` sum over lanes: in workgroup memory (lib/scan_sums)
//             or by shuffles (lib/scan_sums_subgroup).
//             Barriers: two per J tokens, two per JH tokens of h, one per chunk. Lanes past E or N hold zeros, which
//             add nothing.
//             Counted for 32 lanes, N = 16 and a token of 32 channels: 13 shuffles, 9 loads of 16 bytes from workgroup
//             memory, and 13 barriers per 16 tokens.
//   HALF      1: u, delta, xz, out, dout, dxz, states, and du and ddelta in `gradients` are f16; E is even. Arithmetic,
//             sums and dxdbl stay f32.
//   floor     per (s, b, t, e): 16 bytes, plus 8/S for z and dout, half of both with HALF; 2N exponentials. gate: 16
//             bytes per (b, t, e).
//   tried     ms of 24 scans, B 1, L 98, E 384, N 16; llvmpipe, 2 cores, Mesa 22.3.6, which says little about a GPU:
//             one channel with all states per lane, dB and dC in workgroup memory: 278, portable 273 to 320; dropped
//             four channels × four states per lane, sums by shuffles, LANES 8, J 4: 238; kept
//             the same, sums in workgroup memory, J 2: 303, with J 1 a third more; kept for half the traffic and
//             barriers
//             the last with HALF: 0.9 of its time; kept for its smaller memory
//             NVIDIA H200 (benches/runs/2026-11-28-nvidia-h200): the kept one takes 13.2 ms for the 24 launches of a
//             step of tiny (batch 128, L 98), 50.4 of base, with HALF 46.6; base 2.29 ms a launch (mamba_ssm 5.13). One
//             channel × four states per lane: base 41.0, with HALF 47.4. Not merged yet: its portable variant lacked p
//             = ā·h_{t−1} and failed three tests.
//             Not tried: one channel with all states per lane and shuffles, which needs 31 shuffles per token.
//   const N: states, 1 to 64;  const T: tokens of a chunk;  const J: tokens of a batch;  const HALF
//   const LANES (only with shuffles): number of neighboring lanes that are sure to share a subgroup, up to 64
// uses lib/grid, lib/math, lib/half, lib/element, lib/gate, lib/scan_sums or lib/scan_sums_subgroup
struct Params {
    s: u32, b: u32, l: u32, e: u32, r: u32, chunks: u32, d_at: u32, bias_at: u32, channel_params_len: u32,
    softplus: u32, has_d: u32, has_bias: u32, has_z: u32, clear: u32,
    ddelta_at: u32, bc_at: u32, dchannel_params_at: u32, tiles: u32,
}
const WG = 64u;
const NQ = (N + 3u) / 4u;                               // quads of states
const SQ = (NQ + HALF) / (1u + HALF);                   // vec4s of states in `saved`: a quad of f32 or two of f16
const LQ = 1u << (32u - countLeadingZeros(NQ - 1u));    // lanes of a group: NQ, or the next power of two
const GROUPS = WG / LQ;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> u: array<u32>;
@group(0) @binding(2) var<storage, read> delta: array<u32>;
@group(0) @binding(3) var<storage, read> xdbl: array<f32>;
@group(0) @binding(4) var<storage, read> channel_params: array<f32>;
@group(0) @binding(5) var<storage, read> xz: array<u32>;
@group(0) @binding(7) var<storage, read> saved: array<vec4<u32>>;   // states
@group(0) @binding(8) var<storage, read> out: array<u32>;
@group(0) @binding(12) var<storage, read> dout: array<u32>;
@group(0) @binding(13) var<storage, read_write> gradients: array<u32>;
@group(0) @binding(14) var<storage, read> parts: array<f32>;        // a range of `gradients`, as the sums read it
@group(0) @binding(15) var<storage, read_write> dxdbl: array<f32>;
@group(0) @binding(16) var<storage, read_write> dchannel_params: array<f32>;
@group(0) @binding(17) var<storage, read_write> dxz: array<u32>;

var<workgroup> sh_bc: array<vec4<f32>, T * 2u * LQ>;        // (T, B|C, LQ), image order
var<workgroup> sh_x: array<vec4<f32>, SPAN>;                // (δ|u|gy|slope, J, GROUPS); for h (δ|u, JH, GROUPS)

// Steps j0..j0+steps of a chunk of `count` tokens, of one direction and sample. `row` is the row of the chunk's first
// token in arrays (S·B·L, ..); `up` is whether steps ascend in t; `tile` is the index of the workgroup's channels.
struct Batch { row: u32, count: u32, up: bool, tile: u32, j0: u32, steps: u32 }

// The token of step j of `count` steps, in ascending (up) or descending order.
fn token(j: u32, count: u32, up: bool) -> u32 {
    return select(count - 1u - j, j, up);
}
// The four channels of a group.
fn channels(tile: u32, group: u32) -> vec4<u32> {
    if HALF == 1u { return tile * 4u * GROUPS + 2u * group + vec4(0u, 1u, 2u * GROUPS, 2u * GROUPS + 1u); }
    return tile * 4u * GROUPS + group + vec4(0u, 1u, 2u, 3u) * GROUPS;
}
fn bc_quad(row: u32, which: u32, q: u32) -> vec4<f32> {
    var v = vec4(0.0);
    let at = row * (p.r + 2u * N) + p.r + which * N + q * 4u;
    for (var k = 0u; k < 4u; k++) {
        if q * 4u + k < N { v[k] = xdbl[at + k]; }
    }
    return v;
}
fn a_quad(s: u32, e: u32, q: u32) -> vec4<f32> {
    var v = vec4(0.0);
    for (var k = 0u; k < 4u; k++) {
        let n = q * 4u + k;
        if n < N && e < p.e { v[k] = -exp(clamp(channel_params[(s * p.e + e) * N + n], -80.0, 80.0)); }
    }
    return v;
}
fn state_quad(at: u32, e: u32, q: u32) -> vec4<f32> {
    if q >= NQ || e >= p.e { return vec4(0.0); }
    let v = saved[(at * SQ + q / (1u + HALF)) * p.e + e];
    return element4(v, q, HALF);
}
fn channel_param(on: u32, at: u32, e: u32) -> f32 {
    if on == 0u || e >= p.e { return 0.0; }
    return channel_params[at + e];
}
fn channel_param4(on: u32, at: u32, e: vec4<u32>) -> vec4<f32> {
    return vec4(
        channel_param(on, at, e.x), channel_param(on, at, e.y), channel_param(on, at, e.z), channel_param(on, at, e.w),
    );
}
// Indices of four channels of the row that starts at `row`. For channels past E the index is of another channel, and
// the caller replaces the value by 0.
fn at4(row: u32, e: vec4<u32>) -> vec4<u32> {
    return row + min(e, vec4(p.e - 1u - HALF));
}
fn u4(row: u32, e: vec4<u32>) -> vec4<f32> {
    let i = at4(row, e);
    if HALF == 1u { return floats(vec2(u[i.x >> 1u], u[i.z >> 1u])); }
    return bitcast<vec4<f32>>(vec4(u[i.x], u[i.y], u[i.z], u[i.w]));
}
fn delta4(row: u32, e: vec4<u32>) -> vec4<f32> {
    let i = at4(row, e);
    if HALF == 1u { return floats(vec2(delta[i.x >> 1u], delta[i.z >> 1u])); }
    return bitcast<vec4<f32>>(vec4(delta[i.x], delta[i.y], delta[i.z], delta[i.w]));
}
fn dout4(row: u32, e: vec4<u32>) -> vec4<f32> {
    let i = at4(row, e);
    if HALF == 1u { return floats(vec2(dout[i.x >> 1u], dout[i.z >> 1u])); }
    return bitcast<vec4<f32>>(vec4(dout[i.x], dout[i.y], dout[i.z], dout[i.w]));
}
fn z4(row: u32, e: vec4<u32>) -> vec4<f32> {
    let i = at4(row, e);
    if HALF == 1u { return floats(vec2(xz[i.x >> 1u], xz[i.z >> 1u])); }
    return bitcast<vec4<f32>>(vec4(xz[i.x], xz[i.y], xz[i.z], xz[i.w]));
}

// Token: δ and u of one token and four channels. Full: also gy and the slope of softplus. All are 0 past E.
struct Token { delta: vec4<f32>, u: vec4<f32> }
struct Full { token: Token, gy: vec4<f32>, slope: vec4<f32> }
fn token_of(row: u32, e: vec4<u32>, bias: vec4<f32>) -> Token {
    let inside = e < vec4(p.e);
    var v = delta4(row * p.e, e) + bias;
    if p.softplus == 1u {
        for (var k = 0u; k < 4u; k++) { v[k] = softplus(v[k]); }
    }
    return Token(select(vec4(0.0), v, inside), select(vec4(0.0), u4(row * p.e, e), inside));
}
fn full_of(row: u32, out_row: u32, e: vec4<u32>, bias: vec4<f32>) -> Full {
    let inside = e < vec4(p.e);
    var gy = dout4(out_row * p.e, e) / f32(p.s);
    if p.has_z == 1u {
        let z = z4((out_row * 2u + 1u) * p.e, e);
        for (var k = 0u; k < 4u; k++) { gy[k] *= gate_of(z[k]); }
    }
    var slope = vec4(1.0);
    if p.softplus == 1u {
        let v = delta4(row * p.e, e) + bias;
        for (var k = 0u; k < 4u; k++) { slope[k] = softplus_slope(v[k]); }
    }
    let none = vec4(0.0);
    return Full(token_of(row, e, bias), select(none, gy, inside), select(none, slope, inside));
}

// Arithmetic on mat4x4, whose rows are channels and whose columns are states.
fn by_channel(v: vec4<f32>, m: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(v * m[0], v * m[1], v * m[2], v * m[3]);
}
fn outer(channel: vec4<f32>, state: vec4<f32>) -> mat4x4<f32> {
    return mat4x4(channel * state.x, channel * state.y, channel * state.z, channel * state.w);
}
fn times(l: mat4x4<f32>, r: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(l[0] * r[0], l[1] * r[1], l[2] * r[2], l[3] * r[3]);
}
fn decay_of(v: vec4<f32>) -> vec4<f32> {
    return exp(max(v, vec4(-80.0)));
}
// ā = exp(δ·A)
fn decays(delta: vec4<f32>, a: mat4x4<f32>) -> mat4x4<f32> {
    return mat4x4(decay_of(delta * a[0]), decay_of(delta * a[1]), decay_of(delta * a[2]), decay_of(delta * a[3]));
}

// These store into `gradients`. write_pair: du (which = 0) or ddelta (1) of a token and two channels. write_state: dB
// (0) or dC (1) of a state, summed over this workgroup's channels. write_a: the gradient of A_log. write_channel_param:
// that of D or delta_bias.
fn write_pair(which: u32, row: u32, e: vec2<u32>, v: vec2<f32>) {
    let at = row * p.e;
    if HALF == 1u {
        if e.x < p.e { gradients[which * p.ddelta_at + ((at + e.x) >> 1u)] = pair(v); }
        return;
    }
    if e.x < p.e { gradients[which * p.ddelta_at + at + e.x] = bitcast<u32>(v.x); }
    if e.y < p.e { gradients[which * p.ddelta_at + at + e.y] = bitcast<u32>(v.y); }
}
fn write_state(which: u32, row: u32, tile: u32, n: u32, v: f32) {
    gradients[p.bc_at + ((row * p.tiles + tile) * 2u + which) * N + n] = bitcast<u32>(v);
}
fn write_a(at: u32, q: u32, e: u32, v: vec4<f32>) {
    for (var k = 0u; k < 4u; k++) {
        if q * 4u + k < N && e < p.e { gradients[at + e * N + q * 4u + k] = bitcast<u32>(v[k]); }
    }
}
fn write_channel_param(at: u32, e: u32, v: f32) {
    if e < p.e { gradients[at + e] = bitcast<u32>(v); }
}

@compute @workgroup_size(WG)
fn scan(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let b = wid.y;
    let s = wid.z;
    let seq = s * p.b + b;
    let up = s == 0u;
    let group = place(tid).x;
    let q = place(tid).y;
    let e = channels(wid.x, group);
    let a = transpose(mat4x4(a_quad(s, e.x, q), a_quad(s, e.y, q), a_quad(s, e.z, q), a_quad(s, e.w, q)));
    var carry = mat4x4<f32>();              // ā·λ of the step after
    var da = mat4x4<f32>();                 // Σ λ·δ·p
    var past: array<mat4x4<f32>, T>;        // h before each token of the chunk, h_{t−1}
    var d = vec4(0.0);                      // D in the first quad, 0 in the others, so that D·gy is added once
    if q == 0u { d = channel_param4(p.has_d, p.d_at + s * p.e, e); }
    var dd = vec4(0.0);
    var dbias = vec4(0.0);
    let mine = channels(wid.x, tid % GROUPS);    // the channels whose tokens this lane stages
    let bias = channel_param4(p.has_bias, p.bias_at + s * p.e, mine);
    for (var i = 0u; i < p.chunks; i++) {
        let c = select(i, p.chunks - 1u - i, up);
        let row = seq * p.l + c * T;
        let out_row = b * p.l + c * T;
        let count = min(T, p.l - c * T);
        var h = mat4x4<f32>();
        if i + 1u < p.chunks {
            let at = seq * p.chunks + select(c + 1u, c - 1u, up);
            h = transpose(mat4x4(
                state_quad(at, e.x, q), state_quad(at, e.y, q), state_quad(at, e.z, q), state_quad(at, e.w, q),
            ));
        }
        for (var j0 = 0u; j0 < count; j0 += JH) {
            let steps = min(JH, count - j0);
            workgroupBarrier();
            if j0 == 0u {
                for (var k = tid; k < count * 2u * LQ; k += WG) {
                    sh_bc[k] = bc_quad(row + k / (2u * LQ), k / LQ % 2u, k % LQ);
                }
            }
            for (var k = tid; k < steps * GROUPS; k += WG) {
                let x = token_of(row + token(j0 + k / GROUPS, count, up), mine, bias);
                sh_x[k] = x.delta;
                sh_x[JH * GROUPS + k] = x.u;
            }
            workgroupBarrier();
            for (var j = 0u; j < steps; j++) {
                let k = token(j0 + j, count, up);
                let delta = sh_x[j * GROUPS + group];
                let u = sh_x[(JH + j) * GROUPS + group];
                past[k] = h;
                h = times(decays(delta, a), h) + outer(delta * u, sh_bc[k * 2u * LQ + q]);
            }
        }
        var batch = Batch(row, count, !up, wid.x, 0u, 0u);
        for (var j0 = 0u; j0 < count; j0 += J) {
            workgroupBarrier();
            if j0 > 0u { flush(batch, tid); }
            batch.j0 = j0;
            batch.steps = min(J, count - j0);
            for (var k = tid; k < batch.steps * GROUPS; k += WG) {
                let t = token(j0 + k / GROUPS, count, !up);
                let x = full_of(row + t, out_row + t, mine, bias);
                sh_x[k] = x.token.delta;
                sh_x[J * GROUPS + k] = x.token.u;
                sh_x[2u * J * GROUPS + k] = x.gy;
                sh_x[3u * J * GROUPS + k] = x.slope;
            }
            workgroupBarrier();
            for (var j = 0u; j < batch.steps; j++) {
                let k = token(j0 + j, count, !up);
                let delta = sh_x[j * GROUPS + group];
                let u = sh_x[(J + j) * GROUPS + group];
                let gy = sh_x[(2u * J + j) * GROUPS + group];
                let slope = sh_x[(3u * J + j) * GROUPS + group];
                let bq = sh_bc[k * 2u * LQ + q];
                let decay = decays(delta, a);
                let before = times(decay, past[k]);                         // p; the header says why as a product
                let h = before + outer(delta * u, bq);
                let lambda = outer(gy, sh_bc[k * 2u * LQ + LQ + q]) + carry;
                let lambda_p = times(lambda, before);
                let lambda_ap = a[0] * lambda_p[0] + a[1] * lambda_p[1] + a[2] * lambda_p[2] + a[3] * lambda_p[3];
                let lambda_b = lambda * bq;
                da += by_channel(delta, lambda_p);
                carry = times(decay, lambda);
                let ddelta = (u * lambda_b + lambda_ap) * slope;
                dd += gy * u;
                dbias += ddelta;
                put(batch, j, tid, Sums(d * gy + delta * lambda_b, ddelta, (delta * u) * lambda, gy * h));
            }
        }
        workgroupBarrier();
        flush(batch, tid);
    }
    let at = p.dchannel_params_at + b * p.channel_params_len;
    let grad = transpose(times(da, a));
    dbias = over_quads(tid, dbias);
    write_a(at + s * p.e * N, q, e.x, grad[0]);
    write_a(at + s * p.e * N, q, e.y, grad[1]);
    write_a(at + s * p.e * N, q, e.z, grad[2]);
    write_a(at + s * p.e * N, q, e.w, grad[3]);
    if q > 0u { return; }
    for (var k = 0u; k < 4u; k++) {
        write_channel_param(at + p.d_at + s * p.e, e[k], select(0.0, dd[k], p.has_d == 1u));
        write_channel_param(at + p.bias_at + s * p.e, e[k], select(0.0, dbias[k], p.has_bias == 1u));
    }
}

// Sums dB and dC over tiles. One invocation per element of dxdbl.
@compute @workgroup_size(256)
fn sum_bc(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let cols = p.r + 2u * N;
    let i = grid_row(wid) * 256u + tid;
    let row = i / cols;
    if row >= p.s * p.b * p.l { return; }
    if i % cols < p.r {
        if p.clear == 1u { dxdbl[i] = 0.0; }
        return;
    }
    var v = 0.0;
    for (var tile = 0u; tile < p.tiles; tile++) { v += parts[(row * p.tiles + tile) * 2u * N + i % cols - p.r]; }
    dxdbl[i] = v;
}

// Sums the gradient of channel_params over b in a fixed order. A workgroup takes 32 elements and 8 interleaved groups
// of samples.
var<workgroup> sh_sum: array<f32, 256>;
@compute @workgroup_size(256)
fn sum_channel_params(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * 32u + tid % 32u;
    let part = select(select(0u, p.d_at, i >= p.d_at), p.bias_at, i >= p.bias_at);
    let pad = i - part >= p.s * p.e * select(1u, N, part == 0u);    // padding, where scan wrote nothing
    var v = 0.0;
    if !pad {
        for (var b = tid / 32u; b < p.b; b += 8u) { v += parts[b * p.channel_params_len + i]; }
    }
    sh_sum[tid] = v;
    workgroupBarrier();
    if tid >= 32u || i >= p.channel_params_len { return; }
    for (var k = 1u; k < 8u; k++) { v += sh_sum[tid + 32u * k]; }
    dchannel_params[i] = v;
}

// One invocation per word of the z half of dxz: one element, or two in f16.
@compute @workgroup_size(256)
fn gate(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = (grid_row(wid) * 256u + tid) * (1u + HALF);
    let row = i / p.e;
    if row >= p.b * p.l { return; }
    let x = row * 2u * p.e + i % p.e;
    if HALF == 1u {
        let z = unpack2x16float(xz[(x + p.e) >> 1u]);
        let slope = vec2(gate_slope(z.x), gate_slope(z.y));
        dxz[(x + p.e) >> 1u] = pair(unpack2x16float(dout[i >> 1u]) * unpack2x16float(out[i >> 1u]) * slope);
        dxz[x >> 1u] = 0u;
        return;
    }
    dxz[x + p.e] = bitcast<u32>(bitcast<f32>(dout[i]) * bitcast<f32>(out[i]) * gate_slope(bitcast<f32>(xz[x + p.e])));
    dxz[x] = 0u;
}
