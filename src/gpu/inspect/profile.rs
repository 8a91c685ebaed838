//! GPU time of each launch of a program, measured by timestamps (CUDA events).

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::gpu::buffer::Physical;
use crate::gpu::lock::lock;
use crate::gpu::program::{Program, dispatch};
use crate::gpu::record::{Launch, Phase};
use crate::gpu::work::Work;

/// GPU time of one launch in one replay.
#[derive(Debug, Clone)]
pub struct LaunchTime {
    /// `family.entry` of the kernel.
    pub name: &'static str,
    /// Name of the module that launched it.
    pub scope: Arc<str>,
    /// Part of the training step that it belongs to.
    pub phase: Phase,
    /// Nanoseconds from the start of the replay's first launch to the start of this one.
    pub begin: u64,
    /// Nanoseconds that this launch took.
    pub ns: u64,
    /// Its least work.
    pub work: Work,
}

impl Program {
    /// Runs once and returns the GPU time of each launch. Each launch is a pass of its own between two timestamps,
    /// which makes the whole slower than [`Program::run`].
    ///
    /// # Errors
    /// [`Error::Argument`] if the adapter has no timestamp queries.
    pub fn profile(&self) -> Result<Vec<LaunchTime>> {
        let live = self.gpu.live()?;
        if !self.gpu.caps().timestamps {
            return Err(Error::argument("profile", "an adapter without timestamp queries", "an adapter with them"));
        }
        let _turn = lock(&live.turn);
        let (mut encoded, mut resolved) = (Vec::new(), Vec::new());
        for (chunk, launches) in self.ready.chunks(1024).enumerate() {
            let count = 2 * launches.len() as u32;
            let set = live.device.create_query_set(&wgpu::QuerySetDescriptor {
                label: Some("launch times"),
                ty: wgpu::QueryType::Timestamp,
                count,
            });
            let usage = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
            let times = Physical::new(&live.device, &live.counters, u64::from(count) * 8, usage, "launch times");
            let mut encoder = live.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
            for (i, (pipeline, group)) in launches.iter().enumerate() {
                let writes = wgpu::ComputePassTimestampWrites {
                    query_set: &set,
                    beginning_of_pass_write_index: Some(2 * i as u32),
                    end_of_pass_write_index: Some(2 * i as u32 + 1),
                };
                let descriptor = wgpu::ComputePassDescriptor { label: None, timestamp_writes: Some(writes) };
                let mut pass = encoder.begin_compute_pass(&descriptor);
                dispatch(&mut pass, pipeline, group, &self.launches[chunk * 1024 + i]);
            }
            encoder.resolve_query_set(&set, 0..count, &times.raw, 0);
            encoded.push(encoder.finish());
            resolved.push((times, u64::from(count) * 8));
        }
        live.queue.submit(encoded); // all at once: a read-back in between would leave the GPU idle
        let mut ticks: Vec<u64> = Vec::new();
        for (times, bytes) in resolved {
            ticks.extend(bytemuck::pod_collect_to_vec::<u8, u64>(&self.gpu.read_physical(&times, 0, bytes)?.wait()?));
        }
        let period = f64::from(live.queue.get_timestamp_period());
        let first = ticks.first().copied().unwrap_or_default();
        let ns = |from: u64, to: u64| (to.saturating_sub(from) as f64 * period) as u64;
        let time = |(launch, pair): (&Launch, &[u64])| LaunchTime {
            name: launch.name(),
            scope: launch.scope.clone(),
            phase: launch.phase,
            begin: ns(first, pair[0]),
            ns: ns(pair[0], pair[1]),
            work: launch.work(),
        };
        Ok(self.launches.iter().zip(ticks.chunks_exact(2)).map(time).collect())
    }
}
