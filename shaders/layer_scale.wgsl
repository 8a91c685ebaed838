// layer_scale — a residual branch with layer scale and DropPath in one launch (timm: x + drop_path(h * gamma)).
//   shapes    x, h, y, dy, dh (rows, C)   gamma, dgamma (C)   drop_path (rows / l): the factor of each sample of l rows
//   forward   y = x + drop_path·gamma·h.  l = 0: no drop_path, its factor is 1
//   backward  dx = dy, no launch.  dh = drop_path·gamma·dy.  dgamma = Σ_rows drop_path·h·dy, whose parts (chunks, C)
//             reduce.wgsl adds in a fixed order. dh and dgamma are overwritten.
//   saves     h, gamma and drop_path
//   threads   forward: a lane per element. backward: a lane per channel and chunk of rows computes dh and its part of
//             dgamma in one pass; a lane per two channels if H16 = 1.
//   X16, H16  1: x, or h and dh, hold f16, two in a word. With H16 = 1, C is even. y and dy are f32.
//   floor     per element: 12 bytes forward, 12 backward in f32
// uses lib/grid, lib/half, lib/element
struct Params { rows: u32, c: u32, l: u32, chunk: u32, chunks: u32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<u32>;
@group(0) @binding(2) var<storage, read> h: array<u32>;
@group(0) @binding(3) var<storage, read> gamma: array<f32>;
@group(0) @binding(4) var<storage, read> drop_path: array<f32>;
@group(0) @binding(5) var<storage, read_write> y: array<f32>;
@group(0) @binding(6) var<storage, read> dy: array<f32>;
@group(0) @binding(7) var<storage, read_write> dh: array<u32>;
@group(0) @binding(8) var<storage, read_write> part: array<f32>;

fn factor(row: u32) -> f32 {
    if p.l == 0u { return 1.0; }
    return drop_path[row / p.l];
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.rows * p.c { return; }
    y[i] = element(x[i >> X16], i, X16) + factor(i / p.c) * (gamma[i % p.c] * element(h[i >> H16], i, H16));
}

@compute @workgroup_size(64)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let lane = (grid_row(wid) * 64u + tid) << H16;                   // of part (chunks, C)
    let chunk = lane / p.c;
    let c = lane % p.c;
    if chunk >= p.chunks { return; }
    var sum = vec2(0.0);                                             // of channels c and c + H16
    for (var row = chunk * p.chunk; row < min((chunk + 1u) * p.chunk, p.rows); row++) {
        let i = row * p.c + c;
        let kept = factor(row) * vec2(dy[i], dy[i + H16]);
        let scaled = kept * vec2(gamma[c], gamma[c + H16]);
        if H16 == 1u {
            dh[i >> 1u] = pair(scaled);
            sum += kept * unpack2x16float(h[i >> 1u]);
        } else {
            dh[i] = bitcast<u32>(scaled.x);
            sum.x += kept.x * bitcast<f32>(h[i]);
        }
    }
    part[lane] = sum.x;
    if H16 == 1u { part[lane + 1u] = sum.y; }
}
