//! What the library asks about a [`Family`] of backbones: its facts, and the models it has names for.

use std::fmt;
use std::ops::{Deref, RangeInclusive};

use serde::{Serialize, Serializer};

use super::config::Config;
use super::hierarchy::Hierarchy;
use super::options::{Decoder, Pool, TestView};
use crate::error::Result;
use crate::nn::{Init, Weights};
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
        adapt: |_, _| {},
        check: |_| Ok(()),
        hierarchical: false,
        clouds: false,
        dilates: false,
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
