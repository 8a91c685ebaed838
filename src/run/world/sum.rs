//! Sums over processes, on the host: in the order of the tree over micro-batches, and rounded as the adapter rounds.

use crate::error::Result;
use crate::gpu::Gpu;
use crate::tape::Recorder;
use crate::tensor::Tensor;
use crate::train::sums::middle;

/// How an adapter adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addition {
    /// Whether it makes zero of a sum too small for a normal number, as many GPUs do.
    flushes: bool,
}

impl Addition {
    /// Tries it on the adapter, with the kernel that adds up micro-batches.
    pub fn of(g: &Gpu) -> Result<Self> {
        let (sum, x) = (Tensor::from_slice(g, &[1], &[1.5e-38])?, Tensor::from_slice(g, &[1], &[-1.2e-38])?);
        let mut r = Recorder::inference(g);
        sum.add_into(&mut r, &x)?;
        r.run()?;
        Ok(Self { flushes: sum.to_vec(g)?[0] == 0.0 })
    }

    /// a + b as the adapter rounds it.
    pub fn add(self, a: f32, b: f32) -> f32 {
        let sum = a + b;
        if self.flushes && sum.abs() < f32::MIN_POSITIVE { 0.0f32.copysign(sum) } else { sum }
    }

    /// Adds up parts of equal length, one for each process, into the first of them.
    pub fn tree(self, parts: &mut [f32], each: usize) {
        let count = parts.len() / each.max(1);
        if count < 2 {
            return;
        }
        let (left, right) = parts.split_at_mut(middle(count) * each);
        self.tree(left, each);
        self.tree(right, each);
        let pairs = left[..each].iter_mut().zip(&right[..each]);
        match self.flushes {
            true => pairs.for_each(|(a, b)| *a = self.add(*a, *b)),
            false => pairs.for_each(|(a, b)| *a += b),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_added_in_the_tree() {
        let parts = [1.0f32, 1e8, -1e8, 3.0, 0.25];
        let mut numbers: Vec<f32> = parts.iter().flat_map(|v| [*v, 2.0 * v]).collect();
        Addition { flushes: false }.tree(&mut numbers, 2);
        let one = ((parts[0] + parts[1]) + (parts[2] + parts[3])) + parts[4];
        assert_eq!(numbers[..2], [one, 2.0 * one]);
    }

    #[test]
    fn small_sums_are_zero_where_the_adapter_says_so() {
        let (a, b) = (1.5e-38f32, -1.2e-38f32);
        assert!(Addition { flushes: false }.add(a, b) != 0.0);
        assert_eq!(Addition { flushes: true }.add(a, b), 0.0);
        let mut both = [a, b];
        Addition { flushes: true }.tree(&mut both, 1);
        assert_eq!(both[0], 0.0);
    }
}
