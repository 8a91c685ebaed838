//! The device handle: PyTorch's `torch.device`, but passed explicitly.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::buffer::{Class, Node, Physical, View};
use super::caps::Caps;
use super::counters::CounterReading;
use super::live::Live;
use crate::error::{Error, Result};

/// A device. One from [`Gpu::open`] runs programs; one from [`Gpu::dry`] records and plans without hardware. Clones
/// share the device.
#[derive(Debug, Clone)]
pub struct Gpu(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub caps: Caps,
    pub live: Option<Live>,
    /// A small buffer to bind in place of an absent operand: WGSL has no optional buffers.
    pub absent: View,
}

impl Inner {
    pub fn new(caps: Caps, live: Option<Live>) -> Self {
        let absent = View::new(Class::Input, "absent", View::QUAD);
        Self { caps, live, absent }
    }
}

impl Gpu {
    /// A device that records and plans, but has no memory and runs nothing: PyTorch's `device="meta"`.
    pub fn dry(caps: Caps) -> Self {
        Self(Arc::new(Inner::new(caps, None)))
    }

    /// Whether this device was made by [`Gpu::dry`].
    pub fn is_dry(&self) -> bool {
        self.0.live.is_none()
    }

    /// Identity, limits and tiers.
    pub fn caps(&self) -> &Caps {
        &self.0.caps
    }

    /// Counts of the GPU objects created so far; all 0 for a dry device.
    pub fn counters(&self) -> CounterReading {
        self.0.live.as_ref().map(|l| l.counters.read()).unwrap_or_default()
    }

    pub(super) fn live(&self) -> Result<&Live> {
        let dry = "this device was made by `Gpu::dry`, which records and plans but runs nothing; use `Gpu::open`";
        self.0.live.as_ref().ok_or_else(|| Error::NoAdapter(dry.into()))
    }

    /// Returns the first error that the driver reported since the last call, if there is one.
    pub fn check(&self) -> Result<()> {
        self.live()?.check()
    }

    /// Destroys the device, as a driver reset would. Every later use of it returns [`Error::DeviceLost`].
    #[doc(hidden)]
    pub fn destroy(&self) -> Result<()> {
        let live = self.live()?;
        live.device.destroy();
        live.fault.store(Error::DeviceLost("`Gpu::destroy` destroyed it".into()));
        Ok(())
    }

    /// The physical buffer of a node. It is allocated at the first call, unless it exists already. Scratch that lives
    /// only inside a program has none of its own: the program assigns it a slot.
    pub(super) fn materialize(&self, node: &Arc<Node>) -> Result<Arc<Physical>> {
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

    /// The variant that was measured as fastest under this name. Always `None` in a browser, where nothing is measured.
    pub fn choice(&self, name: &str) -> Option<u32> {
        self.0.live.as_ref().and_then(|live| live.caches.choice(name))
    }

    /// All variants that were measured as fastest, by name.
    pub fn choices(&self) -> BTreeMap<String, u32> {
        self.0.live.as_ref().map(|live| live.caches.choices()).unwrap_or_default()
    }

    /// Stores the variants that were measured as fastest. If the device was opened with [`super::Options::cache`], they
    /// are also written there for later processes.
    pub fn choose(&self, found: BTreeMap<String, u32>) -> Result<()> {
        self.live()?.caches.choose(found);
        Ok(())
    }
}
