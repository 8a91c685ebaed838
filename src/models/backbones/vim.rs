//! Vision Mamba (Vim, ICML 2024): Mamba layers that scan both ways, and a class token in the middle of the patches. It
//! reads patches row by row or column by column (src/models/README.md, "Mamba-R and Vim").

use super::embedding::Embedding;
use super::encoder::TokenEncoder;
use super::layers::{Layers, drop_path_places, from_one_way};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::config::{Config, Family, FamilyFacts, Preset};
use crate::models::options::Pool;
use crate::models::unread::OF_ATTENTION;
use crate::nn::Params;
use crate::ops::registers::Places;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

impl Family {
    /// Mamba layers and one class token in the middle.
    pub const VIM: Self = Self(&FamilyFacts {
        name: "vim",
        title: "Vim",
        layers: "M",
        unread: &[OF_ATTENTION],
        prefix_tokens: 1..=1,
        places: |len, count| Places { count, ..Places::middle(len) },
        pools: &[Pool::Token, Pool::Average],
        drop_path: drop_path_places,
        one_way: true,
        adapt: from_one_way,
        presets: &[
            Preset::new("vim_micro", 64, ("M", 7), 4, (1, 1)),
            Preset::new("vim_tiny", 192, ("M", 24), 12, (1, 1)),
            Preset::new("vim_small", 384, ("M", 24), 12, (1, 1)),
            Preset::new("vim_base", 768, ("M", 24), 12, (1, 1)),
        ],
        columns: true,
        ..FamilyFacts::PLAIN
    });
}

/// The network, with a class token that takes no part in pretraining (src/models/README.md, D-22).
#[derive(Debug, Clone)]
pub struct Vim {
    embedding: Embedding,
    layers: Layers,
    pool: Pool,
}

impl Vim {
    /// Parameters under their official names (src/models/README.md, "Tensor names").
    pub fn new(g: &Gpu, params: &mut Params, config: &Config) -> Result<Self> {
        let embedding = Embedding::new(g, params, config)?;
        Ok(Self { embedding, layers: Layers::new(g, params, config)?, pool: config.pool })
    }
}

impl TokenEncoder for Vim {
    fn embedding(&self) -> &Embedding {
        &self.embedding
    }

    fn encode(&self, r: &mut Recorder, tokens: &Var, drop_path: Option<&Tensor>) -> Result<Var> {
        self.layers.forward(r, tokens, drop_path)
    }

    fn outputs_of(
        &self, r: &mut Recorder, tokens: &Var, drop_path: Option<&Tensor>, after: &[usize],
    ) -> Result<Vec<Var>> {
        self.layers.outputs_of(r, tokens, drop_path, after)
    }

    fn layers(&self) -> usize {
        self.layers.depth()
    }

    fn pool(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        if self.pool == Pool::Average {
            return self.embedding.mean(r, x);
        }
        let class = self.embedding.prefix_tokens(r, x)?; // (B, 1, D)
        Embedding::flatten(r, &class)
    }
}
