//! What a model is made of: its [`Config`], and the facts about its [`Family`]. Named models are in `presets`, and
//! what must hold is in `validate`.

use std::fmt;
use std::ops::{Deref, RangeInclusive};

use serde::{Deserialize, Serialize, Serializer};

use super::dense::{Dense, FeatureMaps};
use super::hierarchy::Hierarchy;
use super::options::{Decoder, DecoderKind, InitPositions, Order, Pool, Positions, TestView};
use super::points::Points;
use crate::error::{Error, Result};
use crate::nn::{Directions, Init, InitScheme, Weights};
use crate::ops::registers::Places;

/// A family of backbones: `Family::HYBRID`, `Family::VIM`, `Family::VIT`. Each is defined in the file of its network,
/// and `backbones/mod.rs` lists them all. In `config.json` it is its name.
#[derive(Clone, Copy)]
pub struct Family(pub(super) &'static FamilyFacts);

/// What the rest of the library asks about a family. A network that differs from [`FamilyFacts::PLAIN`] says so where
/// it is defined, and nowhere else.
pub struct FamilyFacts {
    /// Name in `config.json`.
    pub name: &'static str,
    /// Name in messages.
    pub title: &'static str,
    /// The letters of `Config::pattern` that it has layers for.
    pub layers: &'static str,
    /// Lists of the options of a model that its networks do not depend on, by their names on the command line.
    pub unread: &'static [&'static [&'static str]],
    /// How many prefix tokens (registers, class tokens) it can have: `Config::registers`.
    pub prefix_tokens: RangeInclusive<usize>,
    /// (patch tokens, prefix tokens) → where the prefix tokens stand in the sequence.
    pub places: fn(usize, usize) -> Places,
    /// Whether positions of prefix tokens are a tensor of their own, `pos_embed_cls`. Else they are rows of
    /// `pos_embed`.
    pub separate_positions: bool,
    /// Whether prefix tokens take part in masked pretraining (src/models/README.md, D-22). MAE's decoder needs that.
    pub prefix_in_pretraining: bool,
    /// Whether pretraining checkpoints hold the classifier's `head`, as those of the MAP code do.
    pub head_in_pretraining: bool,
    /// What a classifier can read. Presets read the first.
    pub pools: &'static [Pool],
    /// Epsilon of its norms unless `Config::norm_eps` gives another (src/models/README.md, D-20).
    pub eps: f64,
    /// DropPath: the place of each branch that can be dropped, by name, and its rate, in the order in which they run.
    pub drop_path: fn(&Config) -> Vec<(String, f64)>,
    /// What `rowscan import` takes from the names of a checkpoint.
    pub detect: Detect,
    /// What the names of its trunk begin with, up to a dot. Fine-tuning must find these tensors in a checkpoint, and no
    /// others.
    pub trunk: &'static [&'static str],
    /// What the names of what a classifier adds begin with. Fine-tuning draws them anew where they do not fit.
    pub classifier: &'static [&'static str],
    /// What the names of what stands before all layers begin with.
    pub embedding: &'static [&'static str],
    /// (parameter name) → the number of the layer that it belongs to, in the order in which layers run, for layer-wise
    /// decay. None for what stands before or behind all layers.
    pub layer: fn(&Config, &str) -> Option<usize>,
    /// Other names and shapes that its published checkpoints have had → ours, in place.
    pub translate: fn(&mut Weights),
    /// What the encoder's names begin with in a model that is pretrained.
    pub pretrained_prefix: &'static str,
    /// What a pretraining checkpoint lacks for a model, and what follows from what it has, in place.
    pub adapt: Adapt,
    /// More ranges to check than [`Config::validate`] knows.
    pub check: fn(&Config) -> Result<()>,
    /// Whether it works on maps that shrink from stage to stage, and has a [`Config::hierarchy`].
    pub hierarchical: bool,
    /// Whether it reads point clouds, and has [`Config::points`].
    pub clouds: bool,
    /// Whether the last stages can keep the size of their maps ([`Hierarchy::output_stride`]).
    pub dilates: bool,
    /// Whether a layer behind the last stage brings its map to any [`Config::width`]. Else that is the stage's width.
    pub widens: bool,
    /// The stages whose maps the heads of dense tasks read: those of strides 4, 8, 16 and 32.
    pub feature_stages: fn(&Hierarchy) -> Vec<usize>,
    /// Name and epsilon of the layer norm between such a map and a head, as published code for dense tasks has it: the
    /// name and the map's number make the parameters'. None where heads read maps as they are.
    pub feature_norm: Option<(&'static str, f32)>,
    /// Whether it can leave patches out, as masked pretraining asks.
    pub masked_pretraining: bool,
    /// Whether it can read tokens one way, so that no token sees those behind it: [`Directions::One`].
    pub one_way: bool,
    /// How many draws of DropPath an image has at one place, at most. More than one where windows are dropped.
    pub draws: fn(&Config) -> usize,
    /// How its presets are tested.
    pub test_view: TestView,
    /// Whether timm builds its named sizes, but for the micro ones, under the same names.
    pub in_timm: bool,
    /// Name of the classifier's head.
    pub head: &'static str,
    /// Initial values of the head's weight.
    pub head_init: fn(&Config) -> Init,
    /// The same on a pretrained trunk, if it differs.
    pub fresh_head: Option<Init>,
    /// MapPreset sizes.
    pub presets: &'static [Preset],
    /// MapPreset sizes of a family on maps.
    pub named: &'static [MapPreset],
    /// Presets: MLP width of transformer blocks over the model's width.
    pub mlp_ratio: f64,
    /// Presets: the decoder of pretraining. Micro sizes have their own.
    pub decoder: fn() -> Decoder,
    /// Presets: `Config::expand`.
    pub expand: usize,
    /// Presets: `Config::extra_residual`.
    pub extra_residual: bool,
    /// Presets: whether each has a twin `…_columns` that scans by columns.
    pub columns: bool,
}

