//! What a model is pretrained to do: the methods by name, and every option that a step depends on besides the model
//! (src/models/README.md, "Pretraining methods").

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::models::config::{Config, DecoderKind, Order};

/// The methods that the paper compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// Masked autoregressive pretraining: predicts hidden patches from their own row and the rows above it.
    #[default]
    Map,
    /// Masked autoencoder: predicts hidden patches from all visible ones.
    Mae,
    /// Autoregression: predicts hidden patches from the tokens before them (src/models/README.md, D-5).
    Ar,
    /// Local MAE: predicts hidden patches from their own row alone.
    LocalMae,
    /// Contrastive pretraining (MoCo v2): two crops of an image are to have similar features.
    Contrastive,
    /// MAP with a diffusion loss in place of a squared error.
    Diffusion,
}

impl Method {
    /// Every method.
    pub const ALL: [Self; 6] = [Self::Map, Self::Mae, Self::Ar, Self::LocalMae, Self::Contrastive, Self::Diffusion];

    /// Crops of each image that a step sees.
    pub fn crops(self) -> usize {
        if self == Self::Contrastive { 2 } else { 1 }
    }

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Map => "map",
            Self::Mae => "mae",
            Self::Ar => "ar",
            Self::LocalMae => "local-mae",
            Self::Contrastive => "contrastive",
            Self::Diffusion => "diffusion",
        }
    }

    /// The share of patches it hides: 40 of 196 in AR. Nothing is hidden in contrastive pretraining.
    pub fn mask_ratio(self) -> f64 {
        match self {
            Self::Map | Self::LocalMae | Self::Diffusion => 0.5,
            Self::Mae => 0.75,
            Self::Ar => 40.0 / 196.0,
            Self::Contrastive => 0.0,
        }
    }

    /// The decoder mask it is named after, or MAP's.
    pub fn decoder_mask(self) -> DecoderMask {
        match self {
            Self::Map | Self::Diffusion | Self::Contrastive => DecoderMask::Map,
            Self::Mae => DecoderMask::Mae,
            Self::Ar => DecoderMask::Ar,
            Self::LocalMae => DecoderMask::LocalMae,
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::ALL.into_iter().find(|method| method.name() == name);
        found.ok_or_else(|| Error::unknown("method", name, Self::ALL.map(Self::name)))
    }
}

/// Which tokens a predicted token may attend to besides itself (Table 6 of MAP; src/models/README.md, "Decoder masks").
/// A *line* is a row of the patch grid, or a column where the order of prediction is [`Order::Columns`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DecoderMask {
    /// Its own line and the lines before.
    Map,
    /// The tokens before it.
    Ar,
    /// All.
    Mae,
    /// Its own line.
    LocalMae,
}

/// What the prediction is compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Pixels of zero mean and unit deviation in each patch.
    #[default]
    Normalised,
    /// Pixels as the network sees them.
    Raw,
}

/// All that decides what a step computes besides the model's [`Config`]. The options of other methods have no effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Objective {
    /// The method.
    pub method: Method,
    /// The decoder's mask where it is not the method's.
    pub decoder_mask: Option<DecoderMask>,
    /// The order of prediction where it is not the encoder's.
    pub decode_order: Option<Order>,
    /// What is predicted.
    pub target: Target,
    /// Width of the denoising network.
    pub diffusion_width: usize,
    /// Its residual blocks.
    pub diffusion_depth: usize,
    /// Noise levels drawn for each patch in a step.
    pub diffusion_repeats: usize,
    /// Whether the denoiser learns its variance by the variational bound.
    pub vlb: bool,
    /// Negatives in the queue, a multiple of the batch.
    pub queue: usize,
    /// What the similarities are divided by.
    pub temperature: f64,
    /// How much of the key encoder stays in a step.
    pub key_momentum: f64,
}

impl Default for Objective {
    fn default() -> Self {
        Self {
            method: Method::default(),
            decoder_mask: None,
            decode_order: None,
            target: Target::default(),
            diffusion_width: 256,
            diffusion_depth: 3,
            diffusion_repeats: 4,
            vlb: true,
            queue: 65_536,
            temperature: 0.2,
            key_momentum: 0.999,
        }
    }
}

impl Objective {
    /// What a model without a record of its pretraining was asked to do, by its decoder.
    pub fn natural(config: &Config) -> Self {
        Self::of(if config.decoder.kind == DecoderKind::Mae { Method::Mae } else { Method::Map })
    }

    /// A method with its defaults.
    pub fn of(method: Method) -> Self {
        Self { method, ..Self::default() }
    }

    /// The mask of the decoder.
    pub fn mask(&self) -> DecoderMask {
        self.decoder_mask.unwrap_or(self.method.decoder_mask())
    }

    /// The order of prediction. It is the encoder's scan order unless given, so that each region of the decoder mask
    /// is a stretch of the scan (src/models/README.md, D-18).
    pub fn order(&self, config: &Config) -> Order {
        self.decode_order.unwrap_or(config.order)
    }

    /// Whether the target is normalised.
    pub fn normalise(&self) -> bool {
        self.target == Target::Normalised
    }

    /// Everything that must hold before anything is built.
    pub fn check(&self, config: &Config) -> Result<()> {
        let within = |what: &str, got: usize, low: usize, high: usize| match (low..=high).contains(&got) {
            true => Ok(()),
            false => Err(Error::argument(what.to_owned(), got, format!("{low} to {high}"))),
        };
        let number = |what: &str, got: f64, fine: bool, expected: &str| match fine {
            true => Ok(()),
            false => Err(Error::argument(what.to_owned(), got, expected)),
        };
        within("diffusion_width", self.diffusion_width, 1, 8192)?;
        within("diffusion_depth", self.diffusion_depth, 0, 64)?;
        within("diffusion_repeats", self.diffusion_repeats, 1, 64)?;
        within("queue", self.queue, 1, 1 << 24)?;
        let t = self.temperature;
        number("temperature", t, (1e-3..=1e3).contains(&t), "0.001 to 1000")?;
        let m = self.key_momentum;
        number("key_momentum", m, (0.0..=1.0).contains(&m), "0 to 1")?;
        let contrastive = self.method == Method::Contrastive;
        if contrastive && config.features() == 0 {
            let expected = "registers, class tokens or the mean of tokens for `method` contrastive";
            return Err(Error::argument("pooled features", 0, expected));
        }
        // validated with the model: MAE's decoder belongs to a ViT
        let predicts_all = self.method != Method::Diffusion && self.mask() == DecoderMask::Mae;
        if config.decoder.kind == DecoderKind::Mae && !contrastive && !predicts_all {
            let got = format!("mae with method {} and the mask {:?}", self.method, self.mask());
            let expected = "map: MAE's decoder predicts pixels and sees everything";
            return Err(Error::argument("decoder", got, expected));
        }
        Ok(())
    }
}
