//! box_refine: the step between two stages of a cascade. Maths: `shaders/box_refine.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{DType, Grid, Kernel, LaunchArgs, Work, params, read, scalars, wgsl, write};
use crate::tape::Recorder;
use crate::tensor::Tensor;

params! {
    /// Scalars of `box_refine.wgsl`.
    pub(crate) struct BoxRefine {
        n: u32, truths: u32, background: u32, stride: u32, threshold: f32,
        weight_x: f32, weight_y: f32, weight_w: f32, weight_h: f32,
        next_x: f32, next_y: f32, next_w: f32, next_h: f32,
    }
}

const FORWARD: Kernel = Kernel::new::<BoxRefine>(
    "box_refine.forward",
    wgsl!("box_refine", "grid"),
    &[
        read(1, "rois"),
        read(2, "deltas"),
        read(3, "sizes"),
        read(4, "valid"),
        read(5, "truths"),
        write(6, "moved"),
        write(7, "labels").u32(),
        write(8, "results"),
    ],
)
.least(pairs);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD];

/// Each box is compared with each truth of its sample.
fn pairs(launch: &LaunchArgs<'_>) -> Work {
    let p: BoxRefine = launch.scalars();
    Work { bytes: launch.bytes, ..Work::of(0, 20 * p.n as usize * p.truths as usize, 0) }
}

/// Constants of a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BoxStep {
    /// Weights of the deltas: x, y, width, height.
    pub weights: [f64; 4],
    /// Weights of the next stage's deltas, in which targets are written.
    pub next: [f64; 4],
    /// Least overlap (intersection over union) of a foreground box.
    pub threshold: f64,
    /// The label of the others: the number of classes.
    pub background: usize,
}

/// Boxes of the next stage and what they should become. Nothing has a gradient.
#[derive(Debug, Clone)]
pub struct RefinedBoxes {
    /// (R, 5): sample, then left, top, right, bottom. (0, 0, 1, 1) where not valid.
    pub rois: Tensor,
    /// (R): 1 or 0.
    pub valid: Tensor,
    /// (R): 1 where the box overlaps a truth enough.
    pub foreground: Tensor,
    /// (R) of u32: the truth's class, or the background, or `u32::MAX` where not valid.
    pub labels: Tensor,
    /// (R, 4): the deltas from box to truth where foreground, else 0.
    pub targets: Tensor,
}

/// Moves boxes by their deltas, clips them to their picture, and matches them with its truths.
///
/// With truths, boxes that lose their inside by clipping are not valid from here on: in training they leave the batch.
/// Without truths (`None`) boxes only move, and none is removed.
///
/// - Shapes: `rois` (R, 5): sample, then left, top, right, bottom; `deltas` (R, 4); `sizes` (B, 2): rows and columns of
///   pictures; `valid` (R); `truths` (B, G, 5): left, top, right, bottom, class, absent where the class is below 0.
/// - detectron2: `CascadeROIHeads._create_proposals_from_boxes` and `_match_and_label_boxes`.
/// - Source: Cai and Vasconcelos 2018 (Cascade R-CNN).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::box_refine::{BoxStep, refine_boxes}, tape::*, tensor::Tensor};
/// let rois = Tensor::from_slice(g, &[1, 5], &[0.0, 0.0, 0.0, 4.0, 4.0])?;
/// let deltas = Tensor::from_slice(g, &[1, 4], &[0.25, 0.0, 0.0, 0.0])?; // a quarter of its width to the right
/// let sizes = Tensor::from_slice(g, &[1, 2], &[8.0, 8.0])?;
/// let valid = Tensor::from_slice(g, &[1], &[1.0])?;
/// let truths = Tensor::from_slice(g, &[1, 1, 5], &[2.0, 0.0, 6.0, 4.0, 3.0])?; // of class 3
/// let step = BoxStep { weights: [1.0; 4], next: [10.0, 10.0, 5.0, 5.0], threshold: 0.5, background: 80 };
/// let mut r = Recorder::inference(g);
/// let next = refine_boxes(&mut r, &rois, &deltas, &sizes, &valid, Some(&truths), step)?;
/// r.run()?;
/// assert_eq!(next.rois.to_vec(g)?, [0.0, 1.0, 0.0, 5.0, 4.0]);
/// assert_eq!(next.labels.to_vec(g)?[0].to_bits(), 3);
/// assert_eq!(next.targets.to_vec(g)?, [2.5, 0.0, 0.0, 0.0]);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If shapes do not fit, or if there are no boxes.
pub fn refine_boxes(
    r: &mut Recorder, rois: &Tensor, deltas: &Tensor, sizes: &Tensor, valid: &Tensor, truths: Option<&Tensor>,
    step: BoxStep,
) -> Result<RefinedBoxes> {
    let [n, five] = rois.dims("refine_boxes: rois")?;
    if five != 5 || n == 0 {
        let got = format!("{:?}", rois.shape());
        return Err(Error::argument("refine_boxes: rois", got, "(R, 5), at least one"));
    }
    deltas.expect_shape("refine_boxes: deltas", &[n, 4])?;
    valid.expect_shape("refine_boxes: valid", &[n])?;
    let [samples, _] = sizes.dims("refine_boxes: sizes")?;
    sizes.expect_shape("refine_boxes: sizes", &[samples, 2])?;
    let each = match truths {
        Some(truths) => {
            let [_, each, _] = truths.dims("refine_boxes: truths")?;
            truths.expect_shape("refine_boxes: truths", &[samples, each.max(1), 5])?;
            each
        }
        None => 0,
    };
    let stride = n.next_multiple_of(64);
    let [weight_x, weight_y, weight_w, weight_h] = step.weights.map(|v| v as f32);
    let [next_x, next_y, next_w, next_h] = step.next.map(|v| v as f32);
    let p = scalars!(BoxRefine {
        n,
        truths: each,
        background: step.background,
        stride,
        threshold: step.threshold as f32,
        weight_x,
        weight_y,
        weight_w,
        weight_h,
        next_x,
        next_y,
        next_w,
        next_h,
    });
    let moved = Tensor::scratch("refined boxes", &[n, 5]);
    let labels = Tensor::scratch_of(DType::U32, "labels of boxes", &[n]);
    let results = Tensor::scratch("targets of boxes", &[6 * stride]);
    let args =
        [Some(rois), Some(deltas), Some(sizes), Some(valid), truths, Some(&moved), Some(&labels), Some(&results)];
    r.launch(&FORWARD, Grid::items(n, 64), &p, &args)?;
    Ok(RefinedBoxes {
        rois: moved,
        valid: results.range(5 * stride, &[n])?,
        foreground: results.range(4 * stride, &[n])?,
        labels,
        targets: results.range(0, &[n, 4])?,
    })
}
