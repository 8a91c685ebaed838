//! Random changes of a training image, byte for byte as PIL makes them. `pil.rs` compares each with PIL.
pub(crate) mod affine;
pub(crate) mod blur;
pub(crate) mod enhance;
pub(crate) mod erase;
pub(crate) mod jitter;
pub(crate) mod operation;
pub(crate) mod three;
pub(crate) mod tone;

pub(crate) use erase::erase;

/// A square image, changed in place.
pub(crate) struct Canvas<'a> {
    /// Pixels per row, which is also the number of rows.
    pub side: usize,
    /// side × side × 3 bytes.
    pub pixels: &'a mut [u8],
    /// A buffer that all operations on a thread share. Its content has no meaning between operations.
    pub spare: &'a mut Vec<u8>,
}

impl Canvas<'_> {
    /// Copies the pixels to `spare`, for operations that read neighbors after overwriting them.
    fn save(&mut self) {
        self.spare.clear();
        self.spare.extend_from_slice(self.pixels);
    }
}

/// The brightness of a pixel: ITU-R 601-2 luma in 16-bit fixed point, as PIL's `convert("L")`.
#[inline]
fn luma(rgb: &[u8]) -> u8 {
    ((19595 * u32::from(rgb[0]) + 38470 * u32::from(rgb[1]) + 7471 * u32::from(rgb[2]) + 0x8000) >> 16) as u8
}

/// `from` + `factor` · (`to` − `from`), clamped to a byte and truncated, as PIL's `Image.blend`. A factor above 1
/// extrapolates.
#[inline]
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    (f32::from(from) + factor * (f32::from(to) - f32::from(from))) as u8
}

#[cfg(test)]
pub(crate) mod pil;
