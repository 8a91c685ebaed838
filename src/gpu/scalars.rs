//! The scalar arguments of a launch: a struct in Rust that is the uniform `Params` in WGSL.

/// One scalar of a `Params` struct: name, byte offset, and type (`"u32"` or `"f32"`).
pub type Field = (&'static str, usize, &'static str);

/// The scalar arguments of a launch. The macro `params!` implements it.
pub trait Scalars: bytemuck::Pod {
    /// Layout of the struct. `tests/shaders.rs` compares it with the WGSL struct.
    const FIELDS: &'static [Field];
}

/// Declares a `repr(C)` struct of scalars and its [`Scalars`] layout, which `tests/shaders.rs` compares with the WGSL
/// `Params`.
macro_rules! params {
    ($(#[$doc:meta])* $vis:vis struct $name:ident { $($(#[$of:meta])* $field:ident: $ty:ident),* $(,)? }) => {
        $(#[$doc])*
        #[repr(C)]
        #[derive(Debug, Clone, Copy, bytemuck::Pod, bytemuck::Zeroable)]
        $vis struct $name { $($(#[$of])* $vis $field: $ty),* }
        impl $crate::gpu::Scalars for $name {
            const FIELDS: &'static [$crate::gpu::Field] =
                &[$((stringify!($field), std::mem::offset_of!($name, $field), stringify!($ty))),*];
        }
    };
}

/// A value of a [`params!`] struct whose fields take what an operator has at hand: sizes (`usize`) and flags (`bool`)
/// become u32. A size above u32::MAX, which no buffer of a GPU holds, becomes u32::MAX rather than a smaller number.
macro_rules! scalars {
    ($name:ident { $($field:ident $(: $value:expr)?,)* ..$rest:expr }) => {
        $name { $($field: $crate::gpu::Scalar::scalar($crate::gpu::scalars!(@ $field $($value)?)),)* ..$rest }
    };
    ($name:ident { $($field:ident $(: $value:expr)?),* $(,)? }) => {
        $name { $($field: $crate::gpu::Scalar::scalar($crate::gpu::scalars!(@ $field $($value)?))),* }
    };
    (@ $field:ident) => { $field };
    (@ $field:ident $value:expr) => { $value };
}

/// What becomes a field of a [`params!`] struct, u32 or f32, in [`scalars!`].
pub(crate) trait Scalar<T> {
    fn scalar(self) -> T;
}

impl Scalar<Self> for f32 {
    fn scalar(self) -> Self {
        self
    }
}

impl Scalar<Self> for u32 {
    fn scalar(self) -> Self {
        self
    }
}

impl Scalar<u32> for usize {
    fn scalar(self) -> u32 {
        u32::try_from(self).unwrap_or(u32::MAX)
    }
}

impl Scalar<u32> for bool {
    fn scalar(self) -> u32 {
        self.into()
    }
}

// literals
impl Scalar<u32> for i32 {
    fn scalar(self) -> u32 {
        u32::try_from(self).unwrap_or(u32::MAX)
    }
}

pub(crate) use {params, scalars};
