// attention — softmax attention under a region mask, forward and backward; scores are never stored (PyTorch:
// F.scaled_dot_product_attention with a boolean attn_mask; the method is FlashAttention's).
//   shapes    q, dq (B, Lq) rows of q_row floats;  k, v, dk, dv (B, Lk) rows of kv_row floats, from columns 0, k_at,
//             v_at on; inside a row head-major (H, DH). Self-attention has all six in one qkv and one dqkv,
//             cross-attention in q and kv.
//             out, dout (B, Lq, H, DH)   lse, delta (B, H, Lq)   C = H·DH
//             regions: the region of each token (L), then the (least, largest) region of every 8 tokens. Query i sees
//             key j if mask = 0: always; 1: region(j) <= region(i) (row-causal, as in MAP's decoder); 2: region(j) =
//             region(i).
//   forward   x = scale·q_i·k_j where seen   lse_i = ln Σ_j exp x   out_i = Σ_j P·v_j,  P = exp(x − lse_i)
//   backward  delta_i = dout_i·out_i   dx = P·(dout_i·v_j − delta_i)
//             dq_i = scale·Σ_j dx·k_j   dk_j = scale·Σ_i dx·q_i   dv_j = Σ_i P·dout_i
//             It overwrites the gradients and does not accumulate.
//   saves     out and lse. With lse, backward computes P by one exp, without a second pass over the keys.
//   threads   A workgroup owns ROWS rows of one (b, h): queries, or keys in backward_dkv. It walks the other side
//             (keys, or queries in backward_dkv) in tiles of TILE rows. It skips tiles that none of its rows sees, so
//             masked tiles cost nothing. SPLIT invocations share a row and hold S4 vec4s of the head each, so that a
//             row fits into registers. Tiles go through workgroup memory, where all read the same address (a
//             broadcast); the SPLIT parts of a dot product are added there too. Forward takes four keys at a time: it
//             rescales its sums once for the largest of their scores, without a branch in which rows would part.
//   DIRECT    1: the rows of a tile are read where they are, not from workgroup memory, and SPLIT is 1: for CPUs, whose
//             caches hold them, and which need no barrier then. A browser fills workgroup memory with zeros, and the
//             compiler of SwiftShader writes a store for each of them: 730 ms for this kernel, without 160.
//   HALF      1: q, k, v, out, dout, dq, dk and dv are f16, two per word, and DH is a multiple of 4. Arithmetic stays
//             f32.
//   floor     forward (backward), where `pairs` counts the (query, key) pairs that the mask allows: 16 (36)·B·L·C
//             bytes, because q, k and v are read and out is written once; half of that in f16. 4 (14)·B·pairs·C flops,
//             1 (2)·B·H·pairs exps.
//   tried     ms forward | backward of one image, L 98, on llvmpipe, one core of an EPYC, Mesa 26.1.6 (22.3.6 in
//             brackets), 12 heads of 32, then of 64:
//             DIRECT, SPLIT 1    2.1 | 5.1 (4.8 | 9.0)     7.9 | 18.0    kept
//             staged, as a GPU   2.3 | 6.3 (5.8 | 12.8)   10.2 | 37.6
//             NVIDIA H200 (benches/runs/2026-11-28-nvidia-h200), f32, base, batch 128: L 98, heads of 64, SPLIT 2 | 4:
//             0.537 | 1.438 (SDPA 0.227 | 0.543); L 196, heads of 12, the decoder's mask, SPLIT 1: 0.271 | 0.686 (SDPA
//             1.010 | 2.276). These are of a forward pass by single keys, in tiles of 16 at heads of 64
//             forward at heads of 64, benches/static: tiles of 16 take 12 KiB for 64 invocations, and RDNA3 then has 6
//             waves, where its registers allow 12. benches/static/README.md lists by rows, tiles and SPLIT what was
//             tried
// uses lib/grid, lib/half, lib/element, lib/attention
const D4 = (DH + 3u) / 4u;               // vec4s of a head
const S4 = (D4 + SPLIT - 1u) / SPLIT;    // vec4s of a slice: the part of a head that one invocation holds
const W4 = S4 * SPLIT;                   // vec4s of a head, padded
const WG = ROWS * SPLIT;
const EXACT = DH % 4u == 0u && W4 == D4; // no padding
const HELD = 1u + (1u - DIRECT) * (TILE * W4 - 1u);       // vec4s of a tile; 1 (unused) with DIRECT
const PARTS = max((min(SPLIT, 2u) - 1u) * TILE * WG, 1u); // 1 (unused) if SPLIT = 1: an array cannot be empty
@group(0) @binding(13) var<storage, read_write> probs: array<f32>; // P (B, H, Lq, Lk)
var<workgroup> sh_a: array<vec4<f32>, HELD>;                     // a tile of k; in backward_dkv of q
var<workgroup> sh_b: array<vec4<f32>, HELD>;                     // a tile of v; in backward_dkv of dout
var<workgroup> sh_x: array<vec4<f32>, (PARTS + 3u) / 4u>;        // parts of q·k, of four keys
var<workgroup> sh_xd: array<vec2<f32>, PARTS>;                   // parts of q·k and dout·v
alias Slice = array<vec4<f32>, S4>;

