//! Opening a device: choosing the adapter, requesting its features, and keeping the tiers that pass their self-test.

use std::sync::Arc;

use super::adapter;
use super::adapter::{AdapterChoice, Candidate, Options};
use super::caps::{Caps, Tiers};
use super::device::{Gpu, Inner};
use super::disk::Caches;
use super::live::Live;
use super::llvmpipe;
use super::selftest::{self, Passed};
use crate::error::{Error, Result};

impl Gpu {
    /// Opens a device on the adapter that `options` chooses. Tiers that fail their self-test are off, with a warning.
    ///
    /// # Errors
    /// [`Error::NoAdapter`] if no adapter matches `options`, or if the driver does not open it.
    pub async fn open(options: &Options) -> Result<Self> {
        let candidates = adapter::choose(adapter::candidates().await, &options.adapter)?;
        first_that_opens(candidates, |candidate| Self::open_on(candidate, options)).await
    }

    async fn open_on(candidate: Candidate, options: &Options) -> Result<Self> {
        if candidate.caps.software && options.adapter == AdapterChoice::Auto {
            tracing::warn!("no hardware adapter found: using the CPU ({}), which is slow", candidate.caps.name);
        }
        if let Some(warning) = candidate.warning {
            tracing::warn!("{}: {warning}", candidate.caps.name);
        }
        if let Some(advice) = llvmpipe::newer_mesa(&candidate.caps.driver) {
            tracing::warn!("{advice}");
        }
        let offered = if options.portable { Tiers::default() } else { candidate.caps.tiers };
        let mut inner = if cfg!(target_arch = "wasm32") || offered == Tiers::default() {
            // an adapter of a browser opens only one device, so the self-test cannot have a device of its own
            let mut inner = connect(&candidate, offered).await?;
            let passed = selftest::passing(&inner, offered).await;
            inner.caps = Caps { tiers: passed.tiers, coop_lanes: passed.coop_lanes, ..inner.caps };
            inner
        } else {
            let passed = trial(&candidate, offered).await;
            let mut inner = connect(&candidate, passed.tiers).await?;
            inner.caps = Caps { tiers: passed.tiers, coop_lanes: passed.coop_lanes, ..inner.caps };
            inner
        };
        inner.caps.nearest = !options.portable && selftest::nearest_halves(&inner).await;
        inner.caps.software = inner.caps.software && !options.as_hardware || options.as_software;
        if let Some(live) = &mut inner.live {
            live.caches = Caches::open(options.cache.as_deref(), &inner.caps, candidate.pipeline_cache);
        }
        Ok(Self(Arc::new(inner)))
    }

    /// [`Gpu::open`] that blocks instead of being awaited.
    #[cfg(feature = "blocking")]
    pub fn open_blocking(options: &Options) -> Result<Self> {
        super::block_on::block_on(Self::open(options))
    }

    /// Number of this machine's adapters of the best kind, which several processes take in turn.
    pub async fn count_best() -> usize {
        adapter::count_best().await
    }

    /// The capabilities of this machine's adapters, best first. No device is opened, so tiers are untested.
    pub async fn adapters() -> Vec<Caps> {
        adapter::candidates().await.into_iter().map(|c| c.caps).collect()
    }
}

/// What `open` makes of the first candidate that it can open. The others before it are named in warnings.
///
/// # Errors
/// The error of the last candidate, if none opens.
async fn first_that_opens<C, T, F: Future<Output = Result<T>>>(candidates: Vec<C>, open: impl Fn(C) -> F) -> Result<T> {
    let mut last = None;
    for candidate in candidates {
        if let Some(error) = last.take() {
            tracing::warn!("{error}; trying the next adapter");
        }
        match open(candidate).await {
            Ok(opened) => return Ok(opened),
            Err(error) => last = Some(error),
        }
    }
    Err(last.unwrap_or_else(|| Error::NoAdapter("there is none".into())))
}

