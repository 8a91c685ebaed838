// attention_coop — attention.wgsl on cooperative matrices (CUDA: tensor cores): operands rounded to f16, sums in f32.
//   Scalars, shapes, masks, saved tensors and HALF are those of attention.wgsl. The softmax stays in f32. Gradients are
//   overwritten, not accumulated.
//   q, k, v and dout are rounded to f16 when loaded. So is the left factor of each product with v, dout, k and q:
//     e = exp(x − most_i), at most 1      out_i = Σ_j f16(e)·v_j / Σ_j e         most_i = max_j x_ij
//                                         lse_i = most_i + ln Σ_j e
//     P = exp(x − lse_i)                  dv_j  = Σ_i f16(P·2¹⁰)·dout_i / 2¹⁰
//     dx = P·(dout_i·v_j − delta_i)       dq_i  = scale·Σ_j f16(dx)·k_j         dk_j = scale·Σ_i f16(dx)·q_i
//   P is multiplied by 2¹⁰ because it is small if there are many keys, and the least f16 is 2⁻²⁴.
//   Each rounding has a relative error of at most 2⁻¹¹. delta is computed from the rounded dout, so that the dx of a
//   query sum to 0. Numbers larger than 65504 become infinite, and so do others in the same tile; dynamic loss scaling
//   (loss_scale.wgsl) finds this in the gradients.
//   threads   A workgroup of 4 subgroups of LANES owns 4·FRAG rows of one (b, h): queries, or keys in backward_dkv. A
//             subgroup holds FRAG of these rows, and the sums of their results, in fragments. Columns of a head are
//             padded with 0 to whole fragments. The other side comes in tiles of TILE rows, as f16 through workgroup
//             memory; tiles that no row sees are skipped.
//             A kernel cannot access single elements of a fragment, so scores go through workgroup memory, column by
//             column. Element m·LANES + lane of a subgroup's FRAG × TILE scores belongs to row lane % FRAG, so
//             LANES/FRAG invocations share the columns of a row. (If LANES < FRAG, an invocation has the EACH rows
//             lane, lane + LANES, … in turn.)
//             Rows past the end repeat the last one and are not stored; columns past the end are hidden.
//             The requirements on subgroups are those of matmul_coop.wgsl. Heads of 128 in fragments of 16 take 30.5
//             KiB of workgroup memory.
//   floor     as attention.wgsl, with flops at the f16 rate
//   tried     forward walks the keys twice, the first time for most_i alone, which needs neither exp nor v. With a
//             running maximum it would walk once, but rescale its sums, which are fragments, through workgroup memory
//             each time. The two were not timed against each other.
//             Storing scores and dout·v side by side would save one barrier per tile but halve TILE, because they would
//             take over 32 KiB at heads of 64.
//             NVIDIA H200 (benches/runs/2026-11-28-nvidia-h200), mixed, base, 98 × 128: heads of 64, forward 0.452 ms,
//             backward 1.023 (f32 0.537, 1.438; SDPA bf16 0.033, 0.129); the decoder's mask, heads of 12, 0.591, 0.992
//             (f32 0.271, 0.686).
// uses lib/grid, lib/half, lib/element, lib/attention, lib/coop16 and lib/attention16 or lib/coop8 and lib/attention8
const EXACT = false;
const TILE = 32u;
const THREADS = 4u * LANES;
const ROWS = 4u * FRAG;
const FD = (DH + FRAG - 1u) / FRAG;                // fragments across a head
const FT = TILE / FRAG;                            // fragments along the rows of a tile
const SIZE = FRAG * FRAG;
const D4 = FD * FRAG / 4u;
const LD = FD * FRAG + 8u;                         // stride of rows, padded by 8 for fewer bank conflicts
const BEHIND = TILE * LD;                          // start of a tile's second operand
const OWN = FRAG * TILE;                           // scores of a subgroup
const MINE = OWN / LANES;                          // scores of an invocation
const EACH = (FRAG + LANES - 1u) / LANES;          // rows of an invocation
const HELD = EACH * LANES;
const SHIFT = 1024.0;
const LEAST = -1e30;
const STORED = 1u + HALF;                          // elements that an invocation stores together: one word
var<workgroup> sh_ab: array<f16, max(2u * TILE, ROWS) * LD>;
var<workgroup> sh_x: array<f32, ROWS * TILE>;      // scores, then dout·v; at the end the results
var<workgroup> sh_p: array<f16, ROWS * TILE>;      // left factor of the product with the tile
var<workgroup> sh_row: array<f32, 4u * HELD>;      // one number per invocation and per row that it shares
var<workgroup> sh_region: array<u32, TILE>;        // this and the next two: one value per row of the tile
var<workgroup> sh_lse: array<f32, TILE>;
var<workgroup> sh_delta: array<f32, TILE>;
alias Rows = array<Lhs, FD>;
alias Sums = array<Sum, FD>;
alias Each = array<f32, EACH>;

