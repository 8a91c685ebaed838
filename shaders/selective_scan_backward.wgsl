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
//   kernels   scan writes `gradients`. sum_parts adds up the parts in it in a fixed order: dB and dC, the gradient of
//             channel_params, or both. gate writes the z half of dxz and zeroes the x half; in a Mamba mixer
//             conv1d.wgsl does this instead. All overwrite their results. Padding and absent parts of dchannel_params
//             are 0. clear = 1: sum_parts also zeroes columns 0..R of dxdbl, which belong to the backward of dt_proj.
//   reads     what forward saved: its inputs, out, and `states`, which is h at the ends of chunks
//   threads   scan: a lane holds four states (a quad) of a channel. A group of LQ lanes holds all states of its
//             channel, and a workgroup has CHANNELS groups.
//             Chunks are walked in reverse. First h_t of the chunk's T tokens is computed again, from the state before
//             the chunk, and kept; then the chunk is walked backward with λ in registers. δ, u, gy and the slope of
//             softplus are computed once for each token and channel, as many tokens at a time as 8 KiB of workgroup
//             memory hold (W).
//             For each token a lane sums over its four states, for du and ddelta. `put` and `flush` sum over lanes: in
//             workgroup memory (lib/scan_sums) or by shuffles (lib/scan_sums_subgroup). Lanes past E or N and steps
//             past L hold zeros, which add nothing. Barriers: two per J tokens, and two per W tokens of h.
//             The steps are written out, because an array stays in registers only where every index is a constant: h of
//             a chunk takes 4·T.
//   HALF      1: u, delta, xz, out, dout, dxz, states, and du and ddelta in `gradients` are f16; E is even. Arithmetic,
//             sums and dxdbl stay f32.
//   GRID      1: four directions over a grid, as in selective_scan.wgsl: S = 4, 1/S is left out of gy, u is (B, L, E),
//             and xdbl and dxdbl are (B, L, 4, R+2N). du stays (4, B, L, E), for its reader to sum.
//   floor     per (s, b, t, e): 16 bytes, plus 8/S for z and dout, half of both with HALF; 2N exponentials. gate: 16
//             bytes per (b, t, e).
//   tried     registers (spills, bytes of local memory, waves) of a lane with N = 16, benches/static: four channels in
//             a 4×4 matrix each state, indices of h not constant: RDNA3 256 (434, 40704, 4), NVK Ampere 152 (0, 1024,
//             12); one channel, as here: RDNA3 120 (0, 0, 10), NVK Ampere 120 (0, 0, 16), 60 instructions a state on
//             both
//             NVIDIA H200 (benches/runs/2026-11-28-nvidia-h200), 24 launches of a step of base (batch 128, L 98): four
//             channels a lane 50.4 ms, with HALF 46.6; one channel, in a kernel that was not this one, 41.0 and 47.4;
//             mamba_ssm 5.13 a launch
//             Not tried: two channels a lane; one channel with all states per lane and shuffles, which needs 31
//             shuffles per token.
//   const N: states, 1 to 64;  const T: tokens of a chunk, 16 or 8;  const WG: lanes of a workgroup
//   const J: tokens of a batch, 1, 2 or 4;  const HALF;  const GRID
//   const LANES (only with shuffles): number of neighboring lanes that are sure to share a subgroup, 2·LQ to 64
// uses lib/grid, lib/math, lib/half, lib/element, lib/gate, lib/scan_sums or lib/scan_sums_subgroup
struct Params {
    s: u32, b: u32, l: u32, e: u32, r: u32, chunks: u32, d_at: u32, bias_at: u32, channel_params_len: u32,
    softplus: u32, has_d: u32, has_bias: u32, has_z: u32, clear: u32,
    ddelta_at: u32, bc_at: u32, dchannel_params_at: u32, tiles: u32, height: u32, width: u32, bc_groups: u32,
    z_at: u32,                                              // column of z in xz: E, or 0
}
const NQ = (N + 3u) / 4u;                               // quads of states
const SQ = (NQ + HALF) / (1u + HALF);                   // vec4s of states in `saved`: a quad of f32 or two of f16
const LQ = 1u << (32u - countLeadingZeros(NQ - 1u));    // lanes of a group: NQ, or the next power of two
const CHANNELS = WG / LQ;                               // channels, and groups, of a workgroup
const W = min(T, 512u / CHANNELS);                      // tokens that are staged at a time, at least 4
const LOG2E = 1.4426950408889634;
const PAIRS = 1u + GRID;                                // as in selective_scan.wgsl
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
@group(0) @binding(14) var<storage, read> parts: array<f32>;        // `gradients` from bc_at on, as sum_parts reads it
@group(0) @binding(15) var<storage, read_write> dxdbl: array<f32>;
@group(0) @binding(16) var<storage, read_write> dchannel_params: array<f32>;
@group(0) @binding(17) var<storage, read_write> dxz: array<u32>;

