// selective_scan — the scan of Mamba-1 in S directions over one sequence, gated and averaged (mamba_ssm: the mean over
// directions of selective_scan_fn(u, delta, A, B, C, D, z, delta_bias, delta_softplus=True)).
//   shapes    u, delta (S, B, L, E), delta before softplus   xdbl (S, B, L, R+2N): dt | B | C   xz (B, L, 2E): x | z
//             out (B, L, E)   states (S, B, chunks, N/4, E, 4)   total (S, B, chunks, E)   last (S, B, E, N)
//             channel_params, one tensor:  A_log (S, E, N) at 0 | D (S, E) at d_at | delta_bias (S, E) at bias_at
//   forward   δ = softplus(delta + delta_bias)    A = −exp(A_log)    ā = exp(δ·A)
//             h_t = ā·h_{t−1} + δ·u·B,  0 before the first step     y = Σ_n C·h + D·u     out = 1/S·Σ_s y·SiLU(z)
//             Direction 0 runs over t = 0, 1, …, L−1, direction 1 over t = L−1, …, 0. All arrays stay in image order.
//   GRID      1: the tokens are a grid of p.height rows and p.width columns, which four directions walk (VMamba's
//             cross-scan): 0 by rows, 1 by columns (the t-th token is t mod height in column t/height), and 2 and 3 the
//             same from last to first. They share u (B, L, E), and xdbl is (B, L, 4, R+2N), so that one product makes
//             it. delta, states, total, last and channel_params have S = 4. out is the sum: 1/S is left out. No z.
//             Still nothing is moved: walking columns is arithmetic on t. A launch of sequential or chunk_apply does
//             the pair p.pair, rows or columns, and the columns add to what the rows wrote.
//   backward  selective_scan_backward.wgsl; for CPUs both passes are in selective_scan_whole.wgsl too
//   saves     its inputs and `states`. `states` of chunk c is h after each direction's last step within the tokens
//             c·T..(c+1)·T; it takes 4·N/T bytes per (s, b, t, e). Backward starts each chunk from there and computes h
//             again, as mamba_ssm does.
//   threads   N is padded to whole vec4s (quads). A padded state has A = B = C = 0 and stays 0.
//             1 sequential: a lane holds the states of one channel in registers and loops over t. Needs S·B·E lanes, so
//             it is for batches that fill the device. Both directions share a workgroup. Until they meet in the middle,
//             each writes its results to out; from there on, each adds to what the other wrote. So the sum takes no
//             extra buffer and no extra pass, and its order is fixed.
//             2 chunked: a parallel prefix over L in three launches, for few or long sequences. A run of steps maps h
//             to a·h + b, and (a1, b1) followed by (a2, b2) is (a1·a2, a2·b1 + b2). chunk_scan computes the pair of
//             each chunk; its a is exp(A·Σδ), so only Σδ is stored (total). chunk_carry computes the prefix over
//             chunks, in place in states. chunk_apply runs each chunk again from its true start state, one direction
//             after the other.
//             B and C are staged in workgroup memory, RUN tokens at a time: at least a chunk. Lanes past E do nothing.
//   HALF      1: u, delta, xz and out are f16, two per word, E is even, and states is f16 (S, B, chunks, N/8, E, 8).
//             Arithmetic stays f32. Results are collected in workgroup memory, RUN tokens at a time, so that two
//             neighbors are written as one word. The sum of two directions is rounded to f16 twice.
//             N = 1 takes one exponential a step, not a quad's four.
//   floor     per (b, t, e): 4·(2S+2) bytes, half with HALF, and S·N exponentials. chunked: about twice both. GRID: 36
//             bytes, of which 12 are out, once for the rows, and read and written again for the columns.
//   tried     ms, E 384, N 16, with HALF in brackets, at B 2, L 98 | B 1, L 592 on llvmpipe (2 cores, Mesa 22.3.6),
//             then at B 128, L 98 | B 1, L 592 on an NVIDIA H200 (benches/runs/2026-11-28-nvidia-h200):
//             sequential  3.9 (5.0) | 14.1 (15.3)    0.300 (0.330) | 0.686 (0.530)   kept, and chosen on a CPU
//             chunked     4.1 (4.3) | 12.1 (12.8)    0.390 (0.487) | 0.079 (0.077)   kept for batches with few lanes,
//             which would leave a GPU idle otherwise. HALF is kept because it halves the memory, though it unpacks
//             numbers one by one. On the H200 the 24 launches of a step of tiny take 6.4 ms; base, 98 × 128: 0.80 ms a
//             launch, with HALF 1.27 (mamba_ssm, both directions: 1.86).
//   const S: directions, 1 or 2, and 2 a pair with GRID;  const N: states, 1 to 64;  const T: tokens of a chunk
//   const HALF;  const GRID
// uses lib/math, lib/half, lib/element, lib/gate
struct Params {
    b: u32, l: u32, e: u32, r: u32, chunks: u32, d_at: u32, bias_at: u32,
    softplus: u32, has_d: u32, has_bias: u32, has_z: u32, save: u32, pair: u32, height: u32, width: u32,
    z_at: u32,                                  // column of z in xz: E, or 0
}
const WG = 64u;
const LOG2E = 1.4426950408889634;
const CH = WG / S;              // channels of a workgroup in `sequential`, each in every direction
const NQ = (N + 3u) / 4u;       // quads of states
const SQ = (NQ + HALF) / (1u + HALF);   // vec4s of states in memory: a quad of f32 or two of f16
const RUN = select(16u, 8u, N > 32u);   // tokens staged at a time
const PAIRS = 1u + GRID;        // direction d = s·PAIRS + pair: s = 1 runs from last to first
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> u: array<u32>;
@group(0) @binding(2) var<storage, read> delta: array<u32>;
@group(0) @binding(3) var<storage, read> xdbl: array<f32>;
@group(0) @binding(4) var<storage, read> channel_params: array<f32>;
@group(0) @binding(5) var<storage, read> xz: array<u32>;
@group(0) @binding(6) var<storage, read_write> states: array<vec4<u32>>;
@group(0) @binding(7) var<storage, read> saved: array<vec4<u32>>;           // states, as a later kernel reads them
@group(0) @binding(8) var<storage, read_write> out: array<u32>;
@group(0) @binding(9) var<storage, read_write> total: array<f32>;           // Σδ (S, B, chunks, E)
@group(0) @binding(10) var<storage, read> totals: array<f32>;               // total, as a later kernel reads it
@group(0) @binding(11) var<storage, read_write> last: array<f32>;           // (S, B, E, N)