// Stores columns c..c+4 of the head that starts at `at`, except those past its end.
fn put_out4(at: u32, c: u32, x: vec4<f32>) {
    for (var n = 0u; n < 4u; n += 1u + HALF) {
        if c + n < DH { put_out(at + c + n, vec2(x[n], x[n + HALF])); }
    }
}
fn put_grad4(at: u32, c: u32, x: vec4<f32>) {
    for (var n = 0u; n < 4u; n += 1u + HALF) {
        if c + n < DH { put_grad(at + c + n, vec2(x[n], x[n + HALF])); }
    }
}

// Loads a tile: the n rows from `first` on. Rows n..TILE of the tile repeat the last one.
fn stage_keys(tid: u32, b: u32, h: u32, first: u32, n: u32) {
    if DIRECT == 1u { return; }
    workgroupBarrier();                  // the previous tile has been read
    for (var e = tid; e < TILE * W4; e += WG) {
        let at = kv_at(b, h, first + min(e / W4, n - 1u));
        sh_a[e] = k4(at + p.k_at, e % W4 * 4u);
        sh_b[e] = v4(at + p.v_at, e % W4 * 4u);
    }
    workgroupBarrier();
}
fn stage_queries(tid: u32, b: u32, h: u32, first: u32, n: u32) {
    if DIRECT == 1u { return; }
    workgroupBarrier();
    for (var e = tid; e < TILE * W4; e += WG) {
        let i = first + min(e / W4, n - 1u);
        sh_a[e] = q4(q_at(b, h, i), e % W4 * 4u);
        sh_b[e] = dout4(out_at(b, h, i), e % W4 * 4u);
    }
    workgroupBarrier();
}
// A row of a tile: its number there, and where it begins in the memory of what sh_a and sh_b hold.
struct Row { r: u32, a: u32, b: u32 }
fn key_row(my: Owned, first: u32, r: u32) -> Row {
    let at = kv_at(my.b, my.h, min(first + r, p.lk - 1u));
    return Row(r, at + p.k_at, at + p.v_at);
}
fn query_row(my: Owned, first: u32, r: u32) -> Row {
    return Row(r, q_at(my.b, my.h, first + r), out_at(my.b, my.h, first + r));
}
// vec4 c of a row: of a key its k and v, of a query its q and dout.
fn row_k(row: Row, c: u32) -> vec4<f32> {
    if DIRECT == 1u { return k4(row.a, c * 4u); }
    return sh_a[row.r * W4 + c];
}
fn row_v(row: Row, c: u32) -> vec4<f32> {
    if DIRECT == 1u { return v4(row.b, c * 4u); }
    return sh_b[row.r * W4 + c];
}
fn row_q(row: Row, c: u32) -> vec4<f32> {
    if DIRECT == 1u { return q4(row.a, c * 4u); }
    return sh_a[row.r * W4 + c];
}
fn row_dout(row: Row, c: u32) -> vec4<f32> {
    if DIRECT == 1u { return dout4(row.b, c * 4u); }
    return sh_b[row.r * W4 + c];
}
// (x·k, y·v) of a key, or (x·q, y·dout) of a query: the parts that this invocation's slices contribute.
fn dots_key(x: ptr<function, Slice>, y: ptr<function, Slice>, row: Row, c0: u32) -> vec2<f32> {
    var s = vec4<f32>();
    for (var c = 0u; c < S4; c++) { s += (*x)[c] * row_k(row, c0 + c); }
    let first = (s.x + s.y) + (s.z + s.w);
    s = vec4<f32>();
    for (var c = 0u; c < S4; c++) { s += (*y)[c] * row_v(row, c0 + c); }
    return vec2(first, (s.x + s.y) + (s.z + s.w));
}
fn dots_query(x: ptr<function, Slice>, y: ptr<function, Slice>, row: Row, c0: u32) -> vec2<f32> {
    var s = vec4<f32>();
    for (var c = 0u; c < S4; c++) { s += (*x)[c] * row_q(row, c0 + c); }
    let first = (s.x + s.y) + (s.z + s.w);
    s = vec4<f32>();
    for (var c = 0u; c < S4; c++) { s += (*y)[c] * row_dout(row, c0 + c); }
    return vec2(first, (s.x + s.y) + (s.z + s.w));
}
// x·k alone, of four keys, as one chain of sums each: with four sums a key, as above, NVK takes 120 registers for heads
// of 64, with this 96.
fn score_of(x: ptr<function, Slice>, row: Row, c0: u32) -> f32 {
    var s = 0.0;
    for (var c = 0u; c < S4; c++) {
        let k = row_k(row, c0 + c);
        s += (*x)[c].x * k.x;
        s += (*x)[c].y * k.y;
        s += (*x)[c].z * k.z;
        s += (*x)[c].w * k.w;
    }
    return s;
}
fn scores_of(x: ptr<function, Slice>, my: Owned, first: u32, r: u32, c0: u32) -> vec4<f32> {
    return vec4(score_of(x, key_row(my, first, r), c0), score_of(x, key_row(my, first, r + 1u), c0),
                score_of(x, key_row(my, first, r + 2u), c0), score_of(x, key_row(my, first, r + 3u), c0));
}
// Which of keys j..j+4 exist and are in the range of regions that a query sees.
fn seen_key(sees: vec2<u32>, j: u32) -> bool {
    return j < p.lk && !apart(sees, vec2(region(min(j, p.lk - 1u))));
}
fn seen_keys(sees: vec2<u32>, j: u32) -> vec4<bool> {
    return vec4(seen_key(sees, j), seen_key(sees, j + 1u), seen_key(sees, j + 2u), seen_key(sees, j + 3u));
}
// (q·k, dout·v) of this invocation's row and row r of the tile: the sum of the SPLIT parts.
fn sum_xd(tid: u32, r: u32) -> vec2<f32> {
    var xd = vec2<f32>();
    for (var s = 0u; s < SPLIT; s++) { xd += sh_xd[r * WG + s * ROWS + tid % ROWS]; }
    return xd;
}

