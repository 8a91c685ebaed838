//! Compiled kernels. A pipeline is compiled when the first program that needs it is made, in parallel with the other
//! new ones, and kept as long as the device.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::caps::{Caps, Tiers};
use super::device::Gpu;
use super::disk::{each, shader};
use super::kernel::{Bind, Kernel};
use super::live::{Live, Pipeline, PipelineKey};
use super::lock::lock;
use super::record::Launch;
use crate::error::{Error, Result};

fn key(launch: &Launch, tiers: Tiers) -> PipelineKey {
    (launch.kernel.name, tiers.subgroup && launch.kernel.subgroup.is_some(), launch.consts.clone())
}

/// The pipeline of each launch. Pipelines that do not exist yet are compiled in parallel, on all cores.
pub(super) fn pipelines(live: &Live, launches: &[Launch], caps: &Caps) -> Result<Vec<Arc<Pipeline>>> {
    let mut missing: HashMap<PipelineKey, &'static Kernel> = HashMap::new();
    {
        let ready = lock(&live.pipelines);
        let new = launches.iter().map(|l| (key(l, caps.tiers), l.kernel)).filter(|(key, _)| !ready.contains_key(key));
        missing.extend(new);
    }
    let missing: Vec<(PipelineKey, &Kernel)> = missing.into_iter().collect();
    let compiled = AtomicUsize::new(0);
    let built = each(&missing, |((_, _, consts), kernel)| {
        let pipeline = compile(live, kernel, &kernel.wgsl(caps.tiers, caps.nearest, consts));
        let done = compiled.fetch_add(1, Ordering::Relaxed) + 1;
        tracing::debug!(done, all = missing.len(), kernel = kernel.name, "compiled"); // the program shows a bar of it
        Arc::new(pipeline)
    });
    live.counters.pipelines.fetch_add(missing.len() as u64, Ordering::Relaxed);
    live.check()?; // the driver's message contains the label, which is the kernel's name
    let mut ready = lock(&live.pipelines);
    ready.extend(missing.into_iter().map(|(key, _)| key).zip(built));
    Ok(launches.iter().filter_map(|launch| ready.get(&key(launch, caps.tiers)).cloned()).collect())
}

/// Compiles an entry point, or loads it from the cache on disk.
pub(super) fn compile(live: &Live, kernel: &Kernel, source: &str) -> Pipeline {
    let device = &live.device;
    let label = Some(kernel.name);
    let module = wgpu::ShaderModuleDescriptor { label, source: shader(source) };
    // SAFETY: the shaders are ours. Every loop ends, and no index needs the checks that `live.checks` leaves out.
    let module = unsafe { device.create_shader_module_trusted(module, live.checks) };
    let entry = |binding, ty| wgpu::BindGroupLayoutEntry {
        binding,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer { ty, has_dynamic_offset: false, min_binding_size: None },
        count: None,
    };
    let storage = |bind: &Bind| entry(bind.number, wgpu::BufferBindingType::Storage { read_only: !bind.writes() });
    let entries: Vec<_> =
        std::iter::once(entry(0, wgpu::BufferBindingType::Uniform)).chain(kernel.binds.iter().map(storage)).collect();
    let layout = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor { label, entries: &entries });
    let pipeline_layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
        label,
        bind_group_layouts: &[Some(&layout)],
        immediate_size: 0,
    });
    let pipeline = |cache| {
        device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
            label,
            layout: Some(&pipeline_layout),
            module: &module,
            entry_point: Some(kernel.entry()),
            compilation_options: wgpu::PipelineCompilationOptions {
                zero_initialize_workgroup_memory: false,
                ..Default::default()
            },
            cache,
        })
    };
    if live.caches.keeps_pipelines() {
        let data = live.caches.pipeline(kernel.name, source);
        let descriptor = wgpu::PipelineCacheDescriptor { label, data: data.as_deref(), fallback: true };
        // SAFETY: `data` came from `get_data` for this adapter, driver and source: `load` compared identity and
        // checksum.
        let cache = unsafe { device.create_pipeline_cache(&descriptor) };
        let raw = pipeline(Some(&cache));
        if let Some(new) = cache.get_data().filter(|_| data.is_none()) {
            live.caches.keep_pipeline(kernel.name, source, &new);
        }
        return Pipeline { raw, layout };
    }
    Pipeline { raw: pipeline(None), layout }
}

impl Gpu {
    /// Compiles a variant of a kernel, only to see whether the driver accepts it. `consts` are the values of the
    /// kernel's constants, in order.
    ///
    /// # Errors
    /// [`Error::Validation`] with the kernel's name and the driver's message.
    pub async fn compile(&self, kernel: &'static Kernel, subgroup: bool, consts: &[u32]) -> Result<()> {
        let live = self.live()?;
        let scope = live.device.push_error_scope(wgpu::ErrorFilter::Validation);
        compile(live, kernel, &kernel.wgsl(Tiers { subgroup, ..self.caps().tiers }, self.caps().nearest, consts));
        match scope.pop().await {
            None => self.check(),
            Some(error) => Err(Error::Validation(format!("{}: {error}", kernel.name))),
        }
    }
}