var<workgroup> sh_bc: array<vec4<f32>, T * 2u * LQ>;    // (T, B|C, LQ), in the order of steps
var<workgroup> sh_x: array<vec4<f32>, W * CHANNELS>;    // (δ, u, gy, slope) of (W, CHANNELS), in the order of steps

// A chunk of `count` tokens of direction d and one sample, from place `first` of the direction's order on. `row` is the
// row of the sample's token 0 in arrays (S·B·L, ..), and `out_row` in arrays (B·L, ..); `up` is whether steps ascend.
struct Chunk { row: u32, out_row: u32, first: u32, count: u32, d: u32, up: bool }
// A lane: its group, its quad of states, its channel, and the index of the workgroup's channels. `mine` is the channel
// whose tokens the lane stages, and `bias` its bias.
struct Lane { tid: u32, group: u32, q: u32, e: u32, tile: u32, mine: u32, bias: f32 }
// What a lane holds. `past` is h before each step of a chunk, h_{t−1}; every index of it is a constant.
var<private> a: vec4<f32>;
var<private> h: vec4<f32>;
var<private> past: array<vec4<f32>, T>;
var<private> carry: vec4<f32>;                          // ā·λ of the step after
var<private> da: vec4<f32>;                             // Σ λ·δ·p
var<private> d: f32;                                    // D in the first quad, 0 in the others: D·gy is added once
var<private> dd: f32;                                   // Σ gy·u
var<private> dbias: f32;                                // Σ ddelta

// The token of step j of a chunk.
fn token(j: u32, chunk: Chunk) -> u32 {
    let place = chunk.first + select(chunk.count - 1u - j, j, chunk.up);
    if GRID == 1u && chunk.d % PAIRS == 1u { return place % p.height * p.width + place / p.height; }
    return place;
}
fn bc_quad(chunk: Chunk, t: u32, which: u32, q: u32) -> vec4<f32> {
    var v = vec4(0.0);
    let row = select(chunk.row + t, (chunk.out_row + t) * p.s + chunk.d, GRID == 1u);
    let at = row * (p.r + 2u * N) + p.r + which * N + q * 4u;
    for (var k = 0u; k < 4u; k++) {
        if q * 4u + k < N { v[k] = xdbl[at + k]; }
    }
    return v;
}
// A of a quad times log2(e), so that ā = exp2(δ·a).
fn a_quad(s: u32, e: u32, q: u32) -> vec4<f32> {
    var v = vec4(0.0);
    for (var k = 0u; k < 4u; k++) {
        let n = q * 4u + k;
        if n < N && e < p.e { v[k] = -LOG2E * exp(clamp(channel_params[(s * p.e + e) * N + n], -80.0, 80.0)); }
    }
    return v;
}
fn decay_of(delta: f32, a: vec4<f32>) -> vec4<f32> {
    return exp2(max(delta * a, vec4(-115.0)));
}
fn state_quad(at: u32, e: u32, q: u32) -> vec4<f32> {
    if q >= NQ || e >= p.e { return vec4(0.0); }
    return element4(saved[(at * SQ + q / (1u + HALF)) * p.e + e], q, HALF);
}
fn channel_param(on: u32, at: u32, e: u32) -> f32 {
    if on == 0u || e >= p.e { return 0.0; }
    return channel_params[at + e];
}

