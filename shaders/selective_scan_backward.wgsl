// selective_scan_backward — gradients of selective_scan; shapes, formulae forward and `states`: selective_scan.wgsl.
//   With gy = dout·SiLU(z)/S, and λ_t = gy·C + (ā·λ) of the step after t:
//   du = D·gy + δ·Σ_n λ·B    ddelta = (u·Σ_n λ·B + Σ_n λ·A·p)·softplus'    p = ā·h_{t−1} = h_t − δ·u·B
//   dB = Σ_e λ·δ·u    dC = Σ_e gy·h    dA_log = A·Σ_bt λ·δ·p    dD = Σ_bt gy·u    ddelta_bias = Σ_bt ddelta
//   dz = dout·(Σ_s y/S)·SiLU'(z) = dout·out·SiLU'(z)/SiLU(z) = dout·out·(1/z + 1 − σ(z)), z of 0 as in forward
// `scan` writes one buffer, work: du, ddelta (S, B, L, E), sums of dB | dC over the channels of a workgroup
// (S, B, L, tiles, 2N), and per b the gradient of chan; `sum_bc` and `sum_chan` add these up in fixed order. `gate` writes
// the z half of dxz. All assign, none adds; pads and absent parts of dchan are 0. `clear` = 1: also zero what this op does
// not own, columns 0..R of dxdbl and the x half of dxz.
//
// scan: a lane is a channel in one direction. Chunk by chunk in reverse: h_t again from the state before the chunk, kept for
// T tokens; then back through the chunk with λ in registers. Sums over channels go through workgroup memory, a block of
// QB quads at a time: every lane writes its quads, WG lanes add them to SEGS partial sums, a few lanes finish: two
// barriers per block. Lanes past E hold zeros and so add nothing.
// Floor per (s, b, t, e): 16 bytes, and 8/S for z and dout, and 2N exponentials; gate 16 per (b, t, e).
// uses lib/grid, lib/math.   const N: states, 1 to 64; const T: tokens of a chunk
struct Params {
    s: u32, b: u32, l: u32, e: u32, r: u32, chunks: u32, d_at: u32, bias_at: u32, chan_len: u32,
    softplus: u32, has_d: u32, has_bias: u32, has_z: u32, clear: u32,
    ddelta_at: u32, bc_at: u32, dchan_at: u32, tiles: u32,
}
const WG = 64u;
const NQ = (N + 3u) / 4u;                                           // quads of states
const QB = 1u + min((NQ - 1u), 1u) + 2u * min((NQ - 1u) / 2u, 1u);  // quads of a block: 1, 2 or 4
const QUADS = 2u * QB;                                              // dB, then dC
const SEGS = WG / QUADS;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> u: array<f32>;
@group(0) @binding(2) var<storage, read> delta: array<f32>;
@group(0) @binding(3) var<storage, read> xdbl: array<f32>;
@group(0) @binding(4) var<storage, read> chan: array<f32>;
@group(0) @binding(5) var<storage, read> xz: array<f32>;
@group(0) @binding(7) var<storage, read> saved: array<vec4<f32>>;   // states
@group(0) @binding(8) var<storage, read> out: array<f32>;
@group(0) @binding(12) var<storage, read> dout: array<f32>;
@group(0) @binding(13) var<storage, read_write> work: array<f32>;   // du at 0 | ddelta | dB, dC by tile | dchan by b
@group(0) @binding(14) var<storage, read> parts: array<f32>;        // a range of work, read
@group(0) @binding(15) var<storage, read_write> dxdbl: array<f32>;
@group(0) @binding(16) var<storage, read_write> dchan: array<f32>;
@group(0) @binding(17) var<storage, read_write> dxz: array<f32>;

var<workgroup> sh_bc: array<vec4<f32>, T * 2u * NQ>;            // (T, B|C, NQ), image order
var<workgroup> sh_lane: array<vec4<f32>, QUADS * (WG + 1u)>;    // a block of quads by lane
var<workgroup> sh_seg: array<vec4<f32>, QUADS * (SEGS + 1u)>;   // the same, added to SEGS partial sums

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
fn decay(delta: f32, a: vec4<f32>) -> vec4<f32> {
    return exp(max(delta * a, vec4(-80.0)));
}
fn sum4(v: vec4<f32>) -> f32 {
    return v.x + v.y + v.z + v.w;
}
fn clamped(z: f32) -> f32 {
    return select(z, 1e-12, abs(z) < 1e-12);
}

// What one token of one channel is, before the recurrence.
struct Token { delta: f32, slope: f32, u: f32 }
fn load(at: u32, bias: f32) -> Token {
    let raw = delta[at] + bias;
    if p.softplus == 1u { return Token(softplus(raw), softplus_slope(raw), u[at]); }
    return Token(raw, 1.0, u[at]);
}

