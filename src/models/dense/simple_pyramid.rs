//! The simple feature pyramid of ViTDet (Li et al. 2022): maps of strides 4 to 64 from one map of stride 16.

use crate::error::Result;
use crate::gpu::DType;
use crate::nn::{ConvConfig, ConvLayerNorm, Deconv, Init, LayerNorm, Params};
use crate::ops::activation::gelu;
use crate::ops::pool::{Windows, max_pool};
use crate::tape::{Recorder, Var};

/// The 1×1 and the 3×3 convolution that end each level, without activation.
#[derive(Debug, Clone)]
struct Ends([ConvLayerNorm; 2]);

impl Ends {
    /// Parameters `name.{at}` and `name.{at + 1}`.
    fn new(p: &mut Params, name: &str, at: usize, [inputs, outputs]: [usize; 2], eps: f32) -> Result<Self> {
        let conv = |p: &mut Params, at: usize, inputs, kernel| {
            let config = ConvConfig::dense(inputs, outputs, kernel, Init::FanIn(1.0));
            ConvLayerNorm::new(p, &format!("{name}.{at}"), config, eps)
        };
        Ok(Self([conv(p, at, inputs, 1)?, conv(p, at + 1, outputs, 3)?]))
    }

    fn forward(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        let x = self.0[0].forward(r, x)?;
        self.0[1].forward(r, &x)
    }
}

/// detectron2's `SimpleFeaturePyramid` with factors 4, 2, 1 and ½, and its `LastLevelMaxPool`.
#[derive(Debug, Clone)]
pub struct SimpleFeaturePyramid {
    quarter: (Deconv, LayerNorm, Deconv, Ends),
    half: (Deconv, Ends),
    same: Ends,
    double: Ends,
}

impl SimpleFeaturePyramid {
    /// Strides of the maps.
    pub const STRIDES: [usize; 5] = [4, 8, 16, 32, 64];

    /// Parameters `simfp_2` to `simfp_5`. d is a multiple of 4; `eps` is that of the layer norms, 1e-6 in detectron2.
    pub fn new(params: &mut Params, width: usize, outputs: usize, eps: f32) -> Result<Self> {
        let deconv = |p: &mut Params, name, inputs, to| Deconv::new(p, name, inputs, to, Init::FanIn(1.0));
        let quarter = (
            deconv(params, "simfp_2.0", width, width / 2)?,
            LayerNorm::new(params, "simfp_2.1", width / 2, eps)?,
            deconv(params, "simfp_2.3", width / 2, width / 4)?,
            Ends::new(params, "simfp_2", 4, [width / 4, outputs], eps)?,
        );
        let half = (
            deconv(params, "simfp_3.0", width, width / 2)?,
            Ends::new(params, "simfp_3", 1, [width / 2, outputs], eps)?,
        );
        let same = Ends::new(params, "simfp_4", 0, [width, outputs], eps)?;
        let double = Ends::new(params, "simfp_5", 1, [width, outputs], eps)?;
        Ok(Self { quarter, half, same, double })
    }

    /// The map (B, h, w, d) of stride 16 → p2 to p6, (B, 4h, 4w, O) to (B, ⌈h/4⌉, ⌈w/4⌉, O).
    pub fn forward(&self, r: &mut Recorder, x: &Var) -> Result<[Var; 5]> {
        let (first, norm, second, ends) = &self.quarter;
        let y = first.forward_as(r, x, DType::F32)?;
        let y = r.scope(&norm.name, |r| {
            let y = norm.forward(r, &y)?;
            gelu(r, &y)
        })?;
        let y = second.forward(r, &y)?;
        let p2 = ends.forward(r, &y)?;
        let y = self.half.0.forward(r, x)?;
        let p3 = self.half.1.forward(r, &y)?;
        let p4 = self.same.forward(r, x)?;
        let y = max_pool(r, x, Windows { kernel: [2; 2], stride: [2; 2], padding: [0; 2] })?;
        let p5 = self.double.forward(r, &y)?;
        // every second cell
        let p6 = max_pool(r, &p5, Windows { kernel: [1; 2], stride: [2; 2], padding: [0; 2] })?;
        Ok([p2, p3, p4, p5, p6])
    }
}
