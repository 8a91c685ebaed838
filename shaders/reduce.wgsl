// reduce — sums over everything or over rows, each in two stages of the same kernel: the order is fixed.
//   sum      x (n) -> y (groups), y[i] = scale · the share of workgroup i; then x = y of before, one workgroup
//            mean is sum with scale = 1/n in the last stage
//   spread   its backward: dx (n) = scale · dy[0], assigned
//   columns  x (S, rows, D) -> y (S, chunks, D), y = scale · Σ over `chunk` rows; then x = y of before, chunk = all rows.
//            The gradient of a bias: no backward of its own. x may be f16.
//   tokens   the backward of a mean over tokens, x (B, L, D) -> y (B, D), which is columns with scale = 1/L in the last
//            stage: dx (B, L, D) = scale · dy[b], assigned
// sum: workgroup of 256, strides over the whole of x; spread, tokens: an invocation per element; columns: an invocation per
// column and chunk, neighbours read neighbours. Floor: 4 bytes per element of x (spread, tokens: of dx).
// uses lib/grid, lib/reduce
struct Params { n: u32, groups: u32, scale: f32, rows: u32, cols: u32, chunk: u32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(5) var<storage, read> words: array<u32>; // x of columns, pairs of f16 where X16 = 1
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(WG)
fn sum(t: Thread, @builtin(workgroup_id) wid: vec3<u32>) {
    var mine = 0.0;
    for (var i = wid.x * WG + t.tid; i < p.n; i += p.groups * WG) { mine += x[i]; }
    let all = wg_sum(t, mine);
    if t.tid == 0u { y[wid.x] = all * p.scale; }
}

@compute @workgroup_size(WG)
fn spread(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { dx[i] = dy[0] * p.scale; }
}

@compute @workgroup_size(WG)
fn tokens(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { dx[i] = dy[i / (p.rows * p.cols) * p.cols + i % p.cols] * p.scale; }
}

fn at(i: u32) -> f32 {
    if X16 == 1u { return unpack2x16float(words[i >> 1u])[i & 1u]; }
    return bitcast<f32>(words[i]);
}
@compute @workgroup_size(64)
fn columns(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let col = wid.x * 64u + tid;
    if col >= p.cols { return; }
    let first = wid.y * p.chunk;
    let end = min(first + p.chunk, p.rows);
    let base = wid.z * p.rows * p.cols + col;
    var four = vec4(0.0);                                // four chains of additions: loads need not wait for sums
    var row = first;
    for (; row + 4u <= end; row += 4u) {
        let i = base + row * p.cols;
        four += vec4(at(i), at(i + p.cols), at(i + 2u * p.cols), at(i + 3u * p.cols));
    }
    for (; row < end; row++) { four.x += at(base + row * p.cols); }
    let chunks = (p.rows + p.chunk - 1u) / p.chunk;
    y[(wid.z * chunks + wid.y) * p.cols + col] = ((four.x + four.y) + (four.z + four.w)) * p.scale;
}
