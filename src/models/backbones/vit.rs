//! Vision Transformer and DeiT: timm's `VisionTransformer` under timm's names (src/models/README.md, "ViT and DeiT").

use super::embedding::Embedding;
use super::encoder::{Purpose, TokenEncoder};
use super::layers::{Sights, drop_path_row};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::config::{Config, Family, FamilyFacts, Preset};
use crate::models::options::Pool;
use crate::models::unread::OF_SCANS;
use crate::nn::{Block, BlockConfig, LayerNorm, Params};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

impl Family {
    /// Transformer blocks, and one class token in front or none.
    pub const VIT: Self = Self(&FamilyFacts {
        name: "vit",
        title: "Vit",
        layers: "T",
        unread: &[OF_SCANS, &["extra-residual"]],
        prefix_tokens: 0..=1,
        prefix_in_pretraining: true,
        one_way: true,
        pools: &[Pool::Token, Pool::Average],
        eps: 1e-6,
        drop_path: |config| {
            // timm: both branches of a block at the block's rate
            let blocks = config.drop_path_line(config.pattern.len()).enumerate();
            blocks.flat_map(|(i, rate)| ["attn", "mlp"].map(|branch| (format!("blocks.{i}.{branch}"), rate))).collect()
        },
        detect: |config, has| {
            config.registers = has("cls_token").into();
            config.pool = if has("fc_norm.weight") || config.registers == 0 { Pool::Average } else { Pool::Token };
        },
        presets: &[
            Preset::new("vit_micro", 64, ("T", 6), 4, (1, 1)),
            Preset::new("vit_base", 768, ("T", 12), 12, (1, 1)),
            Preset::new("vit_large", 1024, ("T", 24), 16, (1, 1)),
            Preset::new("deit_tiny", 192, ("T", 12), 3, (1, 1)),
            Preset::new("deit_small", 384, ("T", 12), 6, (1, 1)),
            Preset::new("deit_base", 768, ("T", 12), 12, (1, 1)),
        ],
        mlp_ratio: 4.0,
        ..FamilyFacts::PLAIN
    });
}

/// The network, with a class token that pretraining uses too.
#[derive(Debug, Clone)]
pub struct Vit {
    embedding: Embedding,
    blocks: Vec<Block>,
    /// `norm` behind the blocks, or `fc_norm` behind the mean of the tokens.
    norm: LayerNorm,
    /// Whether the classifier reads the mean of the tokens.
    average: bool,
    sights: Sights,
}

impl Vit {
    /// Parameters under timm's names. For pretraining the norm is behind the blocks, whatever a classifier would read.
    pub fn new(g: &Gpu, params: &mut Params, config: &Config, purpose: Purpose) -> Result<Self> {
        let embedding = Embedding::new(g, params, config)?;
        let block = BlockConfig {
            width: config.width,
            heads: config.heads,
            hidden: config.mlp_hidden(),
            eps: config.eps(),
            qkv_bias: config.qkv_bias,
            init: config.linear_init(),
        };
        let blocks = 0..config.pattern.len();
        let blocks = blocks.map(|i| Block::new(params, &format!("blocks.{i}"), &block)).collect::<Result<_>>()?;
        let average = config.pool == Pool::Average && purpose == Purpose::Classification;
        let norm = LayerNorm::new(params, if average { "fc_norm" } else { "norm" }, config.width, block.eps)?;
        Ok(Self { embedding, blocks, norm, average, sights: Sights::new(g, config)? })
    }
}

impl TokenEncoder for Vit {
    fn embedding(&self) -> &Embedding {
        &self.embedding
    }

    /// Rows 2i and 2i+1 of `drop_path` are those of attention and MLP of block i. The features are not normalized where
    /// the classifier reads their mean: `fc_norm` follows then.
    fn encode(&self, r: &mut Recorder, tokens: &Var, drop_path: Option<&Tensor>) -> Result<Var> {
        let x = self.blocks(r, tokens, drop_path, |_, _| ())?;
        if self.average { Ok(x) } else { r.scope(&self.norm.name, |r| self.norm.forward(r, &x)) }
    }

    fn outputs_of(
        &self, r: &mut Recorder, tokens: &Var, drop_path: Option<&Tensor>, after: &[usize],
    ) -> Result<Vec<Var>> {
        let mut outputs = Vec::new();
        self.blocks(r, tokens, drop_path, |block, x| {
            if after.contains(&block) {
                outputs.push(x.clone());
            }
        })?;
        Ok(outputs)
    }

    fn layers(&self) -> usize {
        self.blocks.len()
    }

    fn pool(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        if self.average {
            return r.scope(&self.norm.name, |r| {
                let mean = self.embedding.mean(r, x)?;
                self.norm.forward(r, &mean)
            });
        }
        let class = self.embedding.prefix_tokens(r, x)?; // (B, 1, D)
        Embedding::flatten(r, &class)
    }
}

impl Vit {
    /// Runs all blocks. `left` is told what leaves each.
    fn blocks(
        &self, r: &mut Recorder, tokens: &Var, drop_path: Option<&Tensor>, mut left: impl FnMut(usize, &Var),
    ) -> Result<Var> {
        let batch = tokens.data.shape()[0];
        let sights = self.sights.of(r, tokens, self.blocks.len())?;
        let mut x = tokens.clone();
        for (i, (block, sight)) in self.blocks.iter().zip(sights).enumerate() {
            let factors = drop_path_row(drop_path, 2 * i, batch)?.zip(drop_path_row(drop_path, 2 * i + 1, batch)?);
            let (name, block) = (block.name.clone(), block.clone());
            let factors = factors.map(|(attention, mlp)| [attention, mlp]);
            let run = move |r: &mut Recorder| Ok([block.forward_seeing(r, &x, factors.as_ref(), &sight)?]);
            [x] = r.scope(&name, |r| r.segment(run))?;
            left(i, &x);
        }
        Ok(x)
    }
}
