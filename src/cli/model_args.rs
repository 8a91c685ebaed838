//! The arguments that describe a model, and which of its weights to take.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::numbers::whole;
use super::unused::{given, shown};
use crate::cli::terminal::warn;
use crate::error::{Error, Result};
use crate::models::{
    Config, Decoder, DecoderKind, Family, InitPositions, InitScheme, Method, Order, Points, Pool, Positions,
};
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
            type Err = String;

            fn from_str(text: &str) -> std::result::Result<Self, String> {
                whole(text).map(Self)
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
    /// An error if the model `base` does not look at one of these arguments, unless it says what `base` is. A layer
    /// with nearly all of them is the record of a run and no wish.
    pub fn check(&self, base: &Config) -> Result<()> {
        let (given, own) = (given(self), given(&Self::from(base)));
        if 4 * given.len() > 3 * own.len() {
            return Ok(());
        }
        let family = base.family;
        let unread = |(name, value): &(&String, &Value)| !family.reads(name) && own.get(*name) != Some(*value);
        let Some((name, value)) = given.iter().find(unread) else { return Ok(()) };
        let expected = match &name[..] {
            "image-size" | "patch-size" if family.clouds => "--num-points, --num-groups and --group-size".to_owned(),
            "num-points" | "num-groups" | "group-size" => {
                "a model of point clouds, or --image-size and --patch-size".to_owned()
            }
            _ => {
                let able: Vec<&str> = Family::all().filter(|family| family.reads(name)).map(|f| f.name).collect();
                format!("none: it changes nothing in a {family:?}, only in the families {}", able.join(", "))
            }
        };
        Err(Error::argument(format!("--{name} of {}", base.name), shown(value), expected))
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
    /// Whether somebody asked.
    pub fn is_given(self) -> bool {
        self.ema.is_some()
    }

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
    fn options_that_change_nothing_in_a_family_are_refused() {
        let under = |model: &str, text: &str| {
            let shape = toml::from_str(text).unwrap();
            model_under(Config::preset("micro").unwrap(), &[&ModelArgs { model: Some(model.into()), shape }])
        };
        for (model, text, words) in [
            ("resnet_micro", "patch-size = 8", ["--patch-size of resnet_micro", "got 8", "hybrid, vim, vit, arm"]),
            ("resnet_micro", "pattern = \"MT\"", ["--pattern of", "got MT", "nothing in a ResNet"]),
            ("resnet_micro", "mlp-ratio = 3.0", ["--mlp-ratio of", "got 3.0", "convnext"]),
            ("convnext_micro", "states = 8", ["--states of", "got 8", "vmamba, mambavision"]),
            ("convnext_micro", "decoder-depth = 1", ["--decoder-depth of", "got 1", "mambavision"]),
            ("vit_micro_patch4_32", "states = 8", ["--states of vit_micro", "got 8", "hybrid, vim"]),
            ("vim_micro_patch4_32", "heads = 8", ["--heads of vim_micro", "got 8", "hybrid, vit"]),
            ("vim_micro_patch4_32", "pattern = \"MT\"", ["pattern of a Vim", "`MT`", "the letter M for each layer"]),
            ("map3d_micro", "order = \"columns\"", ["--order of", "got columns", "hybrid"]),
            ("convnext_micro", "width = 64", ["width of a ConvNeXt", "got 64", "192, that of its last stage"]),
            ("mambavision_micro", "width = 63", ["width of a MambaVision", "got 63", "last stage"]),
        ] {
            let e = under(model, text).unwrap_err().to_string();
            assert!(words.iter().all(|word| e.contains(word)), "{model}, {text}: {e}");
        }
        // what the model has already, and what it looks at
        for (model, text) in [
            ("resnet_micro", "patch-size = 16\nheads = 1\nwidth = 512"),
            ("efficientnet_micro", "width = 128"),
            ("vmamba_micro", "states = 2\nmlp-ratio = 2.0"),
            ("mambavision_micro", "decoder-depth = 1\nstates = 4"),
        ] {
            under(model, text).unwrap();
        }
        // what a run writes of itself
        for name in crate::models::models() {
            let config = Config::preset(&name).unwrap();
            let record = ShapeArgs { heads: Some(config.heads + 1), ..ShapeArgs::from(&config) };
            record.check(&config).unwrap();
        }
        // the lists name options
        let known = given(&ShapeArgs::from(&Config::preset("micro").unwrap()));
        let lists = Family::all().flat_map(|family| family.unread.iter().copied());
        for name in lists.chain(Method::all().map(|method| method.unread)).flatten() {
            assert!(known.contains_key(*name), "{name}");
        }
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
