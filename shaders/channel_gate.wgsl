// channel_gate — a gate for each channel of a sample: the last step of squeeze-and-excitation (x * t.sigmoid()).
//   shapes    x, y, dy, dx (B, L, C): L pixels or tokens, channels last   t, dt (B, C)   part (B, chunks, C)
//   forward   y = x·σ(t)
//   backward  dx = dy·σ(t)    dt = σ(t)·(1 − σ(t))·Σ_l dy·x, in two stages of fixed order. Both are overwritten.
//   saves     x and t
//   threads   forward, backward: a lane per element, or per word if HALF = 1. sums: a lane per channel and chunk of
//             pixels. finish: a lane per element of dt.
//   HALF = 1  x, y, dy and dx hold f16, two in a word, and C is even
//   floor     per element of x: 8 bytes forward, 16 backward (8 for dx, 8 for dt); half of that in f16
// uses lib/grid, lib/math, lib/half, lib/element
struct Params { n: u32, l: u32, c: u32, chunk: u32, chunks: u32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;              // backward: dy
@group(0) @binding(2) var<storage, read> t: array<f32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;        // backward: dx
@group(0) @binding(4) var<storage, read> dy: array<u32>;
@group(0) @binding(5) var<storage, read_write> part: array<f32>;
@group(0) @binding(6) var<storage, read> parts: array<f32>;
@group(0) @binding(7) var<storage, read_write> dt: array<f32>;

// x·σ(t) of element i.
fn gated(i: u32) -> f32 {
    return element(x[i >> HALF], i, HALF) * sigmoid(t[i / (p.l * p.c) * p.c + i % p.c]);
}
// Forward, and backward with dy in place of x.
@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = (grid_row(wid) * WG + tid) << HALF;
    if i >= p.n { return; }
    if HALF == 1u { y[i >> 1u] = pair(vec2(gated(i), gated(i + 1u))); } else { y[i] = bitcast<u32>(gated(i)); }
}

@compute @workgroup_size(64)
fn sums(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let lane = grid_row(wid) * 64u + tid;                            // of part (B, chunks, C)
    if lane >= p.n / p.l * p.chunks { return; }
    let c = lane % p.c;
    let chunk = lane / p.c % p.chunks;
    let b = lane / p.c / p.chunks;
    var sum = 0.0;
    for (var l = chunk * p.chunk; l < min((chunk + 1u) * p.chunk, p.l); l++) {
        let i = (b * p.l + l) * p.c + c;
        sum += element(dy[i >> HALF], i, HALF) * element(x[i >> HALF], i, HALF);
    }
    part[lane] = sum;
}

@compute @workgroup_size(64)
fn finish(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * 64u + tid;                               // of dt (B, C)
    if i >= p.n / p.l { return; }
    var sum = 0.0;
    for (var chunk = 0u; chunk < p.chunks; chunk++) { sum += parts[(i / p.c * p.chunks + chunk) * p.c + i % p.c]; }
    let gate = sigmoid(t[i]);
    dt[i] = gate * (1.0 - gate) * sum;
}
