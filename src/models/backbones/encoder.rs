//! What pretraining, probes and classifiers ask of a backbone.

use std::fmt;

use super::embedding::Embedding;
use crate::error::{Error, Result};
use crate::models::batch::MaskedBatch;
use crate::ops::reshape::reshape;
use crate::ops::tokens;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// What a backbone is built for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// A classifier reads what `Config::pool` names.
    Classification,
    /// A pretraining method reads all tokens, whatever `Config::pool` names.
    Pretraining,
}

/// A backbone as the rest of the library sees it. A network whose input and output are one sequence of tokens
/// implements [`TokenEncoder`] instead, and gets this trait with it.
///
/// `patches` are all patches of a batch in raster order, (B, L, P·P·3). `drop_path` has DropPath's factors, (places, ≥
/// B): a row for each place of [`Config::drop_path_rates`](crate::models::Config::drop_path_rates), and without it
/// nothing is dropped.
pub trait Encoder: fmt::Debug {
    /// `patches` → features of the whole sequence in scan order, prefix tokens (registers, class tokens) included:
    /// (B, L+n, D). timm's `forward_features`.
    fn sequence(&self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>) -> Result<Var>;

    /// Features of a whole sequence (B, L+n, D) → what a classifier's head reads (B, F). timm's
    /// `forward_head(pre_logits=True)`.
    fn pool(&self, r: &mut Recorder, sequence: &Var) -> Result<Var>;

    /// `patches` → feature maps (B, h, w, D), the finest first: what a segmentation or detection head reads. timm's
    /// `features_only=True`, but with channels last.
    fn pyramid(&self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>) -> Result<Vec<Var>>;

    /// `patches` → features of the patch tokens in raster order (B, L, D), as pretraining sees them: for probes. The
    /// whole sequence where a backbone has no prefix tokens.
    fn tokens(&self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>) -> Result<Var> {
        self.sequence(r, patches, drop_path)
    }

    /// `patches` → what leaves each layer (B, L+n, D), in a network that can say it; else the pyramid.
    fn outputs(&self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>) -> Result<Vec<Var>> {
        self.pyramid(r, patches, drop_path)
    }

    /// `patches` → what enters each layer, (B, L, D) in scan order, in a network on tokens as pretraining sees it. A
    /// Mamba layer normalizes it first.
    ///
    /// # Errors
    /// A backbone on maps.
    fn entering(&self, _r: &mut Recorder, _patches: &Var) -> Result<Vec<Var>> {
        Err(Error::argument("the backbone", "one on maps", "one on tokens"))
    }

    /// `patches` → a feature map (B, h, w, D) of each of `count` depths, evenly spread and the last one included, each
    /// of the stride of patches: what a dense task reads of a plain backbone. They are not normalized.
    ///
    /// # Errors
    /// A backbone on maps, whose pyramid has strides of its own; one with prefix tokens; fewer layers than depths.
    fn depths(
        &self, _r: &mut Recorder, _patches: &Var, _drop_path: Option<&Tensor>, _count: usize,
    ) -> Result<Vec<Var>> {
        let expected = "one on tokens, whose layers all have the stride of patches";
        Err(Error::argument("the backbone of a dense task", "one on maps", expected))
    }

    /// `patches` → pooled features (B, F).
    fn features(&self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>) -> Result<Var> {
        let sequence = self.sequence(r, patches, drop_path)?; // (B, L+n, D)
        self.pool(r, &sequence)
    }

    /// What masked pretraining encodes: features of the visible patches only, (B, V, D), in the order of
    /// `batch.visible`.
    ///
    /// # Errors
    /// A backbone that encodes whole images only.
    fn encode_visible(&self, _r: &mut Recorder, _batch: &MaskedBatch, _drop_path: Option<&Tensor>) -> Result<Var> {
        Err(Error::argument("the backbone", "one that encodes whole images only", "one that can leave patches out"))
    }

    /// Feature maps of the visible patches alone, (B, h, w, D), the finest first: what masked pretraining of a backbone
    /// on maps encodes. Maps of a finer stride than patches have no cells of hidden patches, and on the first map whose
    /// cells are patches `token` (D) stands in for the hidden ones. The last map is the one that a classifier reads
    /// (src/models/README.md, "MAP on maps").
    ///
    /// # Errors
    /// A backbone that cannot hide parts of its maps.
    fn masked_pyramid(
        &self, _r: &mut Recorder, _batch: &MaskedBatch, _token: &Var, _drop_path: Option<&Tensor>,
    ) -> Result<Vec<Var>> {
        Err(Error::argument("the backbone", "one that encodes whole images only", "one that can hide parts of maps"))
    }

    /// [`Encoder::encode_visible`] with the prefix tokens that take part in pretraining: a ViT's class token in front,
    /// (B, 1+V, D). Other families have none there (src/models/README.md, D-22).
    fn encode_visible_with_prefix(
        &self, r: &mut Recorder, batch: &MaskedBatch, drop_path: Option<&Tensor>,
    ) -> Result<Var> {
        self.encode_visible(r, batch, drop_path)
    }
}

/// A backbone that maps a sequence of tokens to a sequence of the same length: HybridNet, Mamba-R, Vim, ViT. Everything
/// of [`Encoder`] follows from these three.
pub trait TokenEncoder: fmt::Debug {
    /// Its patch embedding, positions and prefix tokens.
    fn embedding(&self) -> &Embedding;

    /// Embedded tokens (B, L, D) → features (B, L, D). L is any number of tokens. `drop_path` as in [`Encoder`].
    fn encode(&self, r: &mut Recorder, tokens: &Var, drop_path: Option<&Tensor>) -> Result<Var>;

