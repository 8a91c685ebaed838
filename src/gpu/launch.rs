//! Checking the arguments of a launch and appending it to a recording.

use super::buffer::{Operand, View};
use super::choice::Const;
use super::dtype::DType;
use super::kernel::{Grid, Kernel};
use super::record::{Launch, Recording};
use super::scalars::Scalars;
use crate::error::{Error, Result};

impl Recording {
    /// Appends a launch. `args` are in the order of the kernel's bindings. Pass `None` for an absent operand, which the
    /// kernel does not read.
    ///
    /// # Errors
    /// If the arguments do not fit the kernel's bindings or the adapter's limits, or if a buffer that the kernel writes
    /// is bound twice (two ranges of it that are both written and do not overlap are allowed).
    pub fn launch<P: Scalars, V: Operand>(
        &mut self, kernel: &'static Kernel, grid: Grid, params: &P, args: &[V],
    ) -> Result<()> {
        self.launch_with(kernel, &[], grid, params, args)
    }

    /// [`Recording::launch`] with values for some of the kernel's constants. A constant that the caller does not name
    /// has its default; one of `f16_if` follows the type of its argument.
    pub fn launch_with<P: Scalars, V: Operand>(
        &mut self, kernel: &'static Kernel, consts: &[(&str, u32)], grid: Grid, params: &P, args: &[V],
    ) -> Result<()> {
        let args: Vec<Option<&View>> = args.iter().map(Operand::view).collect();
        self.append(kernel, consts, grid, bytemuck::bytes_of(params), &args)
    }

    /// [`Recording::launch_with`] without type parameters, so that it is compiled once.
    fn append(
        &mut self, kernel: &'static Kernel, consts: &[(&str, u32)], grid: Grid, params: &[u8], args: &[Option<&View>],
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
            let expected = "a combination of values that the kernel's `consts` and `admits` allow";
            return Err(Error::argument(format!("{}: constants", kernel.name), named.join(", "), expected));
        }
        let args = args.iter().map(|arg| arg.cloned().unwrap_or_else(|| self.gpu.0.absent.clone())).collect();
        let (scope, params, phase, part) = (self.scope.clone(), params.to_vec(), self.phase, self.marks);
        self.launches.push(Launch { kernel, consts: values, grid, params, args, scope, phase, part });
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
                    return Err(Error::argument(what, "no buffer", "a buffer, since the kernel writes to it"));
                }
                continue;
            };
            let what = || format!("{}: `{}` ({})", kernel.name, bind.name, arg.node.label);
            if arg.bytes == 0 || arg.offset % 256 != 0 {
                let got = format!("{} bytes at offset {}", arg.bytes, arg.offset);
                return Err(Error::argument(what(), got, "at least 1 byte, at an offset that is a multiple of 256"));
            }
            if !bind.takes(arg.dtype) {
                return Err(Error::argument(what(), arg.dtype, bind.expected()));
            }
            let others = kernel.binds.iter().zip(args).filter(|(other, _)| other.constant() == bind.constant());
            let first = others.filter_map(|(other, arg)| Some((other.name, (*arg)?.dtype))).next();
            if let (Some(_), Some((name, dtype))) = (bind.constant(), first)
                && dtype != arg.dtype
            {
                return Err(Error::argument(what(), arg.dtype, format!("{dtype}, the type of `{name}`")));
            }
            if arg.bytes.next_multiple_of(View::QUAD) > self.gpu.0.caps.max_binding {
                return Err(Error::Limit {
                    what: what().into(),
                    needed: arg.bytes,
                    allowed: self.gpu.0.caps.max_binding,
                });
            }
            let clash = |(j, other): (usize, &Option<&View>)| {
                let Some(other) = other else { return false };
                let overlap = other.offset < arg.offset + arg.bytes && arg.offset < other.offset + other.bytes;
                let both_write = kernel.binds[j].writes() && bind.writes();
                j != i && other.same_buffer(arg) && (!both_write || overlap)
            };
            if bind.writes() && args.iter().enumerate().any(clash) {
                let expected = "a buffer that is bound nowhere else in this launch, since the kernel writes to it";
                return Err(Error::argument(what(), "a buffer that is bound twice", expected));
            }
        }
        Ok(())
    }
}
