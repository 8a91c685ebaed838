//! ARM (Ren et al., ICLR 2025) as it is fine-tuned: Mamba mixers in four directions and SwiGLU MLPs, and a class token
//! in the middle of the patches (src/models/README.md, "ARM").

use std::sync::Arc;

use super::embedding::Embedding;
use super::encoder::{Encoder, depth_maps};
use super::layers::{copy_directions, drop_path_row};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::config::{Config, Family, FamilyFacts, Preset};
use crate::models::options::{Decoder, Order, Pool, TestView};
use crate::nn::{CrossMamba, Directions, Init, LayerNorm, Linear, MambaConfig, MambaMixer, Params, Part};
use crate::ops::add::{add, add_drop_path};
use crate::ops::matmul::{MatmulOptions, matmul};
use crate::ops::registers::Places;
use crate::ops::reshape::reshape;
use crate::ops::swiglu::swiglu;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

impl Family {
    /// Mamba layers in four directions with MLPs, and one class token in the middle.
    pub const ARM: Self = Self(&FamilyFacts {
        name: "arm",
        test_view: TestView { squash: true, ..TestView::MIDDLE },
        title: "ARM",
        layers: "M",
        unread: &[&["heads", "extra-residual", "mask-token-std"]],
        prefix_tokens: 1..=1,
        places: |len, count| Places { count, ..Places::middle(len) },
        masked_pretraining: false,
        pools: &[Pool::Average, Pool::Token],
        drop_path: |config| {
            // 0, then linspace(0, p, depth): block i has entry i, so that blocks 0 and 1 drop nothing
            let rates = std::iter::once(0.0).chain(config.drop_path_line(config.depth())).take(config.depth());
            let places = |(i, rate)| ["mixer", "mlp"].map(|branch| (format!("layers.{i}.{branch}"), rate));
            rates.enumerate().flat_map(places).collect()
        },
        trunk: &["patch_embed", "pos_embed", "layers"],
        classifier: &["head", "cls_token", "norm_f"],
        adapt: |weights, has| copy_directions(&["_b", "_c", "_c_b"], weights, has),
        fresh_head: Some(Init::TruncNormal(2e-5)),
        check: |config| {
            let (rows, columns) = (config.grid(), config.grid_columns());
            if config.registers > 0 && (!(rows * columns).is_multiple_of(2) || rows * columns == 0) {
                let expected = "an even number of patches, because the class token stands in the middle";
                return Err(Error::argument("grid of an ARM", format!("{rows} x {columns} patches"), expected));
            }
            let (order, directions) = (config.order, config.directions);
            if order != Order::Rows || directions != Directions::Mean {
                let expected = "Rows and Mean: each layer reads rows and columns, both ways";
                return Err(Error::argument("order of an ARM", format!("{order:?} and {directions:?}"), expected));
            }
            Ok(())
        },
        presets: &[
            Preset::new("arm_micro", 64, ("M", 7), 4, (1, 1)),
            Preset::new("arm_base", 768, ("M", 12), 12, (1, 1)),
            Preset::new("arm_large", 1024, ("M", 24), 16, (1, 1)),
            Preset::new("arm_huge", 1536, ("M", 24), 24, (1, 1)),
        ],
        mlp_ratio: 8.0 / 3.0,
        decoder: Decoder::arm,
        expand: 1,
        ..FamilyFacts::PLAIN
    });
}

/// Width of the MLP: ⌊8d/3⌋ at the default ratio. The small number is for 8/3, which is no float.
pub(super) fn hidden(config: &Config) -> usize {
    (config.width as f64 * config.mlp_ratio + 1e-6) as usize
}

/// w3(SiLU(w1 x)·(w2 x)). w1 and w2 are one matrix in memory, so that one product serves both.
#[derive(Debug, Clone)]
pub(super) struct SwigluMlp {
    weight: Var,
    bias: Var,
    out: Linear,
}

impl SwigluMlp {
    /// Parameters `mlp.{w1,w2,w3}`, each with a bias.
    fn new(params: &mut Params, width: usize, hidden: usize) -> Result<Self> {
        let both = |leaf: &str, shape: &[usize], init| Part {
            names: ["w1", "w2"].map(|name| format!("{name}.{leaf}")).to_vec(),
            shape: shape.to_vec(),
            inits: vec![init; 2],
            reversed: None,
        };
        params.scope("mlp", |p| {
            Ok(Self {
                weight: p.pack(&[both("weight", &[hidden, width], Init::FanIn(1.0))], &[2 * hidden, width])?,
                bias: p.pack(&[both("bias", &[hidden], Init::Zeros)], &[2 * hidden])?,
                out: Linear::new(p, "w3", hidden, width, Init::FanIn(1.0))?,
            })
        })
    }

