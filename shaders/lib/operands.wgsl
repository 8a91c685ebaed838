// lib/operands — the operands of a product, read as f32: single elements, or four at a time. A16, B16 = 1: two f16 a
// word.
@group(0) @binding(1) var<storage, read> a: array<vec4<u32>>;
@group(0) @binding(2) var<storage, read> b: array<vec4<u32>>;

fn a1(i: u32) -> f32 {
    return element(a[i >> (2u + A16)][(i >> A16) & 3u], i, A16);
}
fn b1(i: u32) -> f32 {
    return element(b[i >> (2u + B16)][(i >> B16) & 3u], i, B16);
}

// Elements i..i+4, i a multiple of 4.
fn a_quad(i: u32) -> vec4<f32> {
    return element4(a[i >> (2u + A16)], i >> 2u, A16);
}
fn b_quad(i: u32) -> vec4<f32> {
    return element4(b[i >> (2u + B16)], i >> 2u, B16);
}
