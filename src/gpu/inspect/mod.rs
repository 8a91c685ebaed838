//! Inspecting a program: the time of each launch, and the first NaN or infinity. These functions block until the GPU is
//! done, so a browser does not have them.

mod not_finite;
mod profile;

pub use not_finite::NotFinite;
pub use profile::LaunchTime;

use crate::error::Result;
use crate::gpu::device::Gpu;

impl Gpu {
    /// Blocks until the device has finished all submitted work: `torch.cuda.synchronize()`.
    pub fn wait(&self) -> Result<()> {
        let live = self.live()?;
        live.fault.poll(&live.device, wgpu::PollType::wait_indefinitely())?;
        live.check()
    }
}
