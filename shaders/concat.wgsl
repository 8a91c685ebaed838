// concat — parts of rows side by side (torch.cat(parts, dim=-1)), and a part of rows (torch.narrow(x, -1, start, len)).
//   shapes    part i (rows, width_i)   y, x (rows, ld)   out (rows, width_0)
//   forward   y[r, start_i + c] = part_i[r, c]; columns that no part covers are 0       dpart_i = narrow(dy)
//   narrow    out[r, c] = x[r, start_0 + c]                              dx = forward with the one part dout
//   saves     nothing. Gradients are overwritten, not accumulated.
//   threads   one invocation per word of the result
//   floor     8 bytes per element of the result
// HALF = 1: everything is f16, two in a word; widths and starts are even and the scalars count words. The words are
// copied as they are, so one source serves f32 and f16.   uses lib/grid
struct Params {
    n: u32, ld: u32,
    start_0: u32, start_1: u32, start_2: u32, start_3: u32,
    width_0: u32, width_1: u32, width_2: u32, width_3: u32,      // 0 for an absent part
}
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<u32>;
@group(0) @binding(2) var<storage, read> b: array<u32>;
@group(0) @binding(3) var<storage, read> c: array<u32>;
@group(0) @binding(4) var<storage, read> d: array<u32>;
@group(0) @binding(5) var<storage, read_write> y: array<u32>;
@group(0) @binding(6) var<storage, read> x: array<u32>;
@group(0) @binding(7) var<storage, read_write> out: array<u32>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let row = i / p.ld;
    let at = vec4(i % p.ld) - vec4(p.start_0, p.start_1, p.start_2, p.start_3);  // huge (wrapped) before a part
    var word = 0u;
    if at.x < p.width_0 { word = a[row * p.width_0 + at.x]; }
    if at.y < p.width_1 { word = b[row * p.width_1 + at.y]; }
    if at.z < p.width_2 { word = c[row * p.width_2 + at.z]; }
    if at.w < p.width_3 { word = d[row * p.width_3 + at.w]; }
    y[i] = word;
}

@compute @workgroup_size(WG)
fn narrow(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { out[i] = x[i / p.width_0 * p.ld + p.start_0 + i % p.width_0]; }
}
