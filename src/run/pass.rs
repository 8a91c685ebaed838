//! One pass of a program over a data set.

use std::sync::Arc;

use super::world::World;
use crate::data::{Cursor, DataError, Dataset, ImageBatch, Loader, LoaderOptions, Transform};
use crate::error::{Error, Result};
use crate::infer::program::InferenceProgram;

impl InferenceProgram {
    /// Runs over a data set once, in its order. `each` gets the output rows of a batch, and the batch: its labels,
    /// which are empty if the set has none, and which samples the rows are of. Broken images have no row.
    pub fn over(
        &self, data: &Arc<Dataset>, transform: Transform, threads: usize,
        each: impl FnMut(&[f32], &ImageBatch) -> Result<()>,
    ) -> Result<()> {
        self.over_shared(&World::alone(), data, transform, (threads, 0), each)
    }

    /// [`InferenceProgram::over`] where the processes of `world` take the batches in turn. Every one of them gets the
    /// rows of all batches, in order; the batches come without images. `threads` are those that decode, and the random
    /// choices of the transform are those of `seed`.
    ///
    /// # Errors
    /// Those of data and device; processes that do not answer in time.
    pub fn over_shared(
        &self, world: &World, data: &Arc<Dataset>, transform: Transform, (threads, seed): (usize, u64),
        mut each: impl FnMut(&[f32], &ImageBatch) -> Result<()>,
    ) -> Result<()> {
        let place = world.place();
        let options = LoaderOptions { threads, seed, place, ..LoaderOptions::new(self.batch(), transform) };
        let mut loader = Loader::eval(data.clone(), &options).map_err(Error::from)?;
        if place.ranks == 1 {
            return loader.try_for_each(|batch| {
                let batch = batch.map_err(Error::from)?;
                each(&pollster::block_on(self.run(&batch.images))?, &batch)
            });
        }
        let (rounds, mut any) = (data.len().div_ceil(self.batch()).div_ceil(place.ranks), false);
        for round in 0..rounds {
            world.doing(format!("batches {} of the evaluation", round * place.ranks));
            let mine = match loader.next().transpose().map_err(Error::from)? {
                Some(batch) => packed(&pollster::block_on(self.run(&batch.images))?, &batch),
                None => Vec::new(), // the others have the last batches
            };
            for (rank, bytes) in world.gather(mine)?.into_iter().enumerate() {
                let index = (round * place.ranks + rank) as u64;
                let (rows, batch) = unpacked(&bytes, self.width(), index)?;
                if !batch.samples.is_empty() {
                    any = true;
                    each(&rows, &batch)?;
                }
            }
        }
        if any || data.len() == 0 {
            return Ok(());
        }
        let (name, count) = (data.spec().to_owned(), data.len());
        Err(DataError::AllBroken { name, count, last: data.fault(0).unwrap_or_default() }.into())
    }
}

/// Rows, labels and samples of a batch as bytes: the number of samples, the samples, the number of labels, the labels,
/// the rows.
fn packed(rows: &[f32], batch: &ImageBatch) -> Vec<u8> {
    let mut bytes = (batch.samples.len() as u64).to_le_bytes().to_vec();
    batch.samples.iter().for_each(|sample| bytes.extend((*sample as u64).to_le_bytes()));
    bytes.extend((batch.labels.len() as u64).to_le_bytes());
    batch.labels.iter().for_each(|label| bytes.extend(label.to_le_bytes()));
    rows.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
    bytes
}

/// What [`packed`] was made of. No bytes are a batch without samples.
fn unpacked(bytes: &[u8], width: usize, index: u64) -> Result<(Vec<f32>, ImageBatch)> {
    let mut rest = bytes;
    let mut words = |count: usize, size: usize| -> Result<Vec<u64>> {
        let broken = || Error::Ranks(format!("batch {index} of another process is cut off"));
        let (head, tail) = count.checked_mul(size).and_then(|len| rest.split_at_checked(len)).ok_or_else(broken)?;
        rest = tail;
        let word = |bytes: &[u8]| bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        Ok(head.chunks_exact(size).map(word).collect())
    };
    let (mut samples, mut labels, mut rows) = (Vec::new(), Vec::new(), Vec::new());
    if !bytes.is_empty() {
        let count = words(1, 8)?[0] as usize;
        samples = words(count, 8)?.into_iter().map(|sample| sample as usize).collect();
        let count = words(1, 8)?[0] as usize;
        labels = words(count, 4)?.into_iter().map(|label| label as u32).collect();
        rows = words(samples.len() * width, 4)?.into_iter().map(|bits| f32::from_bits(bits as u32)).collect();
    }
    let cursor = Cursor { epoch: 0, batch: index };
    Ok((rows, ImageBatch { objects: Vec::new(), index, cursor, images: Vec::new(), labels, samples }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_travel_as_bytes() {
        let cursor = Cursor { epoch: 0, batch: 3 };
        let batch = ImageBatch {
            objects: vec![],
            index: 3,
            cursor,
            images: vec![],
            labels: vec![7, 8],
            samples: vec![40, 1 << 40],
        };
        let rows = [1.5, -0.0, f32::MAX, 1e-40, 2.0, 3.0];
        let bytes = packed(&rows, &batch);
        let (found, same) = unpacked(&bytes, 3, 3).unwrap();
        assert_eq!(found.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), rows.map(f32::to_bits));
        assert_eq!(same, batch);
        assert!(unpacked(&[], 3, 3).unwrap().1.samples.is_empty());
        assert!((1..bytes.len()).all(|len| unpacked(&bytes[..len], 3, 3).is_err()));
    }
}
