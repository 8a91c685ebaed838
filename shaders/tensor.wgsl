// tensor — element-wise primitives that the tape and the tensors launch themselves.
//   x, z, out (n)   fill: out = value (torch.full)   copy: out = x   add_into: out += x   plus: out = x + z
//   halve: words = x as f16 (x.half()), two per word.   No backward.
// One invocation per element; halve: per word. Floor: 4, 8, 12, 12 and 6 bytes per element.   uses lib/grid, lib/half
struct Params { n: u32, value: f32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> out: array<f32>;
@group(0) @binding(3) var<storage, read> z: array<f32>;
@group(0) @binding(4) var<storage, read_write> words: array<u32>;

@compute @workgroup_size(WG)
fn fill(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { out[i] = p.value; }
}

@compute @workgroup_size(WG)
fn copy(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { out[i] = x[i]; }
}

@compute @workgroup_size(WG)
fn add_into(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { out[i] += x[i]; }
}

@compute @workgroup_size(WG)
fn plus(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { out[i] = x[i] + z[i]; }
}

@compute @workgroup_size(WG)
fn halve(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = 2u * (grid_row(wid) * WG + tid);
    if i < p.n { words[i / 2u] = pair(vec2(x[i], x[min(i + 1u, p.n - 1u)])); }
}
