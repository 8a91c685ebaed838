//! Constants of kernels and their admissible values.

/// A WGSL `const` that a launch may choose, with its admissible values; the first is taken where a launch names none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Const {
    /// Its name.
    pub name: &'static str,
    /// Every value, or samples of a range, the default first.
    pub values: &'static [u32],
    /// Least and largest value, where `values` are samples of a range.
    pub range: Option<(u32, u32)>,
}

impl Const {
    /// One of these values.
    pub const fn of(name: &'static str, values: &'static [u32]) -> Self {
        Self { name, values, range: None }
    }
    /// 0 or 1.
    pub const fn flag(name: &'static str) -> Self {
        Self::of(name, &[0, 1])
    }
    /// Any value from `least` to `most`; the shader is tried with `samples`.
    pub const fn within(name: &'static str, least: u32, most: u32, samples: &'static [u32]) -> Self {
        Self { name, values: samples, range: Some((least, most)) }
    }
    /// What it is where a launch names none.
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
