//! Transfers between host and GPU. A read-back does not stall the GPU: it copies into a staging buffer (pinned memory
//! in CUDA) and is a future that resolves when that buffer is mapped.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use super::buffer::{Physical, View};
use super::device::Gpu;
use super::fault::Fault;
use super::live::Live;
use super::lock::lock;
use crate::error::{Error, Result};

/// Largest staging buffer, in bytes, that is kept for the next read-back.
const POOLED: u64 = 1 << 20;

#[derive(Debug, Default)]
struct Mapped {
    outcome: Option<Result<(), wgpu::BufferAsyncError>>,
    waker: Option<Waker>,
}

/// A read-back in progress: await it, poll it with [`Readback::try_take`], or block on it with [`Readback::wait`]. Its
/// bytes can be taken once.
#[derive(Debug)]
pub struct Readback {
    staging: Option<Arc<Physical>>,
    pool: Arc<Mutex<Vec<Arc<Physical>>>>,
    bytes: u64,
    /// Largest staging buffer that is kept afterwards.
    keeps: u64,
    mapped: Arc<Mutex<Mapped>>,
    device: wgpu::Device,
    submission: Option<wgpu::SubmissionIndex>,
    fault: Arc<Fault>,
}

impl Gpu {
    /// Overwrites the range of a view with bytes from the host. This takes effect after all programs that were run
    /// before. On a dry device it does nothing.
    ///
    /// # Errors
    /// If `bytes` is not as long as the view, or not a multiple of 4 long.
    pub fn write(&self, view: &View, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 != view.bytes || !bytes.len().is_multiple_of(4) {
            let expected = format!("{} bytes, a multiple of 4", view.bytes);
            return Err(Error::argument(format!("write to {}", view.node.label), bytes.len(), expected));
        }
        if self.is_dry() {
            return Ok(());
        }
        let buffer = self.materialize(&view.node)?;
        self.live()?.queue.write_buffer(&buffer.raw, view.offset, bytes);
        self.check()
    }

    /// Starts copying a view to the host, after all programs that were run before.
    ///
    /// # Errors
    /// If the view is scratch that no program has written.
    pub fn read(&self, view: &View) -> Result<Readback> {
        let Some(buffer) = view.node.cell.get().cloned() else {
            if view.node.class == super::buffer::Class::Scratch {
                return Err(Error::argument(
                    format!("read of {}", view.node.label),
                    "a tensor that no program has written",
                    "one that was: `Recorder::run` runs what was recorded",
                ));
            }
            let buffer = self.materialize(&view.node)?;
            return self.read_physical(&buffer, view.offset, view.bytes);
        };
        self.read_physical(&buffer, view.offset, view.bytes)
    }

    /// [`Gpu::read`] for a large range that is read in every step: its staging buffer is kept, whatever its size.
    ///
    /// # Errors
    /// As for [`Gpu::read`].
    pub fn read_often(&self, view: &View) -> Result<Readback> {
        Ok(Readback { keeps: u64::MAX, ..self.read(view)? })
    }

    pub(super) fn read_physical(&self, buffer: &Physical, offset: u64, bytes: u64) -> Result<Readback> {
        let readback = self.live()?.start_read(&buffer.raw, offset, bytes);
        self.check()?;
        Ok(readback)
    }
}

impl Live {
    pub(super) fn start_read(&self, buffer: &wgpu::Buffer, offset: u64, bytes: u64) -> Readback {
        let size = bytes.next_multiple_of(4);
        let staging = self.staging(size);
        let mut encoder = self.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        encoder.copy_buffer_to_buffer(buffer, offset, &staging.raw, 0, size);
        let submission = Some(self.queue.submit([encoder.finish()]));
        let mapped: Arc<Mutex<Mapped>> = Arc::default();
        let sink = mapped.clone();
        staging.raw.slice(..size).map_async(wgpu::MapMode::Read, move |outcome| {
            let mut state = lock(&sink);
            state.outcome = Some(outcome);
            if let Some(waker) = state.waker.take() {
                waker.wake();
            }
        });
        Readback {
            staging: Some(staging),
            pool: self.staging.clone(),
            bytes,
            keeps: POOLED,
            mapped,
            device: self.device.clone(),
            submission,
            fault: self.fault.clone(),
        }
    }

