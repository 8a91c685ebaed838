//! Models by name, in timm's style: `map_tiny_patch16_224`, `mambar_base_patch16_224`, `vim_small_patch16_224_columns`,
//! `vit_base_patch16_224`, `deit_small_patch16_224`, and the orderings of Table 4 as
//! `hybrid_base_mmmtmmmt_patch16_224`. The name says the sides of patch and image in pixels, and any pair of sides will
//! do. The sizes themselves are in the file of each family.

use super::config::{Config, Family, MapPreset, Preset};
use super::options::{Decoder, InitPositions, Order, Positions};
use crate::error::{Error, Result};
use crate::nn::{Directions, InitScheme};

/// The orderings of Table 4 of MAP (src/models/README.md, "Layer patterns"). Eight letters stand for 32 layers at base
/// size, and for 8 layers at micro size.
const ORDERINGS: &[&str] = &["MMMMMMMM", "TTTTTTTT", "MMMMMMTT", "TTMMMMMM", "TMMMTMMM", "MMMTMMMT"];

/// Short names: architecture, patch, image.
const SHORT: &[(&str, &str, usize, usize)] = &[
    ("micro", "map_micro", 8, 64),
    ("tiny", "map_tiny", 16, 224),
    ("small", "map_small", 16, 224),
    ("base", "map_base", 16, 224),
    ("large", "map_large", 16, 224),
    ("huge", "map_huge", 16, 224),
];

/// The sizes of every family.
fn presets() -> impl Iterator<Item = (Family, &'static Preset)> {
    Family::all().flat_map(|family| family.presets.iter().map(move |preset| (family, preset)))
}

/// The networks on maps of every family.
fn networks() -> impl Iterator<Item = (Family, &'static MapPreset)> {
    Family::all().flat_map(|family| family.named.iter().map(move |named| (family, named)))
}

/// Whether a size is ours, for CPUs and tests.
fn is_micro(preset: &Preset) -> bool {
    preset.width == 64
}

/// The names of all models. The short names are not repeated.
pub fn models() -> Vec<String> {
    let mut names = Vec::new();
    for (family, preset) in presets() {
        let suffix = if is_micro(preset) { "_patch4_32" } else { "_patch16_224" };
        names.push(format!("{}{suffix}", preset.name));
        if family.columns {
            names.push(format!("{}{suffix}_columns", preset.name));
        }
    }
    names.extend(networks().map(|(_, network)| network.name.to_owned()));
    for (size, suffix) in [("micro", "_patch4_32"), ("base", "_patch16_224")] {
        names.extend(ORDERINGS.iter().map(|o| format!("hybrid_{size}_{}{suffix}", o.to_lowercase())));
    }
    names
}

impl Config {
    /// The short names: `micro` is ours, the others are the paper's.
    pub fn presets() -> impl Iterator<Item = &'static str> {
        SHORT.iter().map(|row| row.0)
    }

    /// A model by name.
    ///
    /// # Errors
    /// An unknown name; the error lists the nearest ones.
    pub fn preset(name: &str) -> Result<Self> {
        let config = match SHORT.iter().find(|row| row.0 == name) {
            Some(&(_, arch, patch, image)) => named(arch, patch, image),
            None => network(name).or_else(|| parse(name).and_then(|(arch, patch, image)| named(arch, patch, image))),
        };
        let config = config.ok_or_else(|| {
            let mut known = models();
            known.extend(Self::presets().map(String::from));
            Error::unknown("model", name, known.iter().map(String::as_str))
        })?;
        let order = if name.ends_with("_columns") { Order::Columns } else { Order::Rows };
        Ok(Self { name: name.into(), order, ..config })
    }
}

/// `map_tiny_patch16_224` → `map_tiny`, 16, 224
fn parse(name: &str) -> Option<(&str, usize, usize)> {
    let rows = name.strip_suffix("_columns").unwrap_or(name);
    let (arch, sizes) = rows.rsplit_once("_patch")?;
    let (patch, image) = sizes.split_once('_')?;
    Some((arch, patch.parse().ok()?, image.parse().ok()?))
}

/// `resnet50`, or `resnet50_288` for images of another size.
fn network(name: &str) -> Option<Config> {
    let whole = networks().find(|(_, network)| network.name == name).map(|found| (found, found.1.image_size));
    let ((family, network), image) = whole.or_else(|| {
        let (name, image) = name.rsplit_once('_')?;
        Some((networks().find(|(_, network)| network.name == name)?, image.parse().ok()?))
    })?;
    let micro = network.name.ends_with("_micro");
    let plain = plain(family, image, 16, micro)?;
    Some((network.with)(Config { name: network.name.into(), drop_path: 0.0, ..plain }))
}

fn named(name: &str, patch: usize, image: usize) -> Option<Config> {
    if let Some((size, ordering)) = name.strip_prefix("hybrid_").and_then(|rest| rest.split_once('_')) {
        let ordering = ORDERINGS.iter().find(|o| o.to_lowercase() == ordering)?;
        let base = named(&format!("map_{size}"), patch, image)?;
        // an alternating ordering repeats; in the others each letter becomes a run of `times` letters
        let times = base.pattern.len() / 8;
        let pattern = match *ordering {
            "TMMMTMMM" | "MMMTMMMT" => ordering.repeat(times),
            runs => runs.chars().flat_map(|c| std::iter::repeat_n(c, times)).collect(),
        };
        return Some(Config { pattern, extra_residual: false, ..base });
    }
    let (family, preset) = presets().find(|(_, preset)| preset.name == name)?;
    Some(Config {
        name: name.into(),
        width: preset.width,
        pattern: preset.layers.0.repeat(preset.layers.1),
        heads: preset.heads,
        registers: preset.registers.0,
        cls_reduce: preset.registers.1,
        ..plain(family, image, patch, is_micro(preset))?
    })
}

/// What all networks of a family have in common. `micro` sizes are ours.
fn plain(family: Family, image: usize, patch: usize, micro: bool) -> Option<Config> {
    Some(Config {
        name: String::new(),
        family,
        image_size: image,
        image_width: None,
        patch_size: patch,
        width: 0,
        pattern: String::new(),
        heads: 1,
        mlp_ratio: family.mlp_ratio,
        qkv_bias: true,
        norm_eps: None,
        extra_residual: family.extra_residual,
        registers: 0,
        cls_reduce: 1,
        pool: family.pools.first().copied()?,
        classes: if image < 128 { 10 } else { 1000 }, // CIFAR-10 or ImageNet
        states: 16,
        conv: 4,
        expand: family.expand,
        rms_norm: true,
        directions: Directions::Mean,
        order: Order::Rows,
        positions: Positions::Learned,
        init_positions: if micro { InitPositions::SinCos } else { InitPositions::Normal },
        position_scale: 1.0,
        mask_token_std: 0.02,
        drop_path: if micro { 0.0 } else { 0.1 },
        dropout: 0.0,
        test_view: family.test_view,
        hierarchy: None,
        points: None,
        dense: None,
        init: InitScheme::default(),
        decoder: if micro { Decoder { width: 64, depth: 2, heads: 4, ..Decoder::map() } } else { (family.decoder)() },
    })
}
