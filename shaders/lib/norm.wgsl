// lib/norm — the map from registers to columns that rms_norm and layer_norm share.
// An invocation holds COLS columns of its row; register i holds column(i, tid), so that neighbors load neighbors.
// HALF = 1: y and dy are f16, two per word; D and COLS are even, and registers 2j and 2j + 1 hold the two of one word.
fn column(i: u32, tid: u32) -> u32 {
    if HALF == 1u { return (i - i % 2u) * WG + 2u * tid + i % 2u; }
    return i * WG + tid;
}
fn dy_at(i: u32) -> f32 {
    if HALF == 1u { return unpack2x16float(dy[i >> 1u])[i & 1u]; }
    return bitcast<f32>(dy[i]);
}
// Stores v.x as element i of y; in f16 also v.y as element i + 1 of the same word.
fn put_y(i: u32, v: vec2<f32>) {
    if HALF == 1u { y[i >> 1u] = pair(v); } else { y[i] = bitcast<u32>(v.x); }
}
