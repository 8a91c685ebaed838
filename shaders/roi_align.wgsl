// roi_align — pooling of boxes from the levels of a pyramid (torchvision's roi_align, "v2" of detectron2).
//   shapes    up to four maps f (B, H_l, W_l, C), rois (R, 5): sample, x0, y0, x1, y1 in pixels, y (R, P, Q, C)
//   level     number of areas `area1` to `area3` that the box's area reaches. The launcher makes them of the formula
//             with a logarithm, so that all kernels agree.
//   forward   y = A_y·f·A_xᵀ: row p of A_y is the mean over g samples s of the two weights of interpolation at s.
//             start = y0·scale − ½, extent = (y1 − y0)·scale, g = ⌈extent/P⌉, s = start + (p + (i + ½)/g)·extent/P.
//             samples > 0: g is that. aligned = 0: no ½, and extent is at least 1. No sample, no value: 0.
//             s outside of [−1, H] counts as 0; from 0 and H − 1 outwards the cell at the edge counts whole.
//   backward  df of one level: df[y, x] = gradient·Σ_boxes Σ_p Σ_q A_y[p, y]·A_x[q, x]·dy[p, q], boxes in order. A
//             gather, so no atomics: a workgroup owns a tile of 4×4 pixels and up to 16 items of channels, finds the
//             boxes that meet it, 256 at a time, and each invocation sums those for its pixel. It overwrites df.
//   saves     nothing: weights are computed again
//   threads   forward: one invocation per bin and item, an item being four channels (VEC = 1) or one
//   floor     forward: 4 bytes per element of y and 16 read for each sample, which caches serve; backward: dy is read
//             once, df written once
// uses lib/grid, lib/element
struct Params {
    n: u32, rois: u32, words: u32, rows: u32, cols: u32, samples: u32, is_aligned: u32, level: u32,  // words: items
    h0: u32, w0: u32, h1: u32, w1: u32, h2: u32, w2: u32, h3: u32, w3: u32,
    scale0: f32, scale1: f32, scale2: f32, scale3: f32, area1: f32, area2: f32, area3: f32, gradient: f32,
}
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> f0: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> f1: array<vec4<u32>>;
@group(0) @binding(3) var<storage, read> f2: array<vec4<u32>>;
@group(0) @binding(4) var<storage, read> f3: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read> rois: array<f32>;
@group(0) @binding(6) var<storage, read_write> y: array<vec4<u32>>;   // y forward, df backward
@group(0) @binding(7) var<storage, read> dy: array<vec4<u32>>;

