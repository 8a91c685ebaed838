//! The least work of a launch, from which its floor (the roofline time) is computed. The formula is `Kernel::least`,
//! next to the kernel's launcher.

use std::iter::Sum;
use std::ops::Add;

use super::choice::Choice;

/// Memory traffic and arithmetic of one or more launches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Work {
    /// Bytes read and written.
    pub bytes: u64,
    /// Additions and multiplications; a multiply-add counts as 2.
    pub flops: u64,
    /// Exponentials, logarithms and other transcendental functions.
    pub exps: u64,
}

impl Work {
    /// Work of this many bytes, flops and exponentials.
    pub fn of(bytes: usize, flops: usize, exps: usize) -> Self {
        Self { bytes: bytes as u64, flops: flops as u64, exps: exps as u64 }
    }
    /// Work of this many bytes and no arithmetic.
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

/// The launch as a formula for the least work sees it.
#[derive(Debug, Clone, Copy)]
pub struct LaunchArgs<'a> {
    /// Name and number of elements of each argument.
    pub(super) lens: &'a [(&'static str, usize)],
    pub(super) choice: Choice<'a>,
    pub(super) params: &'a [u8],
    /// Bytes of all bound ranges ([`Launch::bytes`](super::Launch::bytes)).
    pub bytes: u64,
}

impl LaunchArgs<'_> {
    /// Number of elements of the argument of this name.
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

    /// Bytes per element of an `f16_if` binding with this constant: 2 if it is 1, else 4.
    pub(crate) fn bytes_of(&self, name: &str) -> usize {
        4 - 2 * self.constant(name)
    }
}
