// swiglu — the gated layer of a SwiGLU MLP: one half of the channels gates the other (F.silu(a) * b).
//   shapes    x, dx (rows, 2H): a | b   y, dy (rows, H)
//   forward   y = SiLU(a)·b
//   backward  da = dy·b·SiLU'(a)    db = dy·SiLU(a)
//   saves     x
//   overwrites y and dx
//   threads   one invocation per element of y. Neighbors read neighboring numbers of a and of b.
//   floor     per element of y: 12 bytes forward, 20 backward, and one exponential each
// uses lib/grid, lib/math
struct Params { n: u32, h: u32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let at = i + i / p.h * p.h;
    y[i] = silu(x[at]) * x[at + p.h];
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let at = i + i / p.h * p.h;
    dx[at] = dy[i] * x[at + p.h] * silu_slope(x[at]);
    dx[at + p.h] = dy[i] * silu(x[at]);
}
