// lib/scan_sums — the sums of selective_scan_backward.scan, in workgroup memory: du and ddelta over the quads of
// states, dB and dC over the channels. `put` stores a lane's contributions for one token. `flush` adds up the
// contributions to a batch of J tokens in a fixed order and writes the sums. Lanes with the same quad are neighbors, so
// that a sum over quads reads neighboring words.
const WRITES = CHANNELS / (1u + HALF);                 // write_pair writes one channel, or two
const FIELDS = 10u;                                    // of a lane and token: du|ddelta|4 × dB|4 × dC
var<workgroup> sh_put: array<f32, J * FIELDS * WG>;    // (J, FIELDS, LQ, CHANNELS)

// (group, quad of states) of a lane.
fn place(tid: u32) -> vec2<u32> {
    return vec2(tid % CHANNELS, tid / CHANNELS);
}
fn put(chunk: Chunk, j: u32, k: u32, lane: Lane, back: Back) {
    let at = k * FIELDS * WG + lane.tid;
    sh_put[at] = back.du;
    sh_put[at + WG] = back.ddelta;
    for (var i = 0u; i < min(N, 4u); i++) {
        sh_put[at + (2u + i) * WG] = back.db[i];
        sh_put[at + (6u + i) * WG] = back.dc[i];
    }
}
fn flush(chunk: Chunk, j0: u32, lane: Lane) {
    workgroupBarrier();
    for (var i = lane.tid; i < J * 2u * WRITES; i += WG) {
        let c = i % WRITES * (CHANNELS / WRITES);
        let which = i / WRITES % 2u;
        let j = i / (2u * WRITES);
        if j0 + j < chunk.count {
            let at = (j * FIELDS + which) * WG + c;
            let sums = vec2(quad_sum(at), quad_sum(at + CHANNELS / WRITES - 1u));
            write_pair(which, chunk.row + token(j0 + j, chunk), lane.tile * CHANNELS + c, sums);
        }
    }
    for (var i = lane.tid; i < J * 2u * N; i += WG) {
        let n = i % N;
        let which = i / N % 2u;
        let j = i / (2u * N);
        let at = (j * FIELDS + 2u + which * 4u + n % 4u) * WG + n / 4u * CHANNELS;
        var v = 0.0;
        for (var g = at; g < at + CHANNELS; g += 4u) {
            v += sh_put[g] + sh_put[g + 1u] + sh_put[g + 2u] + sh_put[g + 3u];
        }
        if j0 + j < chunk.count { write_state(which, chunk.row + token(j0 + j, chunk), lane.tile, n, v); }
    }
}
// Sum over the quads of a group. `at` is the index of the contribution of its first quad.
fn quad_sum(at: u32) -> f32 {
    var v = sh_put[at];
    for (var q = 1u; q < LQ; q++) { v += sh_put[at + q * CHANNELS]; }
    return v;
}
// Sum of v over the quads of the lane's group.
fn over_quads(lane: Lane, v: f32) -> f32 {
    workgroupBarrier();
    sh_put[lane.tid] = v;
    workgroupBarrier();
    return quad_sum(lane.group);
}
