//! Batches prepared ahead of their use by threads: PyTorch's `DataLoader`, but with the same bytes for any number of
//! threads.
use super::batch::ImageBatch;
use super::worker::{Broken, Worker};
use crate::data::cursor::{Cursor, EpochOrder};
use crate::data::dataset::Dataset;
use crate::data::place::Place;
use crate::data::transform::Transform;
use crate::error::DataError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::JoinHandle;

/// How a [`Loader`] goes through a data set.
#[derive(Clone, Debug)]
pub struct LoaderOptions {
    /// Images per batch.
    pub batch_size: usize,
    /// What happens to each image; its size is that of the images in a batch.
    pub transform: Transform,
    /// Independent crops of each image in its batch; 2 for contrastive pretraining.
    pub crops: usize,
    /// Repeated augmentation: how often an epoch of training shows an image, augmented differently each time. An epoch
    /// does not get longer, it shows fewer different images. 1 shows each image once. Evaluation does not repeat.
    pub repeats: usize,
    /// Seed of order and crops.
    pub seed: u64,
    /// Threads that decode; 0 takes one per core.
    pub threads: usize,
    /// Number of finished batches that may wait (`prefetch_factor`).
    pub prefetch: usize,
    /// Where several processes share the data: in training each takes its part of every batch, in evaluation the
    /// batches go round.
    pub place: Place,
    /// Training among several processes: a batch also holds the part of the process that has the same place counted
    /// from the end, behind its own. Mixing images needs it, as image i of a step is mixed with the i-th from its end.
    pub partners: bool,
}

impl LoaderOptions {
    /// Batches of `batch_size` through `transform`: one crop, no repeats, seed 0, one thread per core,
    /// two batches ahead.
    pub fn new(batch_size: usize, transform: Transform) -> Self {
        let (place, partners) = (Place::ALL, false);
        Self { batch_size, transform, crops: 1, repeats: 1, seed: 0, threads: 0, prefetch: 2, place, partners }
    }

    /// Number of batches in an epoch of training on `images` images.
    pub fn batches_per_epoch(&self, images: usize) -> u64 {
        self.plan(images).per_epoch
    }

    fn check(&self) -> Result<(), DataError> {
        self.transform.check()?;
        if self.batch_size == 0 {
            return Err(DataError::setting("batch_size", 0, "at least 1"));
        }
        for (name, count) in [("repeats", self.repeats), ("crops per image", self.crops)] {
            if !(1..=64).contains(&count) {
                return Err(DataError::setting(name, count, "1 to 64"));
            }
        }
        Ok(())
    }

    fn plan(&self, images: usize) -> EpochOrder {
        EpochOrder::train(images, self.repeats, self.batch_size, self.seed)
    }
}

/// An iterator over batches, which a background thread and a pool of decoding threads prepare.
///
/// Batch k holds the same bytes for every number of threads, and for every place the loader was started from: order and
/// crops depend on (seed, epoch, sample) alone. Dropping the loader stops the threads within about one image each.
pub struct Loader {
    queue: Option<Receiver<Result<ImageBatch, DataError>>>,
    thread: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    per_epoch: u64,
    name: String,
}

impl Loader {
    /// Shuffled batches from `start` on, without end. The incomplete batch at the end of an epoch is left out.
    ///
    /// # Errors
    /// Options out of range; [`DataError::TooFew`] where an epoch does not fill one batch.
    pub fn train(set: Arc<Dataset>, options: &LoaderOptions, start: Cursor) -> Result<Self, DataError> {
        options.check()?;
        let plan = EpochOrder { runs: set.source.runs(), ..options.plan(set.len()) };
        if plan.per_epoch == 0 {
            let (name, images, batch_size) = (set.spec().to_owned(), plan.visits, options.batch_size);
            return Err(DataError::TooFew { name, images, batch_size, accum_iter: 1 });
        }
        Self::start(set, options, plan, start, u64::MAX, Broken::Replaced)
    }

