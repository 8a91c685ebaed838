// lib/gate — the gate SiLU(z) of a Mamba mixer, and the slope that its backward pass needs.
// Backward recovers y as out/SiLU(z), so z must not be 0: if |z| < 1e-12, z counts as 1e-12. With `out` in f16 the
// limit is 2⁻¹³, because out would underflow below. Forward and backward use the same z.
// uses lib/math
fn clamped(z: f32) -> f32 {
    let least = select(1e-12, 0x1p-13, HALF == 1u);
    return select(z, least, abs(z) < least);
}
fn gate_of(z: f32) -> f32 {
    return silu(clamped(z));
}
// SiLU'(z)/SiLU(z) = 1/z + 1 − σ(z)
fn gate_slope(at: f32) -> f32 {
    let z = clamped(at);
    return 1.0 / z + 1.0 - sigmoid(z);
}
