//! Momentum contrast: MoCo v2 (Chen et al. 2020), as in Table 1 of MAP.
//!
//! The encoder has to recognize its own image in another crop among the keys of the last thousands of images. A copy of
//! the encoder, which follows its weights slowly, computes the keys (src/models/README.md, "Contrastive pretraining").

use std::sync::Arc;

use super::objective::{Method, MethodFacts, Objective};
use super::pretext::{Pretext, StepResult};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::backbones::encoder::Purpose;
use crate::models::backbones::{Backbone, backbone};
use crate::models::batch::MaskedBatch;
use crate::models::config::Config;
use crate::models::unread::OF_DECODERS;
use crate::nn::{Init, Linear, Params};
use crate::ops::activation::relu;
use crate::ops::info_nce::{enqueue, info_nce};
use crate::ops::l2_norm::l2_norm;
use crate::ops::reduce;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

impl Method {
    /// Contrastive pretraining (MoCo v2): two crops of an image are to have similar features.
    pub const CONTRASTIVE: Self = Self(&MethodFacts {
        name: "contrastive",
        hides: false,
        mask_ratio: 0.0,
        crops: 2,
        predicts: false,
        any_target: false,
        unread: OF_DECODERS,
        check: |_, config| match config.features() {
            0 => {
                let expected = "registers, class tokens or the mean of tokens for `method` contrastive";
                Err(Error::argument("pooled features", 0, expected))
            }
            _ => Ok(()),
        },
        check_batches: |objective, batch, parts| {
            // the queue moves on once in a step, by the keys of all micro-batches
            let keys = batch.saturating_mul(parts);
            if objective.queue.is_multiple_of(keys) {
                return Ok(());
            }
            let expected = match parts {
                1 => format!("a multiple of `batch_size` {batch}"),
                _ => format!("a multiple of `batch_size` {batch} times `accum_iter` {parts}"),
            };
            Err(Error::argument("queue", objective.queue, expected))
        },
        ..MethodFacts::PLAIN
    });
}

/// Numbers of a key.
const KEY: usize = 128;

/// The encoder, its follower and the queue of keys.
#[derive(Debug)]
pub struct Contrastive {
    query: Projected,
    key: Projected,
    /// The weights of the key encoder, in the layout of the query encoder's.
    keys: Params,
    /// Holds `negatives` under the name `queue`.
    queue: Params,
    /// The keys of the last steps (K, 128).
    negatives: Tensor,
    /// The keys of a micro-batch (B, 128), in steps of several.
    fresh: Option<Tensor>,
    objective: Objective,
}

/// A backbone and a projection of its pooled features.
#[derive(Debug, Clone)]
struct Projected {
    backbone: Backbone,
    projector: [Linear; 2],
    /// `projector`
    name: Arc<str>,
}

impl Contrastive {
    /// Parameters under the names of the backbone, and `projector`.
    pub fn new(g: &Gpu, params: &mut Params, config: &Config, objective: &Objective) -> Result<Self> {
        let (mut keys, mut queue) = (Params::new(g), Params::new(g));
        let shape = [objective.queue, KEY];
        let negatives = queue.add("queue", &shape, &shape, Init::Normal(1.0))?.data;
        Ok(Self {
            query: Projected::new(g, params, config)?,
            key: Projected::new(g, &mut keys, config)?,
            keys,
            queue,
            negatives,
            fresh: None,
            objective: objective.clone(),
        })
    }
}

impl Pretext for Contrastive {
    fn method(&self) -> Method {
        self.objective.method
    }

    fn encoder(&self) -> &Backbone {
        &self.query.backbone
    }

    fn crops(&self) -> usize {
        2
    }

    /// The follower starts with the encoder's weights, and the queue with random directions.
    fn init(&self, g: &Gpu, params: &Params, seed: u64) -> Result<()> {
        let mut r = Recorder::new(g);
        for (to, from) in self.keys.flat_tensors().iter().zip(params.flat_tensors()) {
            to.copy_from(&mut r, &from)?;
        }
        let mut queue = Init::Normal(1.0).values("queue", self.negatives.shape(), seed);
        for row in queue.chunks_exact_mut(KEY) {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter_mut().for_each(|x| *x /= norm);
        }
        self.negatives.write(g, &queue)?;
        r.run()
    }

    fn companions(&self) -> Vec<(&'static str, &Params)> {
        vec![("keys.safetensors", &self.keys), ("queue.safetensors", &self.queue)]
    }

    fn followers(&self) -> Vec<(&Params, f64)> {
        vec![(&self.keys, self.objective.key_momentum)]
    }

    /// Keeps the keys of this step (B, 128).
    fn forward(
        &self, r: &mut Recorder, batch: &MaskedBatch, drop_path: Option<&Tensor>, _state: &Tensor,
    ) -> Result<StepResult> {
        let Some(second) = &batch.second else {
            return Err(Error::argument("batch", "one crop of each image", "two for contrastive pretraining"));
        };
        let queries = self.query.forward(r, &batch.patches, drop_path)?; // (B, 128)
        let temperature = self.objective.temperature as f32;
        r.scope("key", |r| {
            let keys = r.no_grad(|r| self.key.forward(r, second, None))?.data; // (B, 128)
            let rows = info_nce(r, &queries, &keys, &self.negatives, temperature)?; // (B)
            Ok(StepResult { loss: reduce::sum(r, &rows)?, kept: vec![keys] })
        })
    }

    /// Puts the keys of the step in the place of the oldest. The backward pass has read those by then.
    fn finish(&self, r: &mut Recorder, state: &Tensor, kept: &[Tensor]) -> Result<()> {
        kept.iter().try_for_each(|keys| enqueue(r, state, keys, &self.negatives))
    }

    fn collect(&mut self, batch: usize) -> Option<Tensor> {
        self.fresh = Some(Tensor::input("keys", &[batch, KEY]));
        self.fresh.clone()
    }

    fn keep(&self, r: &mut Recorder, kept: &[Tensor]) -> Result<()> {
        self.fresh.iter().zip(kept).try_for_each(|(fresh, keys)| fresh.copy_from(r, keys))
    }
}

impl Projected {
    fn new(g: &Gpu, params: &mut Params, config: &Config) -> Result<Self> {
        let backbone = backbone(g, params, config, Purpose::Classification)?;
        let f = config.features();
        params.scope("projector", |p| {
            let mut linear = |name: &str, outputs| Linear::new(p, name, f, outputs, Init::FanIn(1.0));
            Ok(Self { backbone, projector: [linear("0", f)?, linear("2", KEY)?], name: p.path() })
        })
    }

    /// Patches (B, L, P·P·3) → unit vectors (B, 128)
    fn forward(&self, r: &mut Recorder, patches: &Tensor, drop_path: Option<&Tensor>) -> Result<Var> {
        let x = self.backbone.features(r, &Var::constant(patches.clone()), drop_path)?; // (B, F)
        r.scope(&self.name, |r| {
            let [linear_0, linear_2] = &self.projector;
            let x = linear_0.forward(r, &x)?;
            let x = relu(r, &x)?;
            let x = linear_2.forward(r, &x)?;
            l2_norm(r, &x)
        })
    }
}
