// activation — GELU (erf and tanh), SiLU, softplus and ReLU, element by element (torch.nn.functional.gelu with
// approximate="none" or "tanh", silu, softplus with threshold 20, relu).
//   shapes    x, y, dy, dx (n)
//   gelu      y = x·Φ(x),  Φ(x) = (1 + erf(x/√2))/2      dx = dy·(Φ(x) + x·φ(x)),  φ(x) = exp(−x²/2)/√(2π)
//   gelu_tanh y = x·(1 + tanh v)/2 = x·s,  s = σ(2v),  v = √(2/π)·x·(1 + 0.044715x²)
//             dx = dy·(s + 2x·s·(1 − s)·√(2/π)·(1 + 0.134145x²))
//   silu      y = x·σ(x)                                 dx = dy·σ(x)·(1 + x·(1 − σ(x)))
//   softplus  y = x if x > 20 else ln(1 + eˣ)            dx = dy if x > 20 else dy·σ(x)
//   relu      y = max(x, 0)                              dx = dy if x > 0 else 0
//   saves     x, from which backward computes every derivative. Backward overwrites dx; it does not accumulate.
//   threads   one invocation per element
//   floor     8 bytes per element forward, 12 backward
// uses lib/grid, lib/math
struct Params { n: u32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(WG)
fn gelu_forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { y[i] = gelu(x[i]); }
}

@compute @workgroup_size(WG)
fn gelu_backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { dx[i] = dy[i] * gelu_slope(x[i]); }
}

@compute @workgroup_size(WG)
fn gelu_tanh_forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { y[i] = gelu_tanh(x[i]); }
}

@compute @workgroup_size(WG)
fn gelu_tanh_backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { dx[i] = dy[i] * gelu_tanh_slope(x[i]); }
}

@compute @workgroup_size(WG)
fn silu_forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { y[i] = silu(x[i]); }
}

@compute @workgroup_size(WG)
fn silu_backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { dx[i] = dy[i] * silu_slope(x[i]); }
}

@compute @workgroup_size(WG)
fn softplus_forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { y[i] = softplus(x[i]); }
}

@compute @workgroup_size(WG)
fn softplus_backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { dx[i] = dy[i] * softplus_slope(x[i]); }
}

@compute @workgroup_size(WG)
fn relu_forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { y[i] = max(x[i], 0.0); }
}

@compute @workgroup_size(WG)
fn relu_backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { dx[i] = select(0.0, dy[i], x[i] > 0.0); }
}
