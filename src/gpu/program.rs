//! A program: a recording with its buffers, bind groups, pipelines and uniforms, built once and replayed every step.

use std::fmt;
use std::sync::Arc;

use super::buffer::{Physical, View};
use super::device::Gpu;
use super::live::{Live, Pipeline};
use super::lock::lock;
use super::pipeline::pipelines;
use super::plan::Plan;
use super::record::{Launch, Recording};
use crate::error::Result;

/// Distance in bytes between the uniforms of two launches: the largest alignment that a WebGPU adapter may require.
const SLOT: u64 = 256;
/// Most dispatches in one submission, and most bytes that they bind together. Some drivers kill submissions that run
/// too long.
const CHUNK: (usize, u64) = (128, 8 << 30);

/// Launches that can be replayed without allocating, compiling or binding anything: a CUDA graph that also owns its
/// memory.
#[derive(Debug)]
pub struct Program {
    pub(super) gpu: Gpu,
    pub(super) launches: Vec<Launch>,
    pub(super) ready: Vec<(Arc<Pipeline>, wgpu::BindGroup)>,
    /// Index of the first launch of each submission, and the number of launches at the end.
    chunks: Vec<usize>,
    pub(super) plan: Plan,
    /// The scratch buffers, which live as long as the program.
    pub(super) _slots: Vec<Arc<Physical>>,
    _uniforms: Option<Arc<Physical>>,
}

impl Program {
    /// Plans the memory, allocates it, compiles the kernels and binds their arguments.
    ///
    /// # Errors
    /// [`Error::OutOfMemory`](crate::error::Error::OutOfMemory) or [`Error::Limit`](crate::error::Error::Limit), before
    /// anything is allocated, if the plan does not fit the adapter.
    pub fn new(recording: Recording) -> Result<Self> {
        let gpu = recording.gpu.clone();
        let plan = Plan::new(&recording)?;
        let launches = recording.launches;
        let live = gpu.live()?;
        plan.fits(gpu.caps())?;
        let slots = allocate_slots(live, &plan)?;
        for view in launches.iter().flat_map(|l| &l.args) {
            let scratch = plan.slot_of.contains_key(&view.node.id);
            if !scratch || plan.kept.contains(&view.node.id) {
                gpu.materialize(&view.node)?;
            }
        }
        let uniforms = upload_params(live, &launches);
        let mut ready = Vec::with_capacity(launches.len());
        let compiled = pipelines(live, &launches, gpu.caps())?;
        for (at, (launch, pipeline)) in launches.iter().zip(compiled).enumerate() {
            let uniform = uniforms.as_ref().map(|u| (u, at as u64 * SLOT));
            let group = bind(live, launch, &pipeline, uniform, |id| plan.slot_of.get(&id).map(|&slot| &slots[slot]));
            ready.push((pipeline, group));
        }
        live.check()?;
        let chunks = chunks(&launches);
        Ok(Self { gpu, launches, ready, chunks, plan, _slots: slots, _uniforms: uniforms })
    }

    /// The memory plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The launches, in order.
    pub fn launches(&self) -> &[Launch] {
        &self.launches
    }

    /// Submits every launch once, in order. Does not wait for the GPU.
    pub fn run(&self) -> Result<()> {
        self.run_in_parts(|_| Ok(()))
    }

    /// [`Program::run`] that calls `after` with the number of each part ([`Recording::mark`]) once it is submitted, so
    /// that what it has computed can be read while the next ones run.
    ///
    /// # Errors
    /// Those of `after`; the rest is not submitted then.
    pub fn run_in_parts(&self, mut after: impl FnMut(u32) -> Result<()>) -> Result<()> {
        let live = self.gpu.live()?;
        live.check()?;
        tracing::trace!(software = self.gpu.caps().software, launches = %Names(&self.launches), "replay");
        let _turn = lock(&live.turn);
        for chunk in self.chunks.windows(2) {
            let mut encoder = live.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            for at in chunk[0]..chunk[1] {
                let (pipeline, group) = &self.ready[at];
                dispatch(&mut pass, pipeline, group, &self.launches[at]);
            }
            drop(pass);
            live.queue.submit([encoder.finish()]);
            let part = |at: usize| self.launches.get(at).map(|launch| launch.part);
            let done = chunk[1].checked_sub(1).and_then(part);
            if let Some(done) = done.filter(|done| part(chunk[1]) != Some(*done)) {
                after(done)?;
            }
        }
        live.counters.launches.fetch_add(self.ready.len() as u64, std::sync::atomic::Ordering::Relaxed);
        live.check()
    }
}

