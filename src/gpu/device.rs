//! The handle through which everything is launched, written and read.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::adapter::{self, AdapterChoice, Options};
use super::buffer::{Node, Physical, View};
use super::caps::{Caps, Tiers};
#[cfg(feature = "native")]
use super::choices::Choices;
use super::counters::{CounterReading, Counters};
use super::fault::Fault;
use super::kernel::Kernel;
use super::pipeline::{Pipeline, PipelineKey};
#[cfg(feature = "native")]
use super::pipeline_cache::PipelineCache;
use super::program::Program;
use super::record::Recorder;
use super::selftest;
use crate::error::{Error, Result};

/// A device, or the plan of one: [`Gpu::dry`] records and plans without hardware.
#[derive(Debug, Clone)]
pub struct Gpu(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    id: u64,
    pub caps: Caps,
    pub live: Option<Live>,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

thread_local! {
    /// A recording belongs to the thread that makes it: one recorder per device.
    static RECORDERS: RefCell<HashMap<u64, Recorder>> = RefCell::default();
}

impl Inner {
    fn new(caps: Caps, live: Option<Live>) -> Self {
        Self { id: NEXT.fetch_add(1, Ordering::Relaxed), caps, live }
    }

    pub(super) fn recorder<T>(&self, act: impl FnOnce(&mut Recorder) -> T) -> T {
        RECORDERS.with_borrow_mut(|all| act(all.entry(self.id).or_default()))
    }
}

/// What exists only with hardware.
#[derive(Debug)]
pub(super) struct Live {
    pub device: wgpu::Device,
    pub queue: wgpu::Queue,
    pub counters: Arc<Counters>,
    pub pipelines: Mutex<HashMap<PipelineKey, Arc<Pipeline>>>,
    /// Where compiled pipelines are kept beyond the device.
    #[cfg(feature = "native")]
    pub pipeline_cache: Option<PipelineCache>,
    /// What was found fastest.
    #[cfg(feature = "native")]
    pub choices: Choices,
    pub staging: Arc<Mutex<Vec<Arc<Physical>>>>,
    pub pool: Mutex<Vec<Arc<Physical>>>,
    /// Held while a program is submitted: programs share the pool, so their launches must not interleave.
    pub turn: Mutex<()>,
    pub fault: Arc<Fault>,
    /// What is checked while a shader runs.
    pub checks: wgpu::ShaderRuntimeChecks,
}

/// A lock that survives a panicking holder: the data behind it are caches and lists, valid after every statement.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Gpu {
    /// Opens an adapter, tests its tiers and keeps those that compute correctly.
    pub async fn open(options: &Options) -> Result<Self> {
        let candidate = adapter::choose(adapter::candidates().await, &options.adapter)?;
        if candidate.caps.software && options.adapter == AdapterChoice::Auto {
            tracing::warn!("no hardware adapter found: using the CPU ({}), which is slow", candidate.caps.name);
        }
        let offered = if options.portable { Tiers::default() } else { candidate.caps.tiers };
        let mut inner = if cfg!(target_arch = "wasm32") || offered == Tiers::default() {
            // a browser's adapter opens one device only
            let mut inner = connect(&candidate, offered).await?;
            inner.caps.tiers = selftest::passing(&inner, offered).await;
            inner
        } else {
            let passed = trial(&candidate, offered).await;
            let mut inner = connect(&candidate, passed).await?;
            inner.caps.tiers = passed;
            inner
        };
        inner.caps.software = inner.caps.software && !options.as_hardware || options.as_software;
        #[cfg(feature = "native")]
        if let (Some(live), Some(folder)) = (&mut inner.live, &options.cache) {
            live.choices = Choices::open(folder, &inner.caps);
            live.pipeline_cache = candidate.pipeline_cache.then(|| PipelineCache::open(folder, &inner.caps)).flatten();
        }
        Ok(Self(Arc::new(inner)))
    }

    /// [`Gpu::open`] for programs that may block.
    #[cfg(feature = "blocking")]
    pub fn open_blocking(options: &Options) -> Result<Self> {
        super::suspend::block_on(Self::open(options))
    }

    /// The adapters of this machine, best first.
    pub async fn adapters() -> Vec<Caps> {
        adapter::candidates().await.into_iter().map(|c| c.caps).collect()
    }

    /// A device that records and plans but has no memory and runs nothing.
    pub fn dry(caps: Caps) -> Self {
        Self(Arc::new(Inner::new(caps, None)))
    }

    /// Whether this device only plans.
    pub fn is_dry(&self) -> bool {
        self.0.live.is_none()
    }

    /// Identity, limits and tiers.
    pub fn caps(&self) -> &Caps {
        &self.0.caps
    }

    /// How many GPU objects were made so far.
    pub fn counters(&self) -> CounterReading {
        self.0.live.as_ref().map(|l| l.counters.read()).unwrap_or_default()
    }

    pub(super) fn live(&self) -> Result<&Live> {
        self.0.live.as_ref().ok_or_else(|| Error::NoAdapter("this device only plans (dry run)".into()))
    }

    /// The first error the driver reported since the last call, if any.
    pub fn check(&self) -> Result<()> {
        self.live()?.check()
    }

    /// Compiles a variant of a kernel and says what the driver thinks of it.
    ///
    /// # Errors
    /// [`Error::Validation`] with the kernel's name and the driver's words.
    pub async fn compile(&self, kernel: &'static Kernel, subgroup: bool, consts: &[u32]) -> Result<()> {
        let live = self.live()?;
        let scope = live.device.push_error_scope(wgpu::ErrorFilter::Validation);
        super::pipeline::compile(live, kernel, &kernel.wgsl(Tiers { subgroup, ..self.caps().tiers }, consts));
        match scope.pop().await {
            None => self.check(),
            Some(error) => Err(Error::Validation(format!("{}: {error}", kernel.name))),
        }
    }

    /// Takes the device away, as a driver reset would: everything from here on is [`Error::DeviceLost`].
    pub fn destroy(&self) -> Result<()> {
        let live = self.live()?;
        live.device.destroy();
        live.fault.store(Error::DeviceLost("it was destroyed".into()));
        Ok(())
    }

    /// Runs everything launched so far outside of [`Gpu::record`].
    pub fn flush(&self) -> Result<()> {
        let pending = self.0.recorder(|r| std::mem::take(&mut r.eager));
        if pending.launches.is_empty() {
            return Ok(());
        }
        Program::new(self, pending)?.run()
    }

    /// Overwrites a buffer from the host, after everything launched so far. `bytes.len()` must be the view's length.
    /// A device that only plans has nothing to overwrite.
    pub fn write(&self, view: &View, bytes: &[u8]) -> Result<()> {
        if bytes.len() as u64 != view.bytes || !bytes.len().is_multiple_of(4) {
            let expected = format!("{} bytes, a multiple of 4", view.bytes);
            return Err(Error::argument(format!("write to {}", view.node.label), bytes.len(), expected));
        }
        if self.is_dry() {
            return Ok(());
        }
        self.flush()?;
        let buffer = self.materialise(&view.node)?;
        self.live()?.queue.write_buffer(&buffer.raw, view.offset, bytes);
        self.check()
    }

    /// The memory of a buffer that is not program scratch, allocated at first use.
    pub(super) fn materialise(&self, node: &Arc<Node>) -> Result<Arc<Physical>> {
        if let Some(buffer) = node.cell.get() {
            return Ok(buffer.clone());
        }
        let live = self.live()?;
        if node.bytes() > self.0.caps.max_buffer {
            return Err(Error::Limit {
                what: node.label.into(),
                needed: node.bytes(),
                allowed: self.0.caps.max_buffer,
            });
        }
        let buffer = live.allocate(node.bytes(), node.label);
        live.check()?;
        Ok(node.cell.get_or_init(|| buffer).clone())
    }

    /// What was found fastest under this name, if anything was measured.
    #[cfg(feature = "native")]
    pub fn choice(&self, name: &str) -> Option<u32> {
        self.0.live.as_ref().and_then(|live| live.choices.get(name))
    }

    /// In a browser nothing is measured.
    #[cfg(not(feature = "native"))]
    pub fn choice(&self, _name: &str) -> Option<u32> {
        None
    }

    /// Remembers what was found fastest, beyond this process where the device was opened with a folder.
    #[cfg(feature = "native")]
    pub fn choose(&self, found: std::collections::BTreeMap<String, u32>) -> Result<()> {
        self.live()?.choices.extend(found);
        Ok(())
    }

    /// Waits until the device has finished everything submitted.
    #[cfg(feature = "native")]
    pub fn wait(&self) -> Result<()> {
        let live = self.live()?;
        live.fault.poll(&live.device, wgpu::PollType::wait_indefinitely())?;
        live.check()
    }
}

