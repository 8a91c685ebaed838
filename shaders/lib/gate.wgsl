// lib/gate — the gate SiLU(z) of a mixer and what its gradient needs. A z of 0 counts as 1e-12, so that out always tells y:
// dz comes from out/z. As f16 out would be too small for that below 2⁻¹³, which is what such a z counts as.   uses lib/math
fn clamped(z: f32) -> f32 {
    let least = select(1e-12, 0x1p-13, HALF == 1u);
    return select(z, least, abs(z) < least);
}
fn gate_of(z: f32) -> f32 {
    return silu(clamped(z));
}
// SiLU'(z)/SiLU(z)
fn gate_slope(at: f32) -> f32 {
    let z = clamped(at);
    return 1.0 / z + 1.0 - sigmoid(z);
}
