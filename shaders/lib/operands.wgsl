// lib/operands — the operands of a product, read as f32: single elements, or four at a time. A16, B16 = 1: two f16 a
// word. VEC > 0: rows start and end at multiples of 4 elements. VEC = 2 (cooperative matrices): at multiples of 8.
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

// Elements at..at+4 of the row that starts at `row`. Past `limit` they repeat the last ones. That does no harm: the
// caller zeroes k past the end, and does not store m or n past the end.
fn a4(row: u32, at: u32, limit: u32) -> vec4<f32> {
    if VEC > 0u { return a_quad(row + min(at, limit - 4u)); }
    let last = limit - 1u;
    return vec4(a1(row + min(at, last)), a1(row + min(at + 1u, last)),
                a1(row + min(at + 2u, last)), a1(row + min(at + 3u, last)));
}
fn b4(row: u32, at: u32, limit: u32) -> vec4<f32> {
    if VEC > 0u { return b_quad(row + min(at, limit - 4u)); }
    let last = limit - 1u;
    return vec4(b1(row + min(at, last)), b1(row + min(at + 1u, last)),
                b1(row + min(at + 2u, last)), b1(row + min(at + 3u, last)));
}