/// Reads off a checkpoint what no preset fixes. The function argument says whether a tensor is there, by name.
pub type Detect = fn(&mut Config, &dyn Fn(&str) -> bool);

/// Completes the weights of a pretraining checkpoint. The function argument says whether the model has a tensor, by
/// name.
pub type Adapt = fn(&mut Weights, &dyn Fn(&str) -> bool);

/// A named size of a family, without patch and image size.
pub struct Preset {
    /// Its name in front of `_patch16_224`.
    pub name: &'static str,
    /// Width D.
    pub width: usize,
    /// Layers, and how often they repeat.
    pub layers: (&'static str, usize),
    /// Heads of transformer blocks.
    pub heads: usize,
    /// Prefix tokens n, and the reduction r of the neck.
    pub registers: (usize, usize),
}

impl Preset {
    /// All of them in one line.
    pub const fn new(
        name: &'static str, width: usize, layers: (&'static str, usize), heads: usize, registers: (usize, usize),
    ) -> Self {
        Self { name, width, layers, heads, registers }
    }
}

/// A named network on maps: its sizes are set in a function.
pub struct MapPreset {
    /// The whole name, as in timm. `NAME_SIZE` is the same network for images of another size.
    pub name: &'static str,
    /// Side of its images in pixels.
    pub image_size: usize,
    /// Sets what differs from the plain configuration of the family.
    pub with: fn(Config) -> Config,
}