    /// x (.., D) → (.., D), plus `residual` (.., D) if there is one.
    fn forward(&self, r: &mut Recorder, x: &Var, residual: Option<&Var>) -> Result<Var> {
        let both = matmul(r, x, &self.weight, MatmulOptions { bias: Some(&self.bias), ..MatmulOptions::default() })?;
        let gated = swiglu(r, &both)?;
        match residual {
            Some(residual) => self.out.forward_onto(r, &gated, residual),
            None => self.out.forward(r, &gated),
        }
    }
}

/// The sizes of a block's mixer.
pub(super) fn mixer_config(config: &Config) -> MambaConfig {
    MambaConfig {
        width: config.width,
        states: config.states,
        conv: config.conv,
        expand: config.expand,
        directions: Directions::Mean,
        init: config.init,
        out_scale: (config.depth().max(1) as f32).powf(-0.5),
    }
}

/// The mixer of a block.
#[derive(Debug, Clone)]
pub(super) enum Mixer {
    /// Fine-tuning: four directions, and the tables of [`CrossMamba::forward`].
    Four(Box<CrossMamba>, [Tensor; 2]),
    /// Pretraining: from the first token to the last.
    One(Box<MambaMixer>),
}

impl Mixer {
    /// x (B, L, D) → (B, L, D), plus `residual` (B, L, D) if there is one.
    fn forward(&self, r: &mut Recorder, x: &Var, residual: Option<&Var>) -> Result<Var> {
        match self {
            Self::Four(mixer, orders) => mixer.forward(r, x, orders, residual),
            Self::One(mixer) => {
                let y = mixer.forward(r, x)?;
                residual.map_or_else(|| Ok(y.clone()), |residual| add(r, residual, &y))
            }
        }
    }
}

/// x + mixer(norm1(x)), then x + MLP(norm2(x)).
#[derive(Debug, Clone)]
pub(super) struct Block {
    norm1: LayerNorm,
    mixer: Mixer,
    norm2: LayerNorm,
    mlp: SwigluMlp,
    /// Its name in a checkpoint, for the scope of its launches.
    pub name: Arc<str>,
}

impl Block {
    /// Parameters `norm1`, those of `mixer`, `norm2` and `mlp`. Norms and MLP are `width` wide, and the MLP has
    /// `hidden` channels inside.
    pub fn new(
        p: &mut Params, width: usize, eps: f32, hidden: usize, mixer: impl FnOnce(&mut Params) -> Result<Mixer>,
    ) -> Result<Self> {
        Ok(Self {
            norm1: LayerNorm::new(p, "norm1", width, eps)?,
            mixer: mixer(p)?,
            norm2: LayerNorm::new(p, "norm2", width, eps)?,
            mlp: SwigluMlp::new(p, width, hidden)?,
            name: p.path(),
        })
    }

    /// x (B, L, D) → (B, L, D). `drop_path` holds DropPath's factors (B) of both branches.
    pub fn forward(&self, r: &mut Recorder, x: &Var, drop_path: Option<&[Tensor; 2]>) -> Result<Var> {
        let y = self.norm1.operand(r, x)?;
        let Some([mixer, mlp]) = drop_path else {
            let x = self.mixer.forward(r, &y, Some(x))?;
            let y = self.norm2.operand(r, &x)?;
            return self.mlp.forward(r, &y, Some(&x));
        };
        let y = self.mixer.forward(r, &y, None)?;
        let x = add_drop_path(r, x, &y, mixer)?;
        let y = self.norm2.operand(r, &x)?;
        let y = self.mlp.forward(r, &y, None)?;
        add_drop_path(r, &x, &y, mlp)
    }
}

/// The network.
#[derive(Debug, Clone)]
pub struct Arm {
    embedding: Embedding,
    blocks: Vec<Block>,
    norm_f: LayerNorm,
    pool: Pool,
}

