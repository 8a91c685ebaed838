//! The arguments that describe a model, and which of its weights to take.

use std::num::ParseIntError;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::cli::terminal::warn;
use crate::error::{Error, Result};
use crate::models::{Config, Decoder, DecoderKind, InitPositions, InitScheme, Method, Order, Points, Pool, Positions};
use crate::run::checkpoint::{self, Which};
use crate::train::options::{Argument, args, overlay, uppermost, word};

args! {
    /// What one layer changes in a model.
    pub struct ShapeArgs for Config {
        /// Side of the square input in pixels.
        image_size: usize,
        /// Side of a patch in pixels.
        patch_size: usize,
        /// Points of a cloud that the model sees, as npoints.
        num_points => points: NumPoints,
        /// Patches of a cloud, as num_group.
        num_groups => points: NumGroups,
        /// Points of a patch of a cloud.
        group_size => points: GroupSize,
        /// Width of the encoder.
        width: usize,
        /// Layers in order, M for Mamba and T for transformer: MMMTMMMT.
        pattern: String,
        /// Heads of the transformer blocks.
        heads: usize,
        /// MLP width of the transformer blocks over the model's width.
        mlp_ratio: f64,
        /// States per channel of the Mamba layers.
        states: usize,
        /// Classes of the head.
        classes: usize,
        /// Decoder: map, or mae on a ViT.
        decoder: DecoderKind; arg(value_parser = word::<DecoderKind>()),
        /// Width of the decoder.
        decoder_width => decoder.width: usize,
        /// Blocks of the decoder.
        decoder_depth => decoder.depth: usize,
        /// Heads of the decoder.
        decoder_heads => decoder.heads: usize,
        /// hidden + T(hidden) as in the MAP repository, or T(hidden) alone.
        extra_residual: bool,
        /// Scan order of the tokens.
        order: Order; arg(value_parser = word::<Order>()),
        /// Position embeddings: trained, or fixed sines and cosines.
        positions: Positions; arg(value_parser = word::<Positions>()),
        /// Start of trained positions: sin_cos (micro models), or normal as in the official code.
        init_positions: InitPositions; arg(value_parser = word::<InitPositions>()),
        /// Factor of the sines and cosines at which trained positions start.
        position_scale: f64,
        /// Standard deviation of the mask token's initial values, in the decoders of MAP and MAE.
        mask_token_std: f64,
        /// Input of the classifier: registers, the class token, or the average of the patches.
        pool: Pool; arg(value_parser = word::<Pool>()),
        /// DropPath probability at the last layer.
        drop_path: f64,
        /// Initial values: mamba or map_repo.
        init: InitScheme; arg(value_parser = word::<InitScheme>()),
    }
}

/// Arguments that each set a size of a network on point clouds, and nothing in one on images.
macro_rules! point_sizes {
    ($($(#[$doc:meta])* $Size:ident => $field:ident,)*) => { $(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $Size(usize);

        impl FromStr for $Size {
            type Err = ParseIntError;

            fn from_str(text: &str) -> std::result::Result<Self, ParseIntError> {
                text.parse().map(Self)
            }
        }

        impl Argument<Option<Points>> for $Size {
            fn set(self, points: &mut Option<Points>) {
                if let Some(points) = points {
                    points.$field = self.0;
                }
            }

            fn of(points: &Option<Points>) -> Option<Self> {
                points.as_ref().map(|points| Self(points.$field))
            }
        }
    )* };
}

point_sizes! {
    /// Points of a cloud.
    NumPoints => count,
    /// Patches of a cloud.
    NumGroups => groups,
    /// Points of a patch.
    GroupSize => group_size,
}

impl ShapeArgs {
    /// An error if one of these arguments has no meaning for the model, which would not look at it.
    fn check(&self, base: &Config) -> Result<()> {
        let other = |given: Option<usize>, own: usize| given.filter(|given| *given != own);
        let (refused, expected) = if base.family.clouds {
            let sides = [
                ("--image-size", other(self.image_size, base.image_size)),
                ("--patch-size", other(self.patch_size, base.patch_size)),
            ];
            (sides.to_vec(), "--num-points, --num-groups and --group-size")
        } else {
            let sizes = [
                ("--num-points", self.num_points.map(|n| n.0)),
                ("--num-groups", self.num_groups.map(|n| n.0)),
                ("--group-size", self.group_size.map(|n| n.0)),
            ];
            (sizes.to_vec(), "a model of point clouds, or --image-size and --patch-size")
        };
        match refused.into_iter().find_map(|(flag, given)| Some((flag, given?))) {
            Some((flag, given)) => Err(Error::argument(format!("{flag} of {}", base.name), given, expected)),
            None => Ok(()),
        }
    }
}

/// A model by name, and what to change in it.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
pub struct ModelArgs {
    /// A model by name, as map_tiny_patch16_224 or tiny for short; `rowscan info --models` lists them.
    #[arg(long)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[command(flatten)]
    #[serde(flatten)]
    pub shape: ShapeArgs,
}

/// Which weights of a checkpoint to take.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct EmaArgs {
    /// Take the moving average of the weights, which some runs keep, or with `--ema=false` the weights themselves. By
    /// default the weights, but the average in a `best` that it won.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_name = "BOOL")]
    ema: Option<bool>,
}

