//! ARM's encoder as it is pretrained: it reads clusters of patches one way, without a class token, at fixed positions
//! (src/models/README.md, "ARM's pretraining").

use super::arm::{Block, Mixer, hidden, mixer_config};
use super::embedding::Embedding;
use super::encoder::Encoder;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::config::Config;
use crate::models::options::Positions;
use crate::nn::{Directions, LayerNorm, MambaConfig, MambaMixer, Params};
use crate::ops::concat::concat;
use crate::ops::reduce::mean_tokens;
use crate::ops::reshape::reshape;
use crate::ops::tokens;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// Side of a cluster in patches.
pub const CLUSTER: usize = 4;

/// Patches of a cluster.
pub const OF_CLUSTER: usize = CLUSTER * CLUSTER;

/// The raster numbers of the patches of a grid, cluster by cluster: clusters by rows, and the patches of each by rows.
pub fn by_clusters((rows, columns): (usize, usize)) -> Vec<u32> {
    let across = (columns / CLUSTER).max(1);
    let patch = |i: usize| {
        let (cluster, at) = (i / OF_CLUSTER, i % OF_CLUSTER);
        let row = cluster / across * CLUSTER + at / CLUSTER;
        row * columns + cluster % across * CLUSTER + at % CLUSTER
    };
    (0..rows * columns).map(|i| patch(i) as u32).collect()
}

/// The blocks, counted from one, behind which the stream is tapped: evenly from the middle of `depth` to its end. Of 12
/// blocks 6, 8, 10 and 12, and of 24 blocks 12, 16, 20 and 24.
pub fn taps(depth: usize, count: usize) -> Vec<usize> {
    let half = depth / 2;
    let tap = |k: usize| if count == 1 { depth } else { half + (depth - half) * k / (count - 1) };
    (0..count).map(|k| tap(k).max(1)).collect()
}

/// An error unless the grid consists of at least two clusters.
pub fn expect_clusters((rows, columns): (usize, usize)) -> Result<()> {
    let whole = rows.is_multiple_of(CLUSTER) && columns.is_multiple_of(CLUSTER);
    if whole && rows * columns >= 2 * OF_CLUSTER {
        return Ok(());
    }
    let expected = "at least two clusters of 4 x 4 patches and no patch beside them";
    Err(Error::argument("grid of method arm", format!("{rows} x {columns} patches"), expected))
}

/// The table of some tokens of `len` (V), and its inverse (L): the place of each token among them, or u32::MAX.
pub fn tables(g: &Gpu, some: &[u32], len: usize) -> Result<[Tensor; 2]> {
    let mut places = vec![u32::MAX; len];
    some.iter().zip(0..).for_each(|(&token, place)| places[token as usize] = place);
    Ok([Tensor::from_indices(g, &[some.len()], some)?, Tensor::from_indices(g, &[len], &places)?])
}

/// The network.
#[derive(Debug, Clone)]
pub struct ArmEncoder {
    embedding: Embedding,
    blocks: Vec<Block>,
    /// The blocks, counted from one, behind which the stream is tapped, and the norm of each tap.
    taps: Vec<(usize, LayerNorm)>,
    /// All patches cluster by cluster.
    clusters: [Tensor; 2],
}

impl ArmEncoder {
    /// Parameters under their official names: those of an ARM without suffixes, and `norm_1`, `norm_2`, … for the taps.
    pub fn new(g: &Gpu, params: &mut Params, config: &Config, taps: &[usize]) -> Result<Self> {
        let (d, eps) = (config.width, config.eps());
        expect_clusters((config.grid(), config.grid_columns()))?;
        // the class token comes with fine-tuning
        let embedding =
            Embedding::new(g, params, &Config { registers: 0, positions: Positions::SinCos, ..config.clone() })?;
        let mixer = MambaConfig { directions: Directions::One, ..mixer_config(config) };
        let block = |i: usize| {
            params.scope(&format!("layers.{i}"), |p| {
                Block::new(p, d, eps, hidden(config), |p| {
                    Ok(Mixer::One(Box::new(MambaMixer::new(p, "mixer", &mixer)?)))
                })
            })
        };
        let blocks = (0..config.depth()).map(block).collect::<Result<_>>()?;
        let tap = |(&block, k): (&usize, usize)| Ok((block, LayerNorm::new(params, &format!("norm_{k}"), d, eps)?));
        let taps = taps.iter().zip(1..).map(tap).collect::<Result<_>>()?;
        let order = by_clusters((config.grid(), config.grid_columns()));
        Ok(Self { embedding, blocks, taps, clusters: tables(g, &order, order.len())? })
    }

