//! Momentum contrast: MoCo v2 (Chen et al. 2020), as in Table 1 of MAP.
//!
//! The encoder has to recognize its own image in another crop, among the keys of the last thousands of images.
//! A slowly following copy of the encoder computes the keys (src/models/README.md, "Contrastive pretraining").

use super::objective::Objective;
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::backbones::Backbone;
use crate::models::config::Config;
use crate::nn::{Init, Linear, Params};
use crate::ops::activation::relu;
use crate::ops::info_nce::{enqueue, info_nce};
use crate::ops::l2_norm::l2_norm;
use crate::ops::reduce;
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

/// Numbers of a key.
const KEY: usize = 128;

/// The encoder, its follower and the queue of keys.
#[derive(Debug)]
pub struct Contrastive {
    query: Encoder,
    key: Encoder,
    /// The weights of the key encoder, in the layout of the query encoder's.
    pub keys: Params,
    /// The keys of the last steps, `queue` (K, 128).
    pub queue: Params,
    negatives: Tensor,
    temperature: f32,
}

/// A backbone and a projection of its pooled features.
#[derive(Debug, Clone)]
struct Encoder {
    backbone: Backbone,
    projector: [Linear; 2],
}

impl Contrastive {
    /// Parameters under the names of the backbone, and `projector`.
    pub fn new(g: &Gpu, params: &mut Params, config: &Config, objective: &Objective) -> Result<Self> {
        let (mut keys, mut queue) = (Params::new(g), Params::new(g));
        let shape = [objective.queue, KEY];
        let negatives = queue.add("queue", &shape, &shape, Init::Normal(1.0))?.data;
        Ok(Self {
            query: Encoder::new(g, params, config)?,
            key: Encoder::new(g, &mut keys, config)?,
            keys,
            queue,
            negatives,
            temperature: objective.temperature as f32,
        })
    }

    /// The encoder.
    pub fn encoder(&self) -> &Backbone {
        &self.query.backbone
    }

    /// Before the first step: the follower where the encoder with `params` is, and a queue of random directions.
    pub fn init(&self, g: &Gpu, params: &Params, seed: u64) -> Result<()> {
        for (to, from) in self.keys.flat().iter().zip(params.flat()) {
            to.weights.copy_from(g, &from.weights)?;
        }
        let mut queue = Init::Normal(1.0).values("queue", self.negatives.shape(), seed);
        for row in queue.chunks_exact_mut(KEY) {
            let norm = row.iter().map(|x| x * x).sum::<f32>().sqrt();
            row.iter_mut().for_each(|x| *x /= norm);
        }
        self.negatives.write(g, &queue)?;
        g.flush()
    }

    /// The loss, one number, and the keys of this step (B, 128), from patches of two crops (B, L, P·P·3).
    pub fn forward(
        &self, g: &Gpu, t: &mut Tape, [first, second]: [&Tensor; 2], drop_path: Option<&Tensor>,
    ) -> Result<(Var, Tensor)> {
        let queries = self.query.forward(g, t, first, drop_path)?; // (B, 128)
        let _scope = g.scope("key");
        let keys = self.key.forward(g, &mut Tape::off(), second, None)?.data; // (B, 128)
        let rows = info_nce(g, t, &queries, &keys, &self.negatives, self.temperature)?; // (B)
        Ok((reduce::sum(g, t, &rows)?, keys))
    }

    /// Puts the keys of a step in the place of the oldest; after backward, which reads the queue.
    pub fn enqueue(&self, g: &Gpu, state: &Tensor, keys: &Tensor) -> Result<()> {
        enqueue(g, state, keys, &self.negatives)
    }
}

impl Encoder {
    fn new(g: &Gpu, params: &mut Params, config: &Config) -> Result<Self> {
        let backbone = Backbone::new(g, params, config)?;
        let f = config.features();
        let mut linear = |name: &str, outputs| Linear::new(params, name, f, outputs, Init::FanIn(1.0));
        Ok(Self { backbone, projector: [linear("projector.0", f)?, linear("projector.2", KEY)?] })
    }

    /// Patches (B, L, P·P·3) → unit vectors (B, 128)
    fn forward(&self, g: &Gpu, t: &mut Tape, patches: &Tensor, drop_path: Option<&Tensor>) -> Result<Var> {
        let x = self.backbone.features(g, t, &Var::constant(patches.clone()), drop_path)?; // (B, F)
        let _scope = g.scope("projector");
        let [linear_0, linear_2] = &self.projector;
        let x = linear_0.forward(g, t, &x)?;
        let x = relu(g, t, &x)?;
        let x = linear_2.forward(g, t, &x)?;
        l2_norm(g, t, &x)
    }
}
