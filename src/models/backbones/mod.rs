//! Backbones, one family a file, and the table of all families.

pub mod arm;
pub mod arm_encoder;
pub mod convnext;
pub mod efficientnet;
pub mod embedding;
pub mod encoder;
pub mod hybridnet;
pub mod layers;
pub mod mambavision;
pub mod on_maps;
pub mod points;
pub mod positions;
pub mod resnet;
pub mod vim;
pub mod vit;
pub mod vmamba;

use std::rc::Rc;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::config::{Config, Family};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::nn::Params;
use arm::Arm;
use arm_encoder::ArmEncoder;
use convnext::ConvNext;
use efficientnet::EfficientNet;
use encoder::{Encoder, Purpose};
use hybridnet::HybridNet;
use mambavision::MambaVision;
use on_maps::OnMaps;
use points::PointEncoder;
use resnet::ResNet;
use vim::Vim;
use vit::Vit;
use vmamba::VMamba;

/// A backbone of any family, shared by clones.
pub type Backbone = Rc<dyn Encoder>;

type Build = fn(&Gpu, &mut Params, &Config, Purpose) -> Result<Backbone>;

/// Every family and how its network is built. A new backbone is its file and a line here. The first family is that of a
/// `config.json` that names none.
const FAMILIES: &[(Family, Build)] = &[
    (Family::HYBRID, |g, params, config, _| Ok(Rc::new(HybridNet::new(g, params, config)?))),
    (Family::VIM, |g, params, config, _| Ok(Rc::new(Vim::new(g, params, config)?))),
    (Family::VIT, |g, params, config, purpose| Ok(Rc::new(Vit::new(g, params, config, purpose)?))),
    (Family::ARM, |g, params, config, purpose| {
        // heads of dense tasks learn with the network that is fine-tuned
        if purpose == Purpose::Classification || config.dense.is_some() {
            return Ok(Rc::new(Arm::new(g, params, config)?));
        }
        let taps = arm_encoder::taps(config.depth(), config.decoder.depth);
        Ok(Rc::new(ArmEncoder::new(g, params, config, &taps)?))
    }),
    (Family::VMAMBA, |_, params, config, _| Ok(Rc::new(OnMaps::new(VMamba::new(params, config)?, config)))),
    (Family::RESNET, |_, params, config, _| Ok(Rc::new(OnMaps::new(ResNet::new(params, config)?, config)))),
    (Family::EFFICIENTNET, |_, params, config, _| Ok(Rc::new(OnMaps::new(EfficientNet::new(params, config)?, config)))),
    (Family::MAMBAVISION, |g, params, config, _| {
        Ok(Rc::new(OnMaps::new(MambaVision::new(g, params, config)?, config)))
    }),
    (Family::CONVNEXT, |_, params, config, _| Ok(Rc::new(OnMaps::new(ConvNext::new(params, config)?, config)))),
    (Family::POINTS, |_, params, config, purpose| Ok(Rc::new(PointEncoder::new(params, config, purpose)?))),
];

/// Builds the backbone of `config`. Its parameters get their official names (src/models/README.md, "Tensor names").
///
/// # Errors
/// A configuration that does not pass [`Config::validate`].
pub fn backbone(g: &Gpu, params: &mut Params, config: &Config, purpose: Purpose) -> Result<Backbone> {
    config.validate()?;
    let (_, build) = FAMILIES.iter().find(|(family, _)| *family == config.family).unwrap_or(&FAMILIES[0]);
    build(g, params, config, purpose)
}

impl Family {
    /// Every family.
    pub fn all() -> impl Iterator<Item = Self> {
        FAMILIES.iter().map(|(family, _)| *family)
    }

    /// The family of this name in `config.json`.
    ///
    /// # Errors
    /// An unknown name. The error lists the nearest.
    pub fn named(name: &str) -> Result<Self> {
        let found = Self::all().find(|family| family.name == name);
        found.ok_or_else(|| Error::unknown("family", name, Self::all().map(|family| family.name)))
    }
}

impl Default for Family {
    fn default() -> Self {
        FAMILIES[0].0
    }
}

impl<'de> Deserialize<'de> for Family {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        Self::named(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}
