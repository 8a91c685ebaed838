//! The handle through which everything is launched, written and read.

use std::sync::Arc;

use super::buffer::{Class, Node, Physical, View};
use super::caps::Caps;
use super::counters::CounterReading;
use super::live::Live;
use crate::error::{Error, Result};

/// A device, or the plan of one: [`Gpu::dry`] records and plans without hardware.
#[derive(Debug, Clone)]
pub struct Gpu(pub(super) Arc<Inner>);

#[derive(Debug)]
pub(super) struct Inner {
    pub caps: Caps,
    pub live: Option<Live>,
    /// Bound where an operand is absent: WGSL has no optional buffers.
    pub absent: View,
}

impl Inner {
    pub fn new(caps: Caps, live: Option<Live>) -> Self {
        let absent = View::new(Class::Input, "absent", View::QUAD);
        Self { caps, live, absent }
    }
}

impl Gpu {
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

    /// Takes the device away, as a driver reset would: everything from here on is [`Error::DeviceLost`].
    pub fn destroy(&self) -> Result<()> {
        let live = self.live()?;
        live.device.destroy();
        live.fault.store(Error::DeviceLost("it was destroyed".into()));
        Ok(())
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
    #[cfg(feature = "files")]
    pub fn choice(&self, name: &str) -> Option<u32> {
        self.0.live.as_ref().and_then(|live| live.choices.get(name))
    }

    /// In a browser nothing is measured.
    #[cfg(not(feature = "files"))]
    pub fn choice(&self, _name: &str) -> Option<u32> {
        None
    }

    /// Remembers what was found fastest, beyond this process where the device was opened with a folder.
    #[cfg(feature = "files")]
    pub fn choose(&self, found: std::collections::BTreeMap<String, u32>) -> Result<()> {
        self.live()?.choices.extend(found);
        Ok(())
    }

    /// Waits until the device has finished everything submitted.
    #[cfg(feature = "files")]
    pub fn wait(&self) -> Result<()> {
        let live = self.live()?;
        live.fault.poll(&live.device, wgpu::PollType::wait_indefinitely())?;
        live.check()
    }
}
