// box_refine — the step between two stages of a cascade (detectron2's CascadeROIHeads): boxes move by their deltas, are
// clipped to their picture, and are matched with its truths. No gradient: the next stage's boxes are detached.
//   shapes    rois, moved (R, 5): sample, x0, y0, x1, y1   deltas (R, 4)   sizes (B, 2): rows, columns   valid (R)
//             truths (B, G, 5): x0, y0, x1, y1, class; absent where the class is below 0
//             labels (R)   results: targets (stride, 4), then foreground and valid (stride each), stride ≥ R
//   forward   center' = center + delta/weight·side, side' = side·e^min(delta/weight, ln(1000/16)); clipped
//             With truths (G > 0), a box without an inside is not valid any more, and becomes (0, 0, 1, 1).
//             best = the truth of the largest overlap, the first of equal ones; foreground where that is ≥ threshold
//             label = class of the best truth, or background; 2³² − 1 where not valid
//             targets = the deltas from box to truth in the next stage's weights where foreground, else 0
//   threads   one invocation per box
//   floor     each array is moved once; 20 flops per pair of box and truth
// uses lib/grid
struct Params {
    n: u32, truths: u32, background: u32, stride: u32, threshold: f32,
    weight_x: f32, weight_y: f32, weight_w: f32, weight_h: f32, next_x: f32, next_y: f32, next_w: f32, next_h: f32,
}
const WG = 64u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> rois: array<f32>;
@group(0) @binding(2) var<storage, read> deltas: array<vec4<f32>>;
@group(0) @binding(3) var<storage, read> sizes: array<vec2<f32>>;
@group(0) @binding(4) var<storage, read> valid: array<f32>;
@group(0) @binding(5) var<storage, read> truths: array<f32>;
@group(0) @binding(6) var<storage, read_write> moved: array<f32>;
@group(0) @binding(7) var<storage, read_write> labels: array<u32>;
@group(0) @binding(8) var<storage, read_write> results: array<f32>;

fn area(b: vec4<f32>) -> f32 {
    return (b.z - b.x) * (b.w - b.y);
}
fn overlap(a: vec4<f32>, b: vec4<f32>) -> f32 {
    let sides = max(min(a.zw, b.zw) - max(a.xy, b.xy), vec2(0.0));
    let both = sides.x * sides.y;
    return select(0.0, both / (area(a) + area(b) - both), both > 0.0);
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let r = grid_row(wid) * WG + tid;
    if r >= p.n { return; }
    let sample = u32(rois[5u * r]);
    let from_ = vec4(rois[5u * r + 1u], rois[5u * r + 2u], rois[5u * r + 3u], rois[5u * r + 4u]);
    let size = from_.zw - from_.xy;
    let by = deltas[r] / vec4(p.weight_x, p.weight_y, p.weight_w, p.weight_h);
    let at = by.xy * size + (from_.xy + 0.5 * size);
    let side = exp(min(by.zw, vec2(4.135166556742356))) * size;
    let limit = sizes[sample].yx;                                    // columns, rows
    var b = clamp(vec4(at - 0.5 * side, at + 0.5 * side), vec4(0.0), vec4(limit, limit));
    let is_valid = valid[r] != 0.0 && (p.truths == 0u || (b.z > b.x && b.w > b.y));
    if !is_valid { b = vec4(0.0, 0.0, 1.0, 1.0); }
    var most = -1.0;
    var best = 0u;
    for (var i = 0u; i < p.truths; i++) {
        let t = (sample * p.truths + i) * 5u;
        if truths[t + 4u] < 0.0 { continue; }
        let found = overlap(b, vec4(truths[t], truths[t + 1u], truths[t + 2u], truths[t + 3u]));
        if found > most {
            most = found;
            best = t;
        }
    }
    let foreground = is_valid && most >= p.threshold;
    var target_ = vec4(0.0);
    var label = select(0xffffffffu, p.background, is_valid);
    if foreground {
        label = u32(truths[best + 4u]);
        let low = vec2(truths[best], truths[best + 1u]);
        let there = vec2(truths[best + 2u], truths[best + 3u]) - low;
        let sides = b.zw - b.xy;
        let shift = (low + 0.5 * there - (b.xy + 0.5 * sides)) / sides;
        target_ = vec4(shift, log(there / sides)) * vec4(p.next_x, p.next_y, p.next_w, p.next_h);
    }
    moved[5u * r] = rois[5u * r];
    for (var i = 0u; i < 4u; i++) {
        moved[5u * r + 1u + i] = b[i];
        results[4u * r + i] = target_[i];
    }
    results[4u * p.stride + r] = select(0.0, 1.0, foreground);
    results[5u * p.stride + r] = select(0.0, 1.0, is_valid);
    labels[r] = label;
}
