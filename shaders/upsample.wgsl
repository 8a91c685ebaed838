// upsample — each cell of a map twice in rows and in columns (F.interpolate(scale_factor=2, mode="nearest")).
//   shapes    x, dx (B, H, W, C)   y, dy (B, 2H, 2W, C)
//   forward   y[b, i, j, c] = x[b, i/2, j/2, c]
//   backward  dx[b, i, j, c] = dy[2i, 2j] + dy[2i, 2j+1] + dy[2i+1, 2j] + dy[2i+1, 2j+1], in this order, overwritten
//   saves     nothing
//   threads   one invocation per element of the result
//   floor     20 bytes per element of x, forward and backward
// uses lib/grid
struct Params { n: u32, w: u32, c: u32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;                        // n: elements written; w: columns of x
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let column = i / p.c % (2u * p.w) / 2u;
    let row = i / p.c / (2u * p.w) / 2u;                             // of all images: 2H is even
    y[i] = x[(row * p.w + column) * p.c + i % p.c];
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let column = i / p.c % p.w;
    let row = i / p.c / p.w;                                         // of all images
    let above = (2u * row * 2u * p.w + 2u * column) * p.c + i % p.c;
    let below = above + 2u * p.w * p.c;
    dx[i] = dy[above] + dy[above + p.c] + dy[below] + dy[below + p.c];
}
