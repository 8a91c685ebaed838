//! AdamW over a model's arenas: which weights decay, and the one launch per arena that updates them.

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Phase};
use crate::nn::{Entry, Params};
use crate::ops::adamw::{AdamwArrays, AdamwConfig, adamw, clip_factor};
use crate::ops::step::StepState;
use crate::tape::Grads;
use crate::tensor::Tensor;

/// Numbers of AdamW that do not change during a run.
#[derive(Debug, Clone, Copy, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct AdamWConfig {
    /// Decay of both moments.
    pub betas: (f64, f64),
    /// Added to the root of the second moment.
    pub eps: f64,
    /// Largest global gradient norm; none means no clipping.
    pub clip: Option<f64>,
}

/// Which weights decay (spec D-21).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DecayRule {
    /// Matrices of Linear and Conv layers only: no A, no D, no token, no position. Our default.
    #[default]
    Recommended,
    /// As the MAP repository with timm 0.4.12: all but 1-D tensors, biases and the positions and class tokens of the encoder.
    MapRepo,
}

impl DecayRule {
    /// Whether a parameter decays.
    pub fn decays(self, entry: &Entry) -> bool {
        let name = entry.name.as_str();
        let leaf = name.rsplit('.').next().unwrap_or(name);
        let parity =
            entry.shape.len() > 1 && leaf != "bias" && !["pos_embed", "cls_token", "pos_embed_cls"].contains(&name);
        let special = leaf.starts_with("A_") || ["mask_token", "decoder_pos_embed_learned"].contains(&name);
        parity && (self == Self::MapRepo || !special)
    }
}

/// AdamW with its tables on the GPU.
#[derive(Debug)]
pub struct Optimizer {
    state: Tensor,
    groups: Vec<Tensor>,
    table: Tensor,
    config: AdamWConfig,
}

impl Optimizer {
    /// An optimizer for the parameters that have a gradient in `grads`; the others are frozen: no update, no decay.
    pub fn new(
        g: &Gpu, params: &Params, grads: &Grads, config: AdamWConfig, weight_decay: impl Fn(&Entry) -> f64,
    ) -> Result<Self> {
        Self::with_state(g, params, grads, config, StepState::tensor(), weight_decay)
    }

    /// The same around a step state that other launches read too.
    pub fn with_state(
        g: &Gpu, params: &Params, grads: &Grads, config: AdamWConfig, state: Tensor,
        weight_decay: impl Fn(&Entry) -> f64,
    ) -> Result<Self> {
        // group 0 is frozen; one more for each different weight decay
        let mut decays: Vec<f64> = params.entries().iter().map(&weight_decay).collect();
        decays.sort_by(f64::total_cmp);
        decays.dedup();
        if decays.iter().any(|d| !d.is_finite() || *d < 0.0) {
            return Err(Error::argument("weight decay", format!("{decays:?}"), "finite and not negative"));
        }
        let group = |entry: &Entry| decays.iter().position(|d| *d == weight_decay(entry)).map_or(0, |at| at as u32 + 1);
        let rows: Vec<f32> = [0.0, 0.0].into_iter().chain(decays.iter().flat_map(|d| [1.0, *d as f32])).collect();
        let tables = (0..params.flat().len()).map(|arena| {
            let blocks = params.groups(arena, grads, group);
            Tensor::from_indices(g, &[blocks.len()], &blocks)
        });
        Ok(Self {
            state,
            groups: tables.collect::<Result<_>>()?,
            table: Tensor::from_slice(g, &[rows.len() / 2, 2], &rows)?,
            config,
        })
    }

    /// The buffer with everything that changes from step to step.
    pub fn state(&self) -> &Tensor {
        &self.state
    }

    /// Uploads the numbers of step `step`, counted from 0.
    pub fn set_step(&self, g: &Gpu, step: u64, lr: f64, seed: u64) -> Result<()> {
        StepState::new(step as u32 + 1, lr as f32, self.config.betas, seed).write(g, &self.state)
    }

    /// Launches one update of all weights. Returns (factor, gradient norm) if clipping is on.
    pub fn launch(&self, g: &Gpu, params: &Params) -> Result<Option<Tensor>> {
        let _phase = g.phase(Phase::Update);
        let _scope = g.scope("adamw");
        let flat = params.flat();
        let gradients: Vec<&Tensor> = flat.iter().map(|f| &f.gradients).collect();
        let clip = self.config.clip.map(|max| clip_factor(g, &gradients, max as f32)).transpose()?;
        let hyper = AdamwConfig { betas: self.config.betas, eps: self.config.eps as f32 };
        for (f, groups) in flat.iter().zip(&self.groups) {
            let arrays = AdamwArrays { p: &f.weights, grad: &f.gradients, m: &f.first_moment, v: &f.second_moment };
            adamw(g, &self.state, arrays, groups, &self.table, clip.as_ref(), hyper)?;
        }
        Ok(clip)
    }
}
