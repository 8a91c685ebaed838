//! The feature pyramid network (Lin et al. 2017): maps of strides 4 to 64 from a backbone's maps of strides 4 to 32.

use crate::error::{Error, Result};
use crate::nn::{ConvConfig, ConvLayerNorm, Init, Params};
use crate::ops::add::add;
use crate::ops::pool::{Windows, max_pool};
use crate::ops::upsample::nearest;
use crate::tape::{Recorder, Var};

/// detectron2's `FPN` with layer norms, as ViTDet has it behind hierarchical backbones, and its `LastLevelMaxPool`:
/// each map is a 1×1 convolution of the backbone's plus the doubled next coarser map, and a 3×3 convolution reads it.
#[derive(Debug, Clone)]
pub struct FeaturePyramid {
    laterals: Vec<ConvLayerNorm>,
    outs: Vec<ConvLayerNorm>,
}

impl FeaturePyramid {
    /// Parameters `fpn_lateral2` to `fpn_lateral5` and `fpn_output2` to `fpn_output5`, numbered by log₂ of the stride.
    /// `widths` are channels of the backbone's maps; `eps` is that of the layer norms, 1e-6 in detectron2.
    pub fn new(params: &mut Params, widths: [usize; 4], outputs: usize, eps: f32) -> Result<Self> {
        let mut conv = |name: String, inputs, kernel| {
            let uniform = Init::FanIn(3f32.sqrt()); // `c2_xavier_fill`
            ConvLayerNorm::new(params, &name, ConvConfig::dense(inputs, outputs, kernel, uniform), eps)
        };
        let levels = widths.into_iter().zip(2..);
        let laterals =
            levels.clone().map(|(width, i)| conv(format!("fpn_lateral{i}"), width, 1)).collect::<Result<_>>()?;
        let outs = levels.map(|(_, i)| conv(format!("fpn_output{i}"), outputs, 3)).collect::<Result<_>>()?;
        Ok(Self { laterals, outs })
    }

    /// Maps (B, h, w, C), each with half the sides of the one before → p2 to p6 with O channels.
    ///
    /// # Errors
    /// If a map has not half the sides of the one before.
    pub fn forward(&self, r: &mut Recorder, maps: &[Var; 4]) -> Result<[Var; 5]> {
        let (mut above, mut outs) = (None, Vec::new());
        for ((map, lateral), out) in maps.iter().zip(&self.laterals).zip(&self.outs).rev() {
            let mut x = lateral.forward(r, map)?;
            if let Some(above) = &above {
                let doubled = nearest(r, above)?;
                x = add(r, &x, &doubled)?;
            }
            outs.push(out.forward(r, &x)?);
            above = Some(x);
        }
        // every second cell
        outs.insert(0, max_pool(r, &outs[0], Windows { kernel: [1; 2], stride: [2; 2], padding: [0; 2] })?);
        outs.reverse();
        outs.try_into().map_err(|outs: Vec<_>| Error::argument("maps of a pyramid", outs.len(), 5))
    }
}