// stage_* loads `count` rows from `first` on, and stores them as f16 from `at` on in sh_ab. keep stores four columns.
fn keep(at: u32, e: u32, x: vec4<f32>) {
    let h = vec4<f16>(x);
    let to = at + e / D4 * LD + e % D4 * 4u;
    for (var c = 0u; c < 4u; c++) { sh_ab[to + c] = h[c]; }
}
fn stage_q(tid: u32, b: u32, h: u32, first: u32, count: u32, at: u32) {
    for (var e = tid; e < count * D4; e += THREADS) {
        keep(at, e, q4(q_at(b, h, min(first + e / D4, p.lq - 1u)), e % D4 * 4u));
    }
}
fn stage_dout(tid: u32, b: u32, h: u32, first: u32, count: u32, at: u32) {
    for (var e = tid; e < count * D4; e += THREADS) {
        keep(at, e, dout4(out_at(b, h, min(first + e / D4, p.lq - 1u)), e % D4 * 4u));
    }
}
fn stage_k(tid: u32, b: u32, h: u32, first: u32, count: u32, at: u32) {
    for (var e = tid; e < count * D4; e += THREADS) {
        keep(at, e, k4(kv_at(b, h, min(first + e / D4, p.lk - 1u)) + p.k_at, e % D4 * 4u));
    }
}
fn stage_v(tid: u32, b: u32, h: u32, first: u32, count: u32, at: u32) {
    for (var e = tid; e < count * D4; e += THREADS) {
        keep(at, e, v4(kv_at(b, h, min(first + e / D4, p.lk - 1u)) + p.v_at, e % D4 * 4u));
    }
}
fn stage_region(tid: u32, first: u32, n: u32) {
    for (var c = tid; c < TILE; c += THREADS) { sh_region[c] = region(first + min(c, n - 1u)); }
}
// Whether column c of the scores, which is row c of a tile of n rows, is past the end or masked.
fn hidden(sees: vec2<u32>, c: u32, n: u32) -> bool { return c >= n || apart(sees, vec2(sh_region[c])); }

// Index, within the subgroup's FRAG rows, of row r of an invocation.
fn own_row(tid: u32, r: u32) -> u32 { return (r * LANES + tid % LANES) % FRAG; }
fn own_rows(tid: u32, first: u32, end: u32) -> array<u32, EACH> {
    var rows: array<u32, EACH>;
    for (var r = 0u; r < EACH; r++) { rows[r] = min(first + tid / LANES * FRAG + own_row(tid, r), end - 1u); }
    return rows;
}
// Stores the values of all invocations in sh_row. The values of row i of subgroup s are at s·HELD + i, i + FRAG, …
fn share(tid: u32, values: ptr<function, Each>) {
    for (var r = 0u; r < EACH; r++) { sh_row[tid / LANES * HELD + r * LANES + tid % LANES] = (*values)[r]; }
    workgroupBarrier();
}

// Loads a subgroup's rows from the block staged at the start of sh_ab into fragments.
fn take(rows: ptr<function, Rows>, sub: u32) {
    workgroupBarrier();
    for (var f = 0u; f < FD; f++) { (*rows)[f] = coopLoadT<Lhs>(&sh_ab[sub * FRAG * LD + f * FRAG], LD); }
    workgroupBarrier();
}
// sh_x = rows · (the tile's rows at `at`)ᵀ
fn multiply(rows: ptr<function, Rows>, sub: u32, at: u32) {
    for (var y = 0u; y < FT; y++) {
        var sum: Sum;
        for (var f = 0u; f < FD; f++) {
            let right = coopLoad<Rhs>(&sh_ab[at + y * FRAG * LD + f * FRAG], LD);
            sum = coopMultiplyAdd((*rows)[f], right, sum);
        }
        let to = sub * OWN + y * SIZE;
        let stride = FRAG;
        coopStore(sum, &sh_x[to], stride);
    }
    workgroupBarrier();
}
// sums += sh_p · (the tile's rows at `at`)
fn gather(sums: ptr<function, Sums>, sub: u32, at: u32) {
    for (var y = 0u; y < FT; y++) {
        let left = coopLoad<Lhs>(&sh_p[sub * OWN + y * SIZE], FRAG);
        for (var f = 0u; f < FD; f++) {
            let right = coopLoadT<Rhs>(&sh_ab[at + y * FRAG * LD + f * FRAG], LD);
            (*sums)[f] = coopMultiplyAdd(left, right, (*sums)[f]);
        }
    }
}
// Stores fragment f of a subgroup's results to sh_x, row-major.
fn show(sums: ptr<function, Sums>, sub: u32, f: u32) {
    workgroupBarrier();
    let sum = (*sums)[f];
    let to = sub * OWN;
    let stride = FRAG;
    coopStoreT(sum, &sh_x[to], stride);
    workgroupBarrier();
}
// Stores the results times `by`: n rows from `at` on, `row` elements apart.
fn put_grads(sums: ptr<function, Sums>, tid: u32, at: u32, row: u32, n: u32, by: f32) {
    let sub = tid / LANES;
    for (var f = 0u; f < FD; f++) {
        show(sums, sub, f);
        for (var e = tid % LANES * STORED; e < SIZE; e += LANES * STORED) {
            let i = sub * FRAG + e / FRAG;
            let c = f * FRAG + e % FRAG;
            let x = sub * OWN + e;
            if i < n && c < DH { put_grad(at + i * row + c, by * vec2(sh_x[x], sh_x[x + HALF])); }
        }
    }
}

