// lib/scan_sums_subgroup — lib/scan_sums for the subgroup tier, by shuffles. LANES neighboring lanes share a subgroup
// of at least that size; LANES is a power of two from LQ to 64. Each step of shuffles halves the number of values that
// a lane holds, and doubles the number of lanes that they are summed over.
// du and ddelta are complete after log2(LQ) steps. A lane then holds two values (one word in f16), and writes them
// directly.
// dB and dC are summed over LANES lanes after log2(LANES/LQ) steps, and are kept in workgroup memory for `flush`.
// With LQ = 4 and LANES = 32 this takes 6 + 7 shuffles of one number for 32 channels and 16 states.
struct Sums { du: vec4<f32>, ddelta: vec4<f32>, db: vec4<f32>, dc: vec4<f32> }
const PARTS = WG / LANES;
const SPAN = 4u * J * GROUPS;
const JH = 2u * J;
var<workgroup> sh_part: array<f32, J * PARTS * 8u * LQ>;   // (J, PARTS, dB|dC, 4·LQ)

// (group of channels, quad of states) of a lane.
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
fn put(batch: Batch, j: u32, tid: u32, v: Sums) {
    put_channels(batch, j, tid, v.du, v.ddelta);
    put_states(j, tid, v.db, v.dc);
}
fn put_channels(batch: Batch, j: u32, tid: u32, du: vec4<f32>, ddelta: vec4<f32>) {
    let row = batch.row + token(batch.j0 + j, batch.count, batch.up);
    let e = channels(batch.tile, tid / LQ);
    if LQ == 1u {
        write_pair(0u, row, e.xy, du.xy);
        write_pair(0u, row, e.zw, du.zw);
        write_pair(1u, row, e.xy, ddelta.xy);
        write_pair(1u, row, e.zw, ddelta.zw);
        return;
    }
    let which = tid & 1u;
    let four = trade4(which == 1u, du, ddelta, 1u);
    if LQ == 2u {
        write_pair(which, row, e.xy, four.xy);
        write_pair(which, row, e.zw, four.zw);
        return;
    }
    let is_high = (tid & 2u) > 0u;
    var two = trade2(is_high, four, 2u);
    for (var mask = 4u; mask < LQ; mask *= 2u) { two += subgroupShuffleXor(two, mask); }
    if tid % LQ < 4u { write_pair(which, row, select(e.xy, e.zw, is_high), two); }
}
fn put_states(j: u32, tid: u32, db: vec4<f32>, dc: vec4<f32>) {
    let g = tid / LQ;
    let at = (j * PARTS + tid / LANES) * 8u * LQ + tid % LQ * 4u;
    if LANES < 2u * LQ {
        for (var k = 0u; k < 4u; k++) {
            sh_part[at + k] = db[k];
            sh_part[at + 4u * LQ + k] = dc[k];
        }
        return;
    }
    let mine = at + (g & 1u) * 4u * LQ;
    let four = trade4((g & 1u) == 1u, db, dc, LQ);
    if LANES < 4u * LQ {
        for (var k = 0u; k < 4u; k++) { sh_part[mine + k] = four[k]; }
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
fn flush(batch: Batch, tid: u32) {
    for (var i = tid; i < batch.steps * 2u * N; i += WG) {
        let j = i / (2u * N);
        let which = i / N % 2u;
        let at = (j * PARTS * 2u + which) * 4u * LQ + i % N;
        var v = 0.0;
        for (var part = 0u; part < PARTS; part++) { v += sh_part[at + part * 8u * LQ]; }
        write_state(which, batch.row + token(batch.j0 + j, batch.count, batch.up), batch.tile, i % N, v);
    }
}
// Sum of v over the quads of the lane's group.
fn over_quads(tid: u32, v: vec4<f32>) -> vec4<f32> {
    var sum = v;
    for (var mask = 1u; mask < LQ; mask *= 2u) { sum += subgroupShuffleXor(sum, mask); }
    return sum;
}