    /// The patches of `table` and their positions, embedded: (B, V, D). `patches` are all of them, (B, L, P·P·3).
    pub fn embed(&self, r: &mut Recorder, patches: &Var, [some, places]: &[Tensor; 2]) -> Result<Var> {
        let x = self.embedding.all(r, patches)?; // (B, L, D)
        tokens::gather(r, &x, some, places)
    }

    /// Embedded patches (B, V, D) in their order → what is tapped, normalized, one tap beside the other: (B, V,
    /// taps·D).
    pub fn tapped(&self, r: &mut Recorder, tokens: &Var) -> Result<Var> {
        let outputs = self.run(r, tokens)?;
        let mut parts = Vec::new();
        for (block, norm) in &self.taps {
            let missing = || Error::argument("tap of ARM's encoder", *block, format!("1 to {}", outputs.len()));
            let x = block.checked_sub(1).and_then(|i| outputs.get(i)).ok_or_else(missing)?;
            parts.push(r.scope(&norm.name, |r| norm.forward(r, x))?);
        }
        concat(r, &parts.iter().collect::<Vec<_>>())
    }

    /// What leaves each block (B, V, D).
    fn run(&self, r: &mut Recorder, tokens: &Var) -> Result<Vec<Var>> {
        let (mut x, mut outputs) = (tokens.clone(), Vec::new());
        for block in &self.blocks {
            let (name, block) = (block.name.clone(), block.clone());
            [x] = r.scope(&name, |r| r.segment(move |r| Ok([block.forward(r, &x, None)?])))?;
            outputs.push(x.clone());
        }
        Ok(outputs)
    }
}

impl Encoder for ArmEncoder {
    /// In raster order, behind the norm of the last tap.
    fn sequence(&self, r: &mut Recorder, patches: &Var, _drop_path: Option<&Tensor>) -> Result<Var> {
        let x = self.embed(r, patches, &self.clusters)?;
        let outputs = self.run(r, &x)?;
        let (Some(last), Some((_, norm))) = (outputs.last(), self.taps.last()) else {
            return Err(Error::argument("blocks of ARM's encoder", 0, "at least 1"));
        };
        let x = r.scope(&norm.name, |r| norm.forward(r, last))?;
        let [order, places] = &self.clusters;
        tokens::gather(r, &x, places, order)
    }

    fn pool(&self, r: &mut Recorder, sequence: &Var) -> Result<Var> {
        mean_tokens(r, sequence)
    }

    fn pyramid(&self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>) -> Result<Vec<Var>> {
        let x = self.sequence(r, patches, drop_path)?; // (B, L, D)
        let ([b, _, d], (height, width)) = (x.data.dims("tokens")?, self.embedding.grid());
        Ok(vec![reshape(r, &x, &[b, height, width, d])?])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_are_those_of_the_paper() {
        assert_eq!(taps(12, 4), [6, 8, 10, 12]);
        assert_eq!(taps(24, 4), [12, 16, 20, 24]);
        assert_eq!(taps(7, 2), [3, 7]);
        assert_eq!((taps(1, 1), taps(5, 1)), (vec![1], vec![5]));
    }

    #[test]
    fn clusters_and_their_patches_are_read_by_rows() {
        let order = by_clusters((8, 12));
        assert_eq!(order[..6], [0, 1, 2, 3, 12, 13]);
        assert_eq!(order[16..20], [4, 5, 6, 7]); // the second cluster is to the right
        assert_eq!(order[48], 48); // the fourth begins the second row of clusters
        let mut all = order.clone();
        all.sort_unstable();
        assert_eq!(all, (0..96).collect::<Vec<_>>());
    }
}
