// conv1d — causal depthwise convolution + SiLU of the x half of x|z, in S directions over one sequence (Dao-AILab's
// causal_conv1d_fn with activation="silu"; nn.Conv1d with groups=E and padding=K−1, cut to L).
//   shapes    xz, dxz (B, L, 2E), columns x|z, or z|x   w, dw (S, E, K)   bias, dbias (S, E)   u, du (S, B, L, E)
//             part (B·runs, S·E·K + S·E): dw and then dbias of each run
//   forward   c[t] = bias + Σ_k w[k]·x[t−(K−1)+k]    s = 0, forward in the image
//             c[t] = bias + Σ_k w[k]·x[t+(K−1)−k]    s = 1, the flipped sequence; t stays the image position
//             u = SiLU(c);  x is 0 outside of 0..L
//             c[t] = Σ_k w[k]·x[t−⌊(K−1)/2⌋+k]         SAME: x and dx are (B, L, E) without z, and there is no bias
//                                                     (nn.Conv1d with padding="same", as in MambaVision)
//   backward  dc = du·SiLU'(c), c computed again    dx[τ] = Σ_s Σ_k w[k]·dc[t that read x[τ] at tap k]
//             dw[k] = Σ_bt dc·x    dbias = Σ_bt dc  (over each run of tokens into part; parts.wgsl adds the runs)
//             The z half of dxz: `backward` writes 0. `backward_gated` writes the gradient of the gate that follows in
//             a Mamba mixer, dz = dout·out·SiLU'(z)/SiLU(z), with out = y·SiLU(z) and dout (B, L, E)
//             (selective_scan_backward.wgsl), which saves the launch of that file's `gate`. Gradients are overwritten,
//             not accumulated.
//   saves     only its inputs: backward computes c again
//   threads   A lane walks two channels through a run of `run` tokens, with a window x[τ..τ+K) in registers. s = 0
//             reads this window for token τ+K−1, and s = 1 reads it for token τ, so one load serves both directions.
//             SAME reads it for token τ+⌊(K−1)/2⌋: only the token that a window is for differs from s = 0.
//             In f32 the two channels are WG apart, so that neighboring lanes load neighboring numbers.
//   HALF      1: xz, u, du, dxz, out and dout are f16. The two channels are neighbors, in one word; E is even.
//   floor     per (b, t, e): 4·(1+S) bytes forward, 4·(2+S) backward, 16 more with the gate; in f16 half of that;
//             with SAME 8 forward, 12 backward
//   measured  base, 98 × 128, NVIDIA H200 (benches/runs/2026-11-28-nvidia-h200): forward 0.096 ms, backward 0.241
//             (PyTorch's grouped conv1d and SiLU: 0.645, 1.270); with HALF 0.076, 0.241
//   const S: directions, 1 or 2;  const K: taps, 1 to 8;  const HALF: 1 if arrays with tokens are f16
//   const SAME: 1 if the taps lie around the token (S is 1)
// uses lib/grid, lib/math, lib/half, lib/gate
struct Params { b: u32, l: u32, e: u32, run: u32, runs: u32, x_at: u32 }   // x_at: column of x, 0 or E
const WG = 64u;
const AHEAD = SAME * (K / 2u);                    // tokens behind its own that a token reads: ⌈(K−1)/2⌉ with SAME
const COLUMNS = 2u - SAME;                        // x and z, or x alone
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> xz: array<u32>;
@group(0) @binding(2) var<storage, read> w: array<f32>;
@group(0) @binding(3) var<storage, read> bias: array<f32>;
@group(0) @binding(4) var<storage, read_write> u: array<u32>;
@group(0) @binding(5) var<storage, read> du: array<u32>;
@group(0) @binding(6) var<storage, read_write> dxz: array<u32>;
@group(0) @binding(7) var<storage, read_write> part: array<f32>;        // backward
@group(0) @binding(11) var<storage, read> out: array<u32>;
@group(0) @binding(12) var<storage, read> dout: array<u32>;

var<private> x: array<vec2<f32>, K>;              // x[τ..τ+K)
var<private> taps: array<vec2<f32>, S * K>;

