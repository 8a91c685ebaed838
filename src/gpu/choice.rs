//! Compile-time constants of kernels and their admissible values.

/// A WGSL `const` that a launch may choose, like a template argument in CUDA, with its admissible values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Const {
    /// Name in WGSL.
    pub name: &'static str,
    /// All admissible values, or samples of `range`. The first is the default, for launches that do not choose.
    pub values: &'static [u32],
    /// Least and largest admissible value, if `values` are samples. `None`: only `values` are admissible.
    pub range: Option<(u32, u32)>,
}

impl Const {
    /// A constant with these values.
    pub const fn of(name: &'static str, values: &'static [u32]) -> Self {
        Self { name, values, range: None }
    }
    /// A constant that is 0 (the default) or 1.
    pub const fn flag(name: &'static str) -> Self {
        Self::of(name, &[0, 1])
    }
    /// A constant with any value from `least` to `most`. Tests compile the shader with `samples`, the default first.
    pub const fn within(name: &'static str, least: u32, most: u32, samples: &'static [u32]) -> Self {
        Self { name, values: samples, range: Some((least, most)) }
    }
    /// The value of launches that do not choose one.
    pub fn default(self) -> u32 {
        self.values.first().copied().unwrap_or_default()
    }
    /// Whether a launch may choose this value.
    pub fn admits(self, value: u32) -> bool {
        self.range.map_or_else(|| self.values.contains(&value), |(least, most)| (least..=most).contains(&value))
    }
}

/// The values of a kernel's constants, by name.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    pub(super) consts: &'static [Const],
    pub(super) values: &'a [u32],
}

impl Choice<'_> {
    /// The value of a constant; 0 if the kernel has none of this name.
    pub fn get(&self, name: &str) -> u32 {
        let at = self.consts.iter().position(|known| known.name == name);
        at.and_then(|at| self.values.get(at)).copied().unwrap_or_default()
    }
}