// Stages steps j0..j0+W of a chunk. A step past the end has δ = u = gy = 0 and so changes nothing; so has a channel
// past E. `forward` is whether δ and u are enough.
fn stage(chunk: Chunk, j0: u32, lane: Lane, forward: bool) {
    let e = lane.mine;
    for (var k = lane.tid; k < W * CHANNELS; k += WG) {
        let j = j0 + k / CHANNELS;
        var x = vec4(0.0);
        if j < chunk.count && e < p.e {
            let t = token(j, chunk);
            let i = (chunk.row + t) * p.e + e;
            let o = (chunk.out_row + t) * p.e + e;
            let ui = select(i, o, GRID == 1u);
            let raw = element(delta[i >> HALF], i, HALF) + lane.bias;
            x = vec4(raw, element(u[ui >> HALF], ui, HALF), 0.0, 1.0);
            if p.softplus == 1u { x.x = softplus(raw); }
            if !forward {
                x.z = element(dout[o >> HALF], o, HALF) / select(f32(p.s), 1.0, GRID == 1u);
                if p.has_z == 1u {
                    let z = o + (chunk.out_row + t) * p.e + p.z_at;
                    x.z *= gate_of(element(xz[z >> HALF], z, HALF));
                }
                if p.softplus == 1u { x.w = softplus_slope(raw); }
            }
        }
        sh_x[k] = x;
    }
}

// These store into `gradients`. write_pair: du (which = 0) or ddelta (1) of a token and two channels, e and e + 1; in
// f32 only the first. write_state: dB (0) or dC (1) of a state, summed over this workgroup's channels.
// write_channel_param: the gradient of D or delta_bias.
fn write_pair(which: u32, row: u32, e: u32, v: vec2<f32>) {
    if e >= p.e { return; }
    let i = row * p.e + e;
    if HALF == 1u {
        gradients[which * p.ddelta_at + (i >> 1u)] = pair(v);
        return;
    }
    gradients[which * p.ddelta_at + i] = bitcast<u32>(v.x);
}
fn write_state(which: u32, row: u32, tile: u32, n: u32, v: f32) {
    gradients[p.bc_at + ((row * p.tiles + tile) * 2u + which) * N + n] = bitcast<u32>(v);
}
fn write_channel_param(at: u32, e: u32, v: f32) {
    if e < p.e { gradients[at + e] = bitcast<u32>(v); }
}