@compute @workgroup_size(WG)
fn scan(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let e = wid.x * WG + tid;
    let b = wid.y;
    let s = wid.z;
    let live = e < p.e;
    let rows = (s * p.b + b) * p.l;
    var a: array<vec4<f32>, NQ>;            // A
    var carry: array<vec4<f32>, NQ>;        // ā·λ of the step after
    var da: array<vec4<f32>, NQ>;           // Σ λ·δ·p
    var past: array<vec4<f32>, T * NQ>;     // h by token of the chunk
    var d = 0.0;
    var bias = 0.0;
    var dd = 0.0;
    var dbias = 0.0;
    if live {
        for (var q = 0u; q < NQ; q++) { a[q] = a_quad(s, e, q); }
        if p.has_d == 1u { d = chan[p.d_at + s * p.e + e]; }
        if p.has_bias == 1u { bias = chan[p.bias_at + s * p.e + e]; }
    }
    for (var i = 0u; i < p.chunks; i++) {
        let c = select(i, p.chunks - 1u - i, s == 0u);
        let first = rows + c * T;
        let count = min(T, p.l - c * T);
        workgroupBarrier();
        for (var k = tid; k < count * 2u * NQ; k += WG) { sh_bc[k] = bc_quad(first + k / (2u * NQ), k % (2u * NQ)); }
        workgroupBarrier();
        if live {
            var h: array<vec4<f32>, NQ>;
            for (var q = 0u; q < NQ; q++) {
                h[q] = vec4(0.0);
                if i + 1u < p.chunks {
                    let before = select(c + 1u, c - 1u, s == 0u);
                    h[q] = saved[(((s * p.b + b) * p.chunks + before) * NQ + q) * p.e + e];
                }
            }
            for (var j = 0u; j < count; j++) {
                let k = select(count - 1u - j, j, s == 0u);
                let x = load((first + k) * p.e + e, bias);
                for (var q = 0u; q < NQ; q++) {
                    h[q] = decay(x.delta, a[q]) * h[q] + x.delta * x.u * sh_bc[k * 2u * NQ + q];
                    past[k * NQ + q] = h[q];
                }
            }
        }
        for (var j = 0u; j < count; j++) {
            let k = select(j, count - 1u - j, s == 0u);
            let at = (first + k) * p.e + e;
            var x = Token(0.0, 0.0, 0.0);
            var gy = 0.0;
            if live {
                x = load(at, bias);
                let row = b * p.l + c * T + k;
                gy = dout[row * p.e + e] / f32(p.s);
                if p.has_z == 1u { gy *= silu(clamped(xz[(row * 2u + 1u) * p.e + e])); }
            }
            var lambda_b = 0.0;
            var lambda_ap = 0.0;
            for (var block = 0u; block < NQ; block += QB) {
                for (var i = 0u; i < QB; i++) {
                    let q = block + i;
                    var db = vec4(0.0);
                    var dc = vec4(0.0);
                    if q < NQ {
                        let bq = sh_bc[k * 2u * NQ + q];
                        let h = past[k * NQ + q];
                        let lambda = gy * sh_bc[k * 2u * NQ + NQ + q] + carry[q];
                        let before = h - x.delta * x.u * bq;    // p
                        lambda_b += sum4(lambda * bq);
                        lambda_ap += sum4(lambda * a[q] * before);
                        da[q] += lambda * x.delta * before;
                        carry[q] = decay(x.delta, a[q]) * lambda;
                        db = lambda * x.delta * x.u;
                        dc = gy * h;
                    }
                    sh_lane[i * (WG + 1u) + tid] = db;
                    sh_lane[(QB + i) * (WG + 1u) + tid] = dc;
                }
                workgroupBarrier();
                var sum = vec4(0.0);
                for (var i = 0u; i < QUADS; i++) { sum += sh_lane[tid / SEGS * (WG + 1u) + tid % SEGS + i * SEGS]; }
                sh_seg[tid / SEGS * (SEGS + 1u) + tid % SEGS] = sum;
                workgroupBarrier();
                let n = (block + tid / 4u % QB) * 4u + tid % 4u;
                if tid < QUADS * 4u && n < N {
                    var v = 0.0;
                    for (var i = 0u; i < SEGS; i++) { v += sh_seg[tid / 4u * (SEGS + 1u) + i][tid % 4u]; }
                    work[p.bc_at + (((first + k) * p.tiles + wid.x) * 2u + tid / 4u / QB) * N + n] = v;
                }
            }
            if live {
                let ddelta = (x.u * lambda_b + lambda_ap) * x.slope;
                work[at] = d * gy + x.delta * lambda_b;
                work[p.ddelta_at + at] = ddelta;
                dd += gy * x.u;
                dbias += ddelta;
            }
        }
    }
    if !live { return; }
    let mine = p.dchan_at + b * p.chan_len;
    for (var n = 0u; n < N; n++) { work[mine + (s * p.e + e) * N + n] = da[n / 4u][n % 4u] * a[n / 4u][n % 4u]; }
    work[mine + p.d_at + s * p.e + e] = select(0.0, dd, p.has_d == 1u);
    work[mine + p.bias_at + s * p.e + e] = select(0.0, dbias, p.has_bias == 1u);
}

// One invocation per element of dxdbl.
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

// 32 elements of dchan by 8 interleaved groups of samples.
var<workgroup> sh_sum: array<f32, 256>;
@compute @workgroup_size(256)
fn sum_chan(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * 32u + tid % 32u;
    let part = select(select(0u, p.d_at, i >= p.d_at), p.bias_at, i >= p.bias_at);
    let pad = i - part >= p.s * p.e * select(1u, N, part == 0u);    // nobody wrote there
    var v = 0.0;
    if !pad {
        for (var b = tid / 32u; b < p.b; b += 8u) { v += parts[b * p.chan_len + i]; }
    }
    sh_sum[tid] = v;
    workgroupBarrier();
    if tid >= 32u || i >= p.chan_len { return; }
    for (var k = 1u; k < 8u; k++) { v += sh_sum[tid + 32u * k]; }
    dchan[i] = v;
}

@compute @workgroup_size(256)
fn gate(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * 256u + tid;
    let row = i / p.e;
    if row >= p.b * p.l { return; }
    let x = row * 2u * p.e + i % p.e;
    let z = clamped(xz[x + p.e]);
    dxz[x + p.e] = dout[i] * out[i] * (1.0 / z + 1.0 - sigmoid(z));
    if p.clear == 1u { dxz[x] = 0.0; }
}
