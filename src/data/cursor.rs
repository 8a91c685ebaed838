//! The order of samples: which of them each batch of each epoch holds (PyTorch's `Sampler`), and how a run remembers
//! the batch it has reached.
use super::stream::{Stream, StreamPurpose};
use crate::error::DataError;
use serde::{Deserialize, Serialize};

/// A place in the endless sequence of batches. A checkpoint stores it, and a resumed run starts at that batch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Number of complete passes over the data.
    pub epoch: u64,
    /// Number of complete batches of the current pass.
    pub batch: u64,
}

/// One appearance of a sample in an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Visit {
    /// Position in the set.
    pub sample: usize,
    /// Number of this visit among the repeats of the sample, from 0; each repeat is augmented differently.
    pub repeat: usize,
}

/// Samples that lie together in the order of a set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// The sample with which each run begins, in ascending order, the first of them 0. Empty for a set of which any
    /// sample is read as easily as any other.
    pub starts: Vec<usize>,
    /// Number of runs to read from at a time, at least 1: as many as fit into memory.
    pub together: usize,
}

impl Runs {
    /// The runs of a set whose sample i is sample ⌊i · `all` / `count`⌋ of this one.
    pub(super) fn spread(&self, count: usize, all: usize) -> Self {
        let first = |start: &usize| (*start as u128 * count as u128).div_ceil(all.max(1) as u128) as usize;
        let mut starts: Vec<usize> = self.starts.iter().map(first).filter(|start| *start < count).collect();
        starts.dedup();
        Self { starts, together: self.together }
    }
}

/// The samples of every batch of a run. The order of an epoch is a function of (seed, epoch), so that a resumed run and
/// any number of threads see the same batches.
///
/// Samples are shuffled over the whole set, unless it has [`Runs`]: then the runs are shuffled, and after that the
/// samples of so many runs that follow each other. This is the shuffled list of shards and the shuffle buffer of
/// WebDataset, but without what was left in the buffer: each run is read once in an epoch.
#[derive(Clone, Debug)]
pub struct EpochOrder {
    /// Samples of the set.
    pub samples: usize,
    /// How often an epoch visits each sample that it visits at all; the visits follow each other.
    pub repeats: usize,
    /// Number of visits in an epoch.
    pub visits: usize,
    /// Number of visits in a batch.
    pub batch_size: usize,
    /// Number of batches in an epoch.
    pub per_epoch: u64,
    /// Seed of the shuffling; `None` keeps the order of the set.
    pub shuffle: Option<u64>,
    /// Samples to keep together.
    pub runs: Runs,
}

impl EpochOrder {
    /// The order of a training run: shuffled, without the incomplete batch at the end of an epoch
    /// (`DataLoader(shuffle=True, drop_last=True)`).
    ///
    /// `repeats` above 1 is repeated augmentation (Hoffer et al. 2019), as DeiT's `RASampler` does it: an epoch does
    /// not get longer, but visits only part of the samples, each `repeats` times. Also as in `RASampler`, the number of
    /// visits is then rounded down to a multiple of 256 if the set has at least 256 samples.
    pub fn train(samples: usize, repeats: usize, batch_size: usize, seed: u64) -> Self {
        let visits = if repeats > 1 && samples >= 256 { samples / 256 * 256 } else { samples };
        let per_epoch = visits.checked_div(batch_size).unwrap_or_default() as u64;
        Self { samples, repeats, visits, batch_size, per_epoch, shuffle: Some(seed), runs: Runs::default() }
    }

    /// One pass in the order of the set, with the incomplete last batch (`shuffle=False, drop_last=False`).
    pub fn eval(samples: usize, batch_size: usize) -> Self {
        let per_epoch = samples.div_ceil(batch_size.max(1)) as u64;
        Self { samples, repeats: 1, visits: samples, batch_size, per_epoch, shuffle: None, runs: Runs::default() }
    }

    /// All visits of epoch number `epoch`, in order.
    pub fn order(&self, epoch: u64) -> Vec<Visit> {
        let mut order: Vec<usize> = (0..self.samples).collect();
        if let Some(seed) = self.shuffle {
            let mut stream = Stream::new(StreamPurpose::Shuffle, [seed, epoch, 0]);
            match self.runs.starts.len() {
                0 | 1 => stream.shuffle(&mut order),
                _ => order = self.shuffled_runs(&mut stream),
            }
        }
        let visits = order.into_iter().flat_map(|sample| (0..self.repeats).map(move |repeat| Visit { sample, repeat }));
        visits.take(self.visits).collect()
    }

    /// The samples with their runs shuffled, and with the samples of so many runs shuffled among each other.
    fn shuffled_runs(&self, stream: &mut Stream) -> Vec<usize> {
        let starts = &self.runs.starts;
        let ends = starts[1..].iter().chain([&self.samples]);
        let mut runs: Vec<(usize, usize)> = starts.iter().copied().zip(ends.copied()).collect();
        stream.shuffle(&mut runs);
        let mut order = Vec::with_capacity(self.samples);
        for together in runs.chunks(self.runs.together.max(1)) {
            let begin = order.len();
            order.extend(together.iter().flat_map(|&(start, end)| start..end));
            stream.shuffle(&mut order[begin..]);
        }
        order
    }

    /// The visits of batch number `batch`, out of all visits `order` of its epoch.
    pub fn batch<'a>(&self, order: &'a [Visit], batch: u64) -> &'a [Visit] {
        let start = (batch as usize).saturating_mul(self.batch_size).min(order.len());
        &order[start..order.len().min(start + self.batch_size)]
    }

    /// `cursor`, or the start of the next epoch if `cursor` stands at the end of one.
    ///
    /// # Errors
    /// A cursor past the end of its epoch, which another set or batch size has left.
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
    fn runs_are_shuffled_and_stay_together() {
        let starts = vec![0, 10, 13, 40, 41, 60, 90];
        for together in [0, 1, 2, 3, 10] {
            let runs = Runs { starts: starts.clone(), together };
            let plan = EpochOrder { runs, ..EpochOrder::train(100, 1, 8, 3) };
            let order = samples(&plan.order(2));
            assert_eq!(order, samples(&plan.order(2)));
            assert_ne!(order, samples(&plan.order(3)));
            let mut sorted = order.clone();
            sorted.sort_unstable();
            assert_eq!(sorted, (0..100).collect::<Vec<_>>());
            // no run begins again after so many others have begun
            let run = |sample: &usize| starts.partition_point(|start| start <= sample);
            let (mut begun, mut most) = (Vec::new(), 0);
            for (at, sample) in order.iter().enumerate() {
                if !begun.contains(&run(sample)) {
                    begun.push(run(sample));
                }
                let open = begun.iter().filter(|r| order[at..].iter().any(|sample| run(sample) == **r)).count();
                most = most.max(open);
            }
            assert!(most <= together.max(1), "{together}: {most} runs are read at a time");
        }
    }

    #[test]
    fn runs_of_a_part_are_those_of_the_whole() {
        let whole = Runs { starts: vec![0, 10, 13, 40, 41, 60, 90], together: 2 };
        for count in [1, 3, 7, 50, 99, 100] {
            let part = whole.spread(count, 100);
            let run = |runs: &Runs, sample: usize| runs.starts.iter().filter(|start| **start <= sample).count();
            for i in 1..count {
                let (here, there) = ((i - 1) * 100 / count, i * 100 / count);
                let same = run(&whole, here) == run(&whole, there);
                assert_eq!(same, run(&part, i - 1) == run(&part, i), "{count} {i}");
            }
        }
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
