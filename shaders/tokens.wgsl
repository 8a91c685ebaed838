// tokens — rows by index, as in MAE: gather the visible tokens (torch.gather with ids_keep), add positions, and restore
// the visible tokens among mask tokens (torch.gather with ids_restore).
//   ids (B, V): the token of each visible row.   inv (B, L), the inverse of ids: the visible row of each token,
//   u32::MAX for a masked token.   table (L, D): positions.   mask_token (D).   An index out of range reads nothing.
//   gather    x (B, L, D)  out[b,v] = x[b, ids[b,v]]             dx[b,l] = inv < V ? dout[b, inv] : 0,  inv = inv[b,l]
//             ids and inv may also be (V) and (L), the same for all samples
//   embed     x (B, V, D)  out[b,v] = x[b,v] + table[ids[b,v]]   dx = dout  dtable[l] = Σ_b (inv < V ? dout[b,inv] : 0)
//   positions x (B, L, D)  out[b,l] = x[b,l] + table[l]          dx = dout  dtable[l] = Σ_b dout[b,l]
//   restore   x (B, V, D)  out[b,l] = (inv < V ? x[b, inv] : mask_token) + table[l]
//             dx[b,v] = dout[b, ids[b,v]]     dmask_token = Σ_{b,l: inv >= V} dout[b,l]     dtable[l] = Σ_b dout[b,l]
//   kernels   `take` computes gather, and dx of gather and restore: src is x or dout, and at is ids or inv. Sums over
//             `per` rows are written as parts, which `sum_rows` then adds up in a fixed order. Results are overwritten.
//   S16, D16  1: src of `take` and `restore`, or dst of `take`, hold f16, two in a word; D is even then
//   saves     ids and inv
//   threads   one invocation per element of dst, or per word of it;  dst_rows and src_rows count the rows of a sample
//   floor     8 bytes per element of dst, 4 more with a table.  Sums: 4 bytes per element of dout
// uses lib/grid, lib/half, lib/element
struct Params { n: u32, dst_rows: u32, src_rows: u32, d: u32, rows: u32, per: u32, indices: u32 }
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> src: array<u32>;        // x or dout, (.., src_rows, D)
@group(0) @binding(2) var<storage, read> at: array<u32>;         // ids or inv
@group(0) @binding(3) var<storage, read> table: array<f32>;
@group(0) @binding(4) var<storage, read> mask_token: array<f32>;
@group(0) @binding(5) var<storage, read_write> dst: array<u32>;  // out, dx, or parts of dtable and dmask_token

fn at_src(i: u32) -> f32 {
    return element(src[i >> S16], i, S16);
}
fn put(i: u32, v: f32) {
    dst[i] = bitcast<u32>(v);
}

// dst (B, dst_rows, D):  dst[b,j] = src[b, at[b,j]], or 0 if at[b,j] is out of range.  `indices` is the length of at:
// B·dst_rows, or dst_rows if all samples share the indices.
@compute @workgroup_size(WG)
fn take(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = (grid_row(wid) * WG + tid) << D16;
    if i >= p.n { return; }
    let row = i / p.d;
    let a = at[row % p.indices];
    var value = vec2(0.0);
    if a < p.src_rows {
        let from_ = (row / p.dst_rows * p.src_rows + a) * p.d + i % p.d;
        value = vec2(at_src(from_), at_src(from_ + D16));
    }
    if D16 == 1u { dst[i >> 1u] = pair(value); } else { put(i, value.x); }
}

// dst (B, dst_rows, D) = src + table[at], table (src_rows, D)
@compute @workgroup_size(WG)
fn embed(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let a = at[i / p.d];
    var value = at_src(i);
    if a < p.src_rows { value += table[a * p.d + i % p.d]; }
    put(i, value);
}

// dst (B, dst_rows, D) = src + table, table (dst_rows, D)
@compute @workgroup_size(WG)
fn positions(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i < p.n { put(i, at_src(i) + table[i % (p.dst_rows * p.d)]); }
}

// dst (B, dst_rows, D) = (src[b, at], or mask_token if at is out of range) + table
@compute @workgroup_size(WG)
fn restore(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let row = i / p.d;
    let column = i % p.d;
    let a = at[row];
    var value = mask_token[column];
    if a < p.src_rows { value = at_src((row / p.dst_rows * p.src_rows + a) * p.d + column); }
    put(i, value + table[row % p.dst_rows * p.d + column]);
}

// src (rows, dst_rows·D), dst (parts, dst_rows·D):  dst[part] = Σ of `per` rows
@compute @workgroup_size(WG)
fn sum_rows(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let width = p.dst_rows * p.d;
    let first = i / width * p.per;
    var sum = 0.0;
    for (var r = first; r < min(first + p.per, p.rows); r++) { sum += at_src(r * width + i % width); }
    put(i, sum);
}

// src (rows, D), dst (parts, D):  dst[part] = Σ of the rows of masked tokens among `per` rows
@compute @workgroup_size(WG)
fn sum_masked(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let first = i / p.d * p.per;
    var sum = 0.0;
    for (var r = first; r < min(first + p.per, p.rows); r++) {
        if at[r] >= p.src_rows { sum += at_src(r * p.d + i % p.d); }
    }
    put(i, sum);
}

// src (rows, src_rows, D), dst (parts, dst_rows, D):  dst[part, l] = Σ of src[b, at[b, l]] over those of `per` samples
// b in which token l is visible
@compute @workgroup_size(WG)
fn sum_visible(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let first = i / (p.dst_rows * p.d) * p.per;
    let l = i / p.d % p.dst_rows;
    var sum = 0.0;
    for (var r = first; r < min(first + p.per, p.rows); r++) {
        let a = at[r * p.dst_rows + l];
        if a < p.src_rows { sum += at_src((r * p.src_rows + a) * p.d + i % p.d); }
    }
    put(i, sum);
}