impl FamilyFacts {
    /// Layers of any kind, prefix tokens in front, no DropPath, no presets.
    pub const PLAIN: Self = Self {
        name: "",
        title: "",
        layers: "MT",
        unread: &[],
        prefix_tokens: 0..=1024,
        places: |_, count| Places { count, ..Places::front() },
        separate_positions: false,
        prefix_in_pretraining: false,
        head_in_pretraining: false,
        pools: &[Pool::Average],
        eps: 1e-5,
        drop_path: |_| Vec::new(),
        detect: |_, _| {},
        trunk: &["patch_embed", "pos_embed", "layers", "blocks", "norm_f"],
        classifier: &["head", "cls_token", "pos_embed_cls", "neck", "norm_neck", "norm", "fc_norm"],
        embedding: &["patch_embed.", "pos_embed", "cls_token"], // and `pos_embed_cls`
        layer: Config::layer_by_letter,
        translate: |_| {},
        pretrained_prefix: "",
        adapt: |_, _| {},
        check: |_| Ok(()),
        hierarchical: false,
        clouds: false,
        dilates: false,
        widens: false,
        feature_stages: |net| (0..net.stages.len()).collect(),
        feature_norm: None,
        masked_pretraining: true,
        one_way: false,
        draws: |_| 1,
        in_timm: false,
        test_view: TestView::MIDDLE,
        head: "head",
        head_init: Config::linear_init,
        fresh_head: None,
        presets: &[],
        named: &[],
        mlp_ratio: 2.0,
        decoder: Decoder::map,
        expand: 2,
        extra_residual: false,
        columns: false,
    };
}

impl Deref for Family {
    type Target = FamilyFacts;

    fn deref(&self) -> &FamilyFacts {
        self.0
    }
}

impl PartialEq for Family {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Family {}

impl fmt::Debug for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.title)
    }
}

impl Serialize for Family {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.name.serialize(to)
    }
}

/// A backbone with its classifier and decoder. The `config.json` of a checkpoint holds this.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Preset name, or what the user calls it.
    pub name: String,
    /// The kind of network.
    #[serde(default)]
    pub family: Family,
    /// Side of the square image in pixels.
    pub image_size: usize,
    /// Width of an image that is not square, of which `image_size` is the height. Training reads square images only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_width: Option<usize>,
    /// Side of a patch in pixels.
    pub patch_size: usize,
    /// Width D: timm's `embed_dim`.
    pub width: usize,
    /// Layers in order: `M` a Mamba layer, `T` a transformer block.
    pub pattern: String,
    /// Heads of the transformer blocks.
    pub heads: usize,
    /// Width of the transformer blocks' MLP over D: 2 in the MAP repository, 4 in ViT.
    pub mlp_ratio: f64,
    /// Whether queries, keys and values have biases.
    #[serde(default = "yes")]
    pub qkv_bias: bool,
    /// Epsilon of a ViT's norms and of MAE's decoder, or of the norms around Mamba layers. By default the family's (see
    /// [`Config::eps`]).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm_eps: Option<f64>,
    /// Whether a transformer block T of a hybrid computes hidden + T(hidden), as in the MAP repository, instead of
    /// T(hidden) (src/models/README.md, D-2 and D-3).
    pub extra_residual: bool,
    /// Prefix tokens n: registers, or class tokens (1 in Vim, 1 or 0 in ViT).
    pub registers: usize,
    /// Reduction r of the neck, which narrows each register from D to D/r numbers. 1 for no neck.
    pub cls_reduce: usize,
    /// What the classifier's head reads.
    #[serde(default)]
    pub pool: Pool,
    /// Classes. With 0 there is no head.
    pub classes: usize,
    /// States N of a channel of a mixer: mamba-ssm's `d_state`.
    pub states: usize,
    /// Taps of a mixer's causal convolution: `d_conv`.
    pub conv: usize,
    /// Inner width E of a mixer over D: `expand`.
    pub expand: usize,
    /// Whether the norms around Mamba layers are RMS norms instead of layer norms.
    #[serde(default = "yes")]
    pub rms_norm: bool,
    /// How the mixers join their two scan directions. In `config.json` it is `divide_out`: true for the mean, false for
    /// the sum. With one direction, `"one_way"`, transformer blocks are causal too: no token sees those behind it.
    #[serde(default, rename = "divide_out", with = "divide_out")]
    pub directions: Directions,
    /// The order in which the encoder reads the patches.
    #[serde(default)]
    pub order: Order,
    /// Position embeddings.
    #[serde(default)]
    pub positions: Positions,
    /// Initial values of learned positions.
    #[serde(default)]
    pub init_positions: InitPositions,
    /// Factor of the sines and cosines at which learned positions start.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub position_scale: f64,
    /// Standard deviation of the mask token's initial values in the decoders of MAP and MAE.
    #[serde(default = "token_std", skip_serializing_if = "is_token_std")]
    pub mask_token_std: f64,
    /// DropPath's rate at the last layer: timm's `drop_path_rate`.
    pub drop_path: f64,
    /// Share of the features that a classifier's head does not see in training: timm's `drop_rate`.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropout: f64,
    /// How test images become squares.
    #[serde(default, skip_serializing_if = "TestView::is_default")]
    pub test_view: TestView,
    /// The stages of a backbone on maps. Token backbones have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hierarchy: Option<Hierarchy>,
    /// Sizes of a network on point clouds. Networks on images have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub points: Option<Points>,
    /// The dense task that the network is for, and its heads. Classifiers and pretraining have none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dense: Option<Dense>,
    /// Initial values.
    pub init: InitScheme,
    /// The decoder of pretraining.
    pub decoder: Decoder,
}

