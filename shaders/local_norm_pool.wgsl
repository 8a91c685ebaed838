// local_norm_pool — Mamba3D's local norm pooling (LNP): what the neighbors of each point tell of it.
//   shapes    x, dx (B, T, C)   y, dy (B, T, 2C)   α, β, dα, dβ (2C)   saved (B, T, 2, C)
//             graph (B, 2·T·K + T + 1) in u32, of each cloud: index (T, K), the neighbors of each point; offsets (T+1);
//             entries (T·K), where those with the neighbor j are entries[offsets[j]..offsets[j+1]], each i·K + n
//   forward   d_n = x[index_n] − x.  m and s: mean and unbiased deviation of all M values d of a group, which is the
//             batch, or each cloud.  v_n = d_n/(s + 1e-5),  f_n = α₁·v_n + β₁
//             y = [Σ_n f_n·e^f_n / Σ_n e^f_n,  α₂·x + β₂].  The maximum of f is taken out, so that no e^f overflows.
//   backward  with p = softmax_n f = e^(f − lse), g = dy:
//             df_n = p_n·g₁·(1 + f_n − y₁)    dα₁ = Σ df·v    dβ₁ = Σ df    dα₂ = Σ g₂·x    dβ₂ = Σ g₂
//             dd = α₁·df/(s+ε) − (d − m)·slope,  slope = Σ(α₁·df·d)/((M−1)·s·(s+ε)²), 0 where s is 0. The sum is
//             (s+ε)·Σ_c α₁·dα₁ of the group, so it needs no pass of its own.
//             dx = α₂·g₂ − Σ_n dd_n + Σ dd of the entries that have this point as their neighbor: a gather, no atomics
//             It overwrites dx; dα and dβ are left as parts.
//   saves     saved = y₁ and lse = log Σ_n e^f_n, so that the gradient of an entry needs its own difference alone; stat
//   moments   The mean of a chunk of points, then the squares of what is left, in two walks; chunks are merged around
//             the mean of all, so no square of a mean is subtracted.
//   threads   forward, backward: a lane per point and channel, neighboring lanes neighboring channels. moments: a
//             workgroup per chunk of points. sums: a lane per chunk and channel. statistics, slopes: a workgroup per
//             group.
//   floor     per element of x 20 bytes forward and 20 backward; K exponentials forward, 2·K backward
// uses lib/grid, lib/reduce
struct Params { rows: u32, t: u32, k: u32, c: u32, chunk: u32, chunks: u32, group: u32 }   // group: points of a group
const WG = 256u;
const EPS = 1e-5;
@group(0) @binding(0) var<uniform> p: Params;                      // chunks: of a group
@group(0) @binding(1) var<storage, read> x: array<f32>;
@group(0) @binding(2) var<storage, read> graph: array<u32>;
@group(0) @binding(3) var<storage, read> alpha: array<f32>;
@group(0) @binding(4) var<storage, read> beta: array<f32>;
@group(0) @binding(5) var<storage, read_write> part: array<f32>;    // moments (chunks, 2), or sums (chunks, 4, C)
@group(0) @binding(6) var<storage, read> parts: array<f32>;
@group(0) @binding(7) var<storage, read_write> stat: array<vec4<f32>>;      // m, s, 1/(s + ε), slope
@group(0) @binding(8) var<storage, read> saved_stat: array<vec4<f32>>;
@group(0) @binding(9) var<storage, read_write> y: array<f32>;
@group(0) @binding(10) var<storage, read_write> saved: array<f32>;
@group(0) @binding(11) var<storage, read> kept: array<f32>;                 // saved, in the backward pass
@group(0) @binding(12) var<storage, read> dy: array<f32>;
@group(0) @binding(13) var<storage, read_write> dx: array<f32>;

// Where the graph of a cloud begins.
fn graph_of(cloud: u32) -> u32 { return cloud * (2u * p.t * p.k + p.t + 1u); }
// Row of x of neighbor n of a row.
fn neighbor(row: u32, n: u32) -> u32 {
    let cloud = row / p.t;
    return cloud * p.t + graph[graph_of(cloud) + row % p.t * p.k + n];
}
// d of neighbor n.
fn difference(row: u32, n: u32, c: u32) -> f32 {
    return x[neighbor(row, n) * p.c + c] - x[row * p.c + c];
}
// The first row of chunk i of all, and the row behind its last.
fn chunk_rows(i: u32) -> vec2<u32> {
    let first = i / p.chunks * p.group;
    let begin = first + i % p.chunks * p.chunk;
    return vec2(begin, min(begin + p.chunk, first + p.group));
}

@compute @workgroup_size(WG)
fn moments(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid);
    if i >= p.rows / p.group * p.chunks { return; }
    let rows = chunk_rows(i);
    let each = p.k * p.c;
    let count = (rows.y - rows.x) * each;
    var total = 0.0;
    for (var j = tid; j < count; j += WG) { total += difference(rows.x + j / each, j % each / p.c, j % p.c); }
    let mean = wg_sum(tid, total) / f32(count);
    var squares = 0.0;
    for (var j = tid; j < count; j += WG) {
        let apart = difference(rows.x + j / each, j % each / p.c, j % p.c) - mean;
        squares += apart * apart;
    }
    squares = wg_sum(tid, squares);
    if tid == 0u {
        part[2u * i] = mean;
        part[2u * i + 1u] = squares;
    }
}