struct Level { size: vec2<u32>, scale: f32 }                          // rows, columns
fn level_at(level: u32) -> Level {
    if level == 0u { return Level(vec2(p.h0, p.w0), p.scale0); }
    if level == 1u { return Level(vec2(p.h1, p.w1), p.scale1); }
    if level == 2u { return Level(vec2(p.h2, p.w2), p.scale2); }
    return Level(vec2(p.h3, p.w3), p.scale3);
}
struct Box { sample: u32, level: u32, low: vec2<f32>, high: vec2<f32> } // low and high: y, x
fn box_at(r: u32) -> Box {
    let at = r * 5u;
    let low = vec2(rois[at + 2u], rois[at + 1u]);
    let high = vec2(rois[at + 4u], rois[at + 3u]);
    let area = max((high.x - low.x) * (high.y - low.y), 0.0);
    let level = u32(area >= p.area1) + u32(area >= p.area2) + u32(area >= p.area3);
    return Box(u32(rois[at]), level, low, high);
}
// The samples of one axis: the first bin's edge, a bin's size, and how many samples it has.
struct Axis { start: f32, bin: f32, count: u32 }
fn axis(low: f32, high: f32, scale: f32, bins: u32) -> Axis {
    var start = low * scale;
    var extent = (high - low) * scale;
    if p.is_aligned == 1u { start -= 0.5; } else { extent = max(extent, 1.0); }
    var count = p.samples;
    if count == 0u {
        // the least number with count·bins ≥ extent: a quotient may be rounded to the wrong side of a whole number
        count = u32(clamp(extent / f32(bins), 0.0, 65536.0));
        if f32(count * bins) < extent { count++; }
        if count > 0u && f32((count - 1u) * bins) >= extent { count--; }
    }
    return Axis(start, extent / f32(bins), count);
}
// The cells that a sample reads, with their weights. `high` is `low` where only one counts.
struct Sample { low: u32, high: u32, head: f32, tail: f32 }
fn sample(a: Axis, bin: u32, i: u32, cells: u32) -> Sample {
    let s = a.start + f32(bin) * a.bin + (f32(i) + 0.5) * a.bin / f32(a.count);
    if !(s >= -1.0 && s <= f32(cells)) { return Sample(0u, 0u, 0.0, 0.0); }
    let at = max(s, 0.0);
    let low = u32(at);
    if low + 1u >= cells { return Sample(cells - 1u, cells - 1u, 1.0, 0.0); }
    return Sample(low, low + 1u, 1.0 - (at - f32(low)), at - f32(low));
}
fn feature(level: u32, i: u32) -> vec4<f32> {
    if VEC == 1u {
        if level == 0u { return bitcast<vec4<f32>>(f0[i]); }
        if level == 1u { return bitcast<vec4<f32>>(f1[i]); }
        if level == 2u { return bitcast<vec4<f32>>(f2[i]); }
        return bitcast<vec4<f32>>(f3[i]);
    }
    var word = 0u;
    if level == 0u { word = f0[i >> 2u][i & 3u]; }
    else if level == 1u { word = f1[i >> 2u][i & 3u]; }
    else if level == 2u { word = f2[i >> 2u][i & 3u]; }
    else { word = f3[i >> 2u][i & 3u]; }
    return vec4(bitcast<f32>(word), 0.0, 0.0, 0.0);
}
fn store(i: u32, v: vec4<f32>) {
    if VEC == 1u { y[i] = bitcast<vec4<u32>>(v); } else { y[i >> 2u][i & 3u] = bitcast<u32>(v.x); }
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let bin = i / p.words;
    let b = box_at(bin / p.cols / p.rows);
    let level = level_at(b.level);
    let down = axis(b.low.x, b.high.x, level.scale, p.rows);
    let across = axis(b.low.y, b.high.y, level.scale, p.cols);
    let base = b.sample * level.size.x * level.size.y;
    let word = i % p.words;
    var sum = vec4(0.0);
    for (var j = 0u; j < down.count; j++) {
        let v = sample(down, bin / p.cols % p.rows, j, level.size.x);
        let above = base + v.low * level.size.y;
        let below = base + v.high * level.size.y;
        for (var k = 0u; k < across.count; k++) {
            let h = sample(across, bin % p.cols, k, level.size.y);
            let top = h.head * feature(b.level, (above + h.low) * p.words + word)
                + h.tail * feature(b.level, (above + h.high) * p.words + word);
            let bottom = h.head * feature(b.level, (below + h.low) * p.words + word)
                + h.tail * feature(b.level, (below + h.high) * p.words + word);
            sum += v.head * top + v.tail * bottom;
        }
    }
    store(i, sum / f32(max(down.count * across.count, 1u)));
}

