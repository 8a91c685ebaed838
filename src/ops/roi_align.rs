//! roi_align: pooling of boxes from the levels of a pyramid. Maths: `shaders/roi_align.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{Bind, Const, Grid, Kernel, LaunchArgs, Work, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `roi_align.wgsl`.
    pub(crate) struct RoiAlign {
        n: u32, rois: u32, words: u32, rows: u32, cols: u32, samples: u32, is_aligned: u32, level: u32,
        h0: u32, w0: u32, h1: u32, w1: u32, h2: u32, w2: u32, h3: u32, w3: u32,
        scale0: f32, scale1: f32, scale2: f32, scale3: f32, area1: f32, area2: f32, area3: f32, gradient: f32,
    }
}

const CONSTS: &[Const] = &[Const::of("VEC", &[1, 0])];
const fn kernel(name: &'static str, binds: &'static [Bind]) -> Kernel {
    Kernel::new::<RoiAlign>(name, wgsl!("roi_align", "grid"), binds).consts(CONSTS)
}
const FORWARD: Kernel = kernel(
    "roi_align.forward",
    &[read(1, "f0"), read(2, "f1"), read(3, "f2"), read(4, "f3"), read(5, "rois"), write(6, "y")],
)
.least(|x| Work::bytes(4 * (x.len("rois") + 2 * x.len("y"))));
const BACKWARD: Kernel =
    kernel("roi_align.backward", &[read(5, "rois"), read(7, "dy"), write(6, "y")]).least(least_backward);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD];

/// The boxes of a level are those that a launch finds: at least its share of dy is read.
fn least_backward(launch: &LaunchArgs<'_>) -> Work {
    Work::bytes(4 * (launch.len("rois") + launch.len("y")))
}

/// Most levels of a pyramid: a storage buffer each, beside boxes and result.
const LEVELS: usize = 4;

/// How boxes are pooled. [`RoiAlignOptions::new`] has the settings of detectron2's ViTDet.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RoiAlignOptions {
    /// Rows and columns of the result, 1 to 64.
    pub output: [usize; 2],
    /// Samples of a bin in each direction; 0 for one per cell of the map that the bin covers (`sampling_ratio`).
    pub samples: usize,
    /// Whether the center of a pixel lies at ½, as it should, or at 0 (`aligned`).
    pub aligned: bool,
    /// Side of the boxes at the lower end of the canonical level, in pixels.
    pub canonical_size: f64,
    /// The canonical level; a level of stride s has the number log2 s.
    pub canonical_level: f64,
    /// What the gradients of the maps are multiplied by: 1/3 in a cascade of three heads.
    pub gradient: f32,
}

impl RoiAlignOptions {
    /// `ROIAlignV2` with adaptive samples; boxes of 224 pixels are pooled from stride 16.
    pub fn new(output: [usize; 2]) -> Self {
        Self { output, samples: 0, aligned: true, canonical_size: 224.0, canonical_level: 4.0, gradient: 1.0 }
    }

    /// The areas from which on boxes belong to the second, third and fourth level, in squared pixels. The first of
    /// `strides` is that of the lowest level.
    pub fn areas(&self, strides: &[f64]) -> [f32; LEVELS - 1] {
        let lowest = strides.first().map_or(0.0, |stride| stride.log2().round());
        [1, 2, 3].map(|i| match i < strides.len() {
            // ⌊canonical level + log2(√area/size + 1e-8)⌋ ≥ level
            true => {
                let side = (lowest + i as f64 - self.canonical_level).exp2() - 1e-8;
                (self.canonical_size * side).powi(2) as f32
            }
            false => f32::MAX,
        })
    }

    /// Index of the level from which a box is pooled. Boxes are left, top, right, bottom.
    pub fn level(&self, strides: &[f64], [x0, y0, x1, y1]: [f32; 4]) -> usize {
        let area = ((x1 - x0) * (y1 - y0)).max(0.0);
        self.areas(strides).into_iter().filter(|least| area >= *least).count()
    }
}

