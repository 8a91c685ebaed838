//! What a network on point clouds is made of besides width, heads and rates: `Config::points`.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ops::chamfer::ChamferForm;

/// What mixes the tokens of a network on point clouds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PointMixers {
    /// Mamba layers: Mamba3D.
    #[default]
    Mamba,
    /// A transformer block behind every third Mamba layer: the HybridNet of MAP.
    Hybrid,
    /// Attention alone in place of these blocks: the smaller HybridNet.
    HybridAttention,
    /// Transformer blocks and nothing else: Point-MAE.
    Transformer,
}

/// The distance between rebuilt and true patches, by its official name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PointLoss {
    /// Distances.
    Cdl1,
    /// Squared distances.
    #[default]
    Cdl2,
}

impl From<PointLoss> for ChamferForm {
    fn from(loss: PointLoss) -> Self {
        match loss {
            PointLoss::Cdl1 => Self::L1,
            PointLoss::Cdl2 => Self::L2,
        }
    }
}

/// Sizes of a network on point clouds. The names in quotes are those of Point-MAE's and Mamba3D's settings.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Points {
    /// What mixes the tokens.
    pub mixers: PointMixers,
    /// Mamba layers, or transformer blocks of [`PointMixers::Transformer`]: `depth`.
    pub depth: usize,
    /// Points of a cloud that the network sees: `npoints`.
    pub count: usize,
    /// Patches G of a cloud: `num_group`.
    pub groups: usize,
    /// Points K of a patch: `group_size`.
    pub group_size: usize,
    /// Neighbors of a patch in local norm pooling, itself included: `center_local_k`.
    pub neighbors: usize,
    /// Whether Mamba layers scan a second time with their channels in reverse: `bimamba_type="v4"`. Official
    /// checkpoints of other types hold that direction's tensors too, and do not use them.
    pub channel_reversed: bool,
    /// Hidden widths of the encoder of patches.
    pub encoder_hidden: [usize; 3],
    /// Hidden width of the positions.
    pub pos_hidden: usize,
    /// Hidden width of the classifier's head.
    pub head_hidden: usize,
    /// Whether the mean over the patches is that of the batch's first cloud for all clouds, as a fault of Mamba3D's
    /// classifier has it (src/models/README.md, D-11).
    pub mean_pool_bug: bool,
    /// The distance between rebuilt and true patches.
    pub loss: PointLoss,
}

impl Default for Points {
    /// Mamba3D.
    fn default() -> Self {
        Self {
            mixers: PointMixers::Mamba,
            depth: 12,
            count: 1024,
            groups: 64,
            group_size: 32,
            neighbors: 4,
            channel_reversed: true,
            encoder_hidden: [128, 256, 512],
            pos_hidden: 128,
            head_hidden: 256,
            mean_pool_bug: false,
            loss: PointLoss::Cdl2,
        }
    }
}

impl Points {
    /// Whether the network has local norm pooling.
    pub fn pools_locally(&self) -> bool {
        self.mixers != PointMixers::Transformer
    }

    /// Values of a patch in a batch: its points relative to its center, and the center.
    pub fn patch_len(&self) -> usize {
        3 * (self.group_size + 1)
    }

    /// The transformer or attention block k that follows Mamba layer `layer`, if one does.
    pub(super) fn block_behind(&self, layer: usize) -> Option<usize> {
        let hybrid = matches!(self.mixers, PointMixers::Hybrid | PointMixers::HybridAttention);
        (hybrid && (layer + 1).is_multiple_of(3)).then_some(layer / 3)
    }

    /// DropPath: each branch by name, and its rate, in the order in which they run. Block k behind a Mamba layer has
    /// the rate of layer k, as in the official code.
    pub(super) fn drop_path_places(&self, most: f64) -> Vec<(String, f64)> {
        let last = (self.depth.max(2) - 1) as f64;
        let rate = |layer: usize| most * layer as f64 / last;
        let two = |name: String, branches: [&str; 2], rate: f64| {
            branches.map(|branch| (format!("{name}.{branch}"), rate)).into_iter()
        };
        let mut places = Vec::new();
        for layer in 0..self.depth {
            let branches = if self.pools_locally() { ["lfa", "mixer"] } else { ["attn", "mlp"] };
            places.extend(two(format!("blocks.blocks.{layer}"), branches, rate(layer)));
            match (self.block_behind(layer), self.mixers) {
                (Some(k), PointMixers::HybridAttention) => places.push((format!("blocks.blocks_vit.{k}"), rate(k))),
                (Some(k), _) => places.extend(two(format!("blocks.blocks_vit.{k}"), ["lfa", "mixer"], rate(k))),
                (None, _) => {}
            }
        }
        places
    }

    /// Bounds that are generous, and small enough that no product of the numbers overflows.
    pub(super) fn validate(&self) -> Result<()> {
        let within = |what: &str, got: usize, low: usize, high: usize| match (low..=high).contains(&got) {
            true => Ok(()),
            false => Err(Error::argument(format!("points.{what}"), got, format!("{low} to {high}"))),
        };
        within("depth", self.depth, 1, 256)?;
        within("groups", self.groups, 2, 255)?;
        within("group_size", self.group_size, 1, 255)?;
        within("count", self.count, self.groups.max(self.group_size), 65_536)?;
        within("neighbors", self.neighbors, 1, self.groups)?;
        self.encoder_hidden.iter().try_for_each(|hidden| within("encoder_hidden", *hidden, 1, 8192))?;
        within("pos_hidden", self.pos_hidden, 1, 8192)?;
        within("head_hidden", self.head_hidden, 1, 8192)
    }
}