    /// A staging buffer of at least `size` bytes: the smallest in the pool that fits, or a new one.
    fn staging(&self, size: u64) -> Arc<Physical> {
        let mut pool = lock(&self.staging);
        let fitting = pool.iter().enumerate().filter(|(_, b)| b.raw.size() >= size);
        if let Some((at, _)) = fitting.min_by_key(|(_, b)| b.raw.size()) {
            return pool.swap_remove(at);
        }
        let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        Physical::new(&self.device, &self.counters, size, usage, "staging")
    }
}

impl Readback {
    fn collect(&mut self) -> Result<Vec<u8>> {
        self.with_mapped(<[u8]>::to_vec)
    }

    fn with_mapped<T>(&mut self, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
        let Some(staging) = self.staging.take() else {
            return Err(Error::Internal("the bytes of a `Readback` were taken twice".into()));
        };
        let range = staging.raw.slice(..self.bytes.next_multiple_of(4)).get_mapped_range();
        let range = range.map_err(|e| Error::Validation(e.to_string()))?;
        let found = read(&range[..self.bytes as usize]);
        drop(range);
        staging.raw.unmap();
        // large staging buffers are rare (checkpoints), so they are freed instead of kept
        if staging.raw.size() <= self.keeps {
            lock(&self.pool).push(staging);
        }
        Ok(found)
    }

    /// The bytes, or `None` if they have not arrived yet. Never blocks.
    ///
    /// # Errors
    /// If the device is lost, or the driver reported an error.
    pub fn try_take(&mut self) -> Option<Result<Vec<u8>>> {
        self.try_arrived().map(|arrived| arrived.and_then(|()| self.collect()))
    }

    /// Whether the bytes have arrived, or will not.
    fn try_arrived(&mut self) -> Option<Result<()>> {
        let polled = self.fault.poll(&self.device, wgpu::PollType::Poll);
        let Some(outcome) = lock(&self.mapped).outcome.take() else {
            return polled.err().map(Err);
        };
        // a browser reports errors later than it accepts work; those of all earlier work have arrived by now
        let outcome = outcome.map_err(|e| Error::DeviceLost(e.to_string())).and_then(|()| self.fault.check());
        Some(outcome)
    }

    /// Blocks until the copy is done. Does not wait for work that was submitted after it.
    fn wait_for_copy(&self) -> Result<()> {
        let how = wgpu::PollType::Wait { submission_index: self.submission.clone(), timeout: None };
        self.fault.poll(&self.device, how)
    }

    /// Blocks until the bytes have arrived.
    #[cfg(all(feature = "blocking", target_arch = "wasm32"))]
    pub fn wait(self) -> Result<Vec<u8>> {
        super::block_on::block_on(self)
    }

    /// Blocks until the bytes have arrived.
    #[cfg(all(feature = "blocking", not(target_arch = "wasm32")))]
    pub fn wait(self) -> Result<Vec<u8>> {
        self.wait_mapped(<[u8]>::to_vec)
    }

    /// Blocks until the bytes have arrived, and reads them where they are.
    ///
    /// # Errors
    /// If the device is lost, or the driver reported an error.
    #[cfg(all(feature = "blocking", not(target_arch = "wasm32")))]
    pub fn wait_mapped<T>(mut self, read: impl FnOnce(&[u8]) -> T) -> Result<T> {
        // another thread's poll may have received the outcome of this copy and not yet have called our callback
        for _ in 0..10_000 {
            if let Some(arrived) = self.try_arrived() {
                arrived?;
                return self.with_mapped(read);
            }
            self.wait_for_copy()?;
            if let Some(arrived) = self.try_arrived() {
                arrived?;
                return self.with_mapped(read);
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        Err(Error::DeviceLost("the read-back never completed".into()))
    }
}

impl Future for Readback {
    type Output = Result<Vec<u8>>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if let Some(done) = self.try_take() {
            return Poll::Ready(done);
        }
        if !cfg!(target_arch = "wasm32") {
            // a native device makes progress only when it is polled, so this call blocks until the copy is done
            if let Err(lost) = self.wait_for_copy() {
                return Poll::Ready(Err(lost));
            }
            if let Some(done) = self.try_take() {
                return Poll::Ready(done);
            }
        }
        let mut state = lock(&self.mapped);
        match state.outcome {
            Some(_) => context.waker().wake_by_ref(),
            None => state.waker = Some(context.waker().clone()),
        }
        Poll::Pending
    }
}