    /// One pass in the order of the set, with the incomplete last batch. Broken images are left out: `samples` of a
    /// batch says which ones it holds. A process of several gets every so many-th batch, even one that is left out
    /// whole.
    ///
    /// # Errors
    /// Options out of range; [`DataError::AllBroken`] from the iterator where no image can be read.
    pub fn eval(set: Arc<Dataset>, options: &LoaderOptions) -> Result<Self, DataError> {
        options.check()?;
        let plan = EpochOrder::eval(set.len(), options.batch_size);
        Self::start(set, options, plan, Cursor::default(), 1, Broken::LeftOut)
    }

    fn start(
        set: Arc<Dataset>, options: &LoaderOptions, plan: EpochOrder, start: Cursor, epochs: u64, broken: Broken,
    ) -> Result<Self, DataError> {
        let start = plan.normal(start)?;
        let (name, per_epoch) = (set.spec().to_owned(), plan.per_epoch);
        let failed = |reason: String| DataError::Stopped { name: name.clone(), reason };
        let pool = rayon::ThreadPoolBuilder::new()
            .num_threads(options.threads)
            .thread_name(|i| format!("decode-{i}"))
            .build()
            .map_err(|e| failed(e.to_string()))?;
        let (sender, queue) = sync_channel(options.prefetch);
        let stop = Arc::new(AtomicBool::new(false));
        let (transform, crops, seed) = (options.transform, options.crops, options.seed);
        let (place, partners) = (options.place, options.partners);
        let worker = Worker { set, plan, transform, crops, seed, pool, stop: stop.clone(), broken, place, partners };
        let thread = std::thread::Builder::new()
            .name("loader".into())
            .spawn(move || worker.run(start, epochs, &sender))
            .map_err(|e| failed(e.to_string()))?;
        Ok(Self { queue: Some(queue), thread: Some(thread), stop, per_epoch, name })
    }

    /// Number of batches in an epoch.
    pub fn batches_per_epoch(&self) -> u64 {
        self.per_epoch
    }
}

impl Iterator for Loader {
    type Item = Result<ImageBatch, DataError>;

