//! Kernels as data: what a compute shader is called, what it binds, and which scalars it takes.

use super::caps::Tiers;
use super::choice::{Choice, Const};
use super::dtype::DType;
use super::work::{Args, Work};

/// How a kernel touches a storage buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>` whose old contents do not matter: every element a reader will see is written.
    Write,
    /// `var<storage, read_write>` that is updated in place.
    Update,
}

/// What the elements of a binding are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// f32 always.
    F32,
    /// u32 always: indices, bytes.
    U32,
    /// f16 always, two in a word.
    F16,
    /// Words that are no numbers of one type, such as the state of a step.
    Words,
    /// f16 where this constant is 1, f32 where it is 0. The argument's type sets the constant.
    F16If(&'static str),
    /// The same for the words before the place that this scalar of `Params` gives; f32 from there on.
    F16Until(&'static str, &'static str),
}

impl Element {
    /// Whether there is a float in it.
    pub fn has_floats(self) -> bool {
        !matches!(self, Self::U32 | Self::Words)
    }
}

/// One storage buffer of a kernel: its number and name in WGSL, how it is touched, and what it holds. Binding 0 is
/// always the uniform `Params`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind {
    /// The number in `@binding`.
    pub number: u32,
    /// The name of the variable.
    pub name: &'static str,
    /// How it is touched.
    pub access: Access,
    /// What it holds.
    pub element: Element,
}

/// A binding of f32 that a kernel only reads.
pub const fn read(number: u32, name: &'static str) -> Bind {
    Bind { number, name, access: Access::Read, element: Element::F32 }
}

/// A binding of f32 that a kernel writes.
pub const fn write(number: u32, name: &'static str) -> Bind {
    Bind { access: Access::Write, ..read(number, name) }
}

/// A binding of f32 that a kernel updates.
pub const fn update(number: u32, name: &'static str) -> Bind {
    Bind { access: Access::Update, ..read(number, name) }
}

impl Bind {
    /// The same of u32.
    pub const fn u32(self) -> Self {
        Self { element: Element::U32, ..self }
    }
    /// The same of f16.
    pub const fn f16(self) -> Self {
        Self { element: Element::F16, ..self }
    }
    /// The same of words.
    pub const fn words(self) -> Self {
        Self { element: Element::Words, ..self }
    }
    /// The same, in f16 where the constant is 1.
    pub const fn f16_if(self, constant: &'static str) -> Self {
        Self { element: Element::F16If(constant), ..self }
    }
    /// The same, in f16 where the constant is 1, up to the word that a scalar of `Params` names.
    pub const fn f16_until(self, constant: &'static str, scalar: &'static str) -> Self {
        Self { element: Element::F16Until(constant, scalar), ..self }
    }
    /// True unless the kernel only reads.
    pub fn writes(self) -> bool {
        self.access != Access::Read
    }
    /// True if the old contents matter.
    pub fn reads(self) -> bool {
        self.access != Access::Write
    }
    /// The constant that an argument's type sets.
    pub fn constant(self) -> Option<&'static str> {
        match self.element {
            Element::F16If(constant) => Some(constant),
            _ => None,
        }
    }
    /// Whether an argument of this type may be bound.
    pub fn takes(self, dtype: DType) -> bool {
        match self.element {
            Element::F32 | Element::F16Until(..) => dtype == DType::F32,
            Element::U32 => dtype == DType::U32,
            Element::F16 => dtype == DType::F16,
            Element::Words => dtype != DType::F16,
            Element::F16If(_) => dtype != DType::U32,
        }
    }
    /// The types that may be bound, in words.
    pub fn expected(self) -> &'static str {
        match self.element {
            Element::F32 | Element::F16Until(..) => "f32: this kernel reads no other",
            Element::U32 => "u32: this kernel reads indices here",
            Element::F16 => "f16",
            Element::Words => "f32 or u32",
            Element::F16If(_) => "f32 or f16",
        }
    }
}

/// What a device must have to run a kernel, besides the WebGPU baseline.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Needs {
    /// Subgroup operations, in the kernel's only source.
    pub subgroup: bool,
    /// f16 in storage, workgroup memory and arithmetic.
    pub f16: bool,
    /// Cooperative matrices.
    pub coop: bool,
}

impl Needs {
    /// The WebGPU baseline.
    pub const NONE: Self = Self { subgroup: false, f16: false, coop: false };
    /// f16 alone.
    pub const F16: Self = Self { f16: true, ..Self::NONE };
    /// Subgroups alone.
    pub const SUBGROUP: Self = Self { subgroup: true, ..Self::NONE };
    /// Cooperative matrices of f16.
    pub const COOP: Self = Self { f16: true, coop: true, ..Self::NONE };

    /// The directives that WGSL asks for, at the top of the module.
    fn directives(self) -> &'static str {
        match (self.f16, self.coop) {
            (_, true) => "enable f16; enable wgpu_cooperative_matrix; ",
            (true, false) => "enable f16; ",
            (false, false) => "",
        }
    }
}

/// One scalar of a `Params` struct: name, byte offset, `"u32"` or `"f32"`.
pub type Field = (&'static str, usize, &'static str);

