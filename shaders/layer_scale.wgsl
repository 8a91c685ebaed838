// layer_scale — a residual branch with layer scale and DropPath in one launch (timm: x + drop_path(h * gamma)).
//   shapes    x, h, y, dy, dh (rows, C)   gamma, dgamma (C)   drop_path (rows / l): the factor of each sample of l rows
//   forward   y = x + drop_path·gamma·h.  l = 0: no drop_path, its factor is 1
//   backward  dx = dy, no launch.  dh = drop_path·gamma·dy.  dgamma = Σ_rows drop_path·h·dy, whose parts (chunks, C)
//             reduce.wgsl adds in a fixed order. dh and dgamma are overwritten.
//   saves     h, gamma and drop_path
//   threads   forward: a lane per element. backward: a lane per channel and chunk of rows computes dh and its part of
//             dgamma in one pass.
//   floor     per element: 12 bytes forward, 12 backward
// uses lib/grid
struct Params { rows: u32, c: u32, l: u32, chunk: u32, chunks: u32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> h: array<f32>;
@group(0) @binding(3) var<storage, read> gamma: array<f32>;
@group(0) @binding(4) var<storage, read> drop_path: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<storage, read> dy: array<f32>;
@group(0) @binding(7) var<storage, read_write> dh: array<f32>;
@group(0) @binding(8) var<storage, read_write> part: array<f32>;

fn factor(row: u32) -> f32 {
    if p.l == 0u { return 1.0; }
    return drop_path[row / p.l];
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.rows * p.c { y[i] = x[i] + factor(i / p.c) * (gamma[i % p.c] * h[i]); }
}

@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let lane = grid_row(wid) * 64u + tid;                            // of part (chunks, C)
    let chunk = lane / p.c;
    let c = lane % p.c;
    if chunk >= p.chunks { return; }
    var sum = 0.0;
    for (var row = chunk * p.chunk; row < min((chunk + 1u) * p.chunk, p.rows); row++) {
        let i = row * p.c + c;
        let kept = factor(row) * dy[i];
        dh[i] = kept * gamma[c];
        sum += kept * h[i];
    }
    part[lane] = sum;
}
