//! Counter-based random numbers: Philox4x32-10 (Salmon et al. 2011). A draw needs only its counter, no state.
//!
//! ```text
//!   round:   (c0, c1, c2, c3) <- (hi(M1·c2)^c1^k0, lo(M1·c2), hi(M0·c0)^c3^k1, lo(M0·c0)),  key += (W0, W1)
//!   uniform: the 24 high bits · 2^-24, in [0, 1): exact in f32
//!   below:   ⌊word·n·2^-32⌋, in 0..n
//!   normal:  Box-Muller of two words, on 1 - u so that the logarithm stays finite
//!   drop_path: u < 1-p ? 1/(1-p) : 0, timm's DropPath factor of one sample
//! ```

const M0: u32 = 0xD251_1F53;
const M1: u32 = 0xCD9E_8D57;
const W0: u32 = 0x9E37_79B9;
const W1: u32 = 0xBB67_AE85;

/// Ten rounds of Philox4x32: the four random words of one counter and key.
pub fn philox(counter: [u32; 4], key: [u32; 2]) -> [u32; 4] {
    let (mut c, mut k) = (counter, key);
    for _ in 0..10 {
        let (a, b) = (u64::from(M0) * u64::from(c[0]), u64::from(M1) * u64::from(c[2]));
        c = [(b >> 32) as u32 ^ c[1] ^ k[0], b as u32, (a >> 32) as u32 ^ c[3] ^ k[1], a as u32];
        k = [k[0].wrapping_add(W0), k[1].wrapping_add(W1)];
    }
    c
}

/// A word as a uniform number in [0, 1).
pub fn uniform(x: u32) -> f64 {
    f64::from(x >> 8) / f64::from(1u32 << 24)
}

/// A word as an integer in 0..n.
pub fn below(x: u32, n: u32) -> u32 {
    ((u64::from(x) * u64::from(n)) >> 32) as u32
}

/// Two words as two independent standard normals (the cosine and the sine of Box-Muller).
pub fn normal(x: [u32; 2]) -> [f64; 2] {
    let radius = (-2.0 * (1.0 - uniform(x[0])).ln()).sqrt();
    let angle = std::f64::consts::TAU * uniform(x[1]);
    [radius * angle.cos(), radius * angle.sin()]
}

/// A word as the factor of a branch that is dropped with probability `p`: 0, or 1/(1-p).
pub fn drop_path(x: u32, p: f64) -> f64 {
    if uniform(x) < 1.0 - p { 1.0 / (1.0 - p) } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The known-answer vectors published with Random123.
    #[test]
    fn known_answers() {
        assert_eq!(philox([0; 4], [0; 2]), [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8]);
        assert_eq!(philox([!0; 4], [!0; 2]), [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd]);
        let pi = [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344];
        assert_eq!(philox(pi, [0xa4093822, 0x299f31d0]), [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1]);
    }

    #[test]
    fn uniform_stays_below_one() {
        assert_eq!(uniform(0), 0.0);
        assert_eq!(uniform(!0), 1.0 - 2f64.powi(-24));
        assert!(normal([!0, 0])[0].is_finite());
    }

    /// Mean, variance and fourth moment of 80 000 normal numbers, and the mean of 40 000 DropPath factors, each within
    /// four standard errors.
    #[test]
    fn moments() {
        let words: Vec<[u32; 4]> = (0..40_000).map(|i| philox([i, 0, 0, 0], [7, 1])).collect();
        let z: Vec<f64> = words.iter().flat_map(|w| normal([w[0], w[1]])).collect();
        let moment = |k: i32| z.iter().map(|z| z.powi(k)).sum::<f64>() / z.len() as f64;
        assert!(moment(1).abs() < 4.0 * (1.0 / 80_000f64).sqrt());
        assert!((moment(2) - 1.0).abs() < 4.0 * (2.0 / 80_000f64).sqrt());
        assert!((moment(4) - 3.0).abs() < 4.0 * (96.0 / 80_000f64).sqrt());
        let kept = words.iter().map(|w| drop_path(w[2], 0.3)).sum::<f64>() / 40_000.0;
        assert!((kept - 1.0).abs() < 4.0 * (0.3 / 0.7 / 40_000f64).sqrt());
        assert_eq!(drop_path(!0, 0.0), 1.0);
    }
}
