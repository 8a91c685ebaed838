// registers — the model's own tokens (timm's prefix tokens: registers, class token) at evenly spaced places among the
// image's tokens: in front (ViT), in the middle (Vim) or spread out (Mamba-R).
//   Register k of n (`count`) stands at place first + k·step of the sequence; tokens fill the other places in order.
//   insert    x (B, L, D), r (B or 1, n, D) → out (B, L+n, D):  out[b, place] = r[b, k] for a register, else x[b, l]
//             dx = rest(dout)     dr = extract(dout), which is then summed over b if all samples share r
//   extract   x (B, L+n, D) → out (B, n, D):  out[b, k] = x[b, first + k·step]      dx = insert(0, dout)
//   rest      x (B, L+n, D) → out (B, L, D):  all tokens except the registers       dx = insert(dout, 0)
//   saves     nothing: places follow from first, step and count, without a table. Results are overwritten.
//   threads   one invocation per element of dst;  dst_rows and src_rows count the rows of a sample
//   floor     8 bytes per element of dst
// uses lib/grid
struct Params {
    n: u32, d: u32, dst_rows: u32, src_rows: u32, first: u32, step: u32, count: u32,
    has_x: u32, r_stride: u32, has_r: u32,
}
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> x: array<f32>;          // (B, src_rows, D)
@group(0) @binding(2) var<storage, read> r: array<f32>;          // (B or 1, count, D); r_stride 0: shared
@group(0) @binding(3) var<storage, read_write> dst: array<f32>;  // (B, dst_rows, D)

// Number of registers in front of place j.
fn before(j: u32) -> u32 {
    if j < p.first { return 0u; }
    return min((j - p.first + p.step - 1u) / p.step, p.count);
}

fn is_register(j: u32) -> bool {
    return j >= p.first && (j - p.first) % p.step == 0u && (j - p.first) / p.step < p.count;
}

// Place of token l. From `first` on, every step − 1 tokens are followed by a register.
fn place(l: u32) -> u32 {
    if l < p.first { return l; }
    if p.step == 1u { return l + p.count; }
    return l + min((l - p.first) / (p.step - 1u) + 1u, p.count);
}

@compute @workgroup_size(WG)
fn insert(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let b = i / (p.dst_rows * p.d);
    let j = i / p.d % p.dst_rows;
    let column = i % p.d;
    var value = 0.0;
    if is_register(j) {
        if p.has_r == 1u { value = r[b * p.r_stride + (j - p.first) / p.step * p.d + column]; }
    } else if p.has_x == 1u {
        value = x[(b * p.src_rows + j - before(j)) * p.d + column];
    }
    dst[i] = value;
}

@compute @workgroup_size(WG)
fn extract(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let j = p.first + i / p.d % p.dst_rows * p.step;
    dst[i] = x[(i / (p.dst_rows * p.d) * p.src_rows + j) * p.d + i % p.d];
}

@compute @workgroup_size(WG)
fn rest(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let j = place(i / p.d % p.dst_rows);
    dst[i] = x[(i / (p.dst_rows * p.d) * p.src_rows + j) * p.d + i % p.d];
}