/// Opens a device with the features of `tiers`, none of them in use yet.
async fn connect(candidate: &adapter::Candidate, tiers: Tiers) -> Result<Inner> {
    let mut features = wgpu::Features::empty();
    features.set(wgpu::Features::TIMESTAMP_QUERY, candidate.caps.timestamps);
    features.set(wgpu::Features::PIPELINE_CACHE, candidate.pipeline_cache);
    features.set(wgpu::Features::SUBGROUP, tiers.subgroup);
    features.set(wgpu::Features::SHADER_F16, tiers.f16 || tiers.coop); // fragments are of f16
    features.set(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX, tiers.coop);
    // SAFETY: experimental features may misbehave; they are used only after their self-test on another device.
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

/// Our loops are counted and need no other end. Where Vulkan keeps buffers from being read and written out of bounds, arrays
/// in registers and workgroup memory are not checked besides: their indices follow from constants.
fn checks(adapter: &wgpu::Adapter) -> wgpu::ShaderRuntimeChecks {
    let bounds_checks = adapter.get_info().backend != wgpu::Backend::Vulkan;
    wgpu::ShaderRuntimeChecks { bounds_checks, force_loop_bounding: false, ..wgpu::ShaderRuntimeChecks::checked() }
}

/// Everything the adapter has; in a browser the defaults of WebGPU and its sizes of buffers.
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

/// The tiers that compute correctly on a device that is thrown away: one that breaks its device costs no more than that.
async fn trial(candidate: &adapter::Candidate, offered: Tiers) -> Tiers {
    match connect(candidate, offered).await {
        Ok(device) => selftest::passing(&device, offered).await,
        Err(e) => {
            tracing::warn!("the tiers {offered} are off: {e}");
            Tiers::default()
        }
    }
}

impl Live {
    fn new(device: wgpu::Device, queue: wgpu::Queue, checks: wgpu::ShaderRuntimeChecks) -> Self {
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
            #[cfg(feature = "native")]
            pipeline_cache: None,
            #[cfg(feature = "native")]
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
