//! Kernels as data: the name of a compute shader, its bindings, its scalars and its constants.

use super::caps::Tiers;
use super::choice::{Choice, Const};
use super::dtype::DType;
use super::scalars::{Field, Scalars};
use super::work::{LaunchArgs, Work};

/// How a kernel touches a storage buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>` whose old contents do not matter: the kernel writes every element that is read later.
    Write,
    /// `var<storage, read_write>` that the kernel reads and updates in place.
    Update,
}

/// The element type of a binding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// f32 always.
    F32,
    /// u32 always: indices, bytes.
    U32,
    /// f16 always, two in a word.
    F16,
    /// Words of mixed types, such as the `StepState`.
    Words,
    /// f16 if the constant of this name is 1, f32 if it is 0. `launch` sets the constant from the argument's type.
    F16If(&'static str),
    /// (constant, scalar): if the constant is 1, f16 in the words before the index that this scalar of `Params` holds,
    /// and f32 from there on. If it is 0, f32 throughout.
    F16Until(&'static str, &'static str),
}

impl Element {
    /// Whether elements are floats. [`Element::Words`] are not, so the search for NaN and infinity skips them.
    pub fn has_floats(self) -> bool {
        !matches!(self, Self::U32 | Self::Words)
    }
}

/// One storage buffer of a kernel. Binding 0 is always the uniform `Params` and has no `Bind`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind {
    /// Number in WGSL's `@binding`.
    pub number: u32,
    /// Name of the WGSL variable.
    pub name: &'static str,
    /// Whether the kernel reads, writes or updates it.
    pub access: Access,
    /// Element type.
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
    /// Sets the element type to u32.
    pub const fn u32(self) -> Self {
        Self { element: Element::U32, ..self }
    }
    /// Sets the element type to f16.
    pub const fn f16(self) -> Self {
        Self { element: Element::F16, ..self }
    }
    /// Sets the element type to [`Element::Words`].
    pub const fn words(self) -> Self {
        Self { element: Element::Words, ..self }
    }
    /// Sets the element type to f16 if `constant` is 1, else f32.
    pub const fn f16_if(self, constant: &'static str) -> Self {
        Self { element: Element::F16If(constant), ..self }
    }
    /// Sets the element type to [`Element::F16Until`]: if `constant` is 1, f16 up to the word whose index is in
    /// `scalar`.
    pub const fn f16_until(self, constant: &'static str, scalar: &'static str) -> Self {
        Self { element: Element::F16Until(constant, scalar), ..self }
    }
    /// Whether the kernel writes to the buffer.
    pub fn writes(self) -> bool {
        self.access != Access::Read
    }
    /// Whether the kernel reads what was in the buffer before.
    pub fn reads(self) -> bool {
        self.access != Access::Write
    }
    /// The constant of an [`Element::F16If`], which the argument's type sets.
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
    /// The types that may be bound, as text for an error.
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
    /// Subgroup operations. Only for kernels without a portable source; others use [`Kernel::subgroup`].
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

    /// The `enable` directives that WGSL requires at the top of the module.
    fn directives(self) -> &'static str {
        match (self.f16, self.coop) {
            (_, true) => "enable f16; enable wgpu_cooperative_matrix; ",
            (true, false) => "enable f16; ",
            (false, false) => "",
        }
    }
}