@compute @workgroup_size(WG)
fn forward(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let my = owned(wid, p.lq);
    if my.group >= p.groups { return; }
    let reach = seen(bounds(my.first, ROWS));
    let row = my.first + tid % ROWS;
    let i = min(row, p.lq - 1u);
    let sees = seen(vec2(region(i)));
    let c0 = tid / ROWS * S4;            // this invocation's first vec4
    var qi: Slice;
    var acc: Slice;
    for (var c = 0u; c < S4; c++) {
        qi[c] = p.scale * q4(q_at(my.b, my.h, i), (c0 + c) * 4u);
        acc[c] = vec4<f32>();
    }
    var most = -1e30;
    var sum = 0.0;
    for (var j0 = 0u; j0 < p.lk; j0 += TILE) {
        if apart(reach, bounds(j0, TILE)) { continue; }
        let n = min(TILE, p.lk - j0);
        stage_keys(tid, my.b, my.h, j0, n);
        if SPLIT > 1u {
            for (var j = 0u; j < n; j += 4u) { sh_x[j / 4u * WG + tid] = scores_of(&qi, my, j0, j, c0); }
            workgroupBarrier();
        }
        for (var j = 0u; j < n; j += 4u) {
            var on = vec4(true);
            if p.mask != 0u || n < TILE {
                on = seen_keys(sees, j0 + j);
                if !any(on) { continue; }
            }
            var x = vec4<f32>();
            if SPLIT > 1u {
                for (var s = 0u; s < SPLIT; s++) { x += sh_x[j / 4u * WG + s * ROWS + tid % ROWS]; }
            } else {
                x = scores_of(&qi, my, j0, j, c0);
            }
            x = select(vec4(-1e30), x, on);
            let top = max(max(most, max(x.x, x.y)), max(x.z, x.w));
            let shrink = exp(max(most - top, -80.0));
            let e = select(vec4<f32>(), exp(max(x - top, vec4(-80.0))), on);
            most = top;
            sum = sum * shrink + ((e.x + e.y) + (e.z + e.w));
            for (var c = 0u; c < S4; c++) { acc[c] *= shrink; }
            for (var r = 0u; r < 4u; r++) {
                let key = key_row(my, j0, j + r);
                for (var c = 0u; c < S4; c++) { acc[c] += e[r] * row_v(key, c0 + c); }
            }
        }
    }
    if row >= p.lq { return; }
    for (var c = 0u; c < S4; c++) { put_out4(out_at(my.b, my.h, i), (c0 + c) * 4u, acc[c] / sum); }
    if c0 == 0u { lse[my.group * p.lq + i] = most + log(sum); }
}