// The two channels of a lane. If the second one is past E, it is not stored.
fn channels(tile: u32, tid: u32) -> vec2<u32> {
    if HALF == 1u { return tile * 2u * WG + 2u * tid + vec2(0u, 1u); }
    return tile * 2u * WG + tid + vec2(0u, WG);
}
// Indices of two elements of the row that starts at `row`. A channel past E reads the last one.
fn at2(row: u32, e: vec2<u32>) -> vec2<u32> {
    return row + min(e, vec2(p.e - 1u));
}
fn xz2(row: u32, e: vec2<u32>) -> vec2<f32> {
    if HALF == 1u { return unpack2x16float(xz[(row + e.x) >> 1u]); }
    let at = at2(row, e);
    return bitcast<vec2<f32>>(vec2(xz[at.x], xz[at.y]));
}
fn du2(row: u32, e: vec2<u32>) -> vec2<f32> {
    if HALF == 1u { return unpack2x16float(du[(row + e.x) >> 1u]); }
    let at = at2(row, e);
    return bitcast<vec2<f32>>(vec2(du[at.x], du[at.y]));
}
fn out2(row: u32, e: vec2<u32>) -> vec2<f32> {
    if HALF == 1u { return unpack2x16float(out[(row + e.x) >> 1u]); }
    let at = at2(row, e);
    return bitcast<vec2<f32>>(vec2(out[at.x], out[at.y]));
}
fn dout2(row: u32, e: vec2<u32>) -> vec2<f32> {
    if HALF == 1u { return unpack2x16float(dout[(row + e.x) >> 1u]); }
    let at = at2(row, e);
    return bitcast<vec2<f32>>(vec2(dout[at.x], dout[at.y]));
}
fn put_u(row: u32, e: vec2<u32>, v: vec2<f32>) {
    if HALF == 1u { u[(row + e.x) >> 1u] = pair(v); return; }
    u[row + e.x] = bitcast<u32>(v.x);
    if e.y < p.e { u[row + e.y] = bitcast<u32>(v.y); }
}
fn put_dxz(row: u32, e: vec2<u32>, v: vec2<f32>) {
    if HALF == 1u { dxz[(row + e.x) >> 1u] = pair(v); return; }
    dxz[row + e.x] = bitcast<u32>(v.x);
    if e.y < p.e { dxz[row + e.y] = bitcast<u32>(v.y); }
}

// Where z begins in a row of x|z, or of z|x.
fn z_row(row: u32) -> u32 {
    return row * 2u * p.e + p.e - p.x_at;
}

