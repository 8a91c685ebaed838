//! What a device is told while something is recorded: launches, checked, and the scope, phase and precision they belong
//! to.

use std::sync::Arc;

use super::buffer::{Operand, View};
use super::choice::Const;
use super::device::Gpu;
use super::dtype::DType;
use super::kernel::{Grid, Kernel, Scalars};
use super::record::{Launch, Phase, Precision, Recording};
use crate::error::{Error, Result};

impl Gpu {
    /// Appends a launch to the current recording. An argument that is `None` is absent: the kernel does not read it.
    ///
    /// # Errors
    /// When the arguments do not fit the kernel's bindings or the adapter's limits, or when a written buffer is bound
    /// twice.
    pub fn launch<P: Scalars, V: Operand>(
        &self, kernel: &'static Kernel, grid: Grid, params: &P, args: &[V],
    ) -> Result<()> {
        self.launch_with(kernel, &[], grid, params, args)
    }

    /// [`Gpu::launch`] with values for some of the kernel's constants.
    pub fn launch_with<P: Scalars, V: Operand>(
        &self, kernel: &'static Kernel, consts: &[(&str, u32)], grid: Grid, params: &P, args: &[V],
    ) -> Result<()> {
        let args: Vec<Option<&View>> = args.iter().map(Operand::view).collect();
        self.append(kernel, consts, grid, bytemuck::bytes_of(params), &args)
    }

    /// One body for all types of scalars and operands.
    fn append(
        &self, kernel: &'static Kernel, consts: &[(&str, u32)], grid: Grid, params: &[u8], args: &[Option<&View>],
    ) -> Result<()> {
        self.check_args(kernel, grid, args)?;
        let stored = |name: &str| {
            let of_it = kernel.binds.iter().zip(args).filter(|(bind, _)| bind.constant() == Some(name));
            of_it.filter_map(|(_, arg)| *arg).next().map(|arg| u32::from(arg.dtype == DType::F16))
        };
        let value = |known: &Const| {
            let given = || consts.iter().find(|(name, _)| *name == known.name).map(|(_, value)| *value);
            stored(known.name).or_else(given).unwrap_or(known.default())
        };
        let values: Vec<u32> = kernel.consts.iter().map(value).collect();
        if !kernel.admissible(&values) {
            let named: Vec<_> = kernel.consts.iter().zip(&values).map(|(c, v)| format!("{} = {v}", c.name)).collect();
            let expected = "values that the kernel declares, in a combination that it admits";
            return Err(Error::argument(format!("{}: constants", kernel.name), named.join(", "), expected));
        }
        let args = args.iter().map(|arg| arg.cloned().unwrap_or_else(|| self.0.absent.clone())).collect();
        self.0.recorder(|r| {
            let scope = r.scope.clone().unwrap_or_else(|| "".into());
            let (params, phase) = (params.to_vec(), r.phase);
            r.push(Launch { kernel, consts: values, grid, params, args, scope, phase, part: 0 });
        });
        Ok(())
    }

    fn check_args(&self, kernel: &Kernel, grid: Grid, args: &[Option<&View>]) -> Result<()> {
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
            let Some(arg) = arg else {
                if bind.writes() {
                    let what = format!("{}: `{}`", kernel.name, bind.name);
                    return Err(Error::argument(what, "nothing", "a buffer: it is written"));
                }
                continue;
            };
            let what = || format!("{}: `{}` ({})", kernel.name, bind.name, arg.node.label);
            if arg.bytes == 0 || arg.offset % 256 != 0 {
                let got = format!("{} bytes at offset {}", arg.bytes, arg.offset);
                return Err(Error::argument(what(), got, "a range that is not empty and starts at a multiple of 256"));
            }
            if !bind.takes(arg.dtype) {
                return Err(Error::argument(what(), arg.dtype, bind.expected()));
            }
            let others = kernel.binds.iter().zip(args).filter(|(other, _)| other.constant() == bind.constant());
            let first = others.filter_map(|(other, arg)| Some((other.name, (*arg)?.dtype))).next();
            if let (Some(_), Some((name, dtype))) = (bind.constant(), first)
                && dtype != arg.dtype
            {
                return Err(Error::argument(what(), arg.dtype, format!("{dtype}, as `{name}`")));
            }
            if arg.bytes.next_multiple_of(View::QUAD) > self.0.caps.max_binding {
                return Err(Error::Limit { what: what().into(), needed: arg.bytes, allowed: self.0.caps.max_binding });
            }
            let clash = |(j, other): (usize, &Option<&View>)| {
                let Some(other) = other else { return false };
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

    /// Marks this place in the recording being made: [`Recording::split_at_marks`] cuts it here. Does nothing outside
    /// of [`Gpu::record`].
    pub fn mark(&self) {
        self.0.recorder(|r| r.nested.last_mut().map(|recording| recording.marks += 1));
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
