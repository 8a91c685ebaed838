//! Gaussian blur as PIL's `ImageFilter.GaussianBlur`: three box blurs along each axis, with the outermost pixels
//! repeated beyond the edge.
use crate::data::augment::Canvas;

/// A box filter of fractional width. The middle pixel and `reach` pixels on each side have the weight `full`, the next
/// pixel on each side the smaller weight `edge`. Weights are in units of 2⁻²⁴.
struct BoxFilter {
    reach: usize,
    full: u32,
    edge: u32,
}

impl BoxFilter {
    /// The filter that has the variance `sigma`² when applied three times (Gwosdek et al., "Theoretical foundations of
    /// Gaussian convolution by extended box filtering", 2011).
    fn third_of(sigma: f32) -> Self {
        let variance = sigma * sigma / 3.0;
        let whole = (((12.0 * variance + 1.0).sqrt() - 1.0) / 2.0).floor();
        let fraction = (2.0 * whole + 1.0) * (whole * (whole + 1.0) - 3.0 * variance)
            / (6.0 * (variance - (whole + 1.0) * (whole + 1.0)));
        let full = ((1 << 24) as f32 / ((whole + fraction) * 2.0 + 1.0)) as u32;
        let reach = whole as usize;
        Self { reach, full, edge: ((1 << 24) - (2 * reach as u32 + 1) * full) / 2 }
    }

    /// Writes the weighted sum of the lines `source(0)` … `source(2 · reach + 2)` to `out`. `sums` is a buffer of the
    /// same length.
    fn apply<'a>(&self, source: impl Fn(usize) -> &'a [u8], sums: &mut [u32], out: &mut [u8]) {
        sums.fill(0);
        for k in 1..=2 * self.reach + 1 {
            sums.iter_mut().zip(source(k)).for_each(|(sum, &v)| *sum += u32::from(v));
        }
        let edges = source(0).iter().zip(source(2 * self.reach + 2));
        for ((v, sum), (&first, &last)) in out.iter_mut().zip(sums).zip(edges) {
            let edges = u32::from(first) + u32::from(last);
            *v = ((self.full * *sum + self.edge * edges + (1 << 23)) >> 24) as u8;
        }
    }
}

/// Blurs with a Gaussian whose standard deviation is `sigma` pixels, above 0.
pub fn gaussian_blur(c: &mut Canvas, sigma: f32) {
    let filter = BoxFilter::third_of(sigma);
    let margin = filter.reach + 1;
    let (side, row) = (c.side, c.side * 3);
    let mut sums = vec![0; row];
    for _ in 0..3 {
        for line in c.pixels.chunks_exact_mut(row) {
            c.spare.clear();
            (0..margin).for_each(|_| c.spare.extend_from_slice(&line[..3]));
            c.spare.extend_from_slice(line);
            (0..margin).for_each(|_| c.spare.extend_from_slice(&line[row - 3..]));
            filter.apply(|k| &c.spare[k * 3..][..row], &mut sums, line);
        }
    }
    for _ in 0..3 {
        c.save();
        for (y, line) in c.pixels.chunks_exact_mut(row).enumerate() {
            let at = |k: usize| (y + k).saturating_sub(margin).min(side - 1);
            filter.apply(|k| &c.spare[at(k) * row..][..row], &mut sums, line);
        }
    }
}
