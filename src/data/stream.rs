//! Random numbers that do not depend on which thread draws first.
//!
//! A `torch.Generator` has a state that every draw changes, so results depend on the order of the draws. Here each draw
//! of a run opens a ChaCha8 stream keyed by a purpose and three numbers (a seed, an epoch, a sample …). The order in
//! which threads work then cannot change a result, and a run can start again at any batch.
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng};

/// The use of a stream. Streams of two purposes have no numbers in common, even with equal keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum StreamPurpose {
    /// Order of the samples in an epoch; keys (seed, epoch, 0).
    Shuffle = 1,
    /// Crop, flip and colors of one view of a sample; keys (seed, epoch × views + view, sample).
    Augment = 2,
    /// Masked positions of one image; keys (seed, step, row of the batch).
    Mask = 3,
    /// Mask ratio of one batch; keys (seed, step, 0).
    MaskRatio = 4,
    /// Pixels of a synthetic image; keys (0, split, sample).
    Synthetic = 5,
    /// Mixup and CutMix of one batch; keys (seed, step, 0).
    Mix = 6,
    /// Points that all clouds of a batch choose; keys (seed, epoch, batch).
    Cloud = 7,
    /// Points on the surface of a mesh, or the first one of farthest point sampling; keys (sample, 0, 0).
    Surface = 8,
    /// Boxes of an image that a detector learns from; keys (seed, step, row of the step).
    Boxes = 9,
}

/// A stream of random numbers, the same on every machine for the same purpose and keys.
#[derive(Clone, Debug)]
pub struct Stream(ChaCha8Rng);

impl Stream {
    /// Opens the stream of `purpose` at the three `keys`.
    pub fn new(purpose: StreamPurpose, keys: [u64; 3]) -> Self {
        let mut seed = [0u8; 32];
        for (word, bytes) in [purpose as u64, keys[0], keys[1], keys[2]].into_iter().zip(seed.chunks_exact_mut(8)) {
            bytes.copy_from_slice(&word.to_le_bytes());
        }
        Self(ChaCha8Rng::from_seed(seed))
    }