var<workgroup> sh_bc: array<vec4<f32>, S * RUN * 2u * NQ>;   // (S, RUN, B|C, NQ)
var<workgroup> sh_y: array<f32, 1u + HALF * (RUN * WG - 1u)>;   // HALF: results, to be written in pairs
var<private> a: array<vec4<f32>, NQ>;                      // A·log2(e) of this lane's channel and direction
var<private> h: array<vec4<f32>, NQ>;                      // h of this lane's channel and direction

// Quad q of token t of xdbl. Quads 0..NQ are B, quads NQ..2·NQ are C.
fn bc_quad(d: u32, b: u32, t: u32, q: u32) -> vec4<f32> {
    var v = vec4(0.0);
    let n = q % NQ * 4u;
    let row = select(row_of(d, b, t), (b * p.l + t) * S * PAIRS + d, GRID == 1u);
    let at = row * (p.r + 2u * N) + p.r + q / NQ * N + n;
    for (var k = 0u; k < 4u; k++) {
        if n + k < N { v[k] = xdbl[at + k]; }
    }
    return v;
}
fn a_quad(d: u32, e: u32, q: u32) -> vec4<f32> {
    var v = vec4(0.0);
    for (var k = 0u; k < 4u; k++) {
        if q * 4u + k < N { v[k] = -LOG2E * exp(clamp(channel_params[(d * p.e + e) * N + q * 4u + k], -80.0, 80.0)); }
    }
    return v;
}
fn row_of(d: u32, b: u32, t: u32) -> u32 {
    return (d * p.b + b) * p.l + t;
}
// Index of the vec4 that holds quad q of a chunk's states. In f16 one vec4 holds two quads.
fn state_at(d: u32, b: u32, c: u32, q: u32, e: u32) -> u32 {
    return (((d * p.b + b) * p.chunks + c) * SQ + q / (1u + HALF)) * p.e + e;
}
fn packed(first: vec4<f32>, second: vec4<f32>) -> vec4<u32> {
    if HALF == 1u { return vec4(halves(first), halves(second)); }
    return bitcast<vec4<u32>>(first);
}
// Stores the private h as the states of chunk c.
fn put_states(d: u32, b: u32, c: u32, e: u32) {
    for (var q = 0u; q < NQ; q += 1u + HALF) {
        states[state_at(d, b, c, q, e)] = packed(h[q], h[min(q + 1u, NQ - 1u)]);
    }
}
// Direction s of the pair of a launch. Without GRID it is a constant where s is one.
fn direction(s: u32) -> u32 {
    if GRID == 1u { return s * PAIRS + p.pair; }
    return s;
}
// Whether a launch adds to what is in out.
fn adds_up() -> bool {
    return GRID == 1u && p.pair == 1u;
}
// Whether a direction runs from the first token of its order to the last.
fn ascends(d: u32) -> bool {
    return d < PAIRS;
}
// The place of step i of a direction in its order of tokens. Chunks are runs of places.
fn place(d: u32, i: u32) -> u32 {
    return select(p.l - 1u - i, i, ascends(d));
}
// The token at a place.
fn token(d: u32, place: u32) -> u32 {
    if GRID == 1u && d % PAIRS == 1u { return place % p.height * p.width + place / p.height; }
    return place;
}
// Loads B and C of steps first..first+count of direction d into sh_bc. The work is shared by `lanes` lanes.
fn stage(d: u32, b: u32, first: u32, count: u32, lane: u32, lanes: u32) {
    for (var i = lane; i < count * 2u * NQ; i += lanes) {
        let t = token(d, place(d, first + i / (2u * NQ)));
        sh_bc[d / PAIRS * RUN * 2u * NQ + i] = bc_quad(d, b, t, i % (2u * NQ));
    }
}
// u of token t and channel e.
fn u_at(d: u32, b: u32, t: u32, e: u32) -> f32 {
    let i = select(row_of(d, b, t), b * p.l + t, GRID == 1u) * p.e + e;
    return element(u[i >> HALF], i, HALF);
}
fn delta_at(i: u32) -> f32 {
    return element(delta[i >> HALF], i, HALF);
}
fn step_size(d: u32, b: u32, t: u32, e: u32, bias: f32) -> f32 {
    let v = delta_at(row_of(d, b, t) * p.e + e) + bias;
    if p.softplus == 1u { return softplus(v); }
    return v;
}
// ā = exp(δ·A) = exp2(δ·a). δ·a <= 0 for δ >= 0, so exp2 cannot overflow; the clamp keeps it from becoming denormal.
fn decay(delta: f32, a: vec4<f32>) -> vec4<f32> {
    return exp2(max(delta * a, vec4(-115.0)));
}
// One step of the scan, with B and C of the j-th staged token of direction d. Advances h and returns Σ_n C·h.
fn advance(d: u32, j: u32, delta: f32, u: f32) -> f32 {
    let at = (d / PAIRS * RUN + j) * 2u * NQ;
    if N == 1u {
        h[0].x = exp2(max(delta * a[0].x, -115.0)) * h[0].x + delta * u * sh_bc[at].x;
        return sh_bc[at + NQ].x * h[0].x;
    }
    var y = vec4(0.0);
    for (var q = 0u; q < NQ; q++) {
        h[q] = decay(delta, a[q]) * h[q] + delta * u * sh_bc[at + q];
        y += sh_bc[at + NQ + q] * h[q];
    }
    return y.x + y.y + y.z + y.w;
}
// The factor of y in out: SiLU(z)/S, or 1/S without z, or 1 with GRID.
fn gate(row: u32, e: u32) -> f32 {
    if GRID == 1u { return 1.0; }
    if p.has_z == 0u { return 1.0 / f32(S); }
    let i = row * 2u * p.e + p.z_at + e;
    return gate_of(element(xz[i >> HALF], i, HALF)) / f32(S);
}
fn skip(d: u32, e: u32) -> f32 {
    if p.has_d == 0u { return 0.0; }
    return channel_params[p.d_at + d * p.e + e];
}
fn delta_bias(d: u32, e: u32) -> f32 {
    if p.has_bias == 0u { return 0.0; }
    return channel_params[p.bias_at + d * p.e + e];
}

