//! Finding the first launch of a program that writes NaN or infinity, like PyTorch's `detect_anomaly`.

use std::fmt;
use std::sync::Arc;

use crate::error::Result;
use crate::gpu::buffer::{Physical, View};
use crate::gpu::dtype::DType;
use crate::gpu::kernel::{Bind, Element};
use crate::gpu::lock::lock;
use crate::gpu::program::{Program, dispatch};
use crate::gpu::record::{Launch, Phase};

/// The first NaN or infinity of a replay.
#[derive(Debug, Clone)]
pub struct NotFinite {
    /// `family.entry` of the kernel that wrote it.
    pub kernel: &'static str,
    /// Name of the module that launched the kernel.
    pub scope: Arc<str>,
    /// Part of the training step that the launch belongs to.
    pub phase: Phase,
    /// Label of the tensor.
    pub label: &'static str,
    /// Index of the element in the tensor.
    pub index: usize,
    /// The value: NaN or an infinity.
    pub value: f32,
}

impl fmt::Display for NotFinite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { kernel, scope, phase, label, index, value } = self;
        let pass = if *phase == Phase::Forward { "forward" } else { "backward" };
        let module = if scope.is_empty() { "outside of all layers" } else { scope };
        write!(f, "`{label}` of {module} ({pass}, written by {kernel}): element {index} is {value}")
    }
}

impl Launch {
    /// Number of bytes at the start of an argument that are f16. The rest is f32, if the binding has floats.
    fn f16_bytes(&self, bind: Bind, view: &View) -> usize {
        match bind.element {
            Element::F16Until(constant, scalar) if self.choice().get(constant) == 1 => {
                let at = self.kernel.params.iter().find(|(name, ..)| *name == scalar).map_or(0, |(_, at, _)| *at);
                let word = self.params.get(at..at + 4).map_or(0, bytemuck::pod_read_unaligned::<u32>);
                word as usize * 4
            }
            _ if view.dtype == DType::F16 => view.bytes as usize,
            _ => 0,
        }
    }
}

impl Program {
    /// The physical buffer of a launch's argument.
    fn physical<'a>(&'a self, view: &'a View) -> Option<&'a Arc<Physical>> {
        let slot = self.plan.slot_of.get(&view.node.id).map(|&slot| &self._slots[slot]);
        slot.or_else(|| view.node.cell.get())
    }

    /// Runs once, launch by launch, and reads back what each one wrote, until one has written NaN or infinity. Slow:
    /// meant for finding the cause after a loss has become NaN. Calls `after` as [`Program::run_in_parts`] does.
    ///
    /// # Errors
    /// Those of `after`.
    pub fn find_not_finite(&self, mut after: impl FnMut(u32) -> Result<()>) -> Result<Option<NotFinite>> {
        let live = self.gpu.live()?;
        let mut before = None;
        for ((pipeline, group), launch) in self.ready.iter().zip(&self.launches) {
            if let Some(done) = before.replace(launch.part).filter(|done| *done != launch.part) {
                after(done)?;
            }
            let written: Vec<_> = launch.args.iter().zip(launch.kernel.binds).filter(|(_, b)| b.writes()).collect();
            {
                let _turn = lock(&live.turn);
                let mut encoder = live.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                for (view, bind) in &written {
                    // a kernel need not write elements that are never read; other tensors may have left a NaN there
                    if let (false, Some(physical)) = (bind.reads(), self.physical(view)) {
                        encoder.clear_buffer(&physical.raw, view.offset, Some(view.bytes.next_multiple_of(4)));
                    }
                }
                let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
                dispatch(&mut pass, pipeline, group, launch);
                drop(pass);
                live.queue.submit([encoder.finish()]);
            }
            for (view, bind) in written {
                let Some(physical) = self.physical(view).filter(|_| bind.element.has_floats()) else { continue };
                let bytes = self.gpu.read_physical(physical, view.offset, view.bytes)?.wait()?;
                let halves = launch.f16_bytes(*bind, view);
                if let Some((index, value)) = first_not_finite(&bytes, halves) {
                    let (kernel, scope, phase, label) =
                        (launch.name(), launch.scope.clone(), launch.phase, view.node.label);
                    return Ok(Some(NotFinite { kernel, scope, phase, label, index, value }));
                }
            }
        }
        Ok(None)
    }
}

/// Index and value of the first NaN or infinity. The first `halves` bytes hold f16 and the others f32.
fn first_not_finite(bytes: &[u8], halves: usize) -> Option<(usize, f32)> {
    let (halves, rest) = bytes.split_at(halves.min(bytes.len()));
    let halves = halves.as_chunks::<2>().0.iter().map(|b| half::f16::from_le_bytes(*b).to_f32());
    let floats = rest.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
    halves.chain(floats).enumerate().find(|(_, value)| !value.is_finite())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f16_and_f32_are_looked_at_as_what_they_are() {
        let halves = [1.0, 65504.0].map(half::f16::from_f32).map(half::f16::to_le_bytes).concat();
        let floats = [2.0f32, f32::NAN].map(f32::to_le_bytes).concat();
        let both = [halves.clone(), floats].concat();
        assert_eq!(first_not_finite(&both, 4).map(|found| found.0), Some(3));
        assert_eq!(first_not_finite(&both[..8], 4), None);
        let large = half::f16::INFINITY.to_le_bytes();
        assert_eq!(first_not_finite(&[&halves[..], &large].concat(), 6), Some((2, f32::INFINITY)));
        // the bits of the f16 pair [∞, 1], read as f32, are a finite number
        let word = [half::f16::INFINITY, half::f16::ONE].map(half::f16::to_le_bytes).concat();
        assert_eq!(first_not_finite(&word, 0), None);
        assert_eq!(first_not_finite(&word, 4), Some((0, f32::INFINITY)));
    }
}
