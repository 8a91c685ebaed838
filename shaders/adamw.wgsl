// adamw — one step of AdamW over a flat arena of parameters, as torch.optim.AdamW computes it, and the factor of
// torch.nn.utils.clip_grad_norm_.
//   shapes    w (parameters), grad, m, v (n floats, n a multiple of 64)
//             groups (n/64): the row of table for each block of 64 floats   table (G, 2) = lr_scale, weight_decay
//             lr_scale = 0 or a group >= G freezes the block: its parameters and moments stay unchanged
//   step*     g = clip·grad,  lr = state.lr·lr_scale
//             m <- m + (1−β1)·(g − m)     v <- v + (1−β2)·(g² − v)
//             w <- w − lr·(weight_decay·w + m / bias_correction1 / (√v/√bias_correction2 + eps))
//             step         clip = 1, bias corrections from state
//             step_clipped clip = clip[0], bias corrections from state
//             step_scaled  clip = clip[0], bias corrections from clip[2..4] (loss_scale.wgsl);  clip[0] = 0: no step
//   square_sum   parts[base + workgroup] = Σ grad² over the elements of the workgroup
//   clip_factor  clip (2) = min(1, max_norm / (norm + 1e-6)), norm;  norm = √(Σ parts)
//   guard        x (n) is the loss. If an element is NaN or infinite, lr_scale becomes 0 in all rows of table_out, and
//                stays 0, so that no later step changes a parameter.
//   rate1 = 1−β1 and rate2 = 1−β2 are computed on the host, so that they are rounded only once. Padding has grad = 0
//   and so stays 0. This operator has no backward.
//   threads   one invocation per vec4. square_sum: at most 1024 workgroups in a grid-stride loop. clip_factor: one
//             workgroup. Both sum in a fixed order.
//   floor     28 bytes per parameter, 4 for the norm
//   measured  134 M parameters, NVIDIA H200 (benches/runs/2026-11-28-nvidia-h200): 0.890 ms (PyTorch fused 1.084)
//   tried     median ms of CPU time, 2²⁰ parameters, llvmpipe of Mesa 26.1 | 22.3, two runs each
//             (benches/runs/2026-11-28-llvmpipe-blocks): as it is 7.3, 6.7 | 7.7, 7.3; workgroups of 16, which have one
//             block and look it up once, 6.9, 6.4 | 8.9, 8.8. Not kept: on 26.1 it gains no more than runs differ.
// uses lib/grid, lib/reduce, lib/step
struct Params {
    n: u32,        // number of vec4s; clip_factor: of parts; guard: of floats
    groups: u32, rate1: f32, rate2: f32, eps: f32, stride: u32, base: u32, max_norm: f32,
}
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> state: StepState;
@group(0) @binding(2) var<storage, read> grad: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> groups: array<u32>;
@group(0) @binding(4) var<storage, read> table: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read> clip: array<f32>;
@group(0) @binding(6) var<storage, read_write> w: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read_write> m: array<vec4<f32>>;
@group(0) @binding(8) var<storage, read_write> v: array<vec4<f32>>;
@group(0) @binding(9) var<storage, read_write> parts_out: array<f32>;  // square_sum
@group(0) @binding(10) var<storage, read> parts: array<f32>;           // clip_factor
@group(0) @binding(11) var<storage, read_write> clip_out: array<f32>;  // clip_factor
@group(0) @binding(12) var<storage, read> x: array<u32>;               // guard; the bits of floats
@group(0) @binding(13) var<storage, read_write> table_out: array<vec2<f32>>; // guard

fn update(i: u32, factor: f32, correction1: f32, correction2: f32) {
    let group = groups[i / 16u];
    if group >= p.groups { return; }
    let row = table[group];
    if row.x == 0.0 { return; }
    let lr = state.lr * row.x;
    let old = w[i];
    let g = factor * grad[i];
    var m1 = m[i];
    m1 += p.rate1 * (g - m1);
    var v1 = v[i];
    v1 += p.rate2 * (g * g - v1);
    let size = sqrt(v1) / sqrt(correction2) + p.eps;
    w[i] = old - lr * (row.y * old + m1 / correction1 / size);
    m[i] = m1;
    v[i] = v1;
}

@compute @workgroup_size(WG)
fn step(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { update(i, 1.0, state.bias_correction1, state.bias_correction2); }
}

@compute @workgroup_size(WG)
fn step_clipped(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { update(i, clip[0], state.bias_correction1, state.bias_correction2); }
}

@compute @workgroup_size(WG)
fn step_scaled(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n && clip[0] != 0.0 { update(i, clip[0], clip[2], clip[3]); }
}

@compute @workgroup_size(WG)
fn square_sum(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) wid: vec3<u32>) {
    var sum = vec4(0.0);
    for (var i = wid.x * WG + tid; i < p.n; i += p.stride) { sum += grad[i] * grad[i]; }
    let total = wg_sum(tid, sum.x + sum.y + sum.z + sum.w);
    if tid == 0u { parts_out[p.base + wid.x] = total; }
}

@compute @workgroup_size(WG)
fn clip_factor(@builtin(local_invocation_index) tid: u32) {
    var sum = 0.0;
    for (var i = tid; i < p.n; i += WG) { sum += parts[i]; }
    let norm = sqrt(wg_sum(tid, sum));
    if tid == 0u {
        clip_out[0] = min(1.0, p.max_norm / (norm + 1e-6));
        clip_out[1] = norm;
    }
}

// Tests the bits of x: compilers may assume that a compared float is not NaN.
@compute @workgroup_size(WG)
fn guard(@builtin(local_invocation_index) tid: u32) {
    var bad = 0.0;
    for (var i = tid; i < p.n; i += WG) {
        if (x[i] & 0x7f800000u) == 0x7f800000u { bad = 1.0; }
    }
    bad = wg_max(tid, bad);
    if bad == 0.0 { return; }
    for (var row = tid; row < p.groups; row += WG) { table_out[row].x = 0.0; }
}
