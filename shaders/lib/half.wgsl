// lib/half — converts f32 to f16: four f16 to two words, or two to one. lib/element reads them.
// WGSL lets the driver choose how pack2x16float rounds and what it makes of large numbers. Here the result is always
// the nearest f16, ties to even, and infinity from 65520 on.
// NEAREST = 1: pack2x16float does this itself, as selftest_half has tested. Otherwise integer operations do it, about
// twenty per number.
fn halves(v: vec4<f32>) -> vec2<u32> {
    if NEAREST == 1u { return vec2(pack2x16float(v.xy), pack2x16float(v.zw)); }
    let bits = bitcast<vec4<u32>>(v);
    let size = bits & vec4(0x7fffffffu);
    let rounded = size + vec4(0xfffu) + ((size >> vec4(13u)) & vec4(1u));
    let small = vec4<u32>(round(min(abs(v), vec4(1.0)) * 16777216.0));                          // in steps of 2⁻²⁴
    var h = select((rounded >> vec4(13u)) - vec4(112u << 10u), small, size < vec4(0x38800000u)); // below 2⁻¹⁴
    h = select(h, vec4(0x7c00u), size >= vec4(0x477ff000u));
    h = select(h, vec4(0x7e00u), size > vec4(0x7f800000u));                                     // NaN stays
    h |= (bits >> vec4(16u)) & vec4(0x8000u);
    return h.xz | (h.yw << vec2(16u));
}
// v rounded to the nearest f16, ties to even, and returned as f32 (v.half().float()). Integer operations do it, because
// a driver may simplify unpack2x16float(pack2x16float(x)) to x, and NVIDIA's does. f16 drops 13 bits of the mantissa,
// has steps of 2⁻²⁴ below 2⁻¹⁴, and is infinite from 65520 on.
fn nearest_f16(v: vec4<f32>) -> vec4<f32> {
    let bits = bitcast<vec4<u32>>(v);
    let size = bits & vec4(0x7fffffffu);
    let even = bits + vec4(0xfffu) + ((bits >> vec4(13u)) & vec4(1u));
    var r = bitcast<vec4<f32>>(even & vec4(0xffffe000u));
    r = select(r, round(clamp(v, vec4(-1.0), vec4(1.0)) * 16777216.0) / 16777216.0, size < vec4(0x38800000u));
    r = select(r, bitcast<vec4<f32>>((bits & vec4(0x80000000u)) | vec4(0x7f800000u)), size >= vec4(0x477ff000u));
    return select(r, v, size > vec4(0x7f800000u));                                              // NaN stays
}
// v as two f16 in a word.
fn pair(v: vec2<f32>) -> u32 {
    return halves(vec4(v, 0.0, 0.0)).x;
}
