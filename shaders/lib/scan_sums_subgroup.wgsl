// lib/scan_sums_subgroup — lib/scan_sums for the subgroup tier, by shuffles. LANES neighboring lanes share a subgroup
// of at least that size; LANES is a power of two from 2·LQ to 64. Each step of shuffles halves the number of values
// that a lane holds, and doubles the number of lanes that they are summed over.
// du and ddelta are complete after log2(LQ) steps. The first two lanes of a channel then write one each.
// dB and dC are summed over LANES lanes after log2(LANES/LQ) steps, and are kept in workgroup memory for `flush`.
// With LQ = 4 and LANES = 32 this takes 2 + 7 shuffles of one number for 8 channels and 16 states.
const PARTS = WG / LANES;
var<workgroup> sh_part: array<f32, J * PARTS * 8u * LQ>;   // (J, PARTS, dB|dC, 4·LQ)

// (group, quad of states) of a lane.
fn place(tid: u32) -> vec2<u32> {
    return vec2(tid / LQ, tid % LQ);
}
// Two lanes that differ in bit `mask` of their index exchange half of their values. The low lane returns the sum of
// both lanes' `low` (or first half), the high lane the sum of both lanes' `high` (or second half).
fn trade4(is_high: bool, low: vec4<f32>, high: vec4<f32>, mask: u32) -> vec4<f32> {
    return select(low, high, is_high) + subgroupShuffleXor(select(high, low, is_high), mask);
}
fn trade2(is_high: bool, v: vec4<f32>, mask: u32) -> vec2<f32> {
    return select(v.xy, v.zw, is_high) + subgroupShuffleXor(select(v.zw, v.xy, is_high), mask);
}
fn trade1(is_high: bool, v: vec2<f32>, mask: u32) -> f32 {
    return select(v.x, v.y, is_high) + subgroupShuffleXor(select(v.y, v.x, is_high), mask);
}
fn put(chunk: Chunk, j: u32, k: u32, lane: Lane, back: Back) {
    put_channel(chunk, j, lane, vec2(back.du, back.ddelta));
    put_states(k, lane, back.db, back.dc);
}
fn put_channel(chunk: Chunk, j: u32, lane: Lane, v: vec2<f32>) {
    let row = chunk.row + token(j, chunk);
    let writes = j < chunk.count && (HALF == 0u || lane.group % 2u == 0u);
    if LQ == 1u {
        var next = vec2(0.0);               // of the next channel, in the same word
        if HALF == 1u { next = subgroupShuffleXor(v, 1u); }
        if writes {
            write_pair(0u, row, lane.e, vec2(v.x, next.x));
            write_pair(1u, row, lane.e, vec2(v.y, next.y));
        }
        return;
    }
    var sum = trade1(lane.q % 2u == 1u, v, 1u);
    for (var mask = 2u; mask < LQ; mask *= 2u) { sum += subgroupShuffleXor(sum, mask); }
    var next = 0.0;
    if HALF == 1u { next = subgroupShuffleXor(sum, LQ); }
    if writes && lane.q < 2u { write_pair(lane.q, row, lane.e, vec2(sum, next)); }
}
fn put_states(k: u32, lane: Lane, db: vec4<f32>, dc: vec4<f32>) {
    let at = (k * PARTS + lane.tid / LANES) * 8u * LQ + lane.q * 4u;
    let g = lane.group;
    let mine = at + (g & 1u) * 4u * LQ;
    let four = trade4((g & 1u) == 1u, db, dc, LQ);
    if LANES < 4u * LQ {
        for (var i = 0u; i < 4u; i++) { sh_part[mine + i] = four[i]; }
        return;
    }
    let half = (g >> 1u) & 1u;
    let two = trade2(half == 1u, four, 2u * LQ);
    if LANES < 8u * LQ {
        sh_part[mine + half * 2u] = two.x;
        sh_part[mine + half * 2u + 1u] = two.y;
        return;
    }
    let quarter = (g >> 2u) & 1u;
    var one = trade1(quarter == 1u, two, 4u * LQ);
    for (var mask = 8u * LQ; mask < LANES; mask *= 2u) { one += subgroupShuffleXor(one, mask); }
    if g % (LANES / LQ) < 8u { sh_part[mine + half * 2u + quarter] = one; }
}
fn flush(chunk: Chunk, j0: u32, lane: Lane) {
    workgroupBarrier();
    for (var i = lane.tid; i < J * 2u * N; i += WG) {
        let j = i / (2u * N);
        let which = i / N % 2u;
        let at = (j * PARTS * 2u + which) * 4u * LQ + i % N;
        var v = 0.0;
        for (var part = 0u; part < PARTS; part++) { v += sh_part[at + part * 8u * LQ]; }
        if j0 + j < chunk.count { write_state(which, chunk.row + token(j0 + j, chunk), lane.tile, i % N, v); }
    }
}
// Sum of v over the quads of the lane's group.
fn over_quads(lane: Lane, v: f32) -> f32 {
    var sum = v;
    for (var mask = 1u; mask < LQ; mask *= 2u) { sum += subgroupShuffleXor(sum, mask); }
    return sum;
}
