//! What a device holds that exists only with hardware.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use super::buffer::Physical;
use super::counters::Counters;
use super::fault::Fault;
#[cfg(feature = "files")]
use super::pipeline_cache::PipelineCache;
#[cfg(feature = "files")]
use super::tuning_cache::Choices;
use crate::error::{Error, Result};

/// What exists only with hardware.
#[derive(Debug)]
pub(super) struct Live {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub counters: Arc<Counters>,
    pub pipelines: Mutex<HashMap<PipelineKey, Arc<Pipeline>>>,
    /// Where compiled pipelines are kept beyond the device.
    #[cfg(feature = "files")]
    pub pipeline_cache: Option<PipelineCache>,
    /// What was found fastest.
    #[cfg(feature = "files")]
    pub choices: Choices,
    pub staging: Arc<Mutex<Vec<Arc<Physical>>>>,
    pub pool: Mutex<Vec<Arc<Physical>>>,
    /// Held while a program is submitted: programs share the pool, so their launches must not interleave.
    pub turn: Mutex<()>,
    pub fault: Arc<Fault>,
    /// What is checked while a shader runs.
    pub checks: wgpu::ShaderRuntimeChecks,
}

/// A compiled entry point.
#[derive(Debug)]
pub(super) struct Pipeline {
    pub raw: wgpu::ComputePipeline,
    pub layout: wgpu::BindGroupLayout,
}

/// What tells two pipelines apart: name, whether it is the subgroup variant, constants.
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
            // a native device says so when it is dropped; in a browser somebody has taken it away
            if reason != wgpu::DeviceLostReason::Destroyed || cfg!(target_arch = "wasm32") {
                sink.store(Error::DeviceLost(format!("{reason:?}: {text}")));
            }
        });
        Self {
            device,
            queue,
            counters: Arc::default(),
            pipelines: Mutex::default(),
            #[cfg(feature = "files")]
            pipeline_cache: None,
            #[cfg(feature = "files")]
            choices: Choices::default(),
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
