//! Sizes of networks on point clouds.

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::ops::chamfer::ChamferForm;
use crate::ops::matmul::Act;

/// What mixes the tokens of a network on point clouds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PointMixers {
    /// Mamba layers: Mamba3D.
    Mamba,
    /// A transformer block behind every third Mamba layer: the HybridNet of MAP.
    Hybrid,
    /// Attention alone in place of these blocks: the smaller HybridNet.
    HybridAttention,
    /// Transformer blocks and nothing else: Point-MAE.
    Transformer,
}

/// A network on point clouds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PointConfig {
    /// What mixes the tokens.
    pub mixers: PointMixers,
    /// Width D of a token: `trans_dim`.
    pub width: usize,
    /// Mamba layers, or transformer blocks of [`PointMixers::Transformer`].
    pub depth: usize,
    /// Heads of attention.
    pub heads: usize,
    /// Patches G of a cloud: `num_group`.
    pub groups: usize,
    /// Points K of a patch: `group_size`.
    pub group_size: usize,
    /// Neighbors of a patch in local norm pooling, itself included: `center_local_k`.
    pub neighbors: usize,
    /// Whether Mamba layers scan a second time with their channels in reverse: `bimamba_type="v4"`. Official checkpoints
    /// of other types hold that direction's tensors too, and do not use them.
    pub channel_reversed: bool,
    /// Hidden widths of the encoder of patches.
    pub encoder_hidden: [usize; 3],
    /// Hidden width of the positions.
    pub pos_hidden: usize,
    /// Hidden width of the classifier's head.
    pub head_hidden: usize,
    /// Classes. With 0 there is no head.
    pub classes: usize,
    /// Share of a head's hidden features that training drops.
    pub dropout: f64,
    /// DropPath's rate at the last layer.
    pub drop_path: f64,
    /// Whether the mean over the patches is that of the batch's first cloud for all clouds, as a fault of Mamba3D's
    /// classifier has it (src/models/README.md, D-11).
    pub mean_pool_bug: bool,
    /// Blocks of the decoder.
    pub decoder_depth: usize,
    /// The distance between rebuilt and true patches.
    pub loss: PointLoss,
}

/// [`ChamferForm`] in settings.
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

impl Default for PointConfig {
    /// Mamba3D.
    fn default() -> Self {
        Self {
            mixers: PointMixers::Mamba,
            width: 384,
            depth: 12,
            heads: 6,
            groups: 128,
            group_size: 32,
            neighbors: 4,
            channel_reversed: true,
            encoder_hidden: [128, 256, 512],
            pos_hidden: 128,
            head_hidden: 256,
            classes: 40,
            dropout: 0.5,
            drop_path: 0.2,
            mean_pool_bug: false,
            decoder_depth: 4,
            loss: PointLoss::Cdl2,
        }
    }
}

impl PointConfig {
    /// Epsilon of the layer norms.
    pub(super) const EPS: f32 = 1e-5;

    /// Whether the network has local norm pooling.
    pub fn pools_locally(&self) -> bool {
        self.mixers != PointMixers::Transformer
    }

    /// Activation of the encoder's positions.
    pub(super) fn pos_act(&self) -> Act {
        if self.mixers == PointMixers::Transformer { Act::Gelu } else { Act::Silu }
    }

    /// The transformer or attention block k that follows Mamba layer `layer`, if one does.
    pub(super) fn block_behind(&self, layer: usize) -> Option<usize> {
        let hybrid = matches!(self.mixers, PointMixers::Hybrid | PointMixers::HybridAttention);
        (hybrid && (layer + 1).is_multiple_of(3)).then_some(layer / 3)
    }

    /// Rates of DropPath, one for each branch in the order in which they run: two in a block, one in a block of
    /// attention alone. Block k behind a Mamba layer has the rate of layer k.
    pub fn drop_path_rates(&self) -> Vec<f64> {
        let last = (self.depth.max(2) - 1) as f64;
        let rate = |layer: usize| self.drop_path * layer as f64 / last;
        let branches = if self.mixers == PointMixers::HybridAttention { 1 } else { 2 };
        let mut rates = Vec::new();
        for layer in 0..self.depth {
            rates.extend([rate(layer); 2]);
            let block = self.block_behind(layer).map(|k| vec![rate(k); branches]);
            rates.extend(block.unwrap_or_default());
        }
        rates
    }

    /// Everything that must hold before anything is built.
    ///
    /// # Errors
    /// A size that is out of range, heads that do not divide the width.
    pub fn validate(&self) -> Result<()> {
        let within = |what: &'static str, got: usize, low: usize, high: usize| match (low..=high).contains(&got) {
            true => Ok(()),
            false => Err(Error::argument(what, got, format!("{low} to {high}"))),
        };
        within("width", self.width, 1, 8192)?;
        within("depth", self.depth, 1, 256)?;
        within("groups", self.groups, 2, 255)?;
        within("group_size", self.group_size, 1, 255)?;
        within("neighbors", self.neighbors, 1, self.groups)?;
        for hidden in self.encoder_hidden {
            within("encoder_hidden", hidden, 1, 8192)?;
        }
        within("pos_hidden", self.pos_hidden, 1, 8192)?;
        within("head_hidden", self.head_hidden, 1, 8192)?;
        within("classes", self.classes, 0, 1_000_000)?;
        within("decoder_depth", self.decoder_depth, 0, 256)?;
        if self.heads == 0 || !self.width.is_multiple_of(self.heads) || self.width / self.heads > 128 {
            let expected = format!("a divisor of the width {} with at most 128 per head", self.width);
            return Err(Error::argument("heads", self.heads, expected));
        }
        for (what, share) in [("drop_path", self.drop_path), ("dropout", self.dropout)] {
            if !(0.0..1.0).contains(&share) {
                return Err(Error::argument(what, share, "0 to below 1"));
            }
        }
        Ok(())
    }
}
