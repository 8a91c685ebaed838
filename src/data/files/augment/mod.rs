//! Random changes of a square image that leave its class alone, byte for byte as PIL has them.
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
    /// Pixels per row, and rows.
    pub side: usize,
    /// side × side × 3 bytes.
    pub pixels: &'a mut [u8],
    /// Memory that the operations on one thread share; any content.
    pub spare: &'a mut Vec<u8>,
}

impl Canvas<'_> {
    /// Copies the pixels to `spare`, for operations that read what they overwrite.
    fn save(&mut self) {
        self.spare.clear();
        self.spare.extend_from_slice(self.pixels);
    }
}

/// Luma of ITU-R 601-2 in 16-bit fixed point, as PIL's conversion to `L`.
#[inline]
fn luma(rgb: &[u8]) -> u8 {
    ((19595 * u32::from(rgb[0]) + 38470 * u32::from(rgb[1]) + 7471 * u32::from(rgb[2]) + 0x8000) >> 16) as u8
}

/// `from` + `factor` · (`to` − `from`), cut off like PIL's `Image.blend`; beyond 0 … 1 it extrapolates.
#[inline]
fn blend(from: u8, to: u8, factor: f32) -> u8 {
    (f32::from(from) + factor * (f32::from(to) - f32::from(from))) as u8
}

#[cfg(test)]
pub(crate) mod pil;