/// One entry point of a shader (a CUDA kernel), with all that the runtime, the tests, the browser's compiler check and
/// the tuner need to know about it. Nothing is inferred from the shader's text or from names.
#[derive(Debug, Clone, Copy)]
pub struct Kernel {
    /// `family.entry`: label of the pipeline and of every launch.
    pub name: &'static str,
    /// WGSL, without `enable` directives and without the constants of `consts`.
    pub source: &'static str,
    /// WGSL of the same entry point with subgroup reductions. It replaces `source` on devices with that tier.
    pub subgroup: Option<&'static str>,
    /// Layout of `Params` at binding 0.
    pub params: &'static [Field],
    /// The storage buffers in argument order.
    pub binds: &'static [Bind],
    /// The compile-time constants that a launch may choose, like template arguments in CUDA: tile sizes, state counts,
    /// f16 or f32.
    pub consts: &'static [Const],
    /// Whether a combination of the constants' values is allowed. `None` allows all combinations.
    pub admits: Option<fn(&Choice<'_>) -> bool>,
    /// Whether a variant of `source` uses more than the 16 KiB of workgroup memory that WebGPU guarantees.
    pub large: Option<fn(&Choice<'_>) -> bool>,
    /// Tiers and types that the device must support.
    pub needs: Needs,
    /// Whether the source uses `lib/half`. That library reads the constant `NEAREST`, which the device sets.
    pub rounds: bool,
    /// Whether it is a matrix product, whose variants the tuner measures.
    pub product: bool,
    /// Whether it is chosen on CPUs alone.
    pub for_cpus: bool,
    /// The least work of a launch. `None`: each bound element is moved once.
    pub least: Option<fn(&LaunchArgs<'_>) -> Work>,
}

impl Kernel {
    /// A kernel without constants and without a subgroup variant. `P` is its `Params`.
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
            for_cpus: false,
            least: None,
        }
    }
    /// Sets the source for the subgroup tier.
    pub const fn subgroup(self, source: &'static str) -> Self {
        Self { subgroup: Some(source), ..self }
    }
    /// Sets the constants that a launch may choose.
    pub const fn consts(self, consts: &'static [Const]) -> Self {
        Self { consts, ..self }
    }
    /// Sets the rule that tells which combinations of constants are allowed.
    pub const fn admits(self, rule: fn(&Choice<'_>) -> bool) -> Self {
        Self { admits: Some(rule), ..self }
    }
    /// Sets the rule that tells which variants of `source` use more than 16 KiB of workgroup memory.
    pub const fn large(self, rule: fn(&Choice<'_>) -> bool) -> Self {
        Self { large: Some(rule), ..self }
    }
    /// Sets the tiers and types that the device must support.
    pub const fn needs(self, needs: Needs) -> Self {
        Self { needs, ..self }
    }
    /// Declares that the source uses `lib/half`.
    pub const fn rounds(self) -> Self {
        Self { rounds: true, ..self }
    }
    /// Declares that the kernel is a matrix product, for the tuner.
    pub const fn product(self) -> Self {
        Self { product: true, ..self }
    }
    /// Declares that the kernel is chosen on CPUs alone, so that what a GPU's compiler makes of it says nothing.
    pub const fn for_cpus(self) -> Self {
        Self { for_cpus: true, ..self }
    }
    /// Sets the formula for the least work of a launch.
    pub const fn least(self, least: fn(&LaunchArgs<'_>) -> Work) -> Self {
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
    /// Whether a launch may choose these values. They are in the order of `consts`.
    pub fn admissible(&self, values: &[u32]) -> bool {
        let each = self.consts.iter().zip(values).all(|(known, value)| known.admits(*value));
        each && self.admits.is_none_or(|rule| rule(&Choice { consts: self.consts, values }))
    }
    /// Whether the portable source with these values of `consts` uses more than 16 KiB of workgroup memory.
    pub fn is_large(&self, values: &[u32]) -> bool {
        self.large.is_some_and(|rule| rule(&Choice { consts: self.consts, values }))
    }
    /// Every admissible combination of the constants' values, in a fixed order. A constant with a range contributes its
    /// samples only.
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
    /// Complete WGSL of a variant: one line with the directives and constants, then the source. `nearest` is
    /// [`super::Caps::nearest`]; `values` are those of `consts`, in order.
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

/// FNV-1a hash of a list of byte strings, with a separator after each. The standard library's hashes may differ from
/// build to build; this one is stored on disk, so it must not.
pub(super) fn hash(parts: &[&[u8]]) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    let part = |hash, part: &&[u8]| step(part.iter().fold(hash, |hash, &byte| step(hash, byte)), 0xff);
    parts.iter().fold(0xcbf2_9ce4_8422_2325, part)
}

/// WGSL source of an operator, followed by the libraries that it uses. Their order does not matter: WGSL allows a
/// declaration after its use.
macro_rules! wgsl {
    ($op:literal $(, $lib:literal)*) => {
        concat!(
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/", $op, ".wgsl"))
            $(, include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/shaders/lib/", $lib, ".wgsl")))*
        )
    };
}

pub(crate) use wgsl;

/// Numbers of workgroups of a launch in x, y and z: CUDA's `gridDim`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid(pub [u32; 3]);

impl Grid {
    /// Width in x of a folded grid. WebGPU allows at most 65535 workgroups per dimension, so a long one-dimensional
    /// grid continues in y. `shaders/lib/grid.wgsl` computes the flat index.
    pub const FOLD: u32 = 32_768;

    /// One workgroup per row, for at most 2^31 rows; folded.
    pub fn rows(rows: usize) -> Self {
        let rows = rows as u32;
        Self([rows.min(Self::FOLD), rows.div_ceil(Self::FOLD), 1])
    }
    /// One invocation (CUDA thread) per item, in workgroups of `size` invocations; folded.
    pub fn items(items: usize, size: usize) -> Self {
        Self::rows(items.div_ceil(size))
    }
    /// `x` × `y` × `z` workgroups.
    pub fn of(x: usize, y: usize, z: usize) -> Self {
        Self([x as u32, y as u32, z as u32])
    }
}
