//! What a device is told while something is recorded: launches, checked, and the scope, phase and precision they belong to.

use std::sync::Arc;

use super::buffer::View;
use super::device::Gpu;
use super::kernel::{Grid, Kernel, Params};
use super::record::{Launch, Phase, Precision, Recording};
use crate::error::{Error, Result};

impl Gpu {
    /// Appends a launch to the current recording.
    ///
    /// # Errors
    /// When the arguments do not fit the kernel's bindings or the adapter's limits, or when a written buffer is bound twice.
    pub fn launch<P: Params, V: AsRef<View>>(
        &self, kernel: &'static Kernel, grid: Grid, params: &P, args: &[&V],
    ) -> Result<()> {
        self.launch_with(kernel, &[], grid, params, args)
    }

    /// [`Gpu::launch`] with values for some of the kernel's constants.
    pub fn launch_with<P: Params, V: AsRef<View>>(
        &self, kernel: &'static Kernel, consts: &[(&str, u32)], grid: Grid, params: &P, args: &[&V],
    ) -> Result<()> {
        let args: Vec<View> = args.iter().map(|v| (*v).as_ref().clone()).collect();
        self.check_args(kernel, grid, &args)?;
        let half = |name: &str| {
            let (binding, _) = kernel.halves.iter().find(|(_, known)| *known == name)?;
            let at = kernel.binds.iter().position(|bind| bind.number() == *binding)?;
            Some(u32::from(args[at].half))
        };
        let value = |&(name, default): &(&str, u32)| {
            let given = || consts.iter().find(|(n, _)| *n == name).map(|(_, v)| *v);
            half(name).or_else(given).unwrap_or(default)
        };
        let consts = kernel.consts.iter().map(value).collect();
        let params = bytemuck::bytes_of(params).to_vec();
        self.0.recorder(|r| {
            let scope = r.scope.clone().unwrap_or_else(|| "".into());
            r.push(Launch { kernel, consts, grid, params, args, scope, phase: r.phase });
        });
        Ok(())
    }

    fn check_args(&self, kernel: &Kernel, grid: Grid, args: &[View]) -> Result<()> {
        if args.len() != kernel.binds.len() {
            let what = format!("{}: number of buffers", kernel.name);
            return Err(Error::argument(what, args.len(), kernel.binds.len()));
        }
        if let Some(&workgroups) = grid.0.iter().find(|&&n| n > 65_535 || n == 0) {
            return Err(Error::argument(
                format!("{}: workgroups", kernel.name),
                workgroups,
                "1 to 65535 per dimension",
            ));
        }
        for (i, (arg, bind)) in args.iter().zip(kernel.binds).enumerate() {
            let what = || format!("{}: binding {} ({})", kernel.name, bind.number(), arg.node.label);
            if arg.bytes == 0 || arg.offset % 256 != 0 {
                let got = format!("{} bytes at offset {}", arg.bytes, arg.offset);
                return Err(Error::argument(what(), got, "a range that is not empty and starts at a multiple of 256"));
            }
            if arg.half && !kernel.halves.iter().any(|(binding, _)| *binding == bind.number()) {
                return Err(Error::argument(what(), "f16", "f32: this kernel reads no other"));
            }
            let constant = kernel.halves.iter().find(|(binding, _)| *binding == bind.number()).map(|(_, name)| name);
            let first = kernel.halves.iter().find(|(_, name)| Some(name) == constant).map(|(binding, _)| *binding);
            let with = kernel.binds.iter().position(|other| Some(other.number()) == first);
            if with.is_some_and(|with| args[with].half != arg.half) {
                let storage = |half: bool| if half { "f16" } else { "f32" };
                let expected = format!("{}, as binding {}", storage(!arg.half), first.unwrap_or_default());
                return Err(Error::argument(what(), storage(arg.half), expected));
            }
            if arg.bytes.next_multiple_of(View::QUAD) > self.0.caps.max_binding {
                return Err(Error::Limit { what: what().into(), needed: arg.bytes, allowed: self.0.caps.max_binding });
            }
            let clash = |(j, other): (usize, &View)| {
                let overlap = other.offset < arg.offset + arg.bytes && arg.offset < other.offset + other.bytes;
                let both_write = kernel.binds[j].writes() && bind.writes();
                j != i && other.same_buffer(arg) && (!both_write || overlap)
            };
            if bind.writes() && args.iter().enumerate().any(clash) {
                return Err(Error::argument(what(), "a buffer that is bound twice", "a written buffer of its own"));
            }
        }
        Ok(())
    }

    /// Names the module of all launches until the guard is dropped; nested names are joined by dots.
    pub fn scope(&self, name: &str) -> ScopeGuard<'_> {
        let inner = match self.current_scope() {
            Some(outer) if !outer.is_empty() => format!("{outer}.{name}").into(),
            _ => name.into(),
        };
        self.set_scope(Some(inner))
    }

    /// The current module name; [`Gpu::set_scope`] sets it again later (a tape does, for backward launches).
    pub fn current_scope(&self) -> Option<Arc<str>> {
        self.0.recorder(|r| r.scope.clone())
    }

    /// Replaces the module name until the guard is dropped.
    pub fn set_scope(&self, scope: Option<Arc<str>>) -> ScopeGuard<'_> {
        let before = self.0.recorder(|r| std::mem::replace(&mut r.scope, scope));
        ScopeGuard { gpu: self, before }
    }

    /// Marks the launches until the guard is dropped as part of `phase`.
    pub fn phase(&self, phase: Phase) -> PhaseGuard<'_> {
        let before = self.0.recorder(|r| std::mem::replace(&mut r.phase, phase));
        PhaseGuard { gpu: self, before }
    }

    /// How products are computed that are launched until the guard is dropped.
    pub fn set_precision(&self, precision: Precision) -> PrecisionGuard<'_> {
        let before = self.0.recorder(|r| std::mem::replace(&mut r.precision, precision));
        PrecisionGuard { gpu: self, before }
    }

    /// How products are computed that are launched now.
    pub fn precision(&self) -> Precision {
        self.0.recorder(|r| r.precision)
    }

    /// Records what `body` launches instead of queueing it. What `body` returns keeps its tensors: everything else it
    /// launched into lives only inside the program.
    pub fn record<T>(&self, body: impl FnOnce() -> Result<T>) -> Result<(Recording, T)> {
        self.0.recorder(|r| r.nested.push(Recording::default()));
        let value = body();
        let recording = self.0.recorder(|r| r.nested.pop().unwrap_or_default());
        Ok((recording, value?))
    }
}

/// Restores the module name when dropped.
#[derive(Debug)]
pub struct ScopeGuard<'a> {
    gpu: &'a Gpu,
    before: Option<Arc<str>>,
}

impl Drop for ScopeGuard<'_> {
    fn drop(&mut self) {
        let before = self.before.take();
        self.gpu.0.recorder(|r| r.scope = before);
    }
}

/// Restores the phase when dropped.
#[derive(Debug)]
pub struct PhaseGuard<'a> {
    gpu: &'a Gpu,
    before: Phase,
}

impl Drop for PhaseGuard<'_> {
    fn drop(&mut self) {
        self.gpu.0.recorder(|r| r.phase = self.before);
    }
}

/// Restores the precision when dropped.
#[derive(Debug)]
pub struct PrecisionGuard<'a> {
    gpu: &'a Gpu,
    before: Precision,
}

impl Drop for PrecisionGuard<'_> {
    fn drop(&mut self) {
        self.gpu.0.recorder(|r| r.precision = self.before);
    }
}