fn yes() -> bool {
    true
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

fn one() -> f64 {
    1.0
}

fn is_one(value: &f64) -> bool {
    *value == 1.0
}

fn token_std() -> f64 {
    0.02
}

fn is_token_std(value: &f64) -> bool {
    *value == token_std()
}

/// `Config::directions` as Mamba-R and Vim write it, a bool, since their backbones always scan both ways; and a word
/// where there is one direction.
mod divide_out {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::nn::Directions;

    const ONE: &str = "one_way";

    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Written {
        Both(bool),
        Word(String),
    }

    pub fn serialize<S: Serializer>(directions: &Directions, to: S) -> Result<S::Ok, S::Error> {
        match directions {
            Directions::One => ONE.serialize(to),
            both => (*both == Directions::Mean).serialize(to),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Directions, D::Error> {
        match Written::deserialize(from)? {
            Written::Both(true) => Ok(Directions::Mean),
            Written::Both(false) => Ok(Directions::Sum),
            Written::Word(word) if word == ONE => Ok(Directions::One),
            Written::Word(word) => Err(D::Error::custom(format!("got `{word}`, expected true, false or `{ONE}`"))),
        }
    }
}

impl Config {
    /// The same backbone for a dense task with `classes`: without registers or class tokens, which no head reads, and
    /// with last maps of the stride that the head asks for.
    #[must_use]
    pub fn for_dense(self, dense: Dense, classes: usize) -> Self {
        let output_stride = dense.output_stride();
        let hierarchy = self.hierarchy.map(|net| Hierarchy { output_stride, ..net });
        Self { registers: 0, cls_reduce: 1, pool: Pool::Average, classes, dense: Some(dense), hierarchy, ..self }
    }

    /// Channels of the finest features: of the first map of a backbone on maps, or the width.
    pub fn finest_width(&self) -> usize {
        self.hierarchy.as_ref().and_then(|net| net.stages.first()).map_or(self.width, |stage| stage.width)
    }

    /// What a segmentation head reads.
    ///
    /// # Errors
    /// A backbone on maps that has not four of them.
    pub fn feature_maps(&self) -> Result<FeatureMaps> {
        match self.hierarchy {
            Some(_) => Ok(FeatureMaps::Pyramid(self.map_widths()?)),
            None => Ok(FeatureMaps::Depths(self.width)),
        }
    }

    /// Channels of the four maps of [`Config::feature_stages`].
    ///
    /// # Errors
    /// A token backbone, or another number of maps.
    pub fn map_widths(&self) -> Result<[usize; 4]> {
        let net = self.stages()?;
        Ok(self.feature_stages()?.map(|stage| net.stages[stage].width))
    }

    /// What the names of the backbone's parameters begin with in a network for a dense task, as in mmsegmentation and
    /// detectron2.
    pub fn backbone_prefix(&self) -> &'static str {
        match (&self.dense, &self.hierarchy) {
            (None, _) => "",
            (Some(Dense::Segmentation(_)), _) => "backbone.",
            (Some(Dense::Detection(_)), None) => "backbone.net.",
            (Some(Dense::Detection(_)), Some(_)) => "backbone.bottom_up.",
        }
    }

    /// Pixels of a cell of the map that detection's pyramid has in its middle, of stride 16 in published networks: the
    /// side of a patch, or 16 on a backbone on maps.
    pub fn detection_cell(&self) -> usize {
        if self.hierarchy.is_some() { 16 } else { self.patch_size }
    }

    /// The stages of a backbone on maps whose maps heads of dense tasks read, from the finest: strides 4, 8, 16 and 32.
    ///
    /// # Errors
    /// A token backbone, or another number of maps.
    pub fn feature_stages(&self) -> Result<[usize; 4]> {
        let stages = (self.family.feature_stages)(self.stages()?);
        stages.try_into().map_err(|stages: Vec<_>| {
            let expected = "4, of strides 4, 8, 16 and 32";
            Error::argument(format!("maps of {:?} for dense tasks", self.family), stages.len(), expected)
        })
    }

    /// Rows of patches.
    pub fn grid(&self) -> usize {
        if self.points.is_some() {
            return 1; // patches of a cloud are in one row
        }
        self.image_size / self.patch_size.max(1)
    }

    /// Columns of patches.
    pub fn grid_columns(&self) -> usize {
        if let Some(points) = &self.points {
            return points.groups;
        }
        self.image_width.unwrap_or(self.image_size) / self.patch_size.max(1)
    }

    /// The raster numbers of the patches in the order in which the encoder reads them: (L).
    pub fn scan(&self) -> Vec<u32> {
        self.order.tokens((self.grid(), self.grid_columns()))
    }

    /// Patches L of an image.
    pub fn tokens(&self) -> usize {
        self.grid() * self.grid_columns()
    }

    /// Values of a patch: P·P·3, or those of a patch of points and its center.
    pub fn patch_len(&self) -> usize {
        if let Some(points) = &self.points {
            return points.patch_len();
        }
        self.patch_size * self.patch_size * 3
    }

    /// Number of Mamba layers.
    pub fn depth(&self) -> usize {
        self.pattern.chars().filter(|&c| c == 'M').count()
    }

    /// Width of the transformer blocks' MLP.
    pub fn mlp_hidden(&self) -> usize {
        (self.width as f64 * self.mlp_ratio).round() as usize
    }

    /// Epsilon of the norms: `norm_eps` if given, else the family's (src/models/README.md, D-20).
    pub fn eps(&self) -> f32 {
        self.norm_eps.unwrap_or(self.family.eps) as f32
    }

    /// Width F of what the head reads: timm's `num_features`, or that of all registers together.
    pub fn features(&self) -> usize {
        if self.points.is_some() {
            return 2 * self.width; // class token, and what is pooled
        }
        match self.pool {
            Pool::Registers => self.registers * (self.width / self.cls_reduce.max(1)),
            Pool::Token | Pool::Average => self.width,
        }
    }

    /// The branches that DropPath can drop, by name, and their rates (src/models/README.md, "DropPath").
    pub fn drop_path_places(&self) -> Vec<(String, f64)> {
        (self.family.drop_path)(self)
    }

    /// The rates of [`Config::drop_path_places`]: timm's `dpr`, one for each row of the factors that encoders take. A
    /// model with dropout has a row more for each feature of its head.
    pub fn drop_path_rates(&self) -> Vec<f64> {
        let places = self.drop_path_places().into_iter().map(|(_, rate)| rate);
        places.chain(std::iter::repeat_n(self.dropout, self.dropped_features())).collect()
    }

    /// Features of a sample that dropout may drop: what a head reads, or the hidden layers of a head on point clouds.
    pub fn dropped_features(&self) -> usize {
        match &self.points {
            _ if self.dropout == 0.0 => 0,
            Some(points) => 2 * points.head_hidden,
            None => self.features(),
        }
    }

    /// Bytes of a sample in a batch: an image of one byte a value, or the patches of a cloud as f32.
    pub fn sample_bytes(&self) -> usize {
        match &self.points {
            Some(points) => 4 * points.groups * points.patch_len(),
            None => self.image_size * self.image_size * 3,
        }
    }

    /// What it calls its samples in messages: images or clouds.
    pub fn samples(&self) -> &'static str {
        if self.family.clouds { "clouds" } else { "images" }
    }

    /// The size of a sample in words: `224×224`, or `1024 points`.
    pub fn sample_size(&self) -> String {
        match &self.points {
            Some(points) => format!("{} points", points.count),
            None => format!("{0}×{0}", self.image_size),
        }
    }

    /// Sizes of a network on point clouds.
    ///
    /// # Errors
    /// A network on images, which has none.
    pub fn points(&self) -> Result<&Points> {
        let missing = || Error::argument(format!("points of a {:?}", self.family), "none", "their sizes");
        self.points.as_ref().ok_or_else(missing)
    }

    /// How many factors of DropPath an image has at each place, at most.
    pub fn drop_path_draws(&self) -> usize {
        (self.family.draws)(self).max(1)
    }

    /// The stages of a backbone on maps.
    ///
    /// # Errors
    /// A token backbone, which has none.
    pub fn stages(&self) -> Result<&Hierarchy> {
        let missing = || Error::argument(format!("hierarchy of a {:?}", self.family), "none", "the stages");
        self.hierarchy.as_ref().ok_or_else(missing)
    }

    /// Initial values of a linear layer outside the mixers: xavier-uniform in the MAP repository and in MAE, else
    /// timm's truncated normal.
    pub(crate) fn linear_init(&self) -> Init {
        let xavier = self.init == InitScheme::MapRepo || self.decoder.kind == DecoderKind::Mae;
        if xavier { Init::XavierUniform } else { Init::TruncNormal(0.02) }
    }

    /// Layers, as `rowscan info` and layer-wise decay count them.
    pub fn layers(&self) -> usize {
        let points = self.points.as_ref().map(|points| points.depth);
        self.hierarchy.as_ref().map(Hierarchy::depth).or(points).unwrap_or(self.pattern.len())
    }

    /// The model, reading its tokens both ways as a classifier does. Weights of a model that reads one way fit it by
    /// [`adapt`](super::adapt).
    #[must_use]
    pub fn both_ways(self) -> Self {
        let directions = if self.directions == Directions::One { Directions::Mean } else { self.directions };
        Self { directions, ..self }
    }

    /// Side of the patches in which the encoder reads whole images: `patch_size`, or 1 for a backbone on maps.
    pub fn input_patch(&self) -> usize {
        if self.family.hierarchical || self.family.clouds { 1 } else { self.patch_size }
    }

    /// linspace(0, `drop_path`, depth)
    pub(super) fn drop_path_line(&self, depth: usize) -> impl Iterator<Item = f64> {
        let (most, last) = (self.drop_path, (depth.max(2) - 1) as f64);
        (0..depth).map(move |i| most * i as f64 / last)
    }

    /// [`FamilyFacts::layer`] where Mamba layers are `layers.i` and transformer blocks `blocks.k`, each kind counted by
    /// itself: the place of that letter in the pattern.
    fn layer_by_letter(&self, name: &str) -> Option<usize> {
        let nth = |prefix: &str| name.strip_prefix(prefix)?.split('.').next()?.parse::<usize>().ok();
        let place = |letter: char, n: usize| self.pattern.char_indices().filter(|(_, c)| *c == letter).nth(n);
        let found = match (nth("layers."), nth("blocks.")) {
            (Some(n), _) => place('M', n),
            (_, Some(n)) => place('T', n),
            _ => None,
        };
        found.map(|(i, _)| i)
    }
}