// Writes the two results at `at` in sh_y as word i of out. If `more`, adds them to the other direction's results.
fn put_pair(i: u32, at: u32, more: bool) {
    var v = vec2(sh_y[at], sh_y[HALF * (at + 1u)]);
    if more { v += unpack2x16float(out[i]); }
    out[i] = pair(v);
}

@compute @workgroup_size(WG)
fn sequential(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let b = wid.y;
    let s = tid / CH;
    let d = direction(s);
    let e = wid.x * CH + tid % CH;
    var scale = 0.0;
    var bias = 0.0;
    if e < p.e {
        scale = skip(d, e);
        bias = delta_bias(d, e);
        for (var q = 0u; q < NQ; q++) { a[q] = a_quad(d, e, q); }
    }
    // Number of steps of this direction before the two meet. If L is odd, direction 0 is the first at the middle token.
    let half = select((p.l + 1u - s) / 2u, p.l, S == 1u);
    let longest = select((p.l + 1u) / 2u, p.l, S == 1u);
    for (var part = 0u; part < S; part++) {
        let begin = select(half, 0u, part == 0u);
        let end = select(p.l, half, part == 0u);
        let adds = part == 1u || adds_up();
        for (var i = 0u; i < longest; i += RUN) {
            let first = min(begin + i, end);
            let count = min(RUN, end - first);
            stage(d, b, first, count, tid % CH, CH);
            workgroupBarrier();
            for (var j = 0u; j < count && e < p.e; j++) {
                let at = place(d, first + j);
                let t = token(d, at);
                let u = u_at(d, b, t, e);
                let y = advance(d, j, step_size(d, b, t, e, bias), u) + scale * u;
                let o = (b * p.l + t) * p.e + e;
                let v = y * gate(b * p.l + t, e);
                if HALF == 1u {
                    sh_y[HALF * (j * WG + tid)] = v;
                } else if adds {
                    out[o] = bitcast<u32>(bitcast<f32>(out[o]) + v);
                } else {
                    out[o] = bitcast<u32>(v);
                }
                let chunk_ends = select(at % T == 0u, at % T == T - 1u || at == p.l - 1u, s == 0u);
                if chunk_ends && p.save == 1u { put_states(d, b, at / T, e); }
            }
            workgroupBarrier();
            for (var k = tid % CH; k < HALF * count * CH / 2u; k += CH) {
                let j = k / (CH / 2u);
                let c = k % (CH / 2u) * 2u;
                let e = wid.x * CH + c;
                let o = (b * p.l + token(d, place(d, first + j))) * p.e + e;
                if e < p.e { put_pair(o >> 1u, j * WG + s * CH + c, adds); }
            }
        }
        storageBarrier();
    }
}