    /// The next batch; waits until it is ready. After an error the iterator ends.
    fn next(&mut self) -> Option<Self::Item> {
        if let Ok(item) = self.queue.as_ref()?.recv() {
            return Some(item);
        }
        self.queue = None;
        match self.thread.take()?.join() {
            Ok(()) => None,
            Err(_) => Some(Err(DataError::Stopped { name: self.name.clone(), reason: "it panicked".into() })),
        }
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // If the thread panicked, the panic hook has printed it; nobody can take an error from here.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::augmentation::Augmentation;
    use crate::data::split::Split;
    use crate::data::testing::Stub;
    use std::time::{Duration, Instant};

    fn options(batch_size: usize, threads: usize) -> LoaderOptions {
        LoaderOptions { seed: 3, threads, ..LoaderOptions::new(batch_size, Transform::train(16)) }
    }

    fn stub(count: usize) -> Arc<Dataset> {
        Arc::new(Stub { count, broken: vec![2, 3, 9], panics: vec![9] }.dataset())
    }

    fn take(set: Arc<Dataset>, options: &LoaderOptions, start: Cursor, n: usize) -> Vec<ImageBatch> {
        Loader::train(set, options, start).unwrap().take(n).collect::<Result<_, _>>().unwrap()
    }

    #[test]
    fn batches_do_not_depend_on_threads_or_on_where_the_run_started() {
        let set = Arc::new(Dataset::open("synthetic:50", Split::Train).unwrap());
        let whole = take(set.clone(), &options(8, 1), Cursor::default(), 14);
        assert_eq!(whole.iter().map(|b| b.index).collect::<Vec<_>>(), (0..14).collect::<Vec<_>>());
        assert_eq!((whole[13].cursor, whole[13].labels.len()), (Cursor { epoch: 2, batch: 1 }, 8));
        assert_eq!(whole, take(set.clone(), &options(8, 4), Cursor::default(), 14));
        for skip in [1, 5, 6, 7, 13] {
            let start = Cursor { epoch: skip as u64 / 6, batch: skip as u64 % 6 };
            assert_eq!(whole[skip..], take(set.clone(), &options(8, 3), start, 14 - skip), "from {skip}");
        }
        assert_eq!(whole[6..], take(set, &options(8, 2), Cursor { epoch: 0, batch: 6 }, 8));
        assert_ne!(whole[0].samples, whole[6].samples);
    }

    #[test]
    fn no_change_of_an_image_depends_on_threads_or_on_where_the_run_started() {
        let set = Arc::new(Dataset::open("synthetic:50", Split::Train).unwrap());
        for augmentation in [Augmentation::RAND_AUGMENT, Augmentation::THREE_AUGMENT] {
            let transform = Transform::Train { size: 16, augmentation };
            let with = |threads| LoaderOptions { transform, repeats: 3, ..options(8, threads) };
            let whole = take(set.clone(), &with(1), Cursor::default(), 8);
            assert_eq!(whole[2..], take(set.clone(), &with(3), whole[2].cursor, 6));
            assert_ne!(whole[0].images, take(set.clone(), &options(8, 1), Cursor::default(), 1)[0].images);
        }
    }

    #[test]
    fn training_replaces_what_is_broken() {
        let set = stub(12);
        let batch = take(set.clone(), &options(12, 2), Cursor::default(), 1).remove(0);
        let mut samples = batch.samples.clone();
        samples.sort_unstable();
        assert_eq!(samples, [0, 1, 4, 4, 4, 5, 6, 7, 8, 10, 10, 11]);
        assert!(batch.labels.iter().zip(&batch.samples).all(|(&label, &sample)| label as usize == sample));
        assert!(batch.images.chunks(16 * 16 * 3).zip(&batch.samples).all(|(p, &s)| p.iter().all(|&v| v == s as u8)));
        assert_eq!(set.skipped(), 3);
        let all = Arc::new(Stub { count: 4, broken: vec![0, 1, 2, 3], panics: vec![] }.dataset());
        let mut loader = Loader::train(all, &options(2, 2), Cursor::default()).unwrap();
        assert!(matches!(loader.next(), Some(Err(DataError::AllBroken { .. }))));
        assert!(loader.next().is_none());
    }

    #[test]
    fn evaluation_leaves_out_what_is_broken() {
        // every subset of broken images, and batches of every size
        for (broken, batch_size, threads) in (0..1u32 << 6).flat_map(|b| (1..=6).map(move |size| (b, size, size % 3))) {
            let bad = |i: &usize| broken >> i & 1 == 1;
            let (gone, good): (Vec<usize>, Vec<usize>) = (0..6).partition(bad);
            let set = Arc::new(Stub { count: 6, broken: gone.clone(), panics: vec![] }.dataset());
            let mut batches = Loader::eval(set.clone(), &options(batch_size, threads)).unwrap();
            if good.is_empty() {
                let error = batches.next().unwrap().unwrap_err().to_string();
                assert!(error.contains("none of the 6 images of stub") && error.contains("stub/0"), "{error}");
                assert!(batches.next().is_none());
                continue;
            }
            let batches: Vec<ImageBatch> = batches.collect::<Result<_, _>>().unwrap();
            assert!(batches.iter().all(|batch| !batch.samples.is_empty()), "{broken:b} {batch_size}");
            let samples: Vec<usize> = batches.iter().flat_map(|batch| batch.samples.clone()).collect();
            let labels: Vec<usize> = batches.iter().flat_map(|b| b.labels.iter().map(|&l| l as usize)).collect();
            let images: Vec<u8> = batches.iter().flat_map(|b| b.images.clone()).collect();
            assert_eq!((&samples, &labels, set.skipped()), (&good, &good, gone.len()), "{broken:b} {batch_size}");
            assert!(
                images.chunks(16 * 16 * 3).map(<[u8]>::to_vec).eq(good.iter().map(|&i| vec![i as u8; 16 * 16 * 3]))
            );
        }
    }

    #[test]
    fn what_is_left_out_is_left_out_of_each_crop() {
        let two = LoaderOptions { crops: 2, ..options(5, 2) };
        let set = Arc::new(Stub { count: 5, broken: vec![1], panics: vec![3] }.dataset());
        let batch = Loader::eval(set, &two).unwrap().next().unwrap().unwrap();
        let rows: Vec<u8> = batch.images.chunks(16 * 16 * 3).map(|row| row[0]).collect();
        assert_eq!((batch.samples, rows), (vec![0, 2, 4], vec![0, 2, 4, 0, 2, 4]));
    }

    #[test]
    fn training_drops_the_last_batch_and_evaluation_keeps_it() {
        let whole = Arc::new(Stub { count: 10, broken: vec![], panics: vec![] }.dataset());
        let eval: Vec<_> = Loader::eval(whole, &options(4, 2)).unwrap().map(|b| b.unwrap().samples.len()).collect();
        assert_eq!(eval, [4, 4, 2]);
        let loader = Loader::train(stub(10), &options(4, 2), Cursor::default()).unwrap();
        assert_eq!(loader.batches_per_epoch(), 2);
        assert!(loader.take(5).all(|b| b.unwrap().samples.len() == 4));
    }

    #[test]
    fn two_crops_are_drawn_apart_and_repeats_follow_each_other() {
        let set = Arc::new(Dataset::open("synthetic:300", Split::Train).unwrap());
        let bytes = 16 * 16 * 3;
        let two = LoaderOptions { crops: 2, ..options(7, 1) };
        let whole = take(set.clone(), &two, Cursor::default(), 3);
        assert_eq!((whole[0].images.len(), whole[0].samples.len(), whole[0].labels.len()), (14 * bytes, 7, 7));
        for b in &whole {
            let (first, second) = b.images.split_at(7 * bytes);
            assert!(first.chunks(bytes).zip(second.chunks(bytes)).all(|(a, b)| a != b));
        }
        assert_eq!(whole, take(set.clone(), &two, Cursor::default(), 3));
        assert_eq!(whole[2], take(set.clone(), &LoaderOptions { threads: 3, ..two }, whole[2].cursor, 1)[0]);

        let three = LoaderOptions { repeats: 3, ..options(8, 2) };
        assert_eq!(three.batches_per_epoch(300), 32);
        let whole = take(set.clone(), &three, Cursor::default(), 34);
        assert_eq!(whole[33].cursor, Cursor { epoch: 1, batch: 1 });
        assert_eq!(whole[30..], take(set, &three, whole[30].cursor, 4));
        let (samples, images) = (&whole[0].samples, whole[0].images.chunks(bytes).collect::<Vec<_>>());
        assert!(samples[0] == samples[2] && samples[2] != samples[3]);
        assert!(images[0] != images[1] && images[1] != images[2] && images[0] != images[2]);
    }

    #[test]
    fn settings_that_cannot_work_are_named() {
        let start = |set, o| Loader::train(set, &o, Cursor::default()).err().unwrap().to_string();
        let few = start(stub(10), options(64, 1));
        assert!(few.contains("10 images") && few.contains("64") && few.contains("`batch_size` 10"), "{few}");
        assert!(start(stub(10), options(0, 1)).contains("batch_size is 0"));
        assert!(Loader::eval(stub(10), &options(0, 1)).is_err());
        assert!(start(stub(10), LoaderOptions { repeats: 0, ..options(4, 1) }).contains("repeats is 0"));
        // 300 images repeated are an epoch of 256, which would be no batch at all.
        assert!(start(stub(300), LoaderOptions { repeats: 3, ..options(300, 1) }).contains("256 images"));
        let past = Loader::train(stub(10), &options(4, 1), Cursor { epoch: 0, batch: 3 });
        assert!(past.err().unwrap().to_string().contains("at most 2"));
    }

    #[test]
    fn dropping_stops_in_the_middle_of_a_batch() {
        // One batch of 100 000 generated images would take a minute; stopping must not wait for it.
        let set = Arc::new(Dataset::open("synthetic:100000", Split::Train).unwrap());
        let loader = Loader::train(set, &options(100_000, 2), Cursor::default()).unwrap();
        std::thread::sleep(Duration::from_millis(50));
        let before = Instant::now();
        drop(loader);
        assert!(before.elapsed() < Duration::from_secs(5), "{:?}", before.elapsed());
    }
}
