//! Errors that the driver reports asynchronously, and polling of a device that may be lost.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;

use super::lock::lock;
use crate::error::{Error, Result};

/// The first error since the last [`Fault::check`]. [`Error::DeviceLost`] replaces any other error, and stays.
#[derive(Debug, Default)]
pub(super) struct Fault(Mutex<Option<Error>>);

impl Fault {
    pub fn store(&self, error: Error) {
        let mut slot = lock(&self.0);
        if slot.is_none() || matches!(error, Error::DeviceLost(_)) {
            *slot = Some(error);
        }
    }

    pub fn check(&self) -> Result<()> {
        let mut slot = lock(&self.0);
        match &*slot {
            None => Ok(()),
            Some(lost @ Error::DeviceLost(_)) => Err(lost.clone()),
            Some(_) => slot.take().map_or(Ok(()), Err),
        }
    }

    /// Polls the device, so that it makes progress and calls its callbacks. In a browser the event loop does that, and
    /// this does nothing. wgpu panics if the device is lost while it waits; the panic becomes [`Error::DeviceLost`].
    pub fn poll(&self, device: &wgpu::Device, how: wgpu::PollType) -> Result<()> {
        if cfg!(target_arch = "wasm32") {
            return Ok(());
        }
        match catch_unwind(AssertUnwindSafe(|| device.poll(how))) {
            Ok(Ok(_)) => self.lost(),
            Ok(Err(error)) => Err(Error::DeviceLost(error.to_string())),
            Err(_) => {
                self.store(Error::DeviceLost("wgpu panicked while it waited for the device".into()));
                self.lost()
            }
        }
    }

    /// Returns [`Error::DeviceLost`] if the device is known to be lost. Other errors are left for [`Fault::check`].
    pub fn lost(&self) -> Result<()> {
        match &*lock(&self.0) {
            Some(lost @ Error::DeviceLost(_)) => Err(lost.clone()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_device_stays_lost_and_other_errors_are_told_once() {
        let fault = Fault::default();
        fault.store(Error::Validation("first".into()));
        fault.store(Error::Validation("second".into()));
        assert!(matches!(fault.check(), Err(Error::Validation(text)) if text == "first"));
        assert!(fault.check().is_ok() && fault.lost().is_ok());
        fault.store(Error::OutOfMemory("before".into()));
        fault.store(Error::DeviceLost("reset".into()));
        for _ in 0..2 {
            assert!(matches!(fault.check(), Err(Error::DeviceLost(_))));
            assert!(fault.lost().is_err());
        }
    }
}
