// lib/results — what a product adds and writes: residual and c, four elements at a time or one. R16, C16 = 1: two f16 a
// word.
@group(0) @binding(3) var<storage, read> bias: array<vec4<f32>>;
@group(0) @binding(4) var<storage, read> residual: array<vec4<u32>>;
@group(0) @binding(5) var<storage, read_write> c: array<vec4<u32>>;

fn residual1(i: u32) -> f32 {
    return element(residual[i >> (2u + R16)][(i >> R16) & 3u], i, R16);
}
fn residual_quad(i: u32) -> vec4<f32> {
    return element4(residual[i >> (2u + R16)], i >> 2u, R16);
}
// Stores elements i..i+4 of the result, i a multiple of 4.
fn put4(i: u32, v: vec4<f32>) {
    if C16 == 1u {
        let words = halves(v);
        c[i >> 3u][(i >> 1u) & 2u] = words.x;
        c[i >> 3u][((i >> 1u) & 2u) + 1u] = words.y;
        return;
    }
    c[i >> 2u] = bitcast<vec4<u32>>(v);
}
