//! Pretraining methods, one paper a file, and the table of all methods.

pub mod ar_shift;
pub mod arm;
pub mod contrastive;
pub mod diffusion;
pub mod mae;
pub mod map;
pub mod map_on_maps;
pub mod objective;
pub mod points;
pub mod pretext;
pub mod region_decoder;

use std::fmt;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::config::Config;
use super::options::DecoderKind;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::nn::{Directions, Params};
use ar_shift::ArShift;
use arm::ArmPretraining;
use contrastive::Contrastive;
use diffusion::Diffusion;
use mae::Mae;
use map::Map;
use map_on_maps::MapOnMaps;
use objective::{Method, Objective};
use points::PointPretraining;
use pretext::Pretext;

type Build = fn(&Gpu, &mut Params, &Config, &Objective) -> Result<Box<dyn Pretext>>;

/// Every method and how its model is built. A new method is its file and a line here. The first method is the default.
const METHODS: &[(Method, Build)] = &[
    (Method::MAP, reconstructing),
    (Method::MAE, reconstructing),
    (Method::AR, reconstructing),
    (Method::AR_SHIFT, |g, params, config, objective| Ok(Box::new(ArShift::new(g, params, config, objective)?))),
    (Method::LOCAL_MAE, reconstructing),
    (Method::CONTRASTIVE, |g, params, config, objective| Ok(Box::new(Contrastive::new(g, params, config, objective)?))),
    (Method::DIFFUSION, |g, params, config, objective| Ok(Box::new(Diffusion::new(g, params, config, objective)?))),
    (Method::ARM, |g, params, config, objective| Ok(Box::new(ArmPretraining::new(g, params, config, objective)?))),
    (Method::POINT_MAE, reconstructing),
];

/// MAP's pipeline, or MAE proper where the decoder is MAE's.
fn reconstructing(g: &Gpu, params: &mut Params, config: &Config, objective: &Objective) -> Result<Box<dyn Pretext>> {
    if config.family.clouds {
        return Ok(Box::new(PointPretraining::new(g, params, config, objective)?));
    }
    Ok(match config.decoder.kind {
        DecoderKind::Map if config.family.hierarchical => Box::new(MapOnMaps::with(g, params, config, objective)?),
        DecoderKind::Map => Box::new(Map::with(g, params, config, objective)?),
        DecoderKind::Mae => Box::new(Mae::with(g, params, config, objective)?),
    })
}

/// Builds the model of `config` with the method of `objective`. Its parameters get their official names
/// (src/models/README.md, "Tensor names").
///
/// # Errors
/// An objective that does not pass [`Objective::check`].
pub fn pretext_model(g: &Gpu, params: &mut Params, config: &Config, objective: &Objective) -> Result<Box<dyn Pretext>> {
    objective.check(config)?;
    let (_, build) = METHODS.iter().find(|(method, _)| *method == objective.method).unwrap_or(&METHODS[0]);
    build(g, params, config, objective)
}

impl Objective {
    /// The objective of a checkpoint that does not say how it was pretrained: that of its decoder.
    pub fn default_for(config: &Config) -> Self {
        let method = match config.decoder.kind {
            _ if (Method::ARM.encodes)(&config.family) => Method::ARM,
            DecoderKind::Mae => Method::MAE,
            DecoderKind::Map => Method::MAP,
        };
        Self::of(method)
    }
}

impl Config {
    /// The model as `method` pretrains it: it reads tokens one way where the method needs that.
    #[must_use]
    pub fn pretrained_by(self, method: Method) -> Self {
        let directions = if method.one_way { Directions::One } else { self.directions };
        Self { directions, ..self }
    }
}

impl Method {
    /// Every method.
    pub fn all() -> impl Iterator<Item = Self> {
        METHODS.iter().map(|(method, _)| *method)
    }

    /// The names of the methods that pass `which`: `a, b or c`.
    pub fn names(which: impl Fn(Self) -> bool) -> String {
        let names: Vec<&str> = Self::all().filter(|method| which(*method)).map(|method| method.name).collect();
        match names.split_last() {
            Some((last, [])) => (*last).into(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        }
    }
}

impl Default for Method {
    fn default() -> Self {
        METHODS[0].0
    }
}

impl fmt::Display for Method {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

impl FromStr for Method {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        let found = Self::all().find(|method| method.name == name);
        found.ok_or_else(|| Error::unknown("method", name, Self::all().map(|method| method.name)))
    }
}

impl<'de> Deserialize<'de> for Method {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}