fn forward(wid: vec3<u32>, tid: u32) {
    let my = owned(wid, p.lq);
    if my.group >= p.groups { return; }
    let sub = tid / LANES;
    let reach = seen(bounds(my.first, ROWS));
    let own = own_rows(tid, my.first, p.lq);
    var sees: array<vec2<u32>, EACH>;
    var most: Each;
    var sum: Each;
    for (var r = 0u; r < EACH; r++) {
        sees[r] = seen(vec2(region(own[r])));
        most[r] = LEAST;
    }
    var queries: Rows;
    stage_q(tid, my.b, my.h, my.first, ROWS, 0u);
    take(&queries, sub);
    for (var j0 = 0u; j0 < p.lk; j0 += TILE) {
        if apart(reach, bounds(j0, TILE)) { continue; }
        let n = min(TILE, p.lk - j0);
        workgroupBarrier();              // the previous tile has been read
        stage_k(tid, my.b, my.h, j0, TILE, 0u);
        stage_region(tid, j0, n);
        workgroupBarrier();
        multiply(&queries, sub, 0u);
        for (var m = 0u; m < MINE; m++) {
            let e = m * LANES + tid % LANES;
            if hidden(sees[m % EACH], e / FRAG, n) { continue; }
            most[m % EACH] = max(most[m % EACH], p.scale * sh_x[sub * OWN + e]);
        }
    }
    share(tid, &most);
    for (var r = 0u; r < EACH; r++) {
        for (var s = own_row(tid, r); s < HELD; s += FRAG) { most[r] = max(most[r], sh_row[sub * HELD + s]); }
    }
    var outs: Sums;
    for (var j0 = 0u; j0 < p.lk; j0 += TILE) {
        if apart(reach, bounds(j0, TILE)) { continue; }
        let n = min(TILE, p.lk - j0);
        workgroupBarrier();
        stage_k(tid, my.b, my.h, j0, TILE, 0u);
        stage_v(tid, my.b, my.h, j0, TILE, BEHIND);
        stage_region(tid, j0, n);
        workgroupBarrier();
        multiply(&queries, sub, 0u);
        for (var m = 0u; m < MINE; m++) {
            let e = m * LANES + tid % LANES;
            var w = 0.0;
            if !hidden(sees[m % EACH], e / FRAG, n) {
                w = exp(max(p.scale * sh_x[sub * OWN + e] - most[m % EACH], -80.0));
            }
            sum[m % EACH] += w;
            sh_p[sub * OWN + e] = f16(w);
        }
        workgroupBarrier();
        gather(&outs, sub, BEHIND);
    }
    workgroupBarrier();                  // all have read the maxima in sh_row
    share(tid, &sum);
    for (var r = 0u; r < EACH; r++) {
        sum[r] = 0.0;
        for (var s = own_row(tid, r); s < HELD; s += FRAG) { sum[r] += sh_row[sub * HELD + s]; }
        let i = my.first + sub * FRAG + own_row(tid, r);
        if r * LANES + tid % LANES < FRAG && i < p.lq { lse[my.group * p.lq + i] = most[r] + log(sum[r]); }
    }
    for (var f = 0u; f < FD; f++) {
        show(&outs, sub, f);
        for (var e = tid % LANES * STORED; e < SIZE; e += LANES * STORED) {
            var total = 0.0;
            for (var s = e / FRAG; s < HELD; s += FRAG) { total += sh_row[sub * HELD + s]; }
            let i = my.first + sub * FRAG + e / FRAG;
            let c = f * FRAG + e % FRAG;
            let x = sub * OWN + e;
            if i < p.lq && c < DH { put_out(out_at(my.b, my.h, i) + c, vec2(sh_x[x], sh_x[x + HALF]) / total); }
        }
    }
}

