// rng — counter-based random numbers, Philox4x32-10 (Salmon et al. 2011; PyTorch's CUDA generator uses it too).
// The counter contains the step, so that a replayed program draws new numbers in each step.
//   Element e is word e mod 4 of the block with counter (e/4, stream, state.step, state.part), key (seed_lo, seed_hi).
//   The caller numbers the streams. Two draws in one step are independent if their streams differ.
//   words     bits (n) u32 = the 32 bits
//   below     bits (n) u32 = ⌊word·cols·2⁻³²⌋, in [0, cols)
//   uniform   out (n) = the 24 high bits · 2⁻²⁴, in [0, 1); exact in f32
//   normal    out (n) = Box-Muller of words (0, 1) and (2, 3): √(−2·ln(1−u0)) · cos 2πu1, sin 2πu1
//   drop_path out (rows, ld) = u < 1−p ? 1/(1−p) : 0, timm's DropPath factor; exactly 1 where p = 0.
//             p = drop[row], drop (rows);  e = row·ld + column;  columns from `cols` to ld are 0
//   No backward.
//   threads   one invocation per block of four elements
//   floor     4 bytes per element
// uses lib/grid, lib/math, lib/step
struct Params { n: u32, stream: u32, cols: u32, ld: u32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> state: StepState;
@group(0) @binding(2) var<storage, read> drop: array<f32>;
@group(0) @binding(3) var<storage, read_write> out: array<f32>;
@group(0) @binding(4) var<storage, read_write> bits: array<u32>;

// The high 32 bits of a·b. WGSL has no 64-bit product, so it is computed from products of 16-bit halves.
fn mul_high(a: u32, b: u32) -> u32 {
    let low = (a & 0xffffu) * (b & 0xffffu);
    let ab = (a & 0xffffu) * (b >> 16u);
    let ba = (a >> 16u) * (b & 0xffffu);
    let middle = (low >> 16u) + (ab & 0xffffu) + (ba & 0xffffu);
    return (a >> 16u) * (b >> 16u) + (ab >> 16u) + (ba >> 16u) + (middle >> 16u);
}

fn philox(i: u32) -> vec4<u32> {
    const m0 = 0xd2511f53u;
    const m1 = 0xcd9e8d57u;
    var c = vec4(i, p.stream, state.step, state.part);
    var k = vec2(state.seed_lo, state.seed_hi);
    for (var round = 0u; round < 10u; round++) {
        c = vec4(mul_high(m1, c.z) ^ c.y ^ k.x, m1 * c.z, mul_high(m0, c.x) ^ c.w ^ k.y, m0 * c.x);
        k += vec2(0x9e3779b9u, 0xbb67ae85u);
    }
    return c;
}

fn unit(x: vec4<u32>) -> vec4<f32> {
    return vec4<f32>(x >> vec4(8u)) * 5.9604644775390625e-8;
}

// Two uniform → two normal numbers. −ln(1−u) is computed as ln(1 + u/(1−u)), which keeps its digits if u is small.
fn pair(u: vec2<f32>) -> vec2<f32> {
    let radius = sqrt(2.0 * log1p(u.x / (1.0 - u.x)));
    let angle = 6.283185307179586 * (u.y - floor(u.y + 0.5));
    return radius * vec2(cos(angle), sin(angle));
}

fn store(e: u32, x: vec4<f32>) {
    for (var j = 0u; j < 4u; j++) {
        if e + j < p.n { out[e + j] = x[j]; }
    }
}

@compute @workgroup_size(WG)
fn words(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    let x = philox(i);
    for (var j = 0u; j < 4u; j++) {
        if 4u * i + j < p.n { bits[4u * i + j] = x[j]; }
    }
}

@compute @workgroup_size(WG)
fn below(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    let x = philox(i);
    for (var j = 0u; j < 4u; j++) {
        if 4u * i + j < p.n { bits[4u * i + j] = mul_high(x[j], p.cols); }
    }
}

@compute @workgroup_size(WG)
fn uniform_forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    store(4u * i, unit(philox(i)));
}

@compute @workgroup_size(WG)
fn normal_forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    let u = unit(philox(i));
    store(4u * i, vec4(pair(u.xy), pair(u.zw)));
}

@compute @workgroup_size(WG)
fn drop_path(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if 4u * i >= p.n { return; }
    let chance = 1.0 - drop[4u * i / p.ld];                  // ld is a multiple of 4, so the four elements share a row
    var factor = 1.0;
    if chance < 1.0 { factor = 1.0 / max(chance, 1e-30); }
    let column = vec4(4u * i % p.ld) + vec4(0u, 1u, 2u, 3u);
    let kept = (unit(philox(i)) < vec4(chance)) & (column < vec4(p.cols));
    store(4u * i, select(vec4(0.0), vec4(factor), kept));
}
