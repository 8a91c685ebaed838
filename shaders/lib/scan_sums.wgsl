// lib/scan_sums — the sums of selective_scan_backward.scan, in workgroup memory: du and ddelta over the quads of
// states, dB and dC over the groups of channels. `put` stores a lane's contributions for one token. `flush`, after a
// barrier, adds up the contributions to a batch of tokens in a fixed order and writes the sums. Lanes with the same
// quad are neighbors, so that a sum over quads reads neighboring words.
struct Sums { du: vec4<f32>, ddelta: vec4<f32>, db: vec4<f32>, dc: vec4<f32> }
// The contributions (J, du|ddelta|dB|dC, LQ, GROUPS) lie in sh_x behind the staged tokens. While h is computed again
// there are none, so that JH > J tokens can be staged at a time.
const SUMS = 4u * J * GROUPS;
const SPAN = SUMS + 4u * J * WG;
const JH = min(T, SPAN / (2u * GROUPS));

// (group of channels, quad of states) of a lane.
fn place(tid: u32) -> vec2<u32> {
    return vec2(tid % GROUPS, tid / GROUPS);
}
fn put(batch: Batch, j: u32, tid: u32, v: Sums) {
    let at = SUMS + j * 4u * WG + tid;
    sh_x[at] = v.du;
    sh_x[at + WG] = v.ddelta;
    sh_x[at + 2u * WG] = v.db;
    sh_x[at + 3u * WG] = v.dc;
}
fn flush(batch: Batch, tid: u32) {
    for (var i = tid; i < batch.steps * 2u * GROUPS; i += WG) {
        let j = i / (2u * GROUPS);
        let which = i / GROUPS % 2u;
        let v = quad_sum(SUMS + (j * 4u + which) * WG + i % GROUPS);
        let row = batch.row + token(batch.j0 + j, batch.count, batch.up);
        let e = channels(batch.tile, i % GROUPS);
        write_pair(which, row, e.xy, v.xy);
        write_pair(which, row, e.zw, v.zw);
    }
    for (var i = tid; i < batch.steps * 2u * LQ; i += WG) {
        let j = i / (2u * LQ);
        let which = i / LQ % 2u;
        let q = i % LQ;
        let at = SUMS + (j * 4u + 2u + which) * WG + q * GROUPS;
        var v = vec4(0.0);
        for (var g = at; g < at + GROUPS; g += 4u) { v += sh_x[g] + sh_x[g + 1u] + sh_x[g + 2u] + sh_x[g + 3u]; }
        let row = batch.row + token(batch.j0 + j, batch.count, batch.up);
        for (var k = 0u; k < 4u && q * 4u + k < N; k++) { write_state(which, row, batch.tile, q * 4u + k, v[k]); }
    }
}
// Sum over the quads of a group. `at` is the index of the contribution of the group's first quad.
fn quad_sum(at: u32) -> vec4<f32> {
    var v = sh_x[at];
    for (var q = 1u; q < LQ; q++) { v += sh_x[at + q * GROUPS]; }
    return v;
}
// Sum of v over the quads of the lane's group.
fn over_quads(tid: u32, v: vec4<f32>) -> vec4<f32> {
    workgroupBarrier();
    sh_x[tid] = v;
    workgroupBarrier();
    return quad_sum(tid % GROUPS);
}
