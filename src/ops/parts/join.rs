//! Joining the sums of parts of a recording: few launches for the gradients of many tensors.

use std::collections::HashMap;
use std::sync::Arc;

use super::sum::{Parts, Rows, SUM, sum_many};
use crate::error::Result;
use crate::gpu::{Class, Launch, Phase, Recording, View};
use crate::tensor::Tensor;

/// Most bytes of parts that wait for their sum. More would save few launches.
const PAGE: u64 = 64 << 20;
/// Bytes of parts that may always wait: what a page takes in the smallest models.
const LEAST: u64 = 1 << 20;

/// Buffers of parts, by the id of the tensor that the operator has allocated: the page, and the place in it.
type Places = HashMap<u64, View>;

/// Replaces launches of [`sum_parts`](super::sum_parts) by few that add up the parts of many tensors. The sums have the
/// same bits.
///
/// An operator writes parts, and launches their sum at once. This function delays the sum until a launch touches what
/// it writes, the recording ends, or the parts that wait fill a page. It takes sums into one buffer that outlives the
/// recording, as the gradients of parameters do, and only if nothing else reads their parts. These then lie in one
/// scratch buffer, the page. From 1 MiB on it is no larger than half of the largest scratch tensor of the recording, so
/// that the plan grows by little: most of a page lies where other results have died.
///
/// # Errors
///
/// If the device fails.
pub fn join(r: &mut Recording) -> Result<()> {
    let launches = std::mem::take(&mut r.launches);
    let (marks, phase) = (r.marks, r.set_phase(Phase::Backward));
    let scope = r.set_scope("".into()); // of no module
    let mut open = Open { limit: page(&launches), ready: alone(&launches), ..Open::default() };
    let done = launches.into_iter().try_for_each(|launch| open.take(r, launch)).and_then(|()| open.close(r));
    r.marks = marks;
    r.set_phase(phase);
    r.set_scope(scope);
    for arg in r.launches.iter_mut().flat_map(|launch| &mut launch.args) {
        if let Some(place) = open.places.get(&arg.node.id) {
            let dtype = arg.dtype;
            *arg = place.range(arg.offset, arg.bytes).of(dtype);
        }
    }
    done
}

/// Bytes of a page: half of the largest scratch tensor, from [`LEAST`] to [`PAGE`].
fn page(launches: &[Launch]) -> u64 {
    let args = launches.iter().flat_map(|launch| &launch.args);
    let largest = args.filter(|view| is_scratch(view)).map(|view| view.node.bytes()).max();
    (largest.unwrap_or(0) / 2).clamp(LEAST, PAGE)
}

fn is_scratch(view: &View) -> bool {
    view.class() == Class::Scratch && view.node.cell.get().is_none()
}

fn is_sum(launch: &Launch) -> bool {
    launch.kernel.name == SUM.name
}

/// The scratch buffers that only [`SUM`] reads, whose sums all go into one buffer of [`Class::Gradient`], and that no
/// tensor outside of the recording holds: the id of each, and of the buffer that gets its sums.
fn alone(launches: &[Launch]) -> HashMap<u64, u64> {
    let mut uses: HashMap<u64, usize> = HashMap::new();
    let mut sums: HashMap<u64, Option<u64>> = HashMap::new();
    for launch in launches {
        let to = launch.args.last().filter(|to| is_sum(launch) && to.class() == Class::Gradient);
        let to = to.map(|to| to.node.id);
        for (view, bind) in launch.args.iter().zip(launch.kernel.binds) {
            *uses.entry(view.node.id).or_default() += 1;
            if bind.reads() {
                sums.entry(view.node.id).and_modify(|known| *known = to.filter(|_| *known == to)).or_insert(to);
            } else if let Some(known) = sums.get_mut(&view.node.id) {
                *known = None; // written again after its sum
            }
        }
    }
    let args = launches.iter().flat_map(|launch| &launch.args);
    let free = args.filter(|view| is_scratch(view) && Arc::strong_count(&view.node) == uses[&view.node.id]);
    free.filter_map(|view| Some((view.node.id, (*sums.get(&view.node.id)?)?))).collect()
}

/// A sum that waits: its launch as the operator recorded it.
#[derive(Debug)]
struct Waiting(Launch);

impl Waiting {
    fn parts(&self) -> &View {
        &self.0.args[0]
    }

    fn to(&self) -> &View {
        &self.0.args[1]
    }