// Step j forward.
fn advance(j: u32, lane: Lane) {
    let bq = sh_bc[j * 2u * LQ + lane.q];
    let x = sh_x[j % W * CHANNELS + lane.group];
    past[j] = h;
    if N == 1u {
        h.x = exp2(max(x.x * a.x, -115.0)) * h.x + (x.x * x.y) * bq.x;
        return;
    }
    h = decay_of(x.x, a) * h + (x.x * x.y) * bq;
}
// What a step backward adds to dB and dC, and du and ddelta of its channel before the sum over the quads.
struct Back { db: vec4<f32>, dc: vec4<f32>, du: f32, ddelta: f32 }
// The same for one state, N = 1.
fn back_state(x: vec4<f32>, j: u32, bq: f32, cq: f32) -> Back {
    let decay = exp2(max(x.x * a.x, -115.0));
    let before = decay * past[j].x;
    let lambda = x.z * cq + carry.x;
    let lambda_p = lambda * before;
    let ddelta = (x.y * lambda * bq + a.x * lambda_p / LOG2E) * x.w;
    let in = x.x * x.y;
    carry.x = decay * lambda;
    da.x += x.x * lambda_p;
    let db = vec4(in * lambda, 0.0, 0.0, 0.0);
    return Back(db, vec4(x.z * (before + in * bq), 0.0, 0.0, 0.0), d * x.z + x.x * lambda * bq, ddelta);
}
fn back_quad(x: vec4<f32>, j: u32, bq: vec4<f32>, cq: vec4<f32>) -> Back {
    let decay = decay_of(x.x, a);
    let before = decay * past[j];                       // p; the header says why as a product
    let lambda = x.z * cq + carry;
    let lambda_p = lambda * before;
    let lambda_b = dot(lambda, bq);
    let ddelta = (x.y * lambda_b + dot(a, lambda_p) / LOG2E) * x.w;
    let in = x.x * x.y;
    carry = decay * lambda;
    da += x.x * lambda_p;
    return Back(in * lambda, x.z * (before + in * bq), d * x.z + x.x * lambda_b, ddelta);
}
// Step j backward. `k` is its place in the batch, whose contributions wait for `flush`.
fn retreat(chunk: Chunk, j: u32, k: u32, lane: Lane) {
    let bq = sh_bc[j * 2u * LQ + lane.q];
    let cq = sh_bc[j * 2u * LQ + LQ + lane.q];
    let x = sh_x[j % W * CHANNELS + lane.group];
    var back: Back;
    if N == 1u { back = back_state(x, j, bq.x, cq.x); } else { back = back_quad(x, j, bq, cq); }
    dd += x.z * x.y;
    dbias += back.ddelta;
    put(chunk, j, k, lane, back);
}
// Steps j..j+4 forward.
fn advance4(chunk: Chunk, j: u32, lane: Lane) {
    if j >= chunk.count { return; }
    if W < T && j % W == 0u {
        if j > 0u { workgroupBarrier(); }
        stage(chunk, j, lane, true);
        workgroupBarrier();
    }
    advance(j, lane);
    advance(j + 1u, lane);
    advance(j + 2u, lane);
    advance(j + 3u, lane);
}
// Steps j+3 down to j backward, in batches of J, which is 4, 2 or 1.
fn retreat4(chunk: Chunk, j: u32, lane: Lane) {
    if j >= chunk.count { return; }
    let first = j + 4u >= chunk.count;
    if W < T && (first || (j + 4u) % W == 0u) {
        if first { workgroupBarrier(); }    // `advance4` has read sh_x; before the others, `flush` has a barrier
        stage(chunk, j / W * W, lane, false);
    }
    workgroupBarrier();
    retreat(chunk, j + 3u, 3u % J, lane);
    if J == 1u { flush_and_wait(chunk, j + 3u, lane); }
    retreat(chunk, j + 2u, 2u % J, lane);
    if J <= 2u { flush_and_wait(chunk, j + 2u, lane); }
    retreat(chunk, j + 1u, 1u % J, lane);
    if J == 1u { flush_and_wait(chunk, j + 1u, lane); }
    retreat(chunk, j, 0u, lane);
    flush(chunk, j, lane);
}
fn flush_and_wait(chunk: Chunk, j: u32, lane: Lane) {
    flush(chunk, j, lane);
    workgroupBarrier();
}

