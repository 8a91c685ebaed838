//! patchify: launchers of images to patch rows. Layouts: `shaders/patchify.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{Grid, Kernel, params, read, wgsl, write};
use crate::tape::Recorder;
use crate::tensor::Tensor;

params! {
    /// Scalars of `patchify.wgsl`.
    pub struct Patchify {
        n: u32, c: u32, h: u32, w: u32, side: u32,
        scale_r: f32, scale_g: f32, scale_b: f32, shift_r: f32, shift_g: f32, shift_b: f32,
    }
}

const SRC: &str = wgsl!("patchify", "grid");
const FROM_U8: Kernel = Kernel::new::<Patchify>("patchify.from_u8", SRC, &[read(1, "bytes").u32(), write(3, "rows")]);
const FROM_NCHW: Kernel = Kernel::new::<Patchify>("patchify.from_nchw", SRC, &[read(2, "pixels"), write(3, "rows")]);

/// The kernels of this family.
pub const KERNELS: &[&Kernel] = &[&FROM_U8, &FROM_NCHW];

/// Bytes (B, H, W, 3), packed four to a u32 in memory order and padded to a whole word -> (v/255 - mean)/std as rows
/// (B, L, 3·P·P) in the order of a convolution weight (c, py, px). `size` is [B, H, W], `side` is P.
pub fn from_u8(
    r: &mut Recorder, images: &Tensor, size: [usize; 3], side: usize, mean: [f32; 3], std: [f32; 3],
) -> Result<Tensor> {
    let [b, h, w] = size;
    let words = (b * h * w * 3).div_ceil(4);
    if images.len() != words {
        let expected = format!("{words} words for {b} images of {h}x{w}x3 bytes");
        return Err(Error::argument("patchify: images", format!("{} words", images.len()), expected));
    }
    if !std.iter().all(|s| *s > 0.0 && s.is_finite()) {
        return Err(Error::argument("patchify: std", format!("{std:?}"), "positive numbers"));
    }
    let scale = std.map(|s| (1.0 / (255.0 * f64::from(s))) as f32);
    let shift = [0, 1, 2].map(|c| (-f64::from(mean[c]) / f64::from(std[c])) as f32);
    let [scale_r, scale_g, scale_b] = scale;
    let [shift_r, shift_g, shift_b] = shift;
    let p = Patchify { scale_r, scale_g, scale_b, shift_r, shift_g, shift_b, ..sizes([b, 3, h, w], side)? };
    rows(r, &FROM_U8, p, images, b)
}

/// Images (B, C, H, W) -> rows (B, L, C·P·P) in the order of a convolution weight, values as they are.
pub fn from_nchw(r: &mut Recorder, images: &Tensor, side: usize) -> Result<Tensor> {
    let size = images.dims("patchify: images")?;
    rows(r, &FROM_NCHW, sizes(size, side)?, images, size[0])
}

fn sizes([b, c, h, w]: [usize; 4], side: usize) -> Result<Patchify> {
    if side == 0 || h % side != 0 || w % side != 0 || b * c * h * w == 0 {
        let expected = format!("sides that are multiples of the patch side {side}");
        return Err(Error::argument("patchify: image size", format!("({b}, {c}, {h}, {w})"), expected));
    }
    let [n, c, h, w, side] = [b * c * h * w, c, h, w, side].map(|v| v as u32);
    Ok(Patchify { n, c, h, w, side, ..bytemuck::Zeroable::zeroed() })
}

fn rows(r: &mut Recorder, kernel: &'static Kernel, p: Patchify, images: &Tensor, b: usize) -> Result<Tensor> {
    let columns = (p.c * p.side * p.side) as usize;
    let rows = Tensor::scratch("patchify", &[b, p.n as usize / b / columns, columns]);
    r.launch(kernel, Grid::items(p.n as usize, 256), &p, &[images, &rows])?;
    Ok(rows)
}