    /// Uniform in [0, 1), 53 bits.
    #[inline]
    pub fn unit(&mut self) -> f64 {
        (self.0.next_u64() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Uniform in [lo, hi).
    #[inline]
    pub fn range(&mut self, lo: f64, hi: f64) -> f64 {
        lo + (hi - lo) * self.unit()
    }

    /// True with probability `p`.
    pub fn chance(&mut self, p: f64) -> bool {
        self.unit() < p
    }

    /// Two independent draws of the normal distribution with mean 0 and deviation 1 (Marsaglia's polar method).
    pub fn normal_pair(&mut self) -> [f64; 2] {
        loop {
            let (x, y) = (self.range(-1.0, 1.0), self.range(-1.0, 1.0));
            let square = x * x + y * y;
            if square > 0.0 && square < 1.0 {
                let scale = (-2.0 * square.ln() / square).sqrt();
                return [x * scale, y * scale];
            }
        }
    }

    /// Beta(a, a), `a` > 0: X / (X + Y) of two Gamma(a) draws.
    pub fn beta(&mut self, a: f64) -> f64 {
        // Both draws may be below the smallest f64 for a small `a`, so the quotient is taken of their logarithms.
        1.0 / (1.0 + (self.ln_gamma(a) - self.ln_gamma(a)).exp())
    }

    /// Logarithm of a Gamma(shape, 1) draw by Marsaglia and Tsang (2000). Their method needs a shape of at least 1;
    /// below that, a draw at shape + 1 is scaled by u^(1 / shape) with a uniform u.
    fn ln_gamma(&mut self, shape: f64) -> f64 {
        if shape < 1.0 {
            return self.ln_gamma(shape + 1.0) + (1.0 - self.unit()).ln() / shape;
        }
        let d = shape - 1.0 / 3.0;
        let c = 1.0 / (9.0 * d).sqrt();
        loop {
            let x = self.normal_pair()[0];
            let v = (1.0 + c * x).powi(3);
            if v > 0.0 && (1.0 - self.unit()).ln() < 0.5 * x * x + d - d * v + d * v.ln() {
                return (d * v).ln();
            }
        }
    }

    /// Uniform whole number in 0..n, without bias; 0 when `n` is 0.
    pub fn below(&mut self, n: u64) -> u64 {
        // Lemire (2019): the result is the high word of the 128-bit product of a draw and n. Some low words would make
        // some results more frequent than others; draws that give one of these are repeated.
        let mut wide = u128::from(self.0.next_u64()) * u128::from(n);
        if (wide as u64) < n {
            let uneven = n.wrapping_neg() % n;
            while (wide as u64) < uneven {
                wide = u128::from(self.0.next_u64()) * u128::from(n);
            }
        }
        (wide >> 64) as u64
    }

    /// Uniform random order of `items` (Fisher–Yates).
    pub fn shuffle<T>(&mut self, items: &mut [T]) {
        self.choose_front(items, items.len());
    }

    /// Moves a uniform random choice of `count` items, in random order, to the front of `items`.
    pub fn choose_front<T>(&mut self, items: &mut [T], count: usize) {
        for i in 0..count.min(items.len()) {
            let j = i + self.below((items.len() - i) as u64) as usize;
            items.swap(i, j);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_depend_on_purpose_and_every_key() {
        let first = |p, k| Stream::new(p, k).0.next_u64();
        let a = first(StreamPurpose::Mask, [1, 2, 3]);
        assert_eq!(a, first(StreamPurpose::Mask, [1, 2, 3]));
        for (p, k) in [
            (StreamPurpose::Shuffle, [1, 2, 3]),
            (StreamPurpose::Mask, [0, 2, 3]),
            (StreamPurpose::Mask, [1, 0, 3]),
            (StreamPurpose::Mask, [1, 2, 0]),
        ] {
            assert_ne!(a, first(p, k));
        }
    }

    #[test]
    fn below_is_even_and_in_range() {
        let mut s = Stream::new(StreamPurpose::Shuffle, [7, 0, 0]);
        let mut counts = [0u32; 6];
        for _ in 0..60_000 {
            counts[s.below(6) as usize] += 1;
        }
        // 10 000 each; the standard deviation of a count is 91, so 500 is more than five of them.
        assert!(counts.iter().all(|&c| c.abs_diff(10_000) < 500), "{counts:?}");
        assert_eq!(s.below(1), 0);
        assert_eq!(s.below(0), 0);
    }

    #[test]
    fn normal_and_beta_have_their_moments() {
        let mut s = Stream::new(StreamPurpose::Mix, [7, 0, 0]);
        let n = 100_000;
        let draws: Vec<f64> = (0..n / 2).flat_map(|_| s.normal_pair()).collect();
        let moment = |draws: &[f64], k| draws.iter().map(|v| v.powi(k)).sum::<f64>() / n as f64;
        // Standard errors: 0.0032, 0.0045, 0.031.
        let (mean, variance, fourth) = (moment(&draws, 1), moment(&draws, 2), moment(&draws, 4));
        assert!(
            mean.abs() < 0.016 && (variance - 1.0).abs() < 0.022 && (fourth - 3.0).abs() < 0.16,
            "{mean} {variance}"
        );
        for a in [0.01, 0.2, 0.8, 1.0, 3.0] {
            let centered: Vec<f64> = (0..n).map(|_| s.beta(a) - 0.5).collect();
            assert!(centered.iter().all(|v| v.abs() <= 0.5), "a = {a}");
            // Beta(a, a) has mean ½ and variance 1 / (4 (2a + 1)); neither standard error is above 0.0016.
            let (mean, variance) = (moment(&centered, 1), moment(&centered, 2));
            assert!(
                mean.abs() < 0.008 && (variance - 0.25 / (2.0 * a + 1.0)).abs() < 0.008,
                "a = {a}: {mean} {variance}"
            );
        }
    }

    #[test]
    fn shuffle_keeps_every_item() {
        let mut items: Vec<u32> = (0..1000).collect();
        Stream::new(StreamPurpose::Shuffle, [7, 1, 0]).shuffle(&mut items);
        assert_ne!(items, (0..1000).collect::<Vec<_>>());
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
    }
}
