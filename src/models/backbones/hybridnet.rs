//! HybridNet (MAP, CVPR 2025), and Mamba-R, which is HybridNet without transformer blocks. Registers stand evenly
//! spaced among the patches, and the classifier reads all of them (src/models/README.md, "HybridNet", "Mamba-R and
//! Vim").

use super::embedding::Embedding;
use super::encoder::TokenEncoder;
use super::layers::{Layers, drop_path_places, from_one_way};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::models::config::{Config, Family, FamilyFacts, Preset};
use crate::models::options::Pool;
use crate::nn::{Linear, Params, ResidualNorm};
use crate::ops::registers::Places;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

impl Family {
    /// Mamba layers and transformer blocks in any order, with registers.
    pub const HYBRID: Self = Self(&FamilyFacts {
        name: "hybrid",
        title: "Hybrid",
        layers: "MT",
        places: Places::even,
        separate_positions: true,
        head_in_pretraining: true,
        pools: &[Pool::Registers, Pool::Average],
        drop_path: drop_path_places,
        one_way: true,
        adapt: from_one_way,
        presets: PRESETS,
        extra_residual: true,
        ..FamilyFacts::PLAIN
    });
}

/// The sizes of the papers. The micro ones are ours.
const PRESETS: &[Preset] = &[
    Preset::new("map_micro", 64, ("MMMT", 2), 4, (4, 1)),
    Preset::new("map_tiny", 192, ("MMMT", 8), 12, (12, 1)),
    Preset::new("map_small", 384, ("MMMT", 8), 12, (12, 2)),
    Preset::new("map_base", 768, ("MMMT", 8), 12, (12, 4)),
    Preset::new("map_large", 1024, ("MMMT", 16), 16, (16, 8)),
    Preset::new("map_huge", 1536, ("MMMT", 12), 12, (16, 8)),
    Preset::new("mambar_micro", 64, ("M", 7), 4, (4, 1)),
    Preset::new("mambar_tiny", 192, ("M", 24), 12, (12, 1)),
    Preset::new("mambar_small", 384, ("M", 24), 12, (12, 2)),
    Preset::new("mambar_base", 768, ("M", 24), 12, (12, 4)),
    Preset::new("mambar_large", 1024, ("M", 48), 16, (16, 8)),
];

/// The network, with registers and a neck that only classifiers use.
#[derive(Debug, Clone)]
pub struct HybridNet {
    embedding: Embedding,
    layers: Layers,
    neck: Option<Box<Neck>>,
    pool: Pool,
}

/// Narrows each register, then normalizes all of them together: Mamba-R's `neck` and `norm_neck`.
#[derive(Debug, Clone)]
struct Neck {
    linear: Linear,
    norm: ResidualNorm,
}

impl HybridNet {
    /// Parameters under their official names (src/models/README.md, "Tensor names").
    pub fn new(g: &Gpu, params: &mut Params, config: &Config) -> Result<Self> {
        let (d, r) = (config.width, config.cls_reduce);
        let embedding = Embedding::new(g, params, config)?;
        let layers = Layers::new(g, params, config)?;
        let neck = if config.pool == Pool::Registers && config.registers > 0 && r > 1 {
            let linear = Linear::no_bias(params, "neck", d, d / r, config.linear_init())?;
            let norm = ResidualNorm::new(params, "norm_neck", config.features(), config.eps(), config.rms_norm)?;
            Some(Box::new(Neck { linear, norm }))
        } else {
            None
        };
        Ok(Self { embedding, layers, neck, pool: config.pool })
    }
}

impl TokenEncoder for HybridNet {
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
        let registers = self.embedding.prefix_tokens(r, x)?; // (B, n, D)
        let Some(neck) = &self.neck else { return Embedding::flatten(r, &registers) };
        r.scope(&neck.linear.name, |r| {
            let narrow = neck.linear.forward(r, &registers)?; // (B, n, D / cls_reduce)
            let features = Embedding::flatten(r, &narrow)?; // (B, n·D / cls_reduce)
            Ok(neck.norm.add(r, &features, None, None)?.0)
        })
    }
}