@compute @workgroup_size(WG)
fn chunk_scan(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let e = wid.x * WG + tid;
    let c = wid.y;
    let d = wid.z / p.b;
    let b = wid.z % p.b;
    let count = min(T, p.l - c * T);
    let first = select(p.l - c * T - count, c * T, ascends(d));
    stage(d, b, first, count, tid, WG);
    workgroupBarrier();
    if e >= p.e { return; }
    for (var q = 0u; q < NQ; q++) { a[q] = a_quad(d, e, q); }
    let bias = delta_bias(d, e);
    var sum = 0.0;
    for (var j = 0u; j < count; j++) {
        let t = token(d, place(d, first + j));
        let delta = step_size(d, b, t, e, bias);
        sum += delta;
        _ = advance(d, j, delta, u_at(d, b, t, e));
    }
    total[((d * p.b + b) * p.chunks + c) * p.e + e] = sum;
    put_states(d, b, c, e);
}

@compute @workgroup_size(WG)
fn chunk_carry(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let e = wid.x * WG + tid;
    let q = wid.y * (1u + HALF);
    let d = wid.z / p.b;
    let b = wid.z % p.b;
    if e >= p.e { return; }
    let a0 = a_quad(d, e, q);
    let a1 = a_quad(d, e, q + 1u);
    var h0 = vec4(0.0);
    var h1 = vec4(0.0);                     // used in f16 only
    for (var i = 0u; i < p.chunks; i++) {
        let c = select(p.chunks - 1u - i, i, ascends(d));
        let at = state_at(d, b, c, q, e);
        let sum = totals[((d * p.b + b) * p.chunks + c) * p.e + e];
        h0 = decay(sum, a0) * h0 + element4(states[at], 0u, HALF);
        if HALF == 1u { h1 = decay(sum, a1) * h1 + element4(states[at], 1u, HALF); }
        states[at] = packed(h0, h1);
    }
}

