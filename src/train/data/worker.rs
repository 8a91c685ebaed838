//! The thread that fills the queue of a loader.
use super::augment::Transform;
use super::cursor::{Cursor, Plan};
use super::{Batch, DataError, Dataset};
use crate::train::rng::{Purpose, Stream};
use fast_image_resize::Resizer;
use rayon::iter::{IndexedParallelIterator, IntoParallelRefIterator, ParallelIterator};
use rayon::slice::ParallelSliceMut;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

/// The background thread: one batch after the other, the samples of each spread over the pool.
pub(super) struct Worker {
    pub set: Arc<Dataset>,
    pub plan: Plan,
    pub transform: Transform,
    pub seed: u64,
    pub pool: rayon::ThreadPool,
    pub stop: Arc<AtomicBool>,
}

impl Worker {
    /// Fills `queue` from `start` up to `epochs`; ends after an error, a stop or when nobody listens any more.
    pub fn run(&self, start: Cursor, epochs: u64, queue: &SyncSender<Result<Batch, DataError>>) {
        let mut at = start;
        while at.epoch < epochs {
            let order = self.plan.order(at.epoch);
            while at.batch < self.plan.per_epoch {
                let batch = self.batch(at, self.plan.batch(&order, at.batch));
                let failed = batch.is_err();
                if self.stopped() || queue.send(batch).is_err() || failed {
                    return;
                }
                at.batch += 1;
            }
            at = Cursor { epoch: at.epoch + 1, batch: 0 };
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Decodes and transforms `wanted`, the samples of the batch at `cursor`.
    fn batch(&self, cursor: Cursor, wanted: &[usize]) -> Result<Batch, DataError> {
        let size = self.transform.size() as usize;
        let bytes = size * size * 3;
        let mut images = vec![0u8; wanted.len() * bytes];
        let samples = self.pool.install(|| {
            let slots = images.par_chunks_exact_mut(bytes).zip(wanted.par_iter());
            let fill =
                |resizer: &mut Resizer, (slot, &sample): (&mut [u8], &usize)| self.fill(cursor, sample, resizer, slot);
            slots.map_init(Resizer::new, fill).collect::<Result<Vec<usize>, DataError>>()
        })?;
        let labels = samples.iter().filter_map(|&i| self.set.label(i)).collect();
        Ok(Batch { index: cursor.epoch * self.plan.per_epoch + cursor.batch, cursor, images, labels, samples })
    }

    /// Puts `sample`, or its replacement, into `slot` and says which it was.
    fn fill(&self, cursor: Cursor, sample: usize, resizer: &mut Resizer, slot: &mut [u8]) -> Result<usize, DataError> {
        if self.stopped() {
            return Ok(sample);
        }
        let (found, image) = self.set.good_image(sample)?;
        // Keyed by the sample that was wanted: a replacement gets a crop of its own, not a copy of one in the epoch.
        let mut s = Stream::new(Purpose::Augment, [self.seed, cursor.epoch, sample as u64]);
        self.transform.apply(&image, &mut s, resizer, slot)?;
        Ok(found)
    }
}
