// pixel_loss — cross-entropy of the pixels of a label map (F.cross_entropy with ignore_index) against scores of a
// smaller map, which are interpolated between half pixels as they are read (F.interpolate, align_corners=False): scores
// of the size of the labels are never stored.
//   shapes    z, dz (B, h, w, K)   labels (B, H, W), ignored where not below K   loss, dloss (1)
//   forward   s = z at the pixel, most = max_k s, sum = Σ_k exp(s − most)
//             loss = Σ over labeled pixels of (ln sum + most − s_label), divided by all pixels, or (LABELED = 1) by the
//             labeled ones + 2⁻²³, which keeps the loss of none at 0
//   backward  dz[i, k] = dloss/divisor·Σ over labeled pixels near i of weight·(exp(s − most)/sum − [k = label]), pixels
//             in order. A gather, so no atomics; it overwrites dz.
//   saves     stat (B·H·W, 2): most and sum, which lose no digits of large scores as their logarithm would; scale (1)
//   threads   forward: one invocation per pixel of the labels; finish: one workgroup; backward: one per element of z
//   floor     forward: z, labels and stat are moved once; backward: these and dz
// uses lib/grid, lib/reduce
struct Params { n: u32, elements: u32, h: u32, w: u32, rows: u32, cols: u32, k: u32, groups: u32, all: f32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;                        // n: pixels; elements: of z
@group(0) @binding(1) var<storage, read> z: array<f32>;
@group(0) @binding(2) var<storage, read> labels: array<u32>;
@group(0) @binding(3) var<storage, read_write> stat: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read_write> part: array<vec2<f32>>;
@group(0) @binding(5) var<storage, read> parts: array<vec2<f32>>;
@group(0) @binding(6) var<storage, read_write> loss: array<f32>;
@group(0) @binding(7) var<storage, read_write> scale: array<f32>;
@group(0) @binding(8) var<storage, read> saved_stat: array<vec2<f32>>;
@group(0) @binding(9) var<storage, read> saved_scale: array<f32>;
@group(0) @binding(10) var<storage, read> dloss: array<f32>;
@group(0) @binding(11) var<storage, read_write> dz: array<f32>;

// The two cells of a side of `n` that pixel o of `out` lies between, and the weights of both, as in resample.wgsl.
struct Between { low: u32, high: u32, head: f32, tail: f32 }
fn between(o: u32, n: u32, out: u32) -> Between {
    let num = max((2u * o + 1u) * n, out) - out;
    let low = num / (2u * out);
    let part = f32(num % (2u * out)) / f32(2u * out);
    if low + 1u >= n { return Between(n - 1u, n - 1u, 1.0, 0.0); }
    return Between(low, low + 1u, 1.0 - part, part);
}
// The first and the last of `out` pixels that may read cell i of a side of `n`.
fn readers(i: u32, n: u32, out: u32) -> vec2<u32> {
    let low = max(2u * i * out, out + n) - (out + n);
    let high = max((2u * i + 3u) * out, n) - n;
    return vec2(low / (2u * n), min(high / (2u * n) + 1u, out - 1u));
}
// The four cells of a pixel in z, each times K, and their weights.
struct Pixel { at: vec4<u32>, weight: vec4<f32> }
fn pixel(i: u32) -> Pixel {
    let v = between(i / p.cols % p.rows, p.h, p.rows);
    let u = between(i % p.cols, p.w, p.cols);
    let base = i / p.cols / p.rows * p.h;
    let above = (base + v.low) * p.w;
    let below = (base + v.high) * p.w;
    let at = vec4(above + u.low, above + u.high, below + u.low, below + u.high) * p.k;
    return Pixel(at, vec4(v.head * u.head, v.head * u.tail, v.tail * u.head, v.tail * u.tail));
}
fn score(x: Pixel, k: u32) -> f32 {
    return dot(x.weight, vec4(z[x.at.x + k], z[x.at.y + k], z[x.at.z + k], z[x.at.w + k]));
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    var mine = vec2(0.0);                                             // loss, and 1 if there is a label
    if i < p.n {
        let label = labels[i];
        let x = pixel(i);
        var most = score(x, 0u);
        for (var k = 1u; k < p.k; k++) { most = max(most, score(x, k)); }
        var sum = 0.0;
        for (var k = 0u; k < p.k; k++) { sum += exp(max(score(x, k) - most, -80.0)); }
        stat[i] = vec2(most, sum);
        if label < p.k { mine = vec2(log(sum) + (most - score(x, label)), 1.0); }
    }
    let total = wg_sum2(tid, mine);
    if tid == 0u && grid_row(wid) < p.groups { part[grid_row(wid)] = total; }
}

@compute @workgroup_size(WG)
fn finish(@builtin(local_invocation_index) tid: u32) {
    var mine = vec2(0.0);
    for (var i = tid; i < p.groups; i += WG) { mine += parts[i]; }
    let total = wg_sum2(tid, mine);
    if tid == 0u {
        let divisor = select(p.all, total.y + 1.1920929e-7, LABELED == 1u);
        loss[0] = total.x / divisor;
        scale[0] = 1.0 / divisor;
    }
}

@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.elements { return; }
    let k = i % p.k;
    let cell = vec2(i / p.k / p.w % p.h, i / p.k % p.w);
    let sample = i / p.k / p.w / p.h;
    let rows = readers(cell.x, p.h, p.rows);
    let cols = readers(cell.y, p.w, p.cols);
    var sum = 0.0;
    for (var row = rows.x; row <= rows.y; row++) {
        let v = between(row, p.h, p.rows);
        let down = select(0.0, v.head, v.low == cell.x) + select(0.0, v.tail, v.high == cell.x);
        if down == 0.0 { continue; }
        var line = 0.0;
        for (var col = cols.x; col <= cols.y; col++) {
            let at = (sample * p.rows + row) * p.cols + col;
            let u = between(col, p.w, p.cols);
            let across = select(0.0, u.head, u.low == cell.y) + select(0.0, u.tail, u.high == cell.y);
            let label = labels[at];
            if across == 0.0 || label >= p.k { continue; }
            let s = saved_stat[at];
            line += across * (exp(max(score(pixel(at), k) - s.x, -80.0)) / s.y - select(0.0, 1.0, label == k));
        }
        sum += down * line;
    }
    dz[i] = dloss[0] * saved_scale[0] * sum;
}
