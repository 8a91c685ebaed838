// chamfer — Chamfer distance between pairs of point sets, the loss of pretraining on point clouds.
//   shapes    a, da (P, n, 3)   b, db (P, m, 3)   shares, dshares, near (P, n+m): first the points of a, then of b
//   forward   of each point the nearest one in the other set, the first of equally near ones, and its share of the
//             loss: factor·d with FORM 0 (L1), where d is the distance, or factor·d² with FORM 1 (L2). factor is
//             1/(2·P·n) or 1/(P·n) for points of a, and likewise with m for points of b. The sum of all shares is the
//             loss.
//   backward  Σ over the pairs (own, other) of a point, first as the one whose nearest is sought, then as the nearest
//             of others, in their order:  dshare·factor·slope·(own − other),  slope = 2 (L2), 1/d or at d = 0 nothing
//             (L1). A gather over `near`, so no atomics. One launch per side; it overwrites the gradient.
//   saves     near
//   threads   one invocation per point
//   floor     per point 20 bytes forward and 32 backward, 8 flops per pair of points forward
// uses lib/grid
struct Params {
    points: u32, n: u32, m: u32, factor_a: f32, factor_b: f32,
    own: u32, other: u32, own_at: u32, other_at: u32, factor: f32, other_factor: f32,   // backward: one side
}
const WG = 64u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> a: array<f32>;
@group(0) @binding(2) var<storage, read> b: array<f32>;
@group(0) @binding(3) var<storage, read_write> shares: array<f32>;
@group(0) @binding(4) var<storage, read_write> near: array<u32>;
@group(0) @binding(5) var<storage, read> saved_near: array<u32>;
@group(0) @binding(6) var<storage, read> dshares: array<f32>;
@group(0) @binding(7) var<storage, read_write> down: array<f32>;   // da or db

fn a_at(i: u32) -> vec3<f32> { return vec3(a[3u * i], a[3u * i + 1u], a[3u * i + 2u]); }
fn b_at(i: u32) -> vec3<f32> { return vec3(b[3u * i], b[3u * i + 1u], b[3u * i + 2u]); }

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.points { return; }
    let pair = i / (p.n + p.m);
    let k = i % (p.n + p.m);
    var least = 3.4e38;
    var at = 0u;
    if k < p.n {
        let own = a_at(pair * p.n + k);
        for (var j = 0u; j < p.m; j++) {
            let apart = own - b_at(pair * p.m + j);
            let squared = dot(apart, apart);
            if squared < least { least = squared; at = j; }
        }
        shares[i] = p.factor_a * select(least, sqrt(least), FORM == 0u);
    } else {
        let own = b_at(pair * p.m + k - p.n);
        for (var j = 0u; j < p.n; j++) {
            let apart = own - a_at(pair * p.n + j);
            let squared = dot(apart, apart);
            if squared < least { least = squared; at = j; }
        }
        shares[i] = p.factor_b * select(least, sqrt(least), FORM == 0u);
    }
    near[i] = at;
}

// slope·apart
fn pull(apart: vec3<f32>) -> vec3<f32> {
    if FORM == 1u { return 2.0 * apart; }
    let d = length(apart);
    return select(vec3(0.0), apart / d, d > 0.0);
}

// `a` is the own side here, and `b` the other one.
@compute @workgroup_size(WG)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.points { return; }
    let pair = i / p.own;
    let k = i % p.own;
    let row = pair * (p.own + p.other);
    let own = a_at(i);
    let nearest = saved_near[row + p.own_at + k];
    var sum = dshares[row + p.own_at + k] * p.factor * pull(own - b_at(pair * p.other + nearest));
    for (var j = 0u; j < p.other; j++) {
        let at = row + p.other_at + j;
        if saved_near[at] == k { sum += dshares[at] * p.other_factor * pull(own - b_at(pair * p.other + j)); }
    }
    down[3u * i] = sum.x;
    down[3u * i + 1u] = sum.y;
    down[3u * i + 2u] = sum.z;
}
