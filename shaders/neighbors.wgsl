// neighbors — the nearest points of each point of a cloud, and for each point who has it as a neighbor (torch.topk of
// torch.cdist, and the CSR of its transpose). It has no gradient.
//   shapes    points (B, T, 3)   graph (B, 2·T·K + T + 1) in u32, of each cloud: index (T, K); offsets (T+1); entries
//             (T·K), as local_norm_pool.wgsl reads them
//   forward   index[t] = the K points with the least |p − p_t|², t itself included, of equally near ones the first, in
//             that order.  entries[offsets[j]..offsets[j+1]] = all i·K + n with index[i,n] = j, ascending.
//   threads   A workgroup per cloud, a lane per point, T ≤ 256. A lane finds its neighbors one after the other: the
//             least after the one before, in the order of distance and number. Then it counts who has it as a neighbor,
//             and writes them down behind those of the lanes before it. All in a fixed order, without atomics.
//   floor     K·T² distances of 8 flops and 2·K·T² comparisons per cloud
struct Params { t: u32, k: u32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> points: array<f32>;
@group(0) @binding(2) var<storage, read_write> graph: array<u32>;

var<workgroup> sh_points: array<vec3<f32>, WG>;
var<workgroup> sh_counts: array<u32, WG>;

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let cloud = wid.x;
    let first = cloud * (2u * p.t * p.k + p.t + 1u);
    let offsets = first + p.t * p.k;
    let entries = offsets + p.t + 1u;
    if tid < p.t {
        let at = 3u * (cloud * p.t + tid);
        sh_points[tid] = vec3(points[at], points[at + 1u], points[at + 2u]);
    }
    workgroupBarrier();
    var before = -1.0;
    var number = 0u;
    for (var n = 0u; n < p.k && tid < p.t; n++) {
        var least = 3.4e38;
        var found = 0u;
        for (var j = 0u; j < p.t; j++) {
            let apart = sh_points[j] - sh_points[tid];
            let squared = dot(apart, apart);
            let later = squared > before || (squared == before && (n == 0u || j > number));
            if later && squared < least { least = squared; found = j; }
        }
        graph[first + tid * p.k + n] = found;
        before = least;
        number = found;
    }
    storageBarrier();
    var count = 0u;
    for (var i = 0u; i < p.t * p.k && tid < p.t; i++) {
        if graph[first + i] == tid { count++; }
    }
    sh_counts[tid] = count;
    workgroupBarrier();
    if tid >= p.t { return; }
    var next = 0u;
    for (var j = 0u; j < tid; j++) { next += sh_counts[j]; }
    graph[offsets + tid] = next;
    if tid + 1u == p.t { graph[offsets + p.t] = p.t * p.k; }
    for (var i = 0u; i < p.t * p.k; i++) {
        if graph[first + i] == tid {
            graph[entries + next] = i;
            next++;
        }
    }
}