fn backward_dq(wid: vec3<u32>, tid: u32) {
    let my = owned(wid, p.lq);
    if my.group >= p.groups { return; }
    let sub = tid / LANES;
    let reach = seen(bounds(my.first, ROWS));
    let own = own_rows(tid, my.first, p.lq);
    var sees: array<vec2<u32>, EACH>;
    var lse_i: Each;
    var delta_i: Each;
    for (var r = 0u; r < EACH; r++) {
        sees[r] = seen(vec2(region(own[r])));
        lse_i[r] = saved_lse[my.group * p.lq + own[r]];
        delta_i[r] = saved_delta[my.group * p.lq + own[r]];
    }
    var queries: Rows;
    var douts: Rows;
    stage_q(tid, my.b, my.h, my.first, ROWS, 0u);
    take(&queries, sub);
    stage_dout(tid, my.b, my.h, my.first, ROWS, 0u);
    take(&douts, sub);
    var dq: Sums;
    var w: array<f32, MINE>;
    for (var j0 = 0u; j0 < p.lk; j0 += TILE) {
        if apart(reach, bounds(j0, TILE)) { continue; }
        let n = min(TILE, p.lk - j0);
        workgroupBarrier();
        stage_k(tid, my.b, my.h, j0, TILE, 0u);
        stage_v(tid, my.b, my.h, j0, TILE, BEHIND);
        stage_region(tid, j0, n);
        workgroupBarrier();
        multiply(&queries, sub, 0u);
        for (var m = 0u; m < MINE; m++) {
            let e = m * LANES + tid % LANES;
            w[m] = 0.0;
            if hidden(sees[m % EACH], e / FRAG, n) { continue; }
            w[m] = exp(max(p.scale * sh_x[sub * OWN + e] - lse_i[m % EACH], -80.0));
        }
        workgroupBarrier();
        multiply(&douts, sub, BEHIND);
        for (var m = 0u; m < MINE; m++) {
            let e = sub * OWN + m * LANES + tid % LANES;
            sh_p[e] = f16(w[m] * (sh_x[e] - delta_i[m % EACH]));
        }
        workgroupBarrier();
        gather(&dq, sub, 0u);
    }
    put_grads(&dq, tid, q_at(my.b, my.h, my.first), p.q_row, p.lq - my.first, p.scale);
}

// As backward_dq with the sides exchanged: rows are keys, and tiles hold queries.
fn backward_dkv(wid: vec3<u32>, tid: u32) {
    let my = owned(wid, p.lk);
    if my.group >= p.groups { return; }
    let sub = tid / LANES;
    let reach = seers(bounds(my.first, ROWS));
    let own = own_rows(tid, my.first, p.lk);
    var sees: array<vec2<u32>, EACH>;
    for (var r = 0u; r < EACH; r++) { sees[r] = seers(vec2(region(own[r]))); }
    var keys: Rows;
    var values: Rows;
    stage_k(tid, my.b, my.h, my.first, ROWS, 0u);
    take(&keys, sub);
    stage_v(tid, my.b, my.h, my.first, ROWS, 0u);
    take(&values, sub);
    var dk: Sums;
    var dv: Sums;
    var w: array<f32, MINE>;
    for (var i0 = 0u; i0 < p.lq; i0 += TILE) {
        if apart(reach, bounds(i0, TILE)) { continue; }
        let n = min(TILE, p.lq - i0);
        workgroupBarrier();
        stage_q(tid, my.b, my.h, i0, TILE, 0u);
        stage_dout(tid, my.b, my.h, i0, TILE, BEHIND);
        stage_region(tid, i0, n);
        for (var c = tid; c < TILE; c += THREADS) {
            let i = my.group * p.lq + i0 + min(c, n - 1u);
            sh_lse[c] = saved_lse[i];
            sh_delta[c] = saved_delta[i];
        }
        workgroupBarrier();
        multiply(&keys, sub, 0u);
        for (var m = 0u; m < MINE; m++) {
            let e = m * LANES + tid % LANES;
            w[m] = 0.0;
            if !hidden(sees[m % EACH], e / FRAG, n) {
                w[m] = exp(max(p.scale * sh_x[sub * OWN + e] - sh_lse[e / FRAG], -80.0));
            }
            sh_p[sub * OWN + e] = f16(SHIFT * w[m]);
        }
        workgroupBarrier();
        gather(&dv, sub, BEHIND);
        multiply(&values, sub, BEHIND);
        for (var m = 0u; m < MINE; m++) {
            let e = m * LANES + tid % LANES;
            sh_p[sub * OWN + e] = f16(w[m] * (sh_x[sub * OWN + e] - sh_delta[e / FRAG]));
        }
        workgroupBarrier();
        gather(&dk, sub, 0u);
    }
    let at = kv_at(my.b, my.h, my.first);
    put_grads(&dk, tid, at + p.k_at, p.kv_row, p.lk - my.first, p.scale);
    put_grads(&dv, tid, at + p.v_at, p.kv_row, p.lk - my.first, 1.0 / SHIFT);
}