impl Arm {
    /// Parameters under their official names.
    pub fn new(g: &Gpu, params: &mut Params, config: &Config) -> Result<Self> {
        let (d, eps, mixer) = (config.width, config.eps(), mixer_config(config));
        let columns = by_columns((config.grid(), config.grid_columns()), config.registers > 0);
        let mut rows = vec![0; columns.len()];
        columns.iter().zip(0..).for_each(|(&token, place)| rows[token as usize] = place);
        let table = |places: &[u32]| Tensor::from_indices(g, &[places.len()], places);
        let orders = [table(&columns)?, table(&rows)?];
        let embedding = Embedding::new(g, params, config)?;
        let four = |p: &mut Params| Ok(Mixer::Four(Box::new(CrossMamba::new(p, "mixer", &mixer)?), orders.clone()));
        let block = |i: usize| params.scope(&format!("layers.{i}"), |p| Block::new(p, d, eps, hidden(config), four));
        let blocks = (0..config.depth()).map(block).collect::<Result<_>>()?;
        Ok(Self { embedding, blocks, norm_f: LayerNorm::new(params, "norm_f", d, eps)?, pool: config.pool })
    }

    /// Embeds the patches, inserts the class token and runs the blocks: what leaves each of them (B, L+1, D). Rows 2i
    /// and 2i+1 of `drop_path` are those of mixer and MLP of block i.
    fn blocks(&self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>) -> Result<Vec<Var>> {
        let x = self.embedding.all(r, patches)?; // (B, L, D)
        let mut x = self.embedding.with_prefix_tokens(r, &x)?; // (B, L+1, D)
        let (batch, mut outputs) = (x.data.shape()[0], Vec::new());
        for (i, block) in self.blocks.iter().enumerate() {
            let factors = drop_path_row(drop_path, 2 * i, batch)?.zip(drop_path_row(drop_path, 2 * i + 1, batch)?);
            let (name, block) = (block.name.clone(), block.clone());
            let factors = factors.map(|(mixer, mlp)| [mixer, mlp]);
            [x] = r.scope(&name, |r| r.segment(move |r| Ok([block.forward(r, &x, factors.as_ref())?])))?;
            outputs.push(x.clone());
        }
        Ok(outputs)
    }
}

/// The tokens of a grid in the order of the columns. A class token stands in the middle and keeps its place.
fn by_columns(grid: (usize, usize), class_token: bool) -> Vec<u32> {
    if !class_token {
        return Order::Columns.tokens(grid);
    }
    let class = (grid.0 * grid.1 / 2) as u32;
    let mut order: Vec<u32> = Order::Columns.tokens(grid).iter().map(|&t| t + u32::from(t >= class)).collect();
    order.insert(class as usize, class);
    order
}

impl Encoder for Arm {
    fn sequence(&self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>) -> Result<Var> {
        let outputs = self.blocks(r, patches, drop_path)?;
        let last = outputs.last().ok_or_else(|| Error::argument("layers of an ARM", 0, "at least 1"))?;
        r.scope(&self.norm_f.name, |r| self.norm_f.forward(r, last))
    }

    fn pool(&self, r: &mut Recorder, sequence: &Var) -> Result<Var> {
        if self.pool == Pool::Average {
            // ARM takes the mean of the means in front of the class token and behind it: as many tokens each
            return self.embedding.mean(r, sequence);
        }
        let class = self.embedding.prefix_tokens(r, sequence)?; // (B, 1, D)
        Embedding::flatten(r, &class)
    }

    fn pyramid(&self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>) -> Result<Vec<Var>> {
        let x = self.tokens(r, patches, drop_path)?; // (B, L, D)
        let ([b, _, d], (height, width)) = (x.data.dims("tokens")?, self.embedding.grid());
        Ok(vec![reshape(r, &x, &[b, height, width, d])?])
    }

    fn tokens(&self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>) -> Result<Var> {
        let x = self.sequence(r, patches, drop_path)?;
        self.embedding.patches(r, &x)
    }

    fn outputs(&self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>) -> Result<Vec<Var>> {
        self.blocks(r, patches, drop_path)
    }

    fn depths(&self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>, count: usize) -> Result<Vec<Var>> {
        depth_maps(r, &self.embedding, (self.blocks.len(), count), |r, after| {
            let outputs = self.blocks(r, patches, drop_path)?;
            Ok(after.iter().filter_map(|&layer| outputs.get(layer).cloned()).collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two rows and three columns of patches, and a class token at place 3: patches 0 to 5 are tokens 0, 1, 2, 4, 5, 6.
    #[test]
    fn columns_leave_the_class_token_in_the_middle() {
        assert_eq!(by_columns((2, 3), true), [0, 4, 1, 3, 5, 2, 6]);
        assert_eq!(by_columns((2, 1), true), [0, 1, 2]);
        assert_eq!(by_columns((2, 3), false), [0, 3, 1, 4, 2, 5]);
    }
}
