//! AdamW over a model's arenas: which weights decay, and one launch per arena that updates all of its weights.

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Phase};
use crate::nn::{Entry, Params};
use crate::ops::adamw::{AdamwArrays, AdamwConfig, Factor, adamw, clip_factor, guard};
use crate::ops::loss_scale;
use crate::tape::{Grads, Recorder};
use crate::tensor::Tensor;

/// Which parameters decay (src/models/README.md, D-21 and D-25).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecayRule {
    /// Our default: matrices of Linear and Conv layers decay. A_log, D, biases, norms, tokens and positions do not.
    #[default]
    Recommended,
    /// The MAP repository with timm 0.4.12: all decay but 1-D tensors, biases, and the encoder's positions and class
    /// tokens.
    MapRepo,
    /// Vim's segmentation in mmsegmentation: all decay but 1-D tensors and biases. Positions do, because the code
    /// compares their bare name with full ones.
    Mmsegmentation,
    /// Vim's detection in detectron2: all decay but positions and the layer norms of transformer blocks. Biases do, and
    /// norms that detectron2 does not know: Mamba's RMS norms and those of the heads.
    Detectron2,
}

impl DecayRule {
    /// Whether a parameter decays.
    pub fn decays(self, entry: &Entry) -> bool {
        let name = entry.name.as_str();
        let leaf = name.rsplit('.').next().unwrap_or(name);
        let matrix = entry.shape.len() > 1 && leaf != "bias";
        // in a network for a dense task the backbone's names have something in front
        let is_own = |of: &str| ["pos_embed", "cls_token", "pos_embed_cls"].contains(&of);
        let special = leaf.starts_with("A_")
            || ["dt_projs_bias", "mask_token", "ar_token", "cls_token", "cls_pos", "decoder_pos_embed_learned"]
                .contains(&leaf)
            || leaf.starts_with("affine_");
        match self {
            Self::Recommended => matrix && !is_own(leaf) && !special,
            Self::MapRepo => matrix && !is_own(name),
            Self::Mmsegmentation => matrix,
            Self::Detectron2 => {
                let part = name.rsplit('.').nth(1).unwrap_or_default();
                let is_block_norm = name.split('.').any(|part| part == "blocks") && ["norm1", "norm2"].contains(&part);
                leaf != "pos_embed" && !is_block_norm
            }
        }
    }
}

/// A parameter group, as in `torch.optim`. Parameters with equal numbers share a row of the optimizer's table.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Group {
    /// Factor on the learning rate; 0 freezes the parameter.
    pub lr_scale: f64,
    /// Weight decay.
    pub weight_decay: f64,
}

/// AdamW, with its table of groups on the GPU.
#[derive(Debug)]
pub struct Optimizer {
    state: Tensor,
    groups: Vec<Tensor>,
    table: Tensor,
    config: AdamwConfig,
    clip: Option<f64>,
}

impl Optimizer {
    /// An optimizer for the parameters that have a gradient in `grads`. All others are frozen: no update, no decay.
    /// `clip` is the largest global gradient norm, as in `torch.nn.utils.clip_grad_norm_`; `None` does not clip.
    /// `state` is a [`StepState`](crate::ops::step::StepState), which other launches may read too.
    pub fn new(
        g: &Gpu, params: &Params, grads: &Grads, config: AdamwConfig, clip: Option<f64>, state: Tensor,
        group: impl Fn(&Entry) -> Group,
    ) -> Result<Self> {
        let mut rows = vec![Group { lr_scale: 0.0, weight_decay: 0.0 }]; // group 0 is frozen
        for found in params.entries().iter().map(&group) {
            let fine = |v: f64| v.is_finite() && v >= 0.0;
            if !fine(found.lr_scale) || !fine(found.weight_decay) {
                return Err(Error::argument("optimizer group", format!("{found:?}"), "finite and not negative"));
            }
            if !rows.contains(&found) {
                rows.push(found);
            }
        }
        let row = |entry: &Entry| rows.iter().position(|row| *row == group(entry)).unwrap_or(0) as u32;
        let tables = (0..params.flat().len()).map(|arena| {
            let blocks = params.groups(arena, grads, row);
            Tensor::from_indices(g, &[blocks.len()], &blocks)
        });
        let values: Vec<f32> = rows.iter().flat_map(|row| [row.lr_scale as f32, row.weight_decay as f32]).collect();
        Ok(Self {
            state,
            groups: tables.collect::<Result<_>>()?,
            table: Tensor::from_slice(g, &[rows.len(), 2], &values)?,
            config,
            clip,
        })
    }

    /// Launches a check of `loss`. If a number in it is not finite, all later updates do nothing, so that the weights
    /// stay those before the bad step.
    pub fn guard(&self, r: &mut Recorder, loss: &Tensor) -> Result<()> {
        r.phase(Phase::Update, |r| guard(r, loss, &self.table))
    }

    /// Launches one update of all weights. `gradients` holds one flat tensor per arena; `scaling` is the state of
    /// [`loss_scale`], whose factor is taken out of them. Returns the tensor (factor, gradient norm, …) if clipping or
    /// scaling is on.
    pub fn launch(
        &self, r: &mut Recorder, params: &Params, gradients: &[Tensor], scaling: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        r.phase(Phase::Update, |r| r.scope("adamw", |r| self.step(r, params, gradients, scaling)))
    }

    fn step(
        &self, r: &mut Recorder, params: &Params, gradients: &[Tensor], scaling: Option<&Tensor>,
    ) -> Result<Option<Tensor>> {
        let all: Vec<&Tensor> = gradients.iter().collect();
        let (betas, max) = (self.config.betas, self.clip.map(|max| max as f32));
        let clip = match (scaling, max) {
            (Some(state), max) => Some(loss_scale::judge(r, state, &all, betas, max.unwrap_or(f32::INFINITY))?),
            (None, Some(max)) => Some(clip_factor(r, &all, max)?),
            (None, None) => None,
        };
        let factor = match &clip {
            Some(clip) if scaling.is_some() => Factor::Scaled(clip),
            Some(clip) => Factor::Clipped(clip),
            None => Factor::One,
        };
        for ((f, grad), groups) in params.flat().iter().zip(gradients).zip(&self.groups) {
            let arrays = AdamwArrays { p: &f.weights, grad, m: &f.first_moment, v: &f.second_moment };
            adamw(r, &self.state, arrays, groups, &self.table, factor, self.config)?;
        }
        Ok(clip)
    }
}
