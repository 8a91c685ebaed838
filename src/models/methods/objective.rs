//! What a model is pretrained to do: the [`Method`], and every option that a step depends on besides the model
//! (src/models/README.md, "Pretraining methods").

use std::fmt;
use std::ops::Deref;

use serde::{Deserialize, Serialize, Serializer};

use crate::error::{Error, Result};
use crate::models::config::{Config, Family};
use crate::models::options::{DecoderKind, Order};
use crate::nn::Directions;

/// A pretraining method: `Method::MAP`, `Method::CONTRASTIVE`. Each is defined in the file of its model, and
/// `methods/mod.rs` lists them all. In settings it is its name.
#[derive(Clone, Copy)]
pub struct Method(pub(super) &'static MethodFacts);

/// What the rest of the library asks about a method before there is a model. A method that differs from
/// [`MethodFacts::PLAIN`] says so where it is defined, and nowhere else.
pub struct MethodFacts {
    /// Name on the command line and in settings.
    pub name: &'static str,
    /// Whether it can pretrain the encoders of a family.
    pub encodes: fn(&Family) -> bool,
    /// Whether it hides patches. The share is then `mask_ratio`, or what the settings say.
    pub hides: bool,
    /// The share of patches that it hides by default.
    pub mask_ratio: f64,
    /// The decoder mask that it is named after, or MAP's.
    pub decoder_mask: DecoderMask,
    /// Crops of each image that a step sees.
    pub crops: usize,
    /// Whether it predicts patches, so that there is a picture to draw.
    pub predicts: bool,
    /// Whether [`Objective::target`] changes what it predicts.
    pub any_target: bool,
    /// The options of a model that it does not depend on, by their names on the command line.
    pub unread: &'static [&'static str],
    /// Whether its encoder reads the tokens one way, [`Directions::One`].
    pub one_way: bool,
    /// What must hold of its options and the model besides [`Objective::check`].
    pub check: fn(&Objective, &Config) -> Result<()>,
    /// (objective, images of a micro-batch, micro-batches of a step): what must hold of them.
    pub check_batches: fn(&Objective, usize, usize) -> Result<()>,
}

impl MethodFacts {
    /// MAP's way with half of the patches hidden.
    pub const PLAIN: Self = Self {
        name: "",
        encodes: |family| family.masked_pretraining,
        hides: true,
        mask_ratio: 0.5,
        decoder_mask: DecoderMask::Map,
        crops: 1,
        predicts: true,
        any_target: true,
        unread: &[],
        one_way: false,
        check: |objective, config| objective.check_decoder(config, objective.mask() == DecoderMask::Mae),
        check_batches: |_, _, _| Ok(()),
    };
}

impl Deref for Method {
    type Target = MethodFacts;

    fn deref(&self) -> &MethodFacts {
        self.0
    }
}

impl PartialEq for Method {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl Eq for Method {}

impl fmt::Debug for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl Serialize for Method {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        self.name.serialize(to)
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

/// The target: what predictions are compared with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Pixels of zero mean and unit deviation in each patch: MAE's `norm_pix_loss`.
    #[default]
    #[serde(alias = "normalised")]
    Normalized,
    /// Pixels as the network sees them.
    Raw,
}

/// All that a pretraining step computes, besides the model's [`Config`]. The options of other methods have no effect.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Objective {
    /// The method.
    pub method: Method,
    /// The decoder's mask. None for the method's.
    pub decoder_mask: Option<DecoderMask>,
    /// The order of prediction. None for the encoder's.
    pub decode_order: Option<Order>,
    /// What the predictions are compared with.
    pub target: Target,
    /// What is added to the variance of a patch that is normalized.
    #[serde(skip_serializing_if = "is_target_eps")]
    pub target_eps: f64,
    /// Shifted autoregression: how many places before a patch the last one is that its prediction depends on.
    #[serde(skip_serializing_if = "is_next")]
    pub shift: usize,
    /// Diffusion: width of the denoising network.
    pub diffusion_width: usize,
    /// Diffusion: residual blocks of the denoising network.
    pub diffusion_depth: usize,
    /// Diffusion: noise levels drawn for each patch in a step.
    pub diffusion_repeats: usize,
    /// Diffusion: whether the network learns its variance by the variational bound.
    pub vlb: bool,
    /// Contrastive: keys in the queue, a multiple of the batch. MoCo's K.
    pub queue: usize,
    /// Contrastive: the temperature T, by which similarities are divided.
    pub temperature: f64,
    /// Contrastive: the momentum m of the key encoder.
    pub key_momentum: f64,
}

/// Whether a shift is the default, that of the next token. Records of older versions have none.
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_next(shift: &usize) -> bool {
    *shift == 1
}

/// Whether this is the default of [`Objective::target_eps`].
#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde's signature")]
fn is_target_eps(eps: &f64) -> bool {
    *eps == 1e-6
}

impl Default for Objective {
    fn default() -> Self {
        Self {
            method: Method::default(),
            decoder_mask: None,
            decode_order: None,
            target: Target::default(),
            target_eps: 1e-6,
            shift: 1,
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
    /// A method with its defaults.
    pub fn of(method: Method) -> Self {
        Self { method, ..Self::default() }
    }

    /// The mask of the decoder.
    pub fn mask(&self) -> DecoderMask {
        self.decoder_mask.unwrap_or(self.method.decoder_mask)
    }

    /// The order of prediction. It is the encoder's scan order unless given, so that each region of the decoder mask
    /// is a stretch of the scan (src/models/README.md, D-18).
    pub fn order(&self, config: &Config) -> Order {
        self.decode_order.unwrap_or(config.order)
    }

    /// What is added to the variances by which the target is normalized, MAE's `norm_pix_loss`; `None` if it is not.
    pub fn normalize(&self) -> Option<f32> {
        (self.target == Target::Normalized).then_some(self.target_eps as f32)
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
        let eps = self.target_eps;
        number("target_eps", eps, (1e-12..=1.0).contains(&eps), "1e-12 to 1")?;
        let m = self.key_momentum;
        number("key_momentum", m, (0.0..=1.0).contains(&m), "0 to 1")?;
        if !(self.method.encodes)(&config.family) {
            let able: Vec<_> = Family::all().filter(self.method.encodes).map(|family| family.name).collect();
            let expected = format!("for the method {}: {}", self.method, able.join(", "));
            return Err(Error::argument("family to pretrain", config.family.name, expected));
        }
        if self.method.one_way && config.directions != Directions::One {
            let expected = format!("One: the method {} needs an encoder that reads one way", self.method);
            return Err(Error::argument("directions", format!("{:?}", config.directions), expected));
        }
        if !self.method.any_target && self.target != Target::default() {
            let expected = format!("{:?} for the method {}", Target::default(), self.method);
            return Err(Error::argument("target", format!("{:?}", self.target), expected));
        }
        (self.method.check)(self, config)
    }

    /// Refuses MAE's decoder where the method cannot use it. (That it needs a ViT is checked with the model.)
    pub(super) fn check_decoder(&self, config: &Config, usable: bool) -> Result<()> {
        if config.decoder.kind == DecoderKind::Map || usable {
            return Ok(());
        }
        let got = format!("mae with method {:?} and the mask {:?}", self.method, self.mask());
        let expected = "map: MAE's decoder predicts pixels and sees everything";
        Err(Error::argument("decoder", got, expected))
    }
}
