//! Finding the first launch of a program that writes a number that is not finite.

use std::fmt;
use std::sync::Arc;

use super::kernel::{Bind, Kernel};
use super::lock::lock;
use super::program::{Program, dispatch};
use super::record::Phase;
use crate::error::Result;

/// The first number of a replay that is not finite.
#[derive(Debug, Clone)]
pub struct NotFinite {
    /// `family.entry` of the kernel that wrote it.
    pub kernel: &'static str,
    /// The module that launched it.
    pub scope: Arc<str>,
    /// Which part of the step it belongs to.
    pub phase: Phase,
    /// What the tensor is called.
    pub label: &'static str,
    /// Where in the tensor.
    pub index: usize,
    /// The number.
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

impl Program {
    /// Runs once, waiting for each launch and looking at what it wrote, up to the first number that is not finite. Slow:
    /// for finding out what a loss that is no number came from.
    pub fn find_not_finite(&self) -> Result<Option<NotFinite>> {
        self.gpu.flush()?;
        let live = self.gpu.live()?;
        for ((pipeline, group), launch) in self.ready.iter().zip(&self.launches) {
            let written: Vec<_> = launch.args.iter().zip(launch.kernel.binds).filter(|(_, b)| b.writes()).collect();
            {
                let _turn = lock(&live.turn);
                let mut encoder = live.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
                for (view, bind) in &written {
                    // a kernel need not write what nobody reads: what other tensors left there is not its fault
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
                let Some(physical) = self.physical(view).filter(|_| holds_floats(launch.kernel, *bind)) else {
                    continue;
                };
                let bytes = self.gpu.read_physical(physical, view.offset, view.bytes)?.wait()?;
                let values: Vec<f32> = bytemuck::pod_collect_to_vec(&bytes);
                if let Some(index) = values.iter().position(|v| !v.is_finite()) {
                    let (kernel, scope, phase, label) =
                        (launch.name(), launch.scope.clone(), launch.phase, view.node.label);
                    return Ok(Some(NotFinite { kernel, scope, phase, label, index, value: values[index] }));
                }
            }
        }
        Ok(None)
    }
}

/// Whether the shader declares the buffer as floats.
fn holds_floats(kernel: &Kernel, bind: Bind) -> bool {
    let binding = format!("@binding({})", bind.number());
    kernel.source.lines().find(|line| line.contains(&binding)).is_some_and(|line| line.contains("f32"))
}
