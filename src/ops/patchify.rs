//! patchify: images to one row per patch. Layouts: `shaders/patchify.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{Grid, Kernel, params, read, scalars, wgsl, write};
use crate::tape::Recorder;
use crate::tensor::Tensor;

params! {
    /// Scalars of `patchify.wgsl`.
    pub(crate) struct Patchify {
        n: u32, c: u32, h: u32, w: u32, side: u32, hide: u32,
        scale_r: f32, scale_g: f32, scale_b: f32, shift_r: f32, shift_g: f32, shift_b: f32,
    }
}

const SRC: &str = wgsl!("patchify", "grid");
const FROM_U8: Kernel = Kernel::new::<Patchify>("patchify.from_u8", SRC, &[read(1, "bytes").u32(), write(3, "rows")]);
const FROM_NCHW: Kernel = Kernel::new::<Patchify>("patchify.from_nchw", SRC, &[read(2, "pixels"), write(3, "rows")]);
const TO_MAP: Kernel =
    Kernel::new::<Patchify>("patchify.to_map", SRC, &[read(4, "saved_rows"), read(5, "inv").u32(), write(6, "image")]);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FROM_U8, &FROM_NCHW, &TO_MAP];

/// Patches of RGB images in bytes, normalized: (v/255 − mean)/std.
///
/// The values of a patch are in the order of a convolution weight (channel, y, x), so that timm's `PatchEmbed` is a
/// linear layer on the rows. `size` is [B, H, W] and `side` is P. There is no gradient.
///
/// - Shapes: `images` (B, H, W, 3) bytes as u32 words, four bytes in a word in the order of memory, the last word
///   padded → (B, L, 3·P·P), L = (H/P)·(W/P).
/// - torchvision: `Normalize(mean, std)(ToTensor()(image))`, then PyTorch: `F.unfold(images, P, stride=P).mT`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::patchify::from_u8, tape::*, tensor::Tensor};
/// // two pixels, red and blue: bytes 255 0 0 | 0 0 255
/// let images = Tensor::from_indices(g, &[2], &[0x0000_00ff, 0x0000_ff00])?;
/// let mut r = Recorder::inference(g);
/// let rows = from_u8(&mut r, &images, [1, 1, 2], 1, [0.5; 3], [0.5; 3])?;
/// r.run()?;
/// assert_close(&rows.to_vec(g)?, &[1.0, -1.0, -1.0, -1.0, -1.0, 1.0], 1e-6);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If P does not divide H and W, if `images` has another number of words, or if a `std` is not above 0.
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

/// Patches of images in floats, values unchanged.
///
/// The values of a patch are in the order of a convolution weight (channel, y, x), so that timm's `PatchEmbed` is a
/// linear layer on the rows. `side` is P. There is no gradient.
///
/// - Shapes: `images` (B, C, H, W) → (B, L, C·P·P), L = (H/P)·(W/P).
/// - PyTorch: `F.unfold(images, P, stride=P).mT`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::patchify::from_nchw, tape::*, tensor::Tensor};
/// let images = Tensor::from_slice(g, &[1, 1, 2, 4], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0])?;
/// let mut r = Recorder::inference(g);
/// let rows = from_nchw(&mut r, &images, 2)?;
/// r.run()?;
/// assert_eq!(rows.to_vec(g)?, [0.0, 1.0, 4.0, 5.0, 2.0, 3.0, 6.0, 7.0]);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If P does not divide H and W.
pub fn from_nchw(r: &mut Recorder, images: &Tensor, side: usize) -> Result<Tensor> {
    let size = images.dims("patchify: images")?;
    rows(r, &FROM_NCHW, sizes(size, side)?, images, size[0])
}

/// The image of patches, channels last: the way back from [`from_nchw`] and [`from_u8`].
///
/// `grid` has the rows and columns of patches. With `inv`, the pixels of hidden patches are 0: the table has for each
/// patch its place among the visible ones, or `u32::MAX` if it is hidden. There is no gradient.
///
/// - Shapes: `patches` (B, L, 3·P·P), L = `grid[0]`·`grid[1]`, `inv` (B, L) → (B, H, W, 3).
/// - PyTorch: `F.fold(patches.mT, (H, W), P, stride=P).permute(0, 2, 3, 1)`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::patchify::to_map, tape::*, tensor::Tensor};
/// let patches = Tensor::from_slice(g, &[1, 2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?; // of one pixel each
/// let inv = Tensor::from_indices(g, &[1, 2], &[u32::MAX, 0])?;
/// let mut r = Recorder::inference(g);
/// let image = to_map(&mut r, &patches, Some(&inv), [1, 2])?;
/// r.run()?;
/// assert_eq!((image.shape(), image.to_vec(g)?), (&[1, 1, 2, 3][..], vec![0.0, 0.0, 0.0, 4.0, 5.0, 6.0]));
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If the patches are not square, or not those of the grid.
pub fn to_map(r: &mut Recorder, patches: &Tensor, inv: Option<&Tensor>, grid: [usize; 2]) -> Result<Tensor> {
    let [b, l, values] = patches.dims("patchify: patches")?;
    let side = (values / 3).isqrt();
    if values != 3 * side * side || l != grid[0] * grid[1] || patches.is_empty() {
        let expected = format!("(B, {}, 3·P·P)", grid[0] * grid[1]);
        return Err(Error::argument("patchify: patches", format!("{:?}", patches.shape()), expected));
    }
    inv.map_or(Ok(()), |inv| inv.expect_shape("patchify: inv", &[b, l]))?;
    let [h, w] = grid.map(|patches| patches * side);
    let image = Tensor::scratch("image", &[b, h, w, 3]);
    let p = Patchify { hide: inv.is_some().into(), ..sizes([b, 3, h, w], side)? };
    r.launch(&TO_MAP, Grid::items(p.n as usize, 256), &p, &[Some(patches), inv, Some(&image)])?;
    Ok(image)
}

fn sizes([b, c, h, w]: [usize; 4], side: usize) -> Result<Patchify> {
    if side == 0 || h % side != 0 || w % side != 0 || b * c * h * w == 0 {
        let expected = format!("sides that are multiples of the patch side {side}");
        return Err(Error::argument("patchify: image size", format!("({b}, {c}, {h}, {w})"), expected));
    }
    Ok(scalars!(Patchify { n: b * c * h * w, c, h, w, side, ..bytemuck::Zeroable::zeroed() }))
}

fn rows(r: &mut Recorder, kernel: &'static Kernel, p: Patchify, images: &Tensor, b: usize) -> Result<Tensor> {
    let columns = (p.c * p.side * p.side) as usize;
    let rows = Tensor::scratch("patchify", &[b, p.n as usize / b / columns, columns]);
    r.launch(kernel, Grid::items(p.n as usize, 256), &p, &[images, &rows])?;
    Ok(rows)
}
