// reduce — sums over a whole tensor (x.sum(), x.mean()), over rows (x.sum(0): the gradient of a bias) and over tokens
// (x.mean(1)). A large sum takes two launches of one kernel; the second sums the first one's y. So the order of
// summation is fixed, and a result always has the same bits.
//   sum       x (n) → y (groups):  y[i] = scale·Σ of workgroup i's share. A mean has scale = 1/n in the last launch.
//   spread    backward of sum and mean:  dx (n) = scale·dy[0]
//   columns   x (S, rows, D) → y (S, chunks, D):  y = scale·Σ over `chunk` rows;  chunk = rows in the last launch.
//             x may be f16. No backward: nothing differentiates the gradient of a bias, whose chunks parts.wgsl adds.
//   tokens    backward of the mean over tokens:  dx (B, L, D) = scale·dy[b], dy (B, D). Its forward is columns with
//             scale = 1/L in the last launch. dx may be f16, with an even D.
//   spread and tokens overwrite dx. Nothing is saved: the gradient of a sum does not depend on x.
//   threads   sum: workgroups of 256 in a grid-stride loop over x. spread, tokens: one invocation per element of dx.
//             columns: one invocation per column and chunk, so that neighboring invocations read neighboring numbers.
//   floor     4 bytes per element of x; spread, tokens: of dx
// uses lib/grid, lib/reduce, lib/half, lib/element
struct Params { n: u32, groups: u32, scale: f32, rows: u32, cols: u32, chunk: u32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(5) var<storage, read> words: array<u32>; // x of columns; X16 = 1: two f16 per word
@group(0) @binding(6) var<storage, read_write> spread_words: array<u32>; // dx of tokens; D16 = 1: two f16 per word
@group(0) @binding(2) var<storage, read_write> y: array<f32>;
@group(0) @binding(3) var<storage, read> dy: array<f32>;
@group(0) @binding(4) var<storage, read_write> dx: array<f32>;

@compute @workgroup_size(WG)
fn sum(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) wid: vec3<u32>) {
    var mine = 0.0;
    for (var i = wid.x * WG + tid; i < p.n; i += p.groups * WG) { mine += x[i]; }
    let all = wg_sum(tid, mine);
    if tid == 0u { y[wid.x] = all * p.scale; }
}

@compute @workgroup_size(WG)
fn spread(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { dx[i] = dy[0] * p.scale; }
}

@compute @workgroup_size(WG)
fn tokens(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = (grid_row(wid) * WG + tid) << D16;
    if i >= p.n { return; }
    let from_ = i / (p.rows * p.cols) * p.cols + i % p.cols;
    let v = vec2(dy[from_], dy[from_ + D16]) * p.scale;
    if D16 == 1u { spread_words[i >> 1u] = pair(v); } else { spread_words[i] = bitcast<u32>(v.x); }
}

fn at(i: u32) -> f32 {
    return element(words[i >> X16], i, X16);
}
@compute @workgroup_size(64)
fn columns(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let col = wid.x * 64u + tid;
    if col >= p.cols { return; }
    let first = wid.y * p.chunk;
    let end = min(first + p.chunk, p.rows);
    let base = wid.z * p.rows * p.cols + col;
    var four = vec4(0.0);                                // four sums: a load need not wait for the last sum
    var row = first;
    for (; row + 4u <= end; row += 4u) {
        let i = base + row * p.cols;
        four += vec4(at(i), at(i + p.cols), at(i + 2u * p.cols), at(i + 3u * p.cols));
    }
    for (; row < end; row++) { four.x += at(base + row * p.cols); }
    let chunks = (p.rows + p.chunk - 1u) / p.chunk;
    y[(wid.z * chunks + wid.y) * p.cols + col] = ((four.x + four.y) + (four.z + four.w)) * p.scale;
}