@compute @workgroup_size(WG)
fn scan(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let b = wid.y;
    let s = wid.z;
    let seq = s * p.b + b;
    let up = s < PAIRS;
    let group = place(tid).x;
    let q = place(tid).y;
    let e = wid.x * CHANNELS + group;
    let mine = wid.x * CHANNELS + tid % CHANNELS;
    let lane = Lane(tid, group, q, e, wid.x, mine, channel_param(p.has_bias, p.bias_at + s * p.e, mine));
    a = a_quad(s, e, q);
    if q == 0u { d = channel_param(p.has_d, p.d_at + s * p.e, e); }
    for (var i = 0u; i < p.chunks; i++) {
        let c = select(i, p.chunks - 1u - i, up);
        let chunk = Chunk(seq * p.l, b * p.l, c * T, min(T, p.l - c * T), s, up);
        h = vec4(0.0);
        if i + 1u < p.chunks { h = state_quad(seq * p.chunks + select(c + 1u, c - 1u, up), e, q); }
        for (var k = tid; k < T * 2u * LQ; k += WG) {
            let t = token(min(k / (2u * LQ), chunk.count - 1u), chunk);
            sh_bc[k] = bc_quad(chunk, t, k / LQ % 2u, k % LQ);
        }
        if W == T {
            stage(chunk, 0u, lane, false);
            workgroupBarrier();
        }
        advance4(chunk, 0u, lane);
        advance4(chunk, 4u, lane);
        if T == 16u {
            advance4(chunk, T - 8u, lane);
            advance4(chunk, T - 4u, lane);
            retreat4(chunk, T - 4u, lane);
            retreat4(chunk, T - 8u, lane);
        }
        retreat4(chunk, 4u, lane);
        retreat4(chunk, 0u, lane);
    }
    let at = p.dchannel_params_at + b * p.channel_params_len;
    let grad = da * a / LOG2E;
    for (var k = 0u; k < 4u; k++) {
        let n = q * 4u + k;
        if n < N && e < p.e { gradients[at + (s * p.e + e) * N + n] = bitcast<u32>(grad[k]); }
    }
    let bias_sum = over_quads(lane, dbias);
    if q == 0u {
        write_channel_param(at + p.d_at + s * p.e, e, select(0.0, dd, p.has_d == 1u));
        write_channel_param(at + p.bias_at + s * p.e, e, select(0.0, bias_sum, p.has_bias == 1u));
    }
}

// Sums dB and dC over tiles. A workgroup has ROWS rows of xdbl, each lane a column of one. There is no division by a
// number that is no constant: it takes a CPU more time than all else here.
const ROWS = 256u / (2u * N);
fn sum_bc(group: u32, tid: u32) {
    let row = group * ROWS + tid / (2u * N);
    let n = tid % (2u * N);
    if tid >= ROWS * 2u * N || row >= p.s * p.b * p.l { return; }
    let at = row * (p.r + 2u * N);
    if p.clear == 1u {
        for (var k = n; k < p.r; k += 2u * N) { dxdbl[at + k] = 0.0; }
    }
    var part = row;                         // row of the parts
    if GRID == 1u { part = row % 4u * p.b * p.l + row / 4u; }
    var v = 0.0;
    for (var tile = 0u; tile < p.tiles; tile++) { v += parts[(part * p.tiles + tile) * 2u * N + n]; }
    dxdbl[at + p.r + n] = v;
}

// The first bc_groups workgroups sum dB and dC. The others sum the gradient of channel_params over b in a fixed order:
// a workgroup takes 32 elements and 8 interleaved groups of samples.
var<workgroup> sh_sum: array<f32, 256>;
@compute @workgroup_size(256)
fn sum_parts(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let group = grid_row(wid);
    if group < p.bc_groups {
        sum_bc(group, tid);
        return;
    }
    let i = (group - p.bc_groups) * 32u + tid % 32u;
    let part = select(select(0u, p.d_at, i >= p.d_at), p.bias_at, i >= p.bias_at);
    let pad = i - part >= p.s * p.e * select(1u, N, part == 0u);    // padding, where scan wrote nothing
    let base = p.dchannel_params_at - p.bc_at;                      // parts begins at bc_at
    var v = 0.0;
    if !pad {
        for (var b = tid / 32u; b < p.b; b += 8u) { v += parts[base + b * p.channel_params_len + i]; }
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
    let z_at = row * 2u * p.e + p.z_at + i % p.e;
    let x_at = row * 2u * p.e + p.e - p.z_at + i % p.e;
    if HALF == 1u {
        let z = unpack2x16float(xz[z_at >> 1u]);
        let slope = vec2(gate_slope(z.x), gate_slope(z.y));
        dxz[z_at >> 1u] = pair(unpack2x16float(dout[i >> 1u]) * unpack2x16float(out[i >> 1u]) * slope);
        dxz[x_at >> 1u] = 0u;
        return;
    }
    dxz[z_at] = bitcast<u32>(bitcast<f32>(dout[i]) * bitcast<f32>(out[i]) * gate_slope(bitcast<f32>(xz[z_at])));
    dxz[x_at] = 0u;
}