// Attention maps, for people to look at: P for keys that the query sees, else 0. One invocation per (b, h, i, j).
@compute @workgroup_size(64)
fn weights(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let n = grid_row(wid) * 64u + tid;
    if n >= p.groups * p.lq * p.lk { return; }
    let i = n / p.lk % p.lq;
    let j = n % p.lk;
    let group = n / p.lk / p.lq;
    var w = 0.0;
    if !apart(seen(vec2(region(i))), vec2(region(j))) {
        let at_i = q_at(group / p.heads, group % p.heads, i);
        let at_j = kv_at(group / p.heads, group % p.heads, j) + p.k_at;
        var x = 0.0;
        for (var c = 0u; c < DH; c += 4u) { x += dot(q4(at_i, c), k4(at_j, c)); }
        w = exp(max(p.scale * x - saved_lse[group * p.lq + i], -80.0));
    }
    probs[n] = w;
}

// delta: one invocation per (b, i, h). ROUND = 1: dout is rounded to f16 first, as attention_coop.wgsl needs.
@compute @workgroup_size(64)
fn backward_delta(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let n = grid_row(wid) * 64u + tid;
    if n >= p.groups * p.lq { return; }
    var sum = vec4<f32>();
    for (var c = 0u; c < DH; c += 4u) {
        var d = dout4(n * DH, c);
        if ROUND == 1u { d = nearest_f16(d); }
        sum += out4(n * DH, c) * d;
    }
    let i = n / p.heads;
    delta[(i / p.lq * p.heads + n % p.heads) * p.lq + i % p.lq] = (sum.x + sum.y) + (sum.z + sum.w);
}