/// The scalars of one launch; implemented by the macro `params!`.
pub trait Scalars: bytemuck::Pod {
    /// Layout, compared with the WGSL struct by `tests/shaders.rs`.
    const FIELDS: &'static [Field];
}

/// One entry point of one shader, with everything that the runtime, the tests, the browser's compiler check and the
/// tuner have to know about it. Nothing is inferred from the text or from names.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// `family.entry`: label of the pipeline and of every launch.
    pub name: &'static str,
    /// WGSL, without directives and without the constants of `consts`.
    pub source: &'static str,
    /// The same entry point with subgroup reductions, taken where the tier is.
    pub subgroup: Option<&'static str>,
    /// Layout of `Params` at binding 0.
    pub params: &'static [Field],
    /// The storage buffers in argument order.
    pub binds: &'static [Bind],
    /// The constants that a launch may choose: tile sizes, state counts, f16 or f32.
    pub consts: &'static [Const],
    /// Which combinations of values belong together; all where there is none.
    pub admits: Option<fn(&Choice<'_>) -> bool>,
    /// Which variants of `source` take more than the 16 KiB of workgroup memory that WebGPU promises.
    pub large: Option<fn(&Choice<'_>) -> bool>,
    /// What a device must have.
    pub needs: Needs,
    /// Whether the source uses `lib/half`, which has a constant of the device's: `NEAREST`.
    pub rounds: bool,
    /// Whether it is a product of matrices, which the tuner measures.
    pub product: bool,
    /// The least work of a launch; without it, each bound element moved once.
    pub least: Option<fn(&Args<'_>) -> Work>,
}

impl Kernel {
    /// A kernel without constants and without a subgroup variant.
    pub const fn new<P: Scalars>(name: &'static str, source: &'static str, binds: &'static [Bind]) -> Self {
        Self {
            name,
            source,
            subgroup: None,
            params: P::FIELDS,
            binds,
            consts: &[],
            admits: None,
            large: None,
            needs: Needs::NONE,
            rounds: false,
            product: false,
            least: None,
        }
    }
    /// The same with a source for the subgroup tier.
    pub const fn subgroup(self, source: &'static str) -> Self {
        Self { subgroup: Some(source), ..self }
    }
    /// The same with constants that a launch may choose.
    pub const fn consts(self, consts: &'static [Const]) -> Self {
        Self { consts, ..self }
    }
    /// The same with a rule for which values of the constants belong together.
    pub const fn admits(self, rule: fn(&Choice<'_>) -> bool) -> Self {
        Self { admits: Some(rule), ..self }
    }
    /// The same with a rule for which variants of `source` take more workgroup memory than WebGPU promises.
    pub const fn large(self, rule: fn(&Choice<'_>) -> bool) -> Self {
        Self { large: Some(rule), ..self }
    }
    /// The same on devices that have this.
    pub const fn needs(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }
    /// The same with a source that uses `lib/half`.
    pub const fn rounds(self) -> Self {
        Self { rounds: true, ..self }
    }
    /// The same as a product of matrices.
    pub const fn product(self) -> Self {
        Self { product: true, ..self }
    }
    /// The same with a formula for the least work of a launch.
    pub const fn least(self, least: fn(&Args<'_>) -> Work) -> Self {
        Self { least: Some(least), ..self }
    }
    /// Hash of the WGSL. Tuning results are stored under it, so editing the shader discards what was measured for the
    /// old text.
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
    /// Whether a launch may choose these values, in the order of `consts`.
    pub fn admissible(&self, values: &[u32]) -> bool {
        let each = self.consts.iter().zip(values).all(|(known, value)| known.admits(*value));
        each && self.admits.is_none_or(|rule| rule(&Choice { consts: self.consts, values }))
    }
    /// Whether the portable source with these values takes more than 16 KiB of workgroup memory.
    pub fn is_large(&self, values: &[u32]) -> bool {
        self.large.is_some_and(|rule| rule(&Choice { consts: self.consts, values }))
    }
    /// Every admissible combination of the constants' values, in a fixed order; of ranges their samples.
    pub fn combinations(&self) -> impl Iterator<Item = Vec<u32>> + use<> {
        let this = *self;
        let count: usize = self.consts.iter().map(|known| known.values.len()).product();
        let nth = move |mut at: usize| -> Vec<u32> {
            let digit = |known: &Const| {
                let value = known.values[at % known.values.len()];
                at /= known.values.len();
                value
            };
            this.consts.iter().map(digit).collect()
        };
        (0..count).map(nth).filter(move |values| this.admissible(values))
    }
    /// Complete WGSL of a variant: directives and constants in front of the source, in one line.
    pub fn wgsl(&self, tiers: Tiers, nearest: bool, values: &[u32]) -> String {
        let source = self.subgroup.filter(|_| tiers.subgroup).unwrap_or(self.source);
        let mut text = String::from(self.needs.directives());
        if self.rounds {
            text.push_str(&format!("const NEAREST = {}u; ", u32::from(nearest)));
        }
        for (known, value) in self.consts.iter().zip(values) {
            text.push_str(&format!("const {} = {value}u; ", known.name));
        }
        text.push('\n');
        text.push_str(source);
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
        impl $crate::gpu::Scalars for $name {
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
