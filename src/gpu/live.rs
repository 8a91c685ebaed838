//! The part of a device that a dry device lacks: wgpu handles, compiled pipelines and memory pools.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::buffer::Physical;
use super::counters::Counters;
use super::disk::Caches;
use super::fault::Fault;
use crate::error::{Error, Result};

/// The wgpu device with its caches and pools.
#[derive(Debug)]
pub(super) struct Live {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub counters: Arc<Counters>,
    pub pipelines: Mutex<HashMap<PipelineKey, Arc<Pipeline>>>,
    /// Compiled pipelines on disk, and the variants that were measured as fastest.
    pub caches: Caches,
    /// Staging buffers that are free for the next read-back.
    pub staging: Arc<Mutex<Vec<Arc<Physical>>>>,
    /// Scratch buffers. All programs of the device share them.
    pub pool: Mutex<Vec<Arc<Physical>>>,
    /// Locked while a program is submitted: programs share `pool`, so their launches must not interleave.
    pub turn: Mutex<()>,
    pub fault: Arc<Fault>,
    /// Run-time checks that naga adds to each shader.
    pub checks: wgpu::ShaderRuntimeChecks,
}

/// A compiled entry point.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub raw: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// Identity of a pipeline: kernel name, whether it is the subgroup variant, values of the constants.
pub(super) type PipelineKey = (&'static str, bool, Vec<u32>);

impl Live {
    pub fn new(device: wgpu::Device, queue: wgpu::Queue, checks: wgpu::ShaderRuntimeChecks) -> Self {
        let fault: Arc<Fault> = Arc::default();
        let sink = fault.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            sink.store(match error {
                wgpu::Error::OutOfMemory { .. } => Error::OutOfMemory("the driver refused an allocation".into()),
                other => Error::Validation(other.to_string()),
            });
        }));
        let sink = fault.clone();
        device.set_device_lost_callback(move |reason, text| {
            // a native device reports `Destroyed` whenever it is dropped, which is no fault; in a browser it means that
            // the device was taken away
            if reason != wgpu::DeviceLostReason::Destroyed || cfg!(target_arch = "wasm32") {
                sink.store(Error::DeviceLost(format!("{reason:?}: {text}")));
            }
        });
        Self {
            device,
            queue,
            counters: Arc::default(),
            pipelines: Mutex::default(),
            caches: Default::default(),
            staging: Arc::default(),
            pool: Mutex::default(),
            turn: Mutex::default(),
            fault,
            checks,
        }
    }

    pub fn check(&self) -> Result<()> {
        self.fault.check()
    }

    pub fn allocate(&self, bytes: u64, label: &str) -> Arc<Physical> {
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_SRC | wgpu::BufferUsages::COPY_DST;
        Physical::new(&self.device, &self.counters, bytes, usage, label)
    }
}