// Moves the window, so that it ends with token t. Tokens outside of the sequence count as 0. A negative t wraps to a
// huge number and so is outside too.
fn slide(b: u32, t: u32, e: vec2<u32>) {
    for (var k = 1u; k < K; k++) { x[k - 1u] = x[k]; }
    x[K - 1u] = vec2(0.0);
    if t < p.l { x[K - 1u] = xz2((b * p.l + t) * COLUMNS * p.e + p.x_at, e); }
}
// The x that direction s multiplies by tap k.
fn under(s: u32, k: u32) -> vec2<f32> {
    return x[select(K - 1u - k, k, s == 0u)];
}
fn conv(s: u32, e: vec2<u32>) -> vec2<f32> {
    var c = vec2(0.0);
    if SAME == 0u {
        let at = at2(s * p.e, e);
        c = vec2(bias[at.x], bias[at.y]);
    }
    for (var k = 0u; k < K; k++) { c += taps[s * K + k] * under(s, k); }
    return c;
}
fn load_taps(e: vec2<u32>) {
    for (var i = 0u; i < S * K; i++) {
        let at = at2(i / K * p.e, e) * K + i % K;
        taps[i] = vec2(w[at.x], w[at.y]);
    }
}
fn silu2(c: vec2<f32>) -> vec2<f32> {
    return vec2(silu(c.x), silu(c.y));
}
// Index of the row of token t and direction s in u.
fn row_of(s: u32, b: u32, t: u32) -> u32 {
    return ((s * p.b + b) * p.l + t) * p.e;
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let e = channels(wid.x, tid);
    let first = wid.y * p.run;
    let b = wid.z;
    if e.x >= p.e { return; }
    load_taps(e);
    let count = min(p.run, p.l - first);
    for (var i = 0u; i < count + S * (K - 1u); i++) {
        let t = first + i - (K - 1u);       // the token that the window is for, for s = 0
        slide(b, t + AHEAD, e);
        if i >= K - 1u && i < count + K - 1u { put_u(row_of(0u, b, t), e, silu2(conv(0u, e))); }
        if S == 2u && i >= 2u * (K - 1u) { put_u(row_of(S - 1u, b, t - (K - 1u)), e, silu2(conv(S - 1u, e))); }
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    walk_back(wid, tid);
    let e = channels(wid.x, tid);
    let rows = rows_of(wid);
    if SAME == 1u { return; }           // there is no z
    for (var row = rows.x; row < rows.y && e.x < p.e; row++) { put_dxz(z_row(row), e, vec2(0.0)); }
}

@compute @workgroup_size(WG)
fn backward_gated(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    walk_back(wid, tid);
    let e = channels(wid.x, tid);
    let rows = rows_of(wid);
    for (var row = rows.x; row < rows.y && e.x < p.e; row++) {
        let z = xz2(z_row(row), e);
        let dy = dout2(row * p.e, e) * out2(row * p.e, e);
        put_dxz(z_row(row), e, dy * vec2(gate_slope(z.x), gate_slope(z.y)));
    }
}

// Rows of the workgroup's run in an array (B·L, ..): (first, last + 1).
fn rows_of(wid: vec3<u32>) -> vec2<u32> {
    let first = wid.z * p.l + wid.y * p.run;
    return vec2(first, min(first + p.run, (wid.z + 1u) * p.l));
}
// Writes the x half of dxz, and to part the sums for dw and dbias over the run.
fn walk_back(wid: vec3<u32>, tid: u32) {
    let e = channels(wid.x, tid);
    let first = wid.y * p.run;
    let b = wid.z;
    if e.x >= p.e { return; }
    load_taps(e);
    var dc: array<vec2<f32>, S * K>;            // s = 0: dc[τ..τ+K), with SAME AHEAD less   s = 1: dc[τ−(K−1)..τ]
    var sums: array<vec2<f32>, S * (K + 1u)>;   // dw, dbias
    let count = min(p.run, p.l - first);
    for (var i = 0u; i < count + 2u * (K - 1u); i++) {
        let top = first + i - (K - 1u);     // the window's last token
        let tau = top - (K - 1u);           // the window's first token; within the run from i = 2(K−1) on
        slide(b, top, e);
        if i < K - 1u { continue; }         // the window is not full yet
        for (var s = 0u; s < S; s++) {
            let t = select(tau, top - AHEAD, s == 0u);
            var v = vec2(0.0);
            if t < p.l {
                let c = conv(s, e);
                v = du2(row_of(s, b, t), e) * vec2(silu_slope(c.x), silu_slope(c.y));
            }
            for (var k = 1u; k < K; k++) { dc[s * K + k - 1u] = dc[s * K + k]; }
            dc[s * K + K - 1u] = v;
            if t - first < count {          // tokens outside of this run belong to the sums of other runs
                for (var k = 0u; k < K; k++) { sums[s * (K + 1u) + k] += v * under(s, k); }
                sums[s * (K + 1u) + K] += v;
            }
        }
        if i >= 2u * (K - 1u) {
            var dx = vec2(0.0);
            for (var k = 0u; k < K; k++) {
                dx += taps[k] * dc[K - 1u - k];
                if S == 2u { dx += taps[(S - 1u) * K + k] * dc[(S - 1u) * K + k]; }
            }
            put_dxz((b * p.l + tau) * COLUMNS * p.e + p.x_at, e, dx);
        }
    }
    let row = (b * p.runs + wid.y) * S * (K + 1u) * p.e;
    for (var i = 0u; i < S * (K + 1u); i++) {
        let s = i / (K + 1u);
        let k = i % (K + 1u);
        var at = row + (s * p.e + e.x) * K + k;
        var next = (e.y - e.x) * K;
        if k == K {
            at = row + (S * K + s) * p.e + e.x;
            next = e.y - e.x;
        }
        part[at] = sums[i].x;
        if e.y < p.e { part[at + next] = sums[i].y; }
    }
}
