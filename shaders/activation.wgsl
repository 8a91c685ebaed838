// activation — GELU (erf and tanh), SiLU, softplus and ReLU, element by element (torch.nn.functional.gelu with
// approximate="none" or "tanh", silu, softplus with threshold 20, relu).
//   shapes    x, y, dy, dx (n)
//   gelu      y = x·Φ(x),  Φ(x) = (1 + erf(x/√2))/2      dx = dy·(Φ(x) + x·φ(x)),  φ(x) = exp(−x²/2)/√(2π)
//   gelu_tanh y = x·(1 + tanh v)/2 = x·s,  s = σ(2v),  v = √(2/π)·x·(1 + 0.044715x²)
//             dx = dy·(s + 2x·s·(1 − s)·√(2/π)·(1 + 0.134145x²))
//   silu      y = x·σ(x)                                 dx = dy·σ(x)·(1 + x·(1 − σ(x)))
//   softplus  y = x if x > 20 else ln(1 + eˣ)            dx = dy if x > 20 else dy·σ(x)
//   relu      y = max(x, 0)                              dx = dy if x > 0 else 0
//   saves     x, from which backward computes every derivative; relu saves y, which is above 0 where x is. Backward
//             overwrites dx; it does not accumulate.
//   threads   one invocation per vec4; what lies past the end of an array is not written
//   HALF = 1  x, y, dy and dx hold f16, two in a word, and n is a multiple of 4
//   floor     8 bytes per element forward, 12 backward; half of that in f16
//   tried     ms of CPU time, GELU of 2²¹ elements on llvmpipe (benches/runs/2026-11-28-llvmpipe-blocks): an element an
//             invocation 10.5 (Mesa 26.1) and 10.0 (22.3), four elements 16 apart 7.6 and 9.6, a vec4 7.0 and 5.1. Of
//             7.0 the copy is 5.8. A polynomial of 5 terms for Φ, right to 1e-4 only, would save 0.2.
// uses lib/grid, lib/math, lib/half, lib/element
struct Params { n: u32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read_write> y: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> dy: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read_write> dx: array<vec4<u32>>;

// Quad i of x and of dy.
fn x4(i: u32) -> vec4<f32> {
    return element4(x[i >> HALF], i, HALF);
}
fn dy4(i: u32) -> vec4<f32> {
    return element4(dy[i >> HALF], i, HALF);
}
// Store quad i of y and of dx, except for elements past the end.
fn put_y(i: u32, v: vec4<f32>) {
    if HALF == 1u {
        let words = halves(v);
        y[i >> 1u][2u * (i & 1u)] = words.x;
        y[i >> 1u][2u * (i & 1u) + 1u] = words.y;
        return;
    }
    if 4u * i + 4u <= p.n { y[i] = bitcast<vec4<u32>>(v); return; }
    for (var j = 0u; 4u * i + j < p.n; j++) { y[i][j] = bitcast<u32>(v[j]); }
}
fn put_dx(i: u32, v: vec4<f32>) {
    if HALF == 1u {
        let words = halves(v);
        dx[i >> 1u][2u * (i & 1u)] = words.x;
        dx[i >> 1u][2u * (i & 1u) + 1u] = words.y;
        return;
    }
    if 4u * i + 4u <= p.n { dx[i] = bitcast<vec4<u32>>(v); return; }
    for (var j = 0u; 4u * i + j < p.n; j++) { dx[i][j] = bitcast<u32>(v[j]); }
}

@compute @workgroup_size(WG)
fn gelu_forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if 4u * i >= p.n { return; }
    let v = x4(i);
    put_y(i, vec4(gelu(v.x), gelu(v.y), gelu(v.z), gelu(v.w)));
}

@compute @workgroup_size(WG)
fn gelu_backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if 4u * i >= p.n { return; }
    let v = x4(i);
    put_dx(i, dy4(i) * vec4(gelu_slope(v.x), gelu_slope(v.y), gelu_slope(v.z), gelu_slope(v.w)));
}

@compute @workgroup_size(WG)
fn gelu_tanh_forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if 4u * i >= p.n { return; }
    let v = x4(i);
    put_y(i, vec4(gelu_tanh(v.x), gelu_tanh(v.y), gelu_tanh(v.z), gelu_tanh(v.w)));
}

@compute @workgroup_size(WG)
fn gelu_tanh_backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if 4u * i >= p.n { return; }
    let v = x4(i);
    put_dx(i, dy4(i) * vec4(gelu_tanh_slope(v.x), gelu_tanh_slope(v.y), gelu_tanh_slope(v.z), gelu_tanh_slope(v.w)));
}

@compute @workgroup_size(WG)
fn silu_forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if 4u * i >= p.n { return; }
    let v = x4(i);
    put_y(i, vec4(silu(v.x), silu(v.y), silu(v.z), silu(v.w)));
}

@compute @workgroup_size(WG)
fn silu_backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if 4u * i >= p.n { return; }
    let v = x4(i);
    put_dx(i, dy4(i) * vec4(silu_slope(v.x), silu_slope(v.y), silu_slope(v.z), silu_slope(v.w)));
}

@compute @workgroup_size(WG)
fn softplus_forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if 4u * i >= p.n { return; }
    let v = x4(i);
    put_y(i, vec4(softplus(v.x), softplus(v.y), softplus(v.z), softplus(v.w)));
}

@compute @workgroup_size(WG)
fn softplus_backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if 4u * i >= p.n { return; }
    let v = x4(i);
    put_dx(i, dy4(i) * vec4(softplus_slope(v.x), softplus_slope(v.y), softplus_slope(v.z), softplus_slope(v.w)));
}

@compute @workgroup_size(WG)
fn relu_forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if 4u * i >= p.n { return; }
    let v = x4(i);
    put_y(i, max(v, vec4(0.0)));
}

@compute @workgroup_size(WG)
fn relu_backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if 4u * i >= p.n { return; }
    let v = x4(i);
    put_dx(i, select(vec4(0.0), dy4(i), v > vec4(0.0)));
}
