//! Gaussian blur as PIL does it: three box blurs along each axis, with the edge repeated outwards.
use super::Canvas;

/// Weights of one box blur in 1/2²⁴, symmetric around their middle: the box has the width at which three of them have
/// the variance sigma², and a fractional edge (Gwosdek et al., "Theoretical foundations of Gaussian convolution by
/// extended box filtering", 2011).
fn weights(sigma: f32) -> Vec<u32> {
    let variance = sigma * sigma / 3.0;
    let length = (12.0 * variance + 1.0).sqrt();
    let whole = ((length - 1.0) / 2.0).floor();
    let fraction = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance)
        / (6.0 * (variance - (whole + 1.0) * (whole + 1.0)));
    let inner = 2 * whole as u32 + 1;
    let full = ((1 << 24) as f32 / ((whole + fraction) * 2.0 + 1.0)) as u32;
    let edge = ((1 << 24) - inner * full) / 2;
    let mut weights = vec![full; inner as usize + 2];
    weights[0] = edge;
    weights[inner as usize + 1] = edge;
    weights
}

/// Blurs with a Gaussian of `sigma` pixels, above 0.
pub fn gaussian_blur(c: &mut Canvas, sigma: f32) {
    let weights = weights(sigma);
    let reach = weights.len() / 2;
    let (side, row) = (c.side, c.side * 3);
    let mut sums = vec![0; row];
    for _ in 0..3 {
        for line in c.pixels.chunks_exact_mut(row) {
            c.spare.clear();
            (0..reach).for_each(|_| c.spare.extend_from_slice(&line[..3]));
            c.spare.extend_from_slice(line);
            (0..reach).for_each(|_| c.spare.extend_from_slice(&line[row - 3..]));
            weigh(&weights, |k| &c.spare[k * 3..][..row], &mut sums, line);
        }
    }
    for _ in 0..3 {
        c.save();
        for (y, line) in c.pixels.chunks_exact_mut(row).enumerate() {
            let at = |k: usize| (y + k).saturating_sub(reach).min(side - 1);
            weigh(&weights, |k| &c.spare[at(k) * row..][..row], &mut sums, line);
        }
    }
}

/// `out` = Σ over k of weights\[k\] · source(k), rounded. `sums` is scratch memory.
fn weigh<'a>(weights: &[u32], source: impl Fn(usize) -> &'a [u8], sums: &mut [u32], out: &mut [u8]) {
    sums.fill(1 << 23);
    for (k, &weight) in weights.iter().enumerate() {
        sums.iter_mut().zip(source(k)).for_each(|(sum, &v)| *sum += weight * u32::from(v));
    }
    out.iter_mut().zip(sums).for_each(|(v, sum)| *v = (*sum >> 24) as u8);
}
