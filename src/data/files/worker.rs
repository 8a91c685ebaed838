//! The background thread of a loader: decodes and transforms the samples of one batch after the other.
use super::batch::ImageBatch;
use crate::data::cursor::{Cursor, EpochOrder, Visit};
use crate::data::dataset::Dataset;
use crate::data::object_view::SeenObjects;
use crate::data::place::Place;
use crate::data::sample::Sample;
use crate::data::stream::{Stream, StreamPurpose};
use crate::data::transform::{Scratch, Transform};
use crate::error::DataError;
use rayon::iter::{IndexedParallelIterator, IntoParallelIterator, IntoParallelRefIterator, ParallelIterator};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;

/// The state of the background thread. It spreads the samples of a batch over `pool`.
pub(crate) struct Worker {
    pub set: Arc<Dataset>,
    pub plan: EpochOrder,
    pub transform: Transform,
    pub crops: usize,
    pub seed: u64,
    pub pool: rayon::ThreadPool,
    pub stop: Arc<AtomicBool>,
    pub broken: Broken,
    pub place: Place,
    pub partners: bool,
}

/// The position of a sample, and what a detector learns from it.
type Filled = (usize, Option<SeenObjects>);

/// What a batch does about a sample that cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Broken {
    /// The next good sample takes its place: a training step has as many images as it was recorded for.
    Replaced,
    /// It is left out: a score must not count a neighbor for it.
    LeftOut,
}

impl Worker {
    /// Puts batches into `queue`, from `start` to the end of epoch number `epochs` − 1. Ends early after an error,
    /// after a stop, and when the other end of the queue is gone.
    pub fn run(&self, start: Cursor, epochs: u64, queue: &SyncSender<Result<ImageBatch, DataError>>) {
        let (mut at, mut any) = (start, false);
        while at.epoch < epochs {
            let order = self.plan.order(at.epoch);
            while at.batch < self.plan.per_epoch {
                let mine = self.mine(at.batch, self.plan.batch(&order, at.batch));
                let batch = mine.map(|visits| self.batch(at, &visits));
                at.batch += 1;
                let Some(batch) = batch else { continue };
                let empty = batch.as_ref().is_ok_and(|batch| batch.samples.is_empty());
                if empty && self.place.ranks == 1 && !self.stopped() {
                    continue; // all of its samples are left out
                }
                any = true;
                let failed = batch.is_err();
                if self.stopped() || queue.send(batch).is_err() || failed {
                    return;
                }
            }
            at = Cursor { epoch: at.epoch + 1, batch: 0 };
        }
        if !any && self.plan.samples > 0 && self.place.ranks == 1 {
            let last = self.set.fault(0).unwrap_or_default();
            let (name, count) = (self.set.spec().to_owned(), self.set.len());
            let _ = queue.send(Err(DataError::AllBroken { name, count, last }));
        }
    }

    /// The visits of batch number `batch` that this process takes; `None` if the batch is another's.
    fn mine(&self, batch: u64, visits: &[Visit]) -> Option<Vec<Visit>> {
        let (place, all) = (self.place, visits.len());
        match self.broken {
            Broken::LeftOut => (batch % place.ranks as u64 == place.rank as u64).then(|| visits.to_vec()),
            Broken::Replaced => {
                let mut mine = visits[place.range(all)].to_vec();
                if self.partners && place.mirrored() != place {
                    mine.extend_from_slice(&visits[place.mirrored().range(all)]);
                }
                Some(mine)
            }
        }
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Decodes and transforms `wanted`, the samples of the batch at `cursor`.
    fn batch(&self, cursor: Cursor, wanted: &[Visit]) -> Result<ImageBatch, DataError> {
        let bytes = self.transform.bytes();
        let mut images = vec![0u8; self.crops * wanted.len() * bytes];
        let mut slots: Vec<Vec<&mut [u8]>> = wanted.iter().map(|_| Vec::with_capacity(self.crops)).collect();
        for (i, image) in images.chunks_exact_mut(bytes).enumerate() {
            slots[i % wanted.len()].push(image);
        }
        let samples = self.pool.install(|| {
            let fill = |scratch: &mut Scratch, (slots, &visit): (Vec<&mut [u8]>, &Visit)| {
                self.fill(cursor, visit, scratch, slots)
            };
            let slots = slots.into_par_iter().zip(wanted.par_iter());
            slots.map_init(Scratch::default, fill).collect::<Result<Vec<Option<Filled>>, DataError>>()
        })?;
        if samples.iter().any(Option::is_none) {
            // the rows of what is left out, in each crop
            let kept = |(i, image): (usize, &[u8])| samples[i % samples.len()].is_some().then(|| image.to_vec());
            images = images.chunks_exact(bytes).enumerate().filter_map(kept).flatten().collect();
        }
        let (samples, objects): (Vec<usize>, Vec<_>) = samples.into_iter().flatten().unzip();
        let objects = objects.into_iter().flatten().collect();
        let labels = samples.iter().filter_map(|&i| self.set.label(i)).collect();
        let index = cursor.epoch * self.plan.per_epoch + cursor.batch;
        Ok(ImageBatch { index, cursor, images, labels, objects, samples })
    }

    /// Writes the crops of a sample, or of its replacement, to `slots`. Returns the position of the sample it has used,
    /// and its objects; none where it is left out.
    fn fill(
        &self, cursor: Cursor, visit: Visit, scratch: &mut Scratch, slots: Vec<&mut [u8]>,
    ) -> Result<Option<Filled>, DataError> {
        if self.stopped() {
            return Ok(Some((visit.sample, None)));
        }
        let found = match self.transform {
            Transform::Cloud(_) => self
                .read(visit, Dataset::good_cloud, Dataset::readable_cloud)?
                .map(|(found, cloud)| (found, Sample::Points(cloud))),
            Transform::Scene(_) => self.read(visit, Dataset::good_scene, Dataset::readable_scene)?,
            Transform::Objects(_) => self.read(visit, Dataset::good_objects, Dataset::readable_objects)?,
            _ => self
                .read(visit, Dataset::good_image, Dataset::readable_image)?
                .map(|(found, image)| (found, Sample::Image(image))),
        };
        let Some((found, sample)) = found else { return Ok(None) };
        let mut objects = None;
        let views = (self.plan.repeats * self.crops) as u64;
        for (view, slot) in (visit.repeat * self.crops..).zip(slots) {
            // The key is the sample that was wanted, not the one found: the epoch also visits the replacement itself,
            // and the two visits should have different crops.
            let keys = [self.seed, cursor.epoch * views + view as u64, visit.sample as u64];
            let mut own = Stream::new(StreamPurpose::Augment, keys);
            let mut batch = Stream::new(StreamPurpose::Cloud, [self.seed, cursor.epoch, cursor.batch]);
            let name = self.set.sample_name(found);
            objects = self.transform.show(&sample, &name, [&mut own, &mut batch], scratch, slot)?;
        }
        Ok(Some((found, objects)))
    }

    /// A sample or its replacement; none where it is left out.
    fn read<T>(
        &self, visit: Visit, good: impl Fn(&Dataset, usize) -> Result<(usize, T), DataError>,
        readable: impl Fn(&Dataset, usize) -> Result<Option<T>, DataError>,
    ) -> Result<Option<(usize, T)>, DataError> {
        match self.broken {
            Broken::Replaced => good(&self.set, visit.sample).map(Some),
            Broken::LeftOut => Ok(readable(&self.set, visit.sample)?.map(|sample| (visit.sample, sample))),
        }
    }
}
