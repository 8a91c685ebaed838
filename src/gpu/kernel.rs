//! Kernels as data: what a compute shader is called, what it binds, and which scalars it takes.

use super::caps::Tiers;
use super::work::{Args, Work};

/// How a kernel touches one of its storage buffers. The number is the WGSL binding; binding 0 is always `Params`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bind {
    /// `var<storage, read>`.
    Read(u32),
    /// `var<storage, read_write>` whose old contents do not matter: every element a reader will see is written.
    Write(u32),
    /// `var<storage, read_write>` that is updated in place.
    Update(u32),
}

impl Bind {
    /// The WGSL binding number.
    pub fn number(self) -> u32 {
        let (Self::Read(n) | Self::Write(n) | Self::Update(n)) = self;
        n
    }
    /// True unless the kernel only reads.
    pub fn writes(self) -> bool {
        !matches!(self, Self::Read(_))
    }
    /// True if the old contents matter.
    pub fn reads(self) -> bool {
        !matches!(self, Self::Write(_))
    }
}

/// One scalar of a `Params` struct: name, byte offset, `"u32"` or `"f32"`.
pub type Field = (&'static str, usize, &'static str);

/// The scalars of one launch; implemented by the macro `params!`.
pub trait Params: bytemuck::Pod {
    /// Layout, compared with the WGSL struct by `tests/shaders.rs`.
    const FIELDS: &'static [Field];
}

/// One entry point of one shader, with everything the runtime has to know about it.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// `family.entry`: label of the pipeline and of every launch.
    pub name: &'static str,
    /// WGSL, without the constants of `consts`.
    pub source: &'static str,
    /// The same entry point with subgroup reductions, taken where the tier is.
    pub subgroup: Option<&'static str>,
    /// Layout of `Params` at binding 0.
    pub params: &'static [Field],
    /// The storage buffers in argument order.
    pub binds: &'static [Bind],
    /// WGSL `const`s that a launch may choose (tile sizes, state counts) with their defaults.
    pub consts: &'static [(&'static str, u32)],
    /// Bindings that may hold f16, two in a word, and the constants that are 1 where they do. Those of one constant are
    /// all f16 or all f32.
    pub halves: &'static [(u32, &'static str)],
    /// The least work of a launch; without it, each bound element moved once.
    pub work: Option<fn(&Args<'_>) -> Work>,
}

impl Kernel {
    /// A kernel without constants and without a subgroup variant.
    pub const fn new<P: Params>(name: &'static str, source: &'static str, binds: &'static [Bind]) -> Self {
        Self { name, source, subgroup: None, params: P::FIELDS, binds, consts: &[], halves: &[], work: None }
    }
    /// The same with a source for the subgroup tier.
    pub const fn subgroup(self, source: &'static str) -> Self {
        Self { subgroup: Some(source), ..self }
    }
    /// The same with constants that a launch may choose.
    pub const fn consts(self, consts: &'static [(&'static str, u32)]) -> Self {
        Self { consts, ..self }
    }
    /// The same with bindings that may hold f16, each with a constant of [`Kernel::consts`] that tells.
    pub const fn halves(self, halves: &'static [(u32, &'static str)]) -> Self {
        Self { halves, ..self }
    }
    /// The same with a formula for the least work of a launch.
    pub const fn work(self, work: fn(&Args<'_>) -> Work) -> Self {
        Self { work: Some(work), ..self }
    }
    /// Changes with the source: what was measured of another is not of this one.
    pub fn fingerprint(&self) -> u64 {
        hash(&[self.source.as_bytes()])
    }
    /// The entry point: the part of the name after the dot.
    pub fn entry(&self) -> &'static str {
        self.name.rsplit('.').next().unwrap_or(self.name)
    }
    /// The file stem: the part of the name before the dot.
    pub fn family(&self) -> &'static str {
        self.name.split('.').next().unwrap_or(self.name)
    }
    /// Complete WGSL of a variant: the source with one line of constants in front, behind its `enable`s if it has any.
    pub fn wgsl(&self, tiers: Tiers, values: &[u32]) -> String {
        let source = self.subgroup.filter(|_| tiers.subgroup).unwrap_or(self.source);
        let enables = source.split_inclusive('\n').take_while(|line| line.starts_with("enable ")).map(str::len).sum();
        let (enables, rest) = source.split_at(enables);
        let mut text = String::from(enables);
        if rest.contains("NEAREST") {
            text.push_str(&format!("const NEAREST = {}u; ", u32::from(tiers.nearest)));
        }
        for ((name, _), value) in self.consts.iter().zip(values) {
            text.push_str(&format!("const {name} = {value}u; "));
        }
        text.push('\n');
        text.push_str(rest);
        text
    }
}

/// FNV-1a over parts that are kept apart: the same in every build, which the standard library's hashes do not promise.
pub(super) fn hash(parts: &[&[u8]]) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let part = |hash, part: &&[u8]| step(part.iter().fold(hash, |hash, &byte| step(hash, byte)), 0xff);
    parts.iter().fold(0xcbf2_9ce4_8422_2325, part)
}

/// WGSL assembled by concatenation: the op first, then the libraries it uses (module scope is free of order).
macro_rules! wgsl {
    ($op:literal $(, $lib:literal)*) => {
        concat!(
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $op, ".wgsl"))
            $(, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/lib/", $lib, ".wgsl")))*
        )
    };
}

/// A `repr(C)` struct of scalars and its layout, so that a test can compare it with the WGSL `Params`.
macro_rules! params {
    ($(#[$doc:meta])* pub struct $name:ident { $($field:ident: $ty:ident),* $(,)? }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        #[allow(missing_docs, reason = "the WGSL header documents each scalar")]
        pub struct $name { $(pub $field: $ty),* }
        impl $crate::gpu::Params for $name {
            const FIELDS: &'static [$crate::gpu::Field] =
                &[$((stringify!($field), std::mem::offset_of!($name, $field), stringify!($ty))),*];
        }
    };
}

pub(crate) use {params, wgsl};

/// Workgroups of a launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid(pub [u32; 3]);

impl Grid {
    /// Width of a folded grid: more workgroups than this continue in y. `shaders/lib/grid.wgsl` unfolds it.
    pub const FOLD: u32 = 32_768;

    /// One workgroup per row, any number of rows up to 2^31.
    pub fn rows(rows: usize) -> Self {
        let rows = rows as u32;
        Self([rows.min(Self::FOLD), rows.div_ceil(Self::FOLD), 1])
    }
    /// One invocation per item in workgroups of `size`.
    pub fn items(items: usize, size: usize) -> Self {
        Self::rows(items.div_ceil(size))
    }
    /// One workgroup per (x, y, z).
    pub fn of(x: usize, y: usize, z: usize) -> Self {
        Self([x as u32, y as u32, z as u32])
    }
}