@compute @workgroup_size(WG)
fn chunk_apply(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let e = wid.x * WG + tid;
    let c = wid.y;
    let b = wid.z;
    let count = min(T, p.l - c * T);
    var sums: array<f32, T>;                // Σ_s y of each place of the chunk
    for (var s = 0u; s < S; s++) {
        stage(direction(s), b, select(p.l - c * T - count, c * T, s == 0u), count, tid, WG);
    }
    workgroupBarrier();
    for (var s = 0u; s < S && e < p.e; s++) {
        let d = direction(s);
        let bias = delta_bias(d, e);
        let scale = skip(d, e);
        let starts = select(c + 1u == p.chunks, c == 0u, s == 0u);
        for (var q = 0u; q < NQ; q++) {
            a[q] = a_quad(d, e, q);
            h[q] = vec4(0.0);
            if !starts { h[q] = element4(saved[state_at(d, b, select(c + 1u, c - 1u, s == 0u), q, e)], q, HALF); }
        }
        for (var j = 0u; j < count; j++) {
            let k = select(count - 1u - j, j, s == 0u);
            let t = token(d, c * T + k);
            let u = u_at(d, b, t, e);
            sums[k] += advance(d, j, step_size(d, b, t, e, bias), u) + scale * u;
        }
    }
    for (var k = 0u; k < count && e < p.e; k++) {
        let row = b * p.l + token(direction(0u), c * T + k);
        let v = sums[k] * gate(row, e);
        let o = row * p.e + e;
        if HALF == 1u {
            sh_y[HALF * (k * WG + tid)] = v;
        } else if adds_up() {
            out[o] = bitcast<u32>(bitcast<f32>(out[o]) + v);
        } else {
            out[o] = bitcast<u32>(v);
        }
    }
    if HALF == 0u { return; }
    workgroupBarrier();
    for (var i = tid; i < count * WG / 2u; i += WG) {
        let k = i / (WG / 2u);
        let at = i % (WG / 2u) * 2u;
        let e = wid.x * WG + at;
        let row = b * p.l + token(direction(0u), c * T + k);
        if e < p.e { put_pair((row * p.e + e) >> 1u, k * WG + at, adds_up()); }
    }
}

// last (S, B, E, N): h after the last step of each direction (mamba_ssm's last_state).
@compute @workgroup_size(WG)
fn last_state(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let e = wid.x * WG + tid;
    let d = wid.z / p.b;
    let b = wid.z % p.b;
    if e >= p.e { return; }
    let c = select(0u, p.chunks - 1u, ascends(d));
    for (var n = 0u; n < N; n++) {
        last[(wid.z * p.e + e) * N + n] = element4(saved[state_at(d, b, c, n / 4u, e)], n / 4u, HALF)[n % 4u];
    }
}