/// Each box as a small map, pooled from the level of the pyramid that fits its size.
///
/// A level is a map and its stride in pixels; each has twice the stride of the one before. Boxes have no gradient.
///
/// - Shapes: maps (B, H, W, C), one for each of one to four strides, `rois` (R, 5): index of the sample, then left,
///   top, right, bottom in pixels → (R, `output`.., C).
/// - PyTorch: `torchvision.ops.roi_align(x, rois, output, 1 / stride, samples, aligned)` for one level; detectron2's
///   `ROIPooler` for several.
/// - Source: He et al. 2017 (Mask R-CNN); Lin et al. 2017 (levels).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::roi_align::{RoiAlignOptions, roi_align}, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 4, 4, 1], &std::array::from_fn::<f32, 16, _>(|i| i as f32))?);
/// let rois = Tensor::from_slice(g, &[1, 5], &[0.0, 1.0, 1.0, 9.0, 5.0])?;
/// let mut r = Recorder::inference(g);
/// let y = roi_align(&mut r, &[(&x, 2.0)], &rois, RoiAlignOptions::new([2, 2]))?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [3.0, 4.75, 7.0, 8.75]);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If there are no levels or more than four, if maps differ in samples or channels, if a stride is not twice the one
/// before, if `output` is not 1 to 64 bins, or if there are no boxes.
pub fn roi_align(r: &mut Recorder, levels: &[(&Var, f64)], rois: &Tensor, options: RoiAlignOptions) -> Result<Var> {
    let RoiAlignOptions { output: [rows, cols], samples, aligned, gradient, .. } = options;
    let [count, five] = rois.dims("roi_align: rois")?;
    if five != 5 || count == 0 {
        let got = format!("{:?}", rois.shape());
        return Err(Error::argument("roi_align: rois", got, "(R, 5), at least one"));
    }
    if ![rows, cols].iter().all(|side| (1..=64).contains(side)) {
        return Err(Error::argument("roi_align: output", format!("{rows}×{cols}"), "1×1 to 64×64"));
    }
    let strides: Vec<f64> = levels.iter().map(|(_, stride)| *stride).collect();
    let doubled = strides.windows(2).all(|pair| pair[1] == 2.0 * pair[0]);
    if strides.is_empty() || strides.len() > LEVELS || !doubled || strides[0] <= 0.0 {
        let expected = format!("one to {LEVELS}, each twice the one before");
        return Err(Error::argument("roi_align: strides", format!("{strides:?}"), expected));
    }
    let [b, _, _, c] = levels[0].0.data.dims("roi_align: map")?;
    let mut sizes = [[1usize; 2]; LEVELS];
    for (size, (map, _)) in sizes.iter_mut().zip(levels) {
        let [samples, h, w, channels] = map.data.dims("roi_align: map")?;
        if [samples, channels] != [b, c] || map.data.is_empty() || map.data.is_f16() {
            let got = format!("{:?} {:?}", map.data.dtype(), map.data.shape());
            return Err(Error::argument("roi_align: map", got, format!("F32 ({b}, H, W, {c}), not empty")));
        }
        *size = [h, w];
    }
    let quads = c.is_multiple_of(4);
    let consts = [("VEC", u32::from(quads))];
    let words = if quads { c / 4 } else { c };
    let n = count * rows * cols * words;
    let scale = |i: usize| strides.get(i).map_or(1.0, |stride| 1.0 / stride) as f32;
    let [[h0, w0], [h1, w1], [h2, w2], [h3, w3]] = sizes;
    let [area1, area2, area3] = options.areas(&strides);
    let p = scalars!(RoiAlign {
        n,
        rois: count,
        words,
        rows,
        cols,
        samples,
        is_aligned: aligned,
        level: 0,
        h0,
        w0,
        h1,
        w1,
        h2,
        w2,
        h3,
        w3,
        scale0: scale(0),
        scale1: scale(1),
        scale2: scale(2),
        scale3: scale(3),
        area1,
        area2,
        area3,
        gradient,
    });
    let y = Tensor::scratch("pooled boxes", &[count, rows, cols, c]);
    let map = |i: usize| levels.get(i).map(|(map, _)| &map.data);
    r.launch_with(&FORWARD, &consts, Grid::items(n, 256), &p, &[map(0), map(1), map(2), map(3), Some(rois), Some(&y)])?;
    let (maps, rois): (Vec<&Var>, Tensor) = (levels.iter().map(|(map, _)| *map).collect(), rois.clone());
    Ok(r.push(&maps[..], y, move |r, maps: Vec<Var>, dy, grads| {
        for (level, map) in maps.iter().enumerate().filter(|(_, map)| map.id() != 0) {
            let dx = grads.alloc(map);
            let [h, w] = sizes[level];
            let n = b * h.div_ceil(4) * w.div_ceil(4) * words.div_ceil(16);
            r.launch_with(&BACKWARD, &consts, Grid::rows(n), &scalars!(RoiAlign { n, level, ..p }), &[&rois, dy, &dx])?;
            grads.add(r, map, dx)?;
        }
        Ok(())
    }))
}
