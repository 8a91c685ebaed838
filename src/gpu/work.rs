//! The least work of a launch: what its floor is made of. Kernels say it in `Kernel::least`, next to their launchers.

use std::iter::Sum;
use std::ops::Add;

use super::choice::Choice;

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
    /// Name of each argument, and its elements.
    pub(super) lens: &'a [(&'static str, usize)],
    pub(super) choice: Choice<'a>,
    pub(super) params: &'a [u8],
    /// Bytes of all bound ranges: one that is bound twice counts once, one that is updated is read and written.
    pub bytes: u64,
}

impl Args<'_> {
    /// Elements of the argument of this name.
    pub(crate) fn len(&self, name: &str) -> usize {
        debug_assert!(self.lens.iter().any(|(known, _)| *known == name), "no argument `{name}`");
        self.lens.iter().find(|(known, _)| *known == name).map_or(0, |(_, len)| *len)
    }

    /// The scalars of the launch.
    pub(crate) fn scalars<P: bytemuck::Pod>(&self) -> P {
        bytemuck::try_pod_read_unaligned(self.params).unwrap_or(P::zeroed())
    }

    /// The value of one of the kernel's constants.
    pub(crate) fn constant(&self, name: &str) -> usize {
        self.choice.get(name) as usize
    }

    /// Bytes of an element that is f16 where this constant is 1.
    pub(crate) fn bytes_of(&self, name: &str) -> usize {
        4 - 2 * self.constant(name)
    }
}
