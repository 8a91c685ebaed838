// cross_entropy — cross-entropy against the soft targets of mixup and label smoothing (timm's SoftTargetCrossEntropy).
//   shapes    logits, targets, dlogits (B, K)     loss, dloss (B)
//   forward   max = max_k logits,  z = Σ_k exp(logits − max),  total = Σ_k targets
//             loss = (total·ln z − Σ_k targets·(logits − max))/B: a row's share, so that the mean loss is Σ_rows loss
//   backward  dlogits = dloss/B·(exp(logits − max)/z·total − targets). Overwrites dlogits; does not accumulate.
//   saves     stat (B) = (max, z, total). max and z are saved separately, because max + ln z loses digits if logits are
//             large.
//   threads   forward: one workgroup per row. backward: one invocation per element.
//   floor     8 bytes per element forward, 12 backward
// uses lib/grid, lib/reduce
struct Params { b: u32, k: u32 }
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> logits: array<f32>;
@group(0) @binding(2) var<storage, read> targets: array<f32>;
@group(0) @binding(3) var<storage, read_write> stat: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read_write> loss: array<f32>;
@group(0) @binding(5) var<storage, read> saved_stat: array<vec4<f32>>;
@group(0) @binding(6) var<storage, read> dloss: array<f32>;
@group(0) @binding(7) var<storage, read_write> dlogits: array<f32>;

@compute @workgroup_size(WG)
fn forward(@builtin(local_invocation_index) tid: u32, @builtin(workgroup_id) wid: vec3<u32>) {
    let row = grid_row(wid);
    if row >= p.b { return; }
    let at = row * p.k;
    var most = logits[at];
    for (var k = tid; k < p.k; k += WG) { most = max(most, logits[at + k]); }
    most = wg_max(tid, most);
    var z = 0.0;
    var total = 0.0;
    var dot = 0.0;
    for (var k = tid; k < p.k; k += WG) {
        let x = logits[at + k] - most;
        let y = targets[at + k];
        z += exp(max(x, -80.0));
        total += y;
        dot += y * x;
    }
    let sums = wg_sum2(tid, vec2(z, total));
    dot = wg_sum(tid, dot);
    if tid == 0u {
        stat[row] = vec4(most, sums, 0.0);
        loss[row] = (sums.y * log(sums.x) - dot) / f32(p.b);
    }
}

@compute @workgroup_size(256)
fn backward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * 256u + tid;
    let row = i / p.k;
    if row >= p.b { return; }
    let s = saved_stat[row];
    let softmax = exp(max(logits[i] - s.x, -80.0)) / s.y;
    dlogits[i] = dloss[row] / f32(p.b) * (softmax * s.z - targets[i]);
}
