// info_nce — InfoNCE loss of queries against their keys and a queue of negatives (MoCo: F.cross_entropy of
// cat([q·key, q·queueᵀ])/temperature with label 0), and the update of the queue.
//   shapes    q, key, dq, dpos (B, D)   queue (K, D)   dots, ddots (B, K) = q·queueᵀ, by matmul   loss, dloss (B)
//             rate = 1/temperature
//   forward   pos = rate·q·key,  most = max(pos, max_j rate·dots),  z = exp(pos − most) + Σ_j exp(rate·dots − most)
//             loss = (ln z − (pos − most))/B: the share of a row; the sum over rows is the mean loss
//   backward  ddots = dloss·rate/B·exp(rate·dots − most)/z     dpos = dloss·rate/B·(exp(pos − most)/z − 1)·key
//             dq = ddots·queue + dpos, by matmul. key and queue have no gradient. Gradients are overwritten, not
//             accumulated.
//   enqueue   row ((step − 1)·B + b) mod K of the queue becomes key b: first in, first out. The row follows from the
//             step, so that no pointer (MoCo's queue_ptr) has to be stored.
//   saves     stat (B) = (most, z, pos) and dots. Backward reads the queue again, so enqueue must run after backward.
//   threads   forward: one workgroup per row. The others: one invocation per element.
//   floor     4·B·K bytes forward, 8·B·K backward, without the two matrix products
// uses lib/grid, lib/reduce, lib/step
struct Params { b: u32, k: u32, d: u32, rate: f32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> q: array<f32>;
@group(0) @binding(2) var<storage, read> key: array<f32>;
@group(0) @binding(3) var<storage, read> dots: array<f32>;
@group(0) @binding(4) var<storage, read_write> stat: array<vec4<f32>>;
@group(0) @binding(5) var<storage, read_write> loss: array<f32>;
@group(0) @binding(6) var<storage, read> saved_stat: array<vec4<f32>>;
@group(0) @binding(7) var<storage, read> dloss: array<f32>;
@group(0) @binding(8) var<storage, read_write> ddots: array<f32>;
@group(0) @binding(9) var<storage, read_write> dpos: array<f32>;
@group(0) @binding(10) var<storage, read> state: StepState;
@group(0) @binding(11) var<storage, read_write> queue: array<f32>;

@compute @workgroup_size(WG)
fn forward(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) wid: vec3<u32>) {
    let row = grid_row(wid);
    if row >= p.b { return; }
    var pos = 0.0;
    for (var c = tid; c < p.d; c += WG) { pos += q[row * p.d + c] * key[row * p.d + c]; }
    pos = p.rate * wg_sum(tid, pos);
    let at = row * p.k;
    var most = pos;
    for (var j = tid; j < p.k; j += WG) { most = max(most, p.rate * dots[at + j]); }
    most = wg_max(tid, most);
    var z = 0.0;
    for (var j = tid; j < p.k; j += WG) { z += exp(max(p.rate * dots[at + j] - most, -80.0)); }
    z = wg_sum(tid, z) + exp(max(pos - most, -80.0));
    if tid == 0u {
        stat[row] = vec4(most, z, pos, 0.0);
        loss[row] = (log(z) - (pos - most)) / f32(p.b);
    }
}

@compute @workgroup_size(256)
fn backward_dots(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * 256u + tid;
    let row = i / p.k;
    if row >= p.b { return; }
    let s = saved_stat[row];
    ddots[i] = dloss[row] * p.rate / f32(p.b) * exp(max(p.rate * dots[i] - s.x, -80.0)) / s.y;
}

@compute @workgroup_size(256)
fn backward_pos(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * 256u + tid;
    let row = i / p.d;
    if row >= p.b { return; }
    let s = saved_stat[row];
    dpos[i] = dloss[row] * p.rate / f32(p.b) * (exp(max(s.z - s.x, -80.0)) / s.y - 1.0) * key[i];
}

@compute @workgroup_size(256)
fn enqueue(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * 256u + tid;
    if i >= p.b * p.d { return; }
    let turn = (state.step - 1u) % (p.k / p.b);
    queue[turn * p.b * p.d + i] = key[i];
}
