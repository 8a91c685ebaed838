//! The least work of a launch: what its floor is made of. Kernels say it in `Kernel::work`, next to their launchers.

use std::iter::Sum;
use std::ops::Add;

use super::kernel::Bind;
use super::record::{Launch, Recording};

/// Bytes moved and numbers computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Read and written.
    pub bytes: u64,
    /// Additions and multiplications.
    pub flops: u64,
    /// Exponentials, logarithms and the like.
    pub exps: u64,
}

impl Work {
    /// Bytes, flops and exponentials.
    pub fn of(bytes: usize, flops: usize, exps: usize) -> Self {
        Self { bytes: bytes as u64, flops: flops as u64, exps: exps as u64 }
    }
    /// Bytes only.
    pub fn bytes(bytes: usize) -> Self {
        Self::of(bytes, 0, 0)
    }
}

impl Add for Work {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        let Self { bytes, flops, exps } = other;
        Self { bytes: self.bytes + bytes, flops: self.flops + flops, exps: self.exps + exps }
    }
}

impl Sum for Work {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), Add::add)
    }
}

impl Launch {
    /// The least work: the kernel's own formula, or each bound element moved once.
    pub fn work(&self) -> Work {
        match self.kernel.work {
            Some(formula) => formula(self),
            None => Work { bytes: self.bytes(), ..Work::default() },
        }
    }

    /// Bytes of all bound ranges: one that is bound twice counts once, one that is updated is read and written.
    pub fn bytes(&self) -> u64 {
        let args = self.args.iter().zip(self.kernel.binds).enumerate();
        let first = args.filter(|(i, (view, _))| !self.args[..*i].iter().any(|before| before.same(view)));
        first.map(|(_, (view, bind))| if matches!(bind, Bind::Update(_)) { 2 * view.bytes } else { view.bytes }).sum()
    }

    /// Elements of an argument.
    pub(crate) fn len(&self, arg: usize) -> usize {
        self.args.get(arg).map_or(0, |view| view.bytes as usize / 4)
    }

    /// The scalars of the launch.
    pub(crate) fn scalars<P: super::Params>(&self) -> P {
        bytemuck::try_pod_read_unaligned(&self.params).unwrap_or(P::zeroed())
    }

    /// The value of one of the kernel's constants.
    pub(crate) fn constant(&self, name: &str) -> usize {
        let at = self.kernel.consts.iter().position(|(known, _)| *known == name);
        at.and_then(|at| self.consts.get(at)).copied().unwrap_or_default() as usize
    }
}

impl Recording {
    /// The least work of all launches.
    pub fn work(&self) -> Work {
        self.launches.iter().map(Launch::work).sum()
    }
}