// A[bin, cell]
fn share(a: Axis, bin: u32, cell: u32, cells: u32) -> f32 {
    var sum = 0.0;
    for (var i = 0u; i < a.count; i++) {
        let s = sample(a, bin, i, cells);
        sum += select(0.0, s.head, s.low == cell) + select(0.0, s.tail, s.high == cell);
    }
    return sum / f32(max(a.count, 1u));
}
// The first and the last bin whose samples may reach this cell.
fn bins_near(a: Axis, cell: u32, bins: u32) -> vec2<u32> {
    if !(a.bin > 1e-6) { return vec2(0u, bins - 1u); }
    let last = f32(bins - 1u);
    let low = clamp(floor((f32(cell) - 1.0 - a.start) / a.bin) - 1.0, 0.0, last);
    let high = clamp(floor((f32(cell) + 1.0 - a.start) / a.bin) + 1.0, 0.0, last);
    return vec2(u32(low), u32(high));
}
// Whether samples along an axis may reach the four cells from `first` on.
fn meets(a: Axis, bins: u32, first: u32) -> bool {
    let end = a.start + a.bin * f32(bins);
    return a.count > 0u && min(a.start, end) <= f32(first) + 4.5 && max(a.start, end) >= f32(first) - 1.5;
}

var<workgroup> met: array<u32, 256>;
var<workgroup> lists: array<u32, 8>;                                  // 32 boxes a word

@compute @workgroup_size(256)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let level = level_at(p.level);
    let blocks = (p.words + 15u) / 16u;
    let tiles = (level.size + 3u) / 4u;
    let group = grid_row(wid);
    let tile = vec2(group / blocks / tiles.y % tiles.x, group / blocks % tiles.y) * 4u;
    let of_sample = group / blocks / tiles.y / tiles.x;
    let cell = tile + vec2(tid / 16u / 4u, tid / 16u % 4u);
    let word = group % blocks * 16u + tid % 16u;
    let owns = cell.x < level.size.x && cell.y < level.size.y && word < p.words && group < p.n;
    var sum = vec4(0.0);
    for (var first = 0u; first < p.rois; first += 256u) {
        var found = 0u;
        if first + tid < p.rois {
            let b = box_at(first + tid);
            if b.sample == of_sample && b.level == p.level {
                let down = axis(b.low.x, b.high.x, level.scale, p.rows);
                let across = axis(b.low.y, b.high.y, level.scale, p.cols);
                found = u32(meets(down, p.rows, tile.x) && meets(across, p.cols, tile.y));
            }
        }
        workgroupBarrier();                                           // until all have read the previous lists
        met[tid] = found;
        workgroupBarrier();
        if tid < 8u {
            var word = 0u;
            for (var i = 0u; i < 32u; i++) { word |= met[tid * 32u + i] << i; }
            lists[tid] = word;
        }
        workgroupBarrier();
        if owns {
            for (var i = 0u; i < 8u; i++) {
                for (var word_ = lists[i]; word_ != 0u; word_ &= word_ - 1u) {
                    sum += of_box(first + i * 32u + countTrailingZeros(word_), level, cell, word);
                }
            }
        }
    }
    if owns {
        store(((of_sample * level.size.x + cell.x) * level.size.y + cell.y) * p.words + word, p.gradient * sum);
    }
}

fn dy4(i: u32) -> vec4<f32> {
    if VEC == 1u { return bitcast<vec4<f32>>(dy[i]); }
    return vec4(bitcast<f32>(dy[i >> 2u][i & 3u]), 0.0, 0.0, 0.0);
}
// What box r gives to an item of a pixel.
fn of_box(r: u32, level: Level, cell: vec2<u32>, word: u32) -> vec4<f32> {
    let b = box_at(r);
    let down = axis(b.low.x, b.high.x, level.scale, p.rows);
    let across = axis(b.low.y, b.high.y, level.scale, p.cols);
    let rows = bins_near(down, cell.x, p.rows);
    let cols = bins_near(across, cell.y, p.cols);
    var sum = vec4(0.0);
    for (var row = rows.x; row <= rows.y; row++) {
        let w = share(down, row, cell.x, level.size.x);
        if w == 0.0 { continue; }
        var line = vec4(0.0);
        for (var col = cols.x; col <= cols.y; col++) {
            let at = ((r * p.rows + row) * p.cols + col) * p.words + word;
            line += share(across, col, cell.y, level.size.y) * dy4(at);
        }
        sum += w * line;
    }
    return sum;
}
