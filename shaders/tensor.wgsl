// tensor — element-wise primitives that the tape and the tensors launch themselves.
//   x, z, out (n)   fill: out = value (torch.full)   copy: out = x (x.to(dtype), if the types differ)
//                   add_into: out += x   plus: out = x + z.   No backward.
//   X16, Z16, O16   1: the array holds f16, two in a word. A sum is computed in f32 and rounded once. fill writes f32.
// One invocation per element, or per word of `out` if O16 = 1. Floor: 4, 8, 12 and 12 bytes per element in f32.
// uses lib/grid, lib/half, lib/element
struct Params { n: u32, value: f32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read_write> out: array<u32>;
@group(0) @binding(3) var<storage, read> z: array<u32>;
@group(0) @binding(4) var<storage, read_write> filled: array<f32>;

// Elements i and i + 1; the second is used only where O16 = 1.
fn x2(i: u32) -> vec2<f32> {
    let next = min(i + O16, p.n - 1u);
    return vec2(element(x[i >> X16], i, X16), element(x[next >> X16], next, X16));
}
fn z2(i: u32) -> vec2<f32> {
    let next = min(i + O16, p.n - 1u);
    return vec2(element(z[i >> Z16], i, Z16), element(z[next >> Z16], next, Z16));
}
fn out2(i: u32) -> vec2<f32> {
    let word = out[i >> O16];
    if O16 == 1u { return unpack2x16float(word); }
    return vec2(bitcast<f32>(word), 0.0);
}
fn put(i: u32, v: vec2<f32>) {
    if O16 == 1u { out[i >> 1u] = pair(v); } else { out[i] = bitcast<u32>(v.x); }
}

@compute @workgroup_size(WG)
fn fill(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { filled[i] = p.value; }
}

@compute @workgroup_size(WG)
fn copy(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = (grid_row(wid) * WG + tid) * (1u + O16);
    if i < p.n { put(i, x2(i)); }
}

@compute @workgroup_size(WG)
fn add_into(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = (grid_row(wid) * WG + tid) * (1u + O16);
    if i < p.n { put(i, out2(i) + x2(i)); }
}

@compute @workgroup_size(WG)
fn plus(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = (grid_row(wid) * WG + tid) * (1u + O16);
    if i < p.n { put(i, x2(i) + z2(i)); }
}
