//! Counts of GPU objects. A test uses them to check that replaying a program creates none.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Totals since the device was opened.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    buffers: AtomicU64,
    pub bind_groups: AtomicU64,
    pub pipelines: AtomicU64,
    pub launches: AtomicU64,
    live_bytes: AtomicU64,
}

/// The totals at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CounterReading {
    /// Buffers created.
    pub buffers: u64,
    /// Bind groups created.
    pub bind_groups: u64,
    /// Pipelines compiled.
    pub pipelines: u64,
    /// Launches submitted by programs.
    pub launches: u64,
    /// Bytes of the buffers that exist now.
    pub live_bytes: u64,
}

impl Counters {
    pub fn buffer_made(&self, bytes: u64) {
        self.buffers.fetch_add(1, Relaxed);
        self.live_bytes.fetch_add(bytes, Relaxed);
    }
    pub fn buffer_freed(&self, bytes: u64) {
        self.live_bytes.fetch_sub(bytes, Relaxed);
    }
    pub fn read(&self) -> CounterReading {
        CounterReading {
            buffers: self.buffers.load(Relaxed),
            bind_groups: self.bind_groups.load(Relaxed),
            pipelines: self.pipelines.load(Relaxed),
            launches: self.launches.load(Relaxed),
            live_bytes: self.live_bytes.load(Relaxed),
        }
    }
}