    /// Whether a launch reads or writes what this sum will write.
    fn is_touched(&self, launch: &Launch) -> bool {
        let (begin, end) = written(&self.0);
        let overlaps = |(first, last): (u64, u64)| first < end && begin < last;
        launch.args.iter().enumerate().any(|(i, view)| {
            let range =
                if is_sum(launch) && i == 1 { written(launch) } else { (view.offset, view.offset + view.bytes) };
            view.same_buffer(self.to()) && overlaps(range)
        })
    }
}

/// The range of bytes of its buffer that a sum writes.
fn written(sum: &Launch) -> (u64, u64) {
    let p: Parts = sum.with_args(|args| args.scalars());
    let begin = sum.args[1].offset + 4 * u64::from(p.to);
    (begin, begin + 4 * u64::from(p.cols))
}

/// What [`join`] knows between two launches.
#[derive(Debug, Default)]
struct Open {
    limit: u64,
    /// [`alone`].
    ready: HashMap<u64, u64>,
    /// Sums that wait, in the order of the recording. All go into one buffer.
    waiting: Vec<Waiting>,
    /// Buffers of parts of the sums that wait: id, and place in the page.
    page: Vec<(u64, u64)>,
    bytes: u64,
    places: Places,
}

impl Open {
    /// Appends a launch to `r`, or keeps it if it is a sum that can wait.
    fn take(&mut self, r: &mut Recording, launch: Launch) -> Result<()> {
        let next = self.waiting.last().is_some_and(|last| last.0.part != launch.part);
        if next || self.waiting.iter().any(|waiting| waiting.is_touched(&launch)) {
            self.close(r)?;
        }
        if !self.keeps(r, &launch)? {
            r.launches.push(launch);
            return Ok(());
        }
        self.waiting.push(Waiting(launch));
        Ok(())
    }

    /// Whether a launch is a sum that can wait. Makes room for its parts.
    fn keeps(&mut self, r: &mut Recording, launch: &Launch) -> Result<bool> {
        let Some(parts) = launch.args.first().filter(|_| is_sum(launch)) else { return Ok(false) };
        let id = parts.node.id;
        let Some(&to) = self.ready.get(&id) else { return Ok(false) };
        if self.places.contains_key(&id) {
            return Ok(false); // its parts lie in a page whose other sums are done
        }
        if self.page.iter().any(|(known, _)| *known == id) {
            return Ok(true);
        }
        let bytes = parts.node.bytes().next_multiple_of(256);
        if bytes > self.limit {
            return Ok(false);
        }
        let other = self.waiting.first().is_some_and(|waiting| waiting.to().node.id != to);
        if other || self.bytes + bytes > self.limit {
            self.close(r)?;
        }
        self.page.push((id, self.bytes));
        self.bytes += bytes;
        Ok(true)
    }

    /// Launches the sums that wait.
    fn close(&mut self, r: &mut Recording) -> Result<()> {
        let (waiting, parts, bytes) =
            (std::mem::take(&mut self.waiting), std::mem::take(&mut self.page), std::mem::take(&mut self.bytes));
        let Some(first) = waiting.first() else { return Ok(()) };
        if waiting.len() == 1 {
            r.launches.extend(waiting.into_iter().map(|waiting| waiting.0));
            return Ok(());
        }
        let page = View::new(Class::Scratch, "parts of gradients", bytes);
        for (id, at) in parts {
            self.places.insert(id, page.range(at, bytes - at));
        }
        let begin = waiting.iter().map(|w| w.to().offset).min().unwrap_or_default();
        let end = waiting.iter().map(|w| w.to().offset + w.to().bytes).max().unwrap_or_default();
        let flat = |view: View| {
            let len = view.len();
            Tensor::from_view(view, &[len])
        };
        let y = flat(View { offset: begin, bytes: end - begin, ..first.to().clone() });
        let sums: Vec<Rows> = waiting.iter().map(|waiting| self.rows(waiting, begin)).collect();
        r.marks = first.0.part;
        sum_many(r, &flat(page), &sums, &y)
    }

    /// A sum whose parts lie in the page and whose result lies in the buffer from byte `begin` on.
    fn rows(&self, waiting: &Waiting, begin: u64) -> Rows {
        let p: Parts = waiting.0.with_args(|args| args.scalars());
        let (parts, to) = (waiting.parts(), waiting.to());
        let place = self.places.get(&parts.node.id).map_or(0, |place| place.offset);
        let [rows, stride, cols] = [p.rows, p.stride, p.cols].map(|size| size as usize);
        Rows {
            at: ((place + parts.offset) / 4) as usize + p.at as usize,
            rows,
            stride,
            cols,
            to: ((to.offset - begin) / 4) as usize + p.to as usize,
        }
    }
}
