//! The least work of a launch: what its floor is made of. Kernels say it in `Kernel::work`, next to their launchers.

use std::iter::Sum;
use std::ops::Add;

use super::buffer::View;

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

/// What a formula for the least work reads of a launch.
#[derive(Debug, Clone, Copy)]
pub struct Args<'a> {
    pub(super) names: &'a [(&'static str, u32)],
    pub(super) consts: &'a [u32],
    pub(super) params: &'a [u8],
    pub(super) views: &'a [View],
    /// Bytes of all bound ranges: one that is bound twice counts once, one that is updated is read and written.
    pub bytes: u64,
}

impl Args<'_> {
    /// Elements of an argument.
    pub(crate) fn len(&self, arg: usize) -> usize {
        self.views.get(arg).map_or(0, |view| view.bytes as usize / 4)
    }

    /// The scalars of the launch.
    pub(crate) fn scalars<P: bytemuck::Pod>(&self) -> P {
        bytemuck::try_pod_read_unaligned(self.params).unwrap_or(P::zeroed())
    }

    /// The value of one of the kernel's constants.
    pub(crate) fn constant(&self, name: &str) -> usize {
        let at = self.names.iter().position(|(known, _)| *known == name);
        at.and_then(|at| self.consts.get(at)).copied().unwrap_or_default() as usize
    }
}