// Number of values d of chunk i.
fn counted(i: u32) -> f32 {
    let rows = chunk_rows(i);
    return f32((rows.y - rows.x) * p.k * p.c);
}
@compute @workgroup_size(WG)
fn statistics(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let first = wid.x * p.chunks;
    let count = f32(p.group) * f32(p.k * p.c);
    var total = 0.0;
    for (var i = first + tid; i < first + p.chunks; i += WG) { total += counted(i) / count * parts[2u * i]; }
    let mean = wg_sum(tid, total);
    var squares = 0.0;
    for (var i = first + tid; i < first + p.chunks; i += WG) {
        let apart = parts[2u * i] - mean;
        squares += parts[2u * i + 1u] + counted(i) * apart * apart;
    }
    let deviation = sqrt(wg_sum(tid, squares) / (count - 1.0));
    if tid == 0u { stat[wid.x] = vec4(mean, deviation, 1.0 / (deviation + EPS), 0.0); }
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.rows * p.c { return; }
    let row = i / p.c;
    let c = i % p.c;
    let scale = alpha[c] * saved_stat[row / p.group].z;
    var most = -3.4e38;
    for (var n = 0u; n < p.k; n++) { most = max(most, scale * difference(row, n, c) + beta[c]); }
    var total = 0.0;
    var weighted = 0.0;
    for (var n = 0u; n < p.k; n++) {
        let f = scale * difference(row, n, c) + beta[c];
        let e = exp(f - most);
        total += e;
        weighted += f * e;
    }
    y[2u * row * p.c + c] = weighted / total;
    y[(2u * row + 1u) * p.c + c] = alpha[p.c + c] * x[i] + beta[p.c + c];
    saved[2u * row * p.c + c] = weighted / total;
    saved[(2u * row + 1u) * p.c + c] = most + log(total);
}

// df of a difference d to a neighbor of `row`.
fn dpooled(row: u32, c: u32, d: f32) -> f32 {
    let f = alpha[c] * saved_stat[row / p.group].z * d + beta[c];
    let at = 2u * row * p.c + c;
    return exp(f - kept[at + p.c]) * dy[at] * (1.0 + f - kept[at]);
}

@compute @workgroup_size(64)
fn sums(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let lane = grid_row(wid) * 64u + tid;
    let i = lane / p.c;
    let c = lane % p.c;
    if i >= p.rows / p.group * p.chunks { return; }
    let rows = chunk_rows(i);
    var sum = vec4(0.0);                                 // dα₁/(1/(s+ε)), dα₂, dβ₁, dβ₂
    for (var row = rows.x; row < rows.y; row++) {
        for (var n = 0u; n < p.k; n++) {
            let d = difference(row, n, c);
            let df = dpooled(row, c, d);
            sum += vec4(df * d, 0.0, df, 0.0);
        }
        let g = dy[(2u * row + 1u) * p.c + c];
        sum += vec4(0.0, g * x[row * p.c + c], 0.0, g);
    }
    sum.x *= saved_stat[rows.x / p.group].z;
    for (var j = 0u; j < 4u; j++) { part[(4u * i + j) * p.c + c] = sum[j]; }
}

@compute @workgroup_size(WG)
fn slopes(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let s = saved_stat[wid.x];
    var along = 0.0;
    for (var c = tid; c < p.c; c += WG) {
        var sum = 0.0;
        for (var i = wid.x * p.chunks; i < (wid.x + 1u) * p.chunks; i++) { sum += parts[4u * i * p.c + c]; }
        along += alpha[c] * sum;
    }
    along = wg_sum(tid, along) * s.z;                    // Σ(α₁·df·d)/(s+ε)²
    let count = f32(p.group) * f32(p.k * p.c) - 1.0;
    if tid == 0u { stat[wid.x] = vec4(s.xyz, select(0.0, along / (count * max(s.y, 1e-30)), s.y > 0.0)); }
}

// dd of a difference d to a neighbor of `row`.
fn ddifference(row: u32, c: u32, d: f32) -> f32 {
    let s = saved_stat[row / p.group];
    return alpha[c] * s.z * dpooled(row, c, d) - (d - s.x) * s.w;
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.rows * p.c { return; }
    let row = i / p.c;
    let c = i % p.c;
    var sum = alpha[p.c + c] * dy[(2u * row + 1u) * p.c + c];
    for (var n = 0u; n < p.k; n++) { sum -= ddifference(row, c, difference(row, n, c)); }
    let cloud = row / p.t;
    let offsets = graph_of(cloud) + p.t * p.k;
    let entries = offsets + p.t + 1u;
    let j = row % p.t;
    for (var e = graph[offsets + j]; e < graph[offsets + j + 1u]; e++) {
        let source = cloud * p.t + graph[entries + e] / p.k;
        sum += ddifference(source, c, x[i] - x[source * p.c + c]);
    }
    dx[i] = sum;
}
