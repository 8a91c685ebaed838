// hide — zeros in the cells of a map that belong to hidden patches (x * mask, with the mask repeated over cells).
//   shapes    x, y, dy, dx (B, H, W, C)   inv (B, L): the place of each patch among the visible ones, or 0xffffffff;
//             patches are rows × cols cells, L = (H/rows)·(W/cols)
//   forward   y = x where inv of the cell's patch is a place, else 0
//   backward  dx = the same of dy, overwritten
//   saves     nothing
//   threads   one invocation per element, or per word if HALF = 1
//   HALF = 1  x and y hold f16, two in a word, and C is even
//   floor     8 bytes per element in f32
// uses lib/grid
struct Params { n: u32, h: u32, w: u32, c: u32, rows: u32, cols: u32 }    // n: words of y
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;              // backward: dy
@group(0) @binding(2) var<storage, read> inv: array<u32>;
@group(0) @binding(3) var<storage, read_write> y: array<u32>;        // backward: dx

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let cell = (i << HALF) / p.c;
    let across = p.w / p.cols;
    let row = cell / p.w % p.h / p.rows;
    let b = cell / (p.w * p.h);
    let patch_ = (b * (p.h / p.rows) + row) * across + cell % p.w / p.cols;
    y[i] = select(x[i], 0u, inv[patch_] == 0xffffffffu);
}
