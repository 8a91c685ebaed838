//! A device that computes nothing.

use std::sync::Arc;

use super::caps::{Caps, Tiers};
use super::device::{Gpu, Inner};
use super::live::Live;

impl Gpu {
    /// A device that takes all work and computes nothing: wgpu's backend `noop`. It shows what the host does to submit
    /// a program. Buffers take main memory, and tiers are off.
    pub fn noop(caps: Caps) -> Self {
        let descriptor =
            wgpu::DeviceDescriptor { required_limits: wgpu::Limits::unlimited(), ..wgpu::DeviceDescriptor::default() };
        let (device, queue) = wgpu::Device::noop(&descriptor);
        let live = Live::new(device, queue, wgpu::ShaderRuntimeChecks::checked());
        Self(Arc::new(Inner::new(Caps { tiers: Tiers::default(), ..caps }, Some(live))))
    }
}