/// Kernel and phase of each launch, as `norm.forward:Forward`, with spaces between them: for the log. The manifest of
/// kernels is made from it (tests/manifest/launched.rs).
struct Names<'a>(&'a [Launch]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|launch| write!(f, "{}:{:?} ", launch.name(), launch.phase))
    }
}

fn chunks(launches: &[Launch]) -> Vec<usize> {
    let (mut starts, mut bytes) = (vec![0], 0);
    for (at, launch) in launches.iter().enumerate() {
        let begun = starts.last().copied().unwrap_or(0);
        let full = at - begun >= CHUNK.0 || bytes + launch.bytes() > CHUNK.1;
        if at > begun && (full || launch.part != launches[at - 1].part) {
            starts.push(at);
            bytes = 0;
        }
        bytes += launch.bytes();
    }
    starts.push(launches.len());
    starts
}

pub(super) fn dispatch(
    pass: &mut wgpu::ComputePass<'_>, pipeline: &Pipeline, group: &wgpu::BindGroup, launch: &Launch,
) {
    let [x, y, z] = launch.grid.0;
    pass.set_pipeline(&pipeline.raw);
    pass.set_bind_group(0, group, &[]);
    pass.dispatch_workgroups(x, y, z);
}

/// A physical buffer for each slot of a plan. Programs of one device never run at the same time, so they share a pool.
/// Each slot gets the smallest buffer of the pool that fits and is not yet used by this program, or a new one. If the
/// driver refuses an allocation, the pool is emptied.
fn allocate_slots(live: &Live, plan: &Plan) -> Result<Vec<Arc<Physical>>> {
    let mut pool = lock(&live.pool);
    let mut free = pool.clone();
    let mut slots = Vec::with_capacity(plan.slots.len());
    for &bytes in &plan.slots {
        let fitting = free.iter().enumerate().filter(|(_, buffer)| buffer.raw.size() >= bytes);
        let buffer = match fitting.min_by_key(|(_, buffer)| buffer.raw.size()).map(|(at, _)| at) {
            Some(at) => free.swap_remove(at),
            None => live.allocate(bytes, "scratch"),
        };
        slots.push(buffer);
    }
    if let Err(refused) = live.check() {
        pool.clear();
        return Err(refused);
    }
    free.extend(slots.iter().cloned());
    *pool = free;
    Ok(slots)
}

fn upload_params(live: &Live, launches: &[Launch]) -> Option<Arc<Physical>> {
    let mut bytes = vec![0; launches.len() * SLOT as usize];
    for (slot, launch) in bytes.chunks_exact_mut(SLOT as usize).zip(launches) {
        slot[..launch.params.len()].copy_from_slice(&launch.params);
    }
    let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
    let buffer = (!bytes.is_empty())
        .then(|| Physical::new(&live.device, &live.counters, bytes.len() as u64, usage, "params"))?;
    live.queue.write_buffer(&buffer.raw, 0, &bytes);
    Some(buffer)
}

fn bind<'a>(
    live: &Live, launch: &Launch, pipeline: &Pipeline, uniform: Option<(&Arc<Physical>, u64)>,
    slot: impl Fn(u64) -> Option<&'a Arc<Physical>>,
) -> wgpu::BindGroup {
    let range = |binding, buffer, offset, bytes| wgpu::BindGroupEntry {
        binding,
        resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
            buffer,
            offset,
            size: wgpu::BufferSize::new(bytes),
        }),
    };
    let mut entries = Vec::with_capacity(launch.args.len() + 1);
    if let Some((buffer, offset)) = uniform {
        entries.push(range(0, &buffer.raw, offset, launch.params.len() as u64));
    }
    for (view, bind) in launch.args.iter().zip(launch.kernel.binds) {
        if let Some(physical) = slot(view.node.id).or_else(|| view.node.cell.get()) {
            entries.push(range(bind.number, &physical.raw, view.offset, view.bytes.next_multiple_of(View::QUAD)));
        }
    }
    live.counters.bind_groups.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let label = Some(launch.kernel.name);
    live.device.create_bind_group(&wgpu::BindGroupDescriptor { label, layout: &pipeline.layout, entries: &entries })
}

impl Recording {
    /// Runs the launches recorded so far and removes them from the recording. A tensor that still has a handle keeps
    /// its values.
    pub fn run(&mut self) -> Result<()> {
        if self.launches.is_empty() {
            return Ok(());
        }
        Program::new(self.take())?.run()
    }
}
