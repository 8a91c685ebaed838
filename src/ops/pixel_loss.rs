//! pixel_loss: the loss of segmentation. Maths: `shaders/pixel_loss.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{Bind, Const, Grid, Kernel, LaunchArgs, Work, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `pixel_loss.wgsl`.
    pub(crate) struct PixelLoss {
        n: u32, elements: u32, h: u32, w: u32, rows: u32, cols: u32, k: u32, groups: u32, all: f32,
    }
}

/// Only [`FINISH`] reads LABELED.
const UNUSED: &[Const] = &[Const::of("LABELED", &[0])];
const fn kernel(name: &'static str, binds: &'static [Bind]) -> Kernel {
    Kernel::new::<PixelLoss>(name, wgsl!("pixel_loss", "grid", "reduce"), binds).consts(UNUSED)
}
const FORWARD: Kernel =
    kernel("pixel_loss.forward", &[read(1, "z"), read(2, "labels").u32(), write(3, "stat"), write(4, "part")])
        .least(|x| of_pixels(x, 1));
const FINISH: Kernel = kernel("pixel_loss.finish", &[read(5, "parts"), write(6, "loss"), write(7, "scale")])
    .consts(&[Const::of("LABELED", &[0, 1])]);
const BACKWARD: Kernel = kernel(
    "pixel_loss.backward",
    &[
        read(1, "z"),
        read(2, "labels").u32(),
        read(8, "saved_stat"),
        read(9, "saved_scale"),
        read(10, "dloss"),
        write(11, "dz"),
    ],
)
.least(|x| of_pixels(x, 4));

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD, &FINISH, &BACKWARD];

/// Each array is moved once. A score is interpolated of four and goes through one exponential; `times` says how often.
fn of_pixels(launch: &LaunchArgs<'_>, times: usize) -> Work {
    let p: PixelLoss = launch.scalars();
    let scores = p.n as usize * p.k as usize * times;
    Work { bytes: launch.bytes, ..Work::of(0, 9 * scores, scores) }
}

/// Most pixels of labels that an element of z visits: about (2·side/small side)².
const MOST: usize = 32_768;

/// What the sum over pixels is divided by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PixelMean {
    /// All pixels, also those that are ignored: mmsegmentation's default.
    #[default]
    All,
    /// The pixels that have a label, plus 2⁻²³: mmsegmentation's `avg_non_ignore`. Without labels the loss is 0.
    Labeled,
}

/// Cross-entropy of the pixels of a label map against scores of another size, which are interpolated to it.
///
/// Labels that are not below K are ignored. Interpolation is part of the operator, so that no scores of the size of the
/// labels are stored. Equal sizes are not interpolated: with h = H = 1 it is the cross-entropy of W rows.
///
/// - Shapes: z (B, h, w, K), `labels` (B, H, W) of u32 → (1).
/// - PyTorch: `s = F.interpolate(z, (H, W), mode="bilinear")`, then `F.cross_entropy(s, labels, ignore_index=255,
///   reduction="sum")` divided by `labels.numel()`, or by the number of labels that are not ignored.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::pixel_loss::{PixelMean, pixel_cross_entropy}, tape::*, tensor::Tensor};
/// let z = Var::leaf(Tensor::from_slice(g, &[1, 1, 1, 2], &[3.0, 3.0])?); // one pixel, two classes
/// let labels = Tensor::from_indices(g, &[1, 1, 2], &[1, 255])?; // the second is ignored
/// let mut r = Recorder::new(g);
/// let loss = pixel_cross_entropy(&mut r, &z, &labels, PixelMean::All)?;
/// let grads = r.backward(&loss, Grads::default())?;
/// r.run()?;
/// assert_close(&loss.data.to_vec(g)?, &[0.6931 / 2.0], 1e-4);
/// assert_close(&grads.get(&z).unwrap().to_vec(g)?, &[0.25, -0.25], 1e-6);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If samples differ, if a map is empty, or if labels are more than about 90 times as large as scores in both
/// directions.
pub fn pixel_cross_entropy(r: &mut Recorder, z: &Var, labels: &Tensor, mean: PixelMean) -> Result<Var> {
    let [b, h, w, k] = z.data.dims("pixel_cross_entropy: z")?;
    let [samples, rows, cols] = labels.dims("pixel_cross_entropy: labels")?;
    if samples != b || z.data.is_empty() || labels.is_empty() {
        let got = format!("{:?} and labels {:?}", z.data.shape(), labels.shape());
        return Err(Error::argument("pixel_cross_entropy: z", got, "maps of as many samples, not empty"));
    }
    let sides = [h, w, rows, cols];
    if sides.iter().any(|side| *side > MOST) || (2 * rows / h + 4) * (2 * cols / w + 4) > MOST {
        // a list of rows is one row of pixels, of any length
        let is_list = h == 1 && rows == 1 && w == cols && w <= 1 << 24;
        if !is_list {
            let got = format!("{h}×{w} scores of {rows}×{cols} labels");
            return Err(Error::argument("pixel_cross_entropy: size", got, "labels up to about 90 times as large"));
        }
    }
    let n = labels.len();
    let (elements, groups) = (z.data.len(), n.div_ceil(256));
    let p = scalars!(PixelLoss { n, elements, h, w, rows, cols, k, groups, all: n as f32 });
    let (stat, part) = (Tensor::scratch("pixel statistics", &[n, 2]), Tensor::scratch("pixel losses", &[groups, 2]));
    let (loss, scale) = (Tensor::scratch("pixel loss", &[1]), Tensor::scratch("share of a pixel", &[1]));
    r.launch(&FORWARD, Grid::items(n, 256), &p, &[&z.data, labels, &stat, &part])?;
    let consts = [("LABELED", u32::from(mean == PixelMean::Labeled))];
    r.launch_with(&FINISH, &consts, Grid::rows(1), &p, &[&part, &loss, &scale])?;
    let labels = labels.clone();
    Ok(r.push(z, loss, move |r, z, dloss, grads| {
        let dz = grads.alloc(&z);
        let args = [&z.data, &labels, &stat, &scale, dloss, &dz];
        r.launch(&BACKWARD, Grid::items(elements, 256), &p, &args)?;
        grads.add(r, &z, dz)
    }))
}
