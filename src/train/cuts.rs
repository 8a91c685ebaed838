//! Where the gradients of a step are final before its backward pass ends: the places between its launches at which a
//! part of them can already travel to the other processes.

use crate::error::Result;
use crate::gpu::Recording;
use crate::tensor::Tensor;

/// Numbers of a segment of gradients, at least and at most: 64 KiB, below which a message costs more than its bytes,
/// and 16 MiB, with which a network is busy for milliseconds.
const SEGMENT: [usize; 2] = [16 << 10, 4 << 20];

/// Segments that follow each other in a step, where that many are neither too small nor too large.
const COUNT: usize = 16;

/// The segments of the gradients, by the part of the recording after which each is final.
#[derive(Debug, Default)]
pub struct Cuts {
    segments: Vec<(u32, Tensor)>,
}

/// Cuts flat tensors into segments.
pub fn segments(tensors: &[Tensor]) -> Result<Vec<Tensor>> {
    let all = tensors.iter().map(Tensor::len).sum::<usize>();
    let each = (all / COUNT).clamp(SEGMENT[0], SEGMENT[1]).next_multiple_of(64);
    let mut segments = Vec::new();
    for tensor in tensors {
        for start in (0..tensor.len()).step_by(each) {
            segments.push(tensor.range(start, &[each.min(tensor.len() - start)])?);
        }
    }
    Ok(segments)
}

impl Cuts {
    /// Marks the places of `recording` after which a segment of the gradients is final.
    pub fn mark(recording: &mut Recording, gradients: &[Tensor]) -> Result<Self> {
        let mut ends = Vec::new();
        for segment in segments(gradients)? {
            let view = segment.memory();
            let (from, to) = (view.offset(), view.offset() + view.bytes());
            let writes = |written: &crate::gpu::View| {
                written.same_buffer(view) && written.offset() < to && from < written.offset() + written.bytes()
            };
            let last = recording.launches().iter().rposition(|launch| launch.written().any(writes));
            ends.push((last.unwrap_or(0), segment));
        }
        ends.sort_by_key(|(last, _)| *last);
        let mut places: Vec<usize> = ends.iter().map(|(last, _)| *last).collect();
        places.dedup();
        recording.mark_after(&places);
        let part = |last: usize| recording.launches().get(last).map_or(0, |launch| launch.part);
        Ok(Self { segments: ends.into_iter().map(|(last, segment)| (part(last), segment)).collect() })
    }

    /// Whether there is nothing to exchange on the way.
    pub fn is_empty(&self) -> bool {
        self.segments.is_empty()
    }

    /// The segments that are final after part `part` of the recording.
    pub fn after(&self, part: u32) -> impl Iterator<Item = &Tensor> {
        self.segments.iter().filter(move |(final_after, _)| *final_after == part).map(|(_, segment)| segment)
    }

    /// The order in which the segments travel, as bytes: it has to be the same in every process.
    pub fn order(&self) -> Vec<u8> {
        self.segments.iter().flat_map(|(_, segment)| segment.memory().offset().to_le_bytes()).collect()
    }
}