impl EmaArgs {
    /// The file of the weights, and whether it holds the average. Says so where nobody asked for the average.
    pub fn file(self, folder: &Path) -> Result<(PathBuf, bool)> {
        let which = match self.ema {
            None => Which::Best,
            Some(false) => Which::Raw,
            Some(true) => Which::Average,
        };
        let (path, average) = checkpoint::chosen(folder, which)?;
        if average && self.ema.is_none() {
            warn(format_args!("{}: the moving average of the weights, which won the best test", path.display()));
        }
        Ok((path, average))
    }
}

/// Another kind of decoder has that kind's own size, unless the model's decoder has a special size: that one stays.
impl Argument<Decoder> for DecoderKind {
    fn set(self, decoder: &mut Decoder) {
        *decoder = match self {
            Self::Mae if *decoder == Decoder::map() => Decoder::mae(),
            Self::Map if *decoder == Decoder::mae() => Decoder::map(),
            kind => Decoder { kind, ..decoder.clone() },
        };
    }

    fn of(decoder: &Decoder) -> Option<Self> {
        Some(decoder.kind)
    }
}

impl From<&Config> for ModelArgs {
    fn from(config: &Config) -> Self {
        Self { model: Some(config.name.clone()), shape: config.into() }
    }
}

impl ModelArgs {
    /// The model, `micro` if none is named; checked.
    pub fn resolve(&self) -> Result<Config> {
        model_under(Config::preset("micro")?, &[self])
    }
}

/// `base`, or the preset if the layers name another one, with the changes of the layers; checked.
pub fn model_under(base: Config, layers: &[&ModelArgs]) -> Result<Config> {
    let base = match uppermost(layers, |layer| layer.model.as_deref()) {
        Some(name) if name != base.name => Config::preset(name)?,
        _ => base,
    };
    let shapes: Vec<&ShapeArgs> = layers.iter().map(|layer| &layer.shape).collect();
    shapes.iter().try_for_each(|shape| shape.check(&base))?;
    let config = overlay(base, &shapes);
    config.validate()?;
    Ok(config)
}

/// The model of a new pretraining run: `base`, or `micro`, unless the layers name another one. It reads one way if the
/// method needs that. MAE on a ViT is MAE proper, with its own decoder and fixed positions, unless the layers ask for
/// others, or `base` is what MAE has pretrained before: `before` is the method that did.
pub fn model_to_pretrain(
    base: Option<Config>, before: Option<Method>, layers: &[&ModelArgs], method: Option<Method>,
) -> Result<Config> {
    let base = base.map_or_else(|| Config::preset("micro"), Ok)?;
    let config = model_under(base.clone(), layers)?.pretrained_by(method.unwrap_or_default());
    let decoder = uppermost(layers, |layer| layer.shape.decoder.as_ref());
    let goes_on = before == Some(Method::MAE) && config.name == base.name;
    if !config.family.prefix_in_pretraining || method != Some(Method::MAE) || decoder.is_some() || goes_on {
        return Ok(config);
    }
    let shape =
        ShapeArgs { decoder: Some(DecoderKind::Mae), positions: Some(Positions::SinCos), ..ShapeArgs::default() };
    let mae = ModelArgs { model: None, shape };
    model_under(base, &[&[&mae], layers].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_of_clouds_and_of_images_are_not_mixed() {
        let under = |model: &str, shape: ShapeArgs| {
            model_under(Config::preset("micro").unwrap(), &[&ModelArgs { model: Some(model.into()), shape }])
        };
        let groups = || ShapeArgs { num_groups: "9".parse().ok(), ..ShapeArgs::default() };
        let cloud = under("map3d_micro", groups()).unwrap();
        assert_eq!(cloud.points.as_ref().unwrap().groups, 9);
        under("map3d_micro", (&cloud).into()).unwrap(); // what a run writes of itself
        let e = under("micro", groups()).unwrap_err().to_string();
        assert!(e.starts_with("--num-groups of ") && e.contains("got 9, expected a model of point clouds"), "{e}");
        let e = under("map3d_micro", ShapeArgs { image_size: Some(64), ..ShapeArgs::default() }).unwrap_err();
        assert!(e.to_string().contains("got 64, expected --num-points"), "{e}");
        assert!(under("map3d_micro", ShapeArgs { num_groups: "1".parse().ok(), ..ShapeArgs::default() }).is_err());
    }

    #[test]
    fn mae_on_a_vit_is_mae_proper_unless_it_goes_on() {
        let vit = Config::preset("vit_micro_patch4_32").unwrap();
        let learned = ShapeArgs { positions: Some(Positions::Learned), ..ShapeArgs::default() };
        let learned = model_under(vit.clone(), &[&ModelArgs { model: None, shape: learned }]).unwrap();
        let under = |before| model_to_pretrain(Some(learned.clone()), before, &[], Some(Method::MAE)).unwrap();
        assert_eq!(under(Some(Method::MAE)), learned);
        assert_eq!(under(Some(Method::MAP)).positions, Positions::SinCos);
        assert_eq!(under(None).positions, Positions::SinCos);
    }

    #[test]
    fn a_decoder_brings_its_size_unless_it_has_one_of_its_own() {
        let with = |decoder: Decoder, kind: DecoderKind| {
            let mut decoder = decoder;
            kind.set(&mut decoder);
            decoder
        };
        assert_eq!(with(Decoder::map(), DecoderKind::Mae), Decoder::mae());
        assert_eq!(with(Decoder::mae(), DecoderKind::Map), Decoder::map());
        let narrow = Decoder { width: 64, ..Decoder::map() };
        assert_eq!(with(narrow.clone(), DecoderKind::Mae), Decoder { kind: DecoderKind::Mae, ..narrow });
    }
}
