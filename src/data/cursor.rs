//! Where in a run a batch stands, and which samples it takes.
use super::stream::{Purpose, Stream};
use crate::error::DataError;
use serde::{Deserialize, Serialize};

/// A place in the endless sequence of batches; what a checkpoint stores to go on from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Passes over the data that are complete.
    pub epoch: u64,
    /// Batches of this pass that are complete.
    pub batch: u64,
}

/// One appearance of a sample in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Position in the set.
    pub sample: usize,
    /// Which of the repeats of this sample it is.
    pub repeat: usize,
}

/// Which samples each batch of a run takes.
#[derive(Clone, Debug)]
pub struct EpochOrder {
    /// Samples of the set.
    pub samples: usize,
    /// How often an epoch visits a sample that it visits at all, one after the other.
    pub repeats: usize,
    /// Visits of an epoch.
    pub visits: usize,
    /// Visits of a batch.
    pub batch_size: usize,
    /// Batches of an epoch.
    pub per_epoch: u64,
    /// Seed of the order, or `None` for the order of the set.
    pub shuffle: Option<u64>,
}

impl EpochOrder {
    /// A training run: shuffled, without the incomplete batch at the end of an epoch.
    ///
    /// With repeated augmentation (Hoffer et al. 2019; DeiT's sampler) an epoch is not longer: it shows a part of the
    /// samples, each `repeats` times. As there, its length is rounded down to a multiple of 256 where it is above that.
    pub fn train(samples: usize, repeats: usize, batch_size: usize, seed: u64) -> Self {
        let visits = if repeats > 1 && samples >= 256 { samples / 256 * 256 } else { samples };
        let per_epoch = visits.checked_div(batch_size).unwrap_or_default() as u64;
        Self { samples, repeats, visits, batch_size, per_epoch, shuffle: Some(seed) }
    }

    /// One pass in the order of the set, the incomplete last batch included.
    pub fn eval(samples: usize, batch_size: usize) -> Self {
        let per_epoch = samples.div_ceil(batch_size.max(1)) as u64;
        Self { samples, repeats: 1, visits: samples, batch_size, per_epoch, shuffle: None }
    }

    /// The visits of one epoch in their order.
    pub fn order(&self, epoch: u64) -> Vec<Visit> {
        let mut order: Vec<usize> = (0..self.samples).collect();
        if let Some(seed) = self.shuffle {
            Stream::new(Purpose::Shuffle, [seed, epoch, 0]).shuffle(&mut order);
        }
        let visits = order.into_iter().flat_map(|sample| (0..self.repeats).map(move |repeat| Visit { sample, repeat }));
        visits.take(self.visits).collect()
    }

    /// The part of an epoch's `order` that its batch number `batch` takes.
    pub fn batch<'a>(&self, order: &'a [Visit], batch: u64) -> &'a [Visit] {
        let start = (batch as usize).saturating_mul(self.batch_size).min(order.len());
        &order[start..order.len().min(start + self.batch_size)]
    }

    /// `cursor` with a finished epoch carried over; refuses one that lies past the end of its epoch.
    pub fn normal(&self, cursor: Cursor) -> Result<Cursor, DataError> {
        match cursor.batch.cmp(&self.per_epoch) {
            std::cmp::Ordering::Less => Ok(cursor),
            std::cmp::Ordering::Equal => Ok(Cursor { epoch: cursor.epoch + 1, batch: 0 }),
            std::cmp::Ordering::Greater => {
                let expected = format!("at most {} (did the data or `batch_size` change?)", self.per_epoch);
                Err(DataError::setting("the batch to start from", cursor.batch, expected))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples(order: &[Visit]) -> Vec<usize> {
        order.iter().map(|visit| visit.sample).collect()
    }

    #[test]
    fn epochs_differ_and_cover_everything() {
        let (p, fixed) = (EpochOrder { per_epoch: 3, ..EpochOrder::train(10, 1, 4, 5) }, EpochOrder::eval(10, 4));
        assert_eq!(samples(&fixed.order(3)), (0..10).collect::<Vec<_>>());
        assert_ne!(p.order(0), p.order(1));
        assert_eq!(p.order(7), p.order(7));
        assert_ne!(p.order(0), EpochOrder::train(10, 1, 4, 6).order(0));
        let mut all: Vec<usize> = (0..3).flat_map(|b| samples(p.batch(&p.order(2), b))).collect();
        assert_eq!(p.batch(&p.order(2), 2).len(), 2);
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn repeated_samples_follow_each_other_and_an_epoch_is_no_longer() {
        for (samples, repeats, visits) in [(1000, 3, 768), (1000, 1, 1000), (256, 3, 256), (100, 3, 100)] {
            let p = EpochOrder::train(samples, repeats, 64, 9);
            let order = p.order(4);
            assert_eq!((order.len(), p.per_epoch), (visits, (visits / 64) as u64));
            for (i, visit) in order.iter().enumerate() {
                assert_eq!((visit.repeat, visit.sample), (i % repeats, order[i - i % repeats].sample));
            }
            let different: std::collections::BTreeSet<_> = order.iter().map(|visit| visit.sample).collect();
            assert_eq!(different.len(), visits.div_ceil(repeats));
        }
    }

    #[test]
    fn cursors_carry_over_or_are_refused() {
        let p = EpochOrder::eval(10, 4);
        assert_eq!(p.normal(Cursor { epoch: 4, batch: 3 }).unwrap(), Cursor { epoch: 5, batch: 0 });
        let error = p.normal(Cursor { epoch: 0, batch: 4 }).unwrap_err().to_string();
        assert!(error.contains("is 4, expected at most 3"), "{error}");
    }
}
