// patchify — images to one row per patch (einops: b c (h p) (w q) -> b (h w) (c p q)). Columns are in the order of a
// convolution weight, so that timm's PatchEmbed becomes a matmul.
//   shapes    rows (B, L, C·P·P), L = (H/P)·(W/P);   token (y/P)·(W/P) + x/P;   column (c·P + y mod P)·P + x mod P
//   from_u8   bytes (B, H, W, 3), four per word, the first in the low bits:  rows = scale[c]·v + shift[c]
//             scale = 1/(255·std) and shift = −mean/std, so that rows = (v/255 − mean)/std
//   from_nchw pixels (B, C, H, W), copied unchanged
//   to_map    the way back: image (B, H, W, C), channels last, from saved_rows. With hide = 1, pixels of a hidden
//             patch are 0: inv (B, L) is its place among the visible patches, or 0xffffffff
//   No backward: images need no gradient.
//   threads   one invocation per element of rows
//   floor     5 bytes per element from bytes, 8 from pixels and to_map
// uses lib/grid
struct Params {
    n: u32, c: u32, h: u32, w: u32, side: u32, hide: u32,
    scale_r: f32, scale_g: f32, scale_b: f32, shift_r: f32, shift_g: f32, shift_b: f32,
}
const WG = 256u;
@group(0) @binding(0) var<uniform> p: Params;
@group(0) @binding(1) var<storage, read> bytes: array<u32>;
@group(0) @binding(2) var<storage, read> pixels: array<f32>;
@group(0) @binding(3) var<storage, read_write> rows: array<f32>;
@group(0) @binding(4) var<storage, read> saved_rows: array<f32>;     // to_map
@group(0) @binding(5) var<storage, read> inv: array<u32>;
@group(0) @binding(6) var<storage, read_write> image: array<f32>;

struct Place { b: u32, c: u32, y: u32, x: u32 }

// The pixel that element i of rows holds.
fn place(i: u32) -> Place {
    let area = p.side * p.side;
    let token = i / (p.c * area);
    let column = i % (p.c * area);
    let across = p.w / p.side;
    let tokens = across * (p.h / p.side);
    let y = token % tokens / across * p.side + column % area / p.side;
    let x = token % across * p.side + column % p.side;
    return Place(token / tokens, column / area, y, x);
}

@compute @workgroup_size(WG)
fn from_u8(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let at = place(i);
    let byte = ((at.b * p.h + at.y) * p.w + at.x) * 3u + at.c;
    let v = f32((bytes[byte / 4u] >> (byte % 4u * 8u)) & 255u);
    let scale = vec3(p.scale_r, p.scale_g, p.scale_b);
    let shift = vec3(p.shift_r, p.shift_g, p.shift_b);
    rows[i] = scale[at.c] * v + shift[at.c];
}

@compute @workgroup_size(WG)
fn from_nchw(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let at = place(i);
    rows[i] = pixels[((at.b * p.c + at.c) * p.h + at.y) * p.w + at.x];
}

@compute @workgroup_size(WG)
fn to_map(@builtin(workgroup_id) wid: vec3<u32>, @builtin(local_invocation_index) tid: u32) {
    let i = grid_row(wid) * WG + tid;
    if i >= p.n { return; }
    let at = place(i);
    let seen = p.hide == 0u || inv[i / (p.c * p.side * p.side)] != 0xffffffffu;
    image[((at.b * p.h + at.y) * p.w + at.x) * p.c + at.c] = select(0.0, saved_rows[i], seen);
}