    /// Embedded tokens (B, L, D) → what leaves these layers, (B, L, D) each, not normalized. Layers are those of
    /// [`TokenEncoder::layers`]; `after` ascends. By default what [`TokenEncoder::encode`] gives, which is all that an
    /// encoder of one layer can say.
    fn outputs_of(
        &self, r: &mut Recorder, tokens: &Var, drop_path: Option<&Tensor>, after: &[usize],
    ) -> Result<Vec<Var>> {
        let whole = self.encode(r, tokens, drop_path)?;
        Ok(after.iter().map(|_| whole.clone()).collect())
    }

    /// Layers that [`TokenEncoder::outputs_of`] knows: the Mamba layers, with the transformer blocks behind each, or
    /// the blocks of a ViT. By default the encoder is one.
    fn layers(&self) -> usize {
        1
    }

    /// Features of a whole sequence (B, L+n, D) → what a classifier's head reads (B, F).
    fn pool(&self, r: &mut Recorder, sequence: &Var) -> Result<Var>;
}

/// The last of each of `count` equal parts of `layers`: 5, 11, 17 and 23 of 24.
pub(super) fn last_of_parts(layers: usize, count: usize) -> Vec<usize> {
    (1..=count).map(|part| (layers * part / count).saturating_sub(1)).collect()
}

/// Maps (B, h, w, D) of `count` depths, evenly spread over `layers`: [`Encoder::depths`] of a backbone on tokens.
/// `outputs` gives what leaves the layers of these numbers, (B, L, D) each.
///
/// # Errors
/// Prefix tokens; fewer layers than depths.
pub(super) fn depth_maps(
    r: &mut Recorder, embedding: &Embedding, (layers, count): (usize, usize),
    outputs: impl FnOnce(&mut Recorder, &[usize]) -> Result<Vec<Var>>,
) -> Result<Vec<Var>> {
    if count == 0 || layers < count {
        return Err(Error::argument("layers of the backbone", layers, format!("at least {count}, for each depth")));
    }
    if embedding.has_prefix_tokens() {
        return Err(Error::argument("prefix tokens of the backbone of a dense task", "some", "none"));
    }
    let (height, width) = embedding.grid();
    let map = |r: &mut Recorder, x: &Var| {
        let x = embedding.to_raster(r, x)?;
        let [b, _, d] = x.data.dims("tokens")?;
        reshape(r, &x, &[b, height, width, d])
    };
    let outputs = outputs(r, &last_of_parts(layers, count))?;
    outputs.iter().map(|x| map(r, x)).collect()
}

impl<T: TokenEncoder> Encoder for T {
    fn sequence(&self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>) -> Result<Var> {
        let x = self.embedding().all(r, patches)?; // (B, L, D)
        let x = self.embedding().with_prefix_tokens(r, &x)?; // (B, L+n, D)
        self.encode(r, &x, drop_path)
    }

    fn pool(&self, r: &mut Recorder, sequence: &Var) -> Result<Var> {
        TokenEncoder::pool(self, r, sequence)
    }

    fn pyramid(&self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>) -> Result<Vec<Var>> {
        let x = self.tokens(r, patches, drop_path)?; // (B, L, D)
        let ([b, _, d], (height, width)) = (x.data.dims("tokens")?, self.embedding().grid());
        Ok(vec![reshape(r, &x, &[b, height, width, d])?])
    }

    fn entering(&self, r: &mut Recorder, patches: &Var) -> Result<Vec<Var>> {
        let x = self.embedding().all(r, patches)?;
        let x = self.embedding().with_pretraining_prefix(r, &x)?;
        let after: Vec<usize> = (1..TokenEncoder::layers(self)).map(|layer| layer - 1).collect();
        let outputs = self.outputs_of(r, &x, None, &after)?;
        Ok([x].into_iter().chain(outputs).collect())
    }

    fn depths(&self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>, count: usize) -> Result<Vec<Var>> {
        depth_maps(r, self.embedding(), (TokenEncoder::layers(self), count), |r, after| {
            let x = self.embedding().all(r, patches)?; // (B, L, D)
            self.outputs_of(r, &x, drop_path, after)
        })
    }

    fn tokens(&self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>) -> Result<Var> {
        let x = self.embedding().all(r, patches)?;
        let x = self.embedding().with_pretraining_prefix(r, &x)?;
        let x = self.encode(r, &x, drop_path)?;
        let x = self.embedding().without_pretraining_prefix(r, &x)?;
        self.embedding().to_raster(r, &x)
    }

    fn encode_visible(&self, r: &mut Recorder, batch: &MaskedBatch, drop_path: Option<&Tensor>) -> Result<Var> {
        let x = self.encode_visible_with_prefix(r, batch, drop_path)?;
        self.embedding().without_pretraining_prefix(r, &x)
    }

    fn encode_visible_with_prefix(
        &self, r: &mut Recorder, batch: &MaskedBatch, drop_path: Option<&Tensor>,
    ) -> Result<Var> {
        let patches = Var::constant(batch.patches.clone()); // (B, L, P·P·3)
        let seen = tokens::gather(r, &patches, &batch.visible, &batch.inverse)?; // (B, V, P·P·3)
        let x = self.embedding().visible(r, &seen, &batch.visible, &batch.inverse)?; // (B, V, D)
        let x = self.embedding().with_pretraining_prefix(r, &x)?;
        self.encode(r, &x, drop_path)
    }
}
