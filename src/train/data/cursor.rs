//! Where in a run a batch stands, and which samples it takes.
use super::DataError;
use crate::train::rng::{Purpose, Stream};
use serde::{Deserialize, Serialize};

/// A place in the endless sequence of batches; what a checkpoint stores to go on from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Passes over the data that are complete.
    pub epoch: u64,
    /// Batches of this pass that are complete.
    pub batch: u64,
}

/// Which samples each batch of a run takes.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub samples: usize,
    pub batch_size: usize,
    pub per_epoch: u64,
    /// Seed of the order, or `None` for the order of the set.
    pub shuffle: Option<u64>,
}

impl Plan {
    /// Samples of one epoch in the order they are visited.
    pub fn order(&self, epoch: u64) -> Vec<usize> {
        let mut order: Vec<usize> = (0..self.samples).collect();
        if let Some(seed) = self.shuffle {
            Stream::new(Purpose::Shuffle, [seed, epoch, 0]).shuffle(&mut order);
        }
        order
    }

    /// The part of an epoch's `order` that its batch number `batch` takes.
    pub fn batch<'a>(&self, order: &'a [usize], batch: u64) -> &'a [usize] {
        let start = (batch as usize).saturating_mul(self.batch_size).min(order.len());
        &order[start..order.len().min(start + self.batch_size)]
    }

    /// `cursor` with a finished epoch carried over; refuses one that lies past the end of its epoch.
    pub fn normal(&self, cursor: Cursor) -> Result<Cursor, DataError> {
        match cursor.batch.cmp(&self.per_epoch) {
            std::cmp::Ordering::Less => Ok(cursor),
            std::cmp::Ordering::Equal => Ok(Cursor { epoch: cursor.epoch + 1, batch: 0 }),
            std::cmp::Ordering::Greater => {
                let expected = format!("at most {} (did the data or --batch-size change?)", self.per_epoch);
                Err(DataError::setting("the batch to start from", cursor.batch, expected))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(shuffle: Option<u64>) -> Plan {
        Plan { samples: 10, batch_size: 4, per_epoch: 3, shuffle }
    }

    #[test]
    fn epochs_differ_and_cover_everything() {
        let (p, fixed) = (plan(Some(5)), plan(None));
        assert_eq!(fixed.order(3), (0..10).collect::<Vec<_>>());
        assert_ne!(p.order(0), p.order(1));
        assert_eq!(p.order(7), p.order(7));
        assert_ne!(p.order(0), plan(Some(6)).order(0));
        let mut all: Vec<usize> = (0..3).flat_map(|b| p.batch(&p.order(2), b).to_vec()).collect();
        assert_eq!(p.batch(&p.order(2), 2).len(), 2);
        all.sort_unstable();
        assert_eq!(all, (0..10).collect::<Vec<_>>());
    }

    #[test]
    fn cursors_carry_over_or_are_refused() {
        let p = plan(None);
        assert_eq!(p.normal(Cursor { epoch: 4, batch: 3 }).unwrap(), Cursor { epoch: 5, batch: 0 });
        let error = p.normal(Cursor { epoch: 0, batch: 4 }).unwrap_err().to_string();
        assert!(error.contains("is 4, expected at most 3"), "{error}");
    }
}