/// Opens a device with the features that `tiers` needs. Its own `caps.tiers` are empty: the caller sets those that
/// passed.
async fn connect(candidate: &Candidate, tiers: Tiers) -> Result<Inner> {
    let mut features = wgpu::Features::empty();
    features.set(wgpu::Features::TIMESTAMP_QUERY, candidate.caps.timestamps);
    features.set(wgpu::Features::PIPELINE_CACHE, candidate.pipeline_cache);
    features.set(wgpu::Features::SUBGROUP, tiers.subgroup);
    features.set(wgpu::Features::SHADER_F16, tiers.coop); // the operands are f16
    features.set(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, tiers.coop);
    // SAFETY: experimental features may misbehave. They are used only after their self-test on another device.
    let experimental = unsafe { wgpu::ExperimentalFeatures::enabled() };
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("rowscan"),
        required_features: features,
        required_limits: limits(&candidate.adapter),
        experimental_features: if tiers.coop { experimental } else { wgpu::ExperimentalFeatures::disabled() },
        memory_hints: wgpu::MemoryHints::Performance,
        trace: wgpu::Trace::Off,
    };
    let opened = candidate.adapter.request_device(&descriptor).await;
    let (device, queue) = opened.map_err(|e| Error::NoAdapter(format!("{}: {e}", candidate.caps.name)))?;
    let caps = Caps { tiers: Tiers::default(), ..candidate.caps.clone() };
    Ok(Inner::new(caps, Some(Live::new(device, queue, checks(&candidate.adapter)))))
}

/// Run-time checks that naga adds to the shaders. Loops get none: every loop of our shaders has a bound. Bounds checks
/// are off on Vulkan: robust buffer access guards storage buffers there, and arrays in registers and workgroup memory
/// are indexed within constants. On other backends they are on.
fn checks(adapter: &wgpu::Adapter) -> wgpu::ShaderRuntimeChecks {
    let bounds_checks = adapter.get_info().backend != wgpu::Backend::Vulkan;
    wgpu::ShaderRuntimeChecks { bounds_checks, force_loop_bounding: false, ..wgpu::ShaderRuntimeChecks::checked() }
}

/// Limits to request: all that the adapter offers. In a browser, WebGPU's defaults with the adapter's buffer sizes.
fn limits(adapter: &wgpu::Adapter) -> wgpu::Limits {
    let all = adapter.limits();
    if !cfg!(target_arch = "wasm32") {
        return all;
    }
    wgpu::Limits {
        max_buffer_size: all.max_buffer_size,
        max_storage_buffer_binding_size: all.max_storage_buffer_binding_size,
        ..wgpu::Limits::default()
    }
}

/// The tiers of `offered` that pass their self-test. It runs on a device that is dropped afterwards, so a tier that
/// breaks the device breaks only that one.
async fn trial(candidate: &Candidate, offered: Tiers) -> Passed {
    match connect(candidate, offered).await {
        Ok(device) => selftest::passing(&device, offered).await,
        Err(e) => {
            tracing::warn!("the tiers {offered} are off: {e}");
            Passed::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Candidates that are numbers; odd ones cannot be opened.
    fn open(candidates: &[u32]) -> Result<u32> {
        let attempt =
            |n: u32| std::future::ready(if n.is_multiple_of(2) { Ok(n) } else { Err(Error::NoAdapter(n.to_string())) });
        let mut future = std::pin::pin!(first_that_opens(candidates.to_vec(), attempt));
        match future.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())) {
            std::task::Poll::Ready(opened) => opened,
            std::task::Poll::Pending => panic!("nothing waits here"),
        }
    }

    #[test]
    fn an_adapter_that_does_not_open_is_passed_over() {
        assert!(matches!(open(&[2, 4]), Ok(2)));
        assert!(matches!(open(&[1, 3, 6, 8]), Ok(6)));
        assert!(matches!(open(&[1, 3]), Err(Error::NoAdapter(of)) if of == "3"));
        assert!(open(&[]).is_err());
    }
}
