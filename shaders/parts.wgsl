// parts — adds up partial sums: the second half of a sum whose terms are spread over many workgroups, such as the
// gradient of a weight (x.as_strided((rows, cols), (stride, 1), at).sum(0)). One launch may add up the parts of many
// tensors.
//   formula   y[to + c] = Σ_r x[at + r·stride + c],  r < rows, c < cols.  It has no backward: it adds up gradients.
//   shapes    x and y are flat; at, stride and to count elements. With rows = 0, y is 0.
//             table: two vec4 for each sum, (at, rows, stride, cols) and (to, first workgroup, 0, 0), in the order of
//             their workgroups
//   kernels   sum takes one sum from the scalars. sum_many takes `sums` of them from the table: a workgroup searches
//             the sum that it belongs to. All read one buffer and write one, because WebGPU allows eight bindings.
//   threads   A workgroup takes WG columns, and all rows. Of a sum with more than SHORT rows it takes a LANES-th of
//             that, and LANES invocations share a column: each adds every LANES-th row, and then the first adds the
//             others' sums in order. So the order of addition depends on the number of rows only, and both kernels
//             give the same bits.
//   C4        1: an invocation takes four neighboring columns as a vec4. All of at, stride, cols and to are multiples
//             of 4.
//   floor     4·rows·cols bytes read, 4·cols written
// uses lib/grid
struct Params { sums: u32, at: u32, rows: u32, stride: u32, cols: u32, to: u32 }
const WG = 256u;
const SHORT = 64u;
const LANES = 16u;
const EACH = 1u + 3u * C4;                               // columns of an invocation
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<vec4<f32>>;
@group(0) @binding(2) var<storage, read> table: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read_write> y: array<vec4<f32>>;
var<workgroup> sh: array<vec4<f32>, WG>;

fn load(i: u32) -> vec4<f32> {
    if C4 == 1u { return x[i >> 2u]; }
    return vec4(x[i >> 2u][i & 3u], 0.0, 0.0, 0.0);
}
// Workgroup `group` of the sum of `one` = (at, rows, stride, cols).
fn add_up(one: vec4<u32>, to: u32, group: u32, tid: u32) {
    let rows = one.y;
    let lanes = select(1u, LANES, rows > SHORT);
    let wide = WG / lanes;
    let column = (group * wide + tid % wide) * EACH;
    var v = vec4(0.0);
    if column < one.w {
        let at = one.x + column;
        let step = lanes * one.z;
        var row = tid / wide;
        for (; row + 3u * lanes < rows; row += 4u * lanes) {   // four loads that need not wait for one another
            let i = at + row * one.z;
            let a = load(i);
            let b = load(i + step);
            let c = load(i + 2u * step);
            let d = load(i + 3u * step);
            v = (((v + a) + b) + c) + d;
        }
        for (; row < rows; row += lanes) { v += load(at + row * one.z); }
    }
    sh[tid] = v;
    workgroupBarrier();
    if tid >= wide || column >= one.w { return; }
    for (var i = 1u; i < lanes; i++) { v += sh[tid + i * wide]; }
    let i = to + column;
    if C4 == 1u { y[i >> 2u] = v; } else { y[i >> 2u][i & 3u] = v.x; }
}

@compute @workgroup_size(WG)
fn sum(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    add_up(vec4(p.at, p.rows, p.stride, p.cols), p.to, grid_row(wid), tid);
}

@compute @workgroup_size(WG)
fn sum_many(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let group = grid_row(wid);
    var first = 0u;                                      // the sum is in first..last
    var last = p.sums;
    while last - first > 1u {
        let middle = (first + last) / 2u;
        if table[2u * middle + 1u].y > group { last = middle; } else { first = middle; }
    }
    let place = table[2u * first + 1u];
    add_up(table[2u * first], place.x, group - place.y, tid);
}
