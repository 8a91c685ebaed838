// lib/norm — what rms_norm and layer_norm share. Slot i of COLS holds a column of a row: neighbours hold neighbours.
// HALF = 1: y and dy are f16, two in a word; D and COLS are even, and slots 2j and 2j + 1 hold the two of a word.
fn column(i: u32, tid: u32) -> u32 {
    if HALF == 1u { return (i - i % 2u) * WG + 2u * tid + i % 2u; }
    return i * WG + tid;
}
fn dy_at(i: u32) -> f32 {
    if HALF == 1u { return unpack2x16float(dy[i >> 1u])[i & 1u]; }
    return bitcast<f32>(dy[i]);
}
// Element i of y, or in f16 that and the next.
fn put_y(i: u32, v: vec2<f32>) {
    if HALF == 1u { y[i >> 1u] = pair(v); } else { y[i] = bitcast<u32>(v.x); }
}