@compute @workgroup_size(WG)
fn backward_dq(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let my = owned(wid, p.lq);
    if my.group >= p.groups { return; }
    let reach = seen(bounds(my.first, ROWS));
    let row = my.first + tid % ROWS;
    let i = min(row, p.lq - 1u);
    let sees = seen(vec2(region(i)));
    let c0 = tid / ROWS * S4;
    let lse_i = saved_lse[my.group * p.lq + i];
    let delta_i = saved_delta[my.group * p.lq + i];
    var qi: Slice;
    var di: Slice;
    var acc: Slice;
    for (var c = 0u; c < S4; c++) {
        qi[c] = p.scale * q4(q_at(my.b, my.h, i), (c0 + c) * 4u);
        di[c] = dout4(out_at(my.b, my.h, i), (c0 + c) * 4u);
        acc[c] = vec4<f32>();
    }
    for (var j0 = 0u; j0 < p.lk; j0 += TILE) {
        if apart(reach, bounds(j0, TILE)) { continue; }
        let n = min(TILE, p.lk - j0);
        stage_keys(tid, my.b, my.h, j0, n);
        if SPLIT > 1u {
            for (var j = 0u; j < n; j++) {
                let key = key_row(my, j0, j);
                sh_xd[j * WG + tid] = dots_key(&qi, &di, key, c0);
            }
            workgroupBarrier();
        }
        for (var j = 0u; j < n; j++) {
            if apart(sees, vec2(region(j0 + j))) { continue; }
            let key = key_row(my, j0, j);
            var xd = vec2<f32>();
            if SPLIT > 1u {
                xd = sum_xd(tid, j);
            } else {
                xd = dots_key(&qi, &di, key, c0);
            }
            let dx = exp(max(xd.x - lse_i, -80.0)) * (xd.y - delta_i);
            for (var c = 0u; c < S4; c++) { acc[c] += dx * row_k(key, c0 + c); }
        }
    }
    if row >= p.lq { return; }
    for (var c = 0u; c < S4; c++) { put_grad4(q_at(my.b, my.h, i), (c0 + c) * 4u, p.scale * acc[c]); }
}

// dk and dv: as backward_dq with the sides exchanged. Rows are keys, and tiles hold queries.
@compute @workgroup_size(WG)
fn backward_dkv(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let my = owned(wid, p.lk);
    if my.group >= p.groups { return; }
    let reach = seers(bounds(my.first, ROWS));
    let row = my.first + tid % ROWS;
    let j = min(row, p.lk - 1u);
    let sees = seers(vec2(region(j)));
    let c0 = tid / ROWS * S4;
    let at_j = kv_at(my.b, my.h, j);
    var kj: Slice;
    var vj: Slice;
    var dk: Slice;
    var dv: Slice;
    for (var c = 0u; c < S4; c++) {
        kj[c] = p.scale * k4(at_j + p.k_at, (c0 + c) * 4u);
        vj[c] = v4(at_j + p.v_at, (c0 + c) * 4u);
        dk[c] = vec4<f32>();
        dv[c] = vec4<f32>();
    }
    for (var i0 = 0u; i0 < p.lq; i0 += TILE) {
        if apart(reach, bounds(i0, TILE)) { continue; }
        let n = min(TILE, p.lq - i0);
        stage_queries(tid, my.b, my.h, i0, n);
        if SPLIT > 1u {
            for (var i = 0u; i < n; i++) {
                let query = query_row(my, i0, i);
                sh_xd[i * WG + tid] = dots_query(&kj, &vj, query, c0);
            }
            workgroupBarrier();
        }
        for (var i = 0u; i < n; i++) {
            if apart(sees, vec2(region(i0 + i))) { continue; }
            let query = query_row(my, i0, i);
            var xd = vec2<f32>();
            if SPLIT > 1u {
                xd = sum_xd(tid, i);
            } else {
                xd = dots_query(&kj, &vj, query, c0);
            }
            let w = exp(max(xd.x - saved_lse[my.group * p.lq + i0 + i], -80.0));
            let dx = w * (xd.y - saved_delta[my.group * p.lq + i0 + i]);
            for (var c = 0u; c < S4; c++) {
                dk[c] += dx * row_q(query, c0 + c);
                dv[c] += w * row_dout(query, c0 + c);
            }
        }
    }
    if row >= p.lk { return; }
    for (var c = 0u; c < S4; c++) {
        put_grad4(at_j + p.k_at, (c0 + c) * 4u, p.scale * dk[c]);
        put_grad4(at_j + p.v_at, (c0 + c) * 4u, dv[c]);
    }
}
