//! Models by the field's names: `map_tiny_patch16_224`, `mambar_base_patch16_224`, `vim_small_patch16_224_columns`,
//! `vit_base_patch16_224`, `deit_small_patch16_224`, and the orderings of Table 4 as `hybrid_base_mmmtmmmt_patch16_224`.
//! Patch and image side are part of the name, and any pair of them will do.

use super::config::{Config, Decoder, Family, Order, Pool, Positions};
use crate::error::{Error, Result};
use crate::nn::{Directions, InitScheme};

/// An architecture without patch and image size.
struct Arch {
    name: &'static str,
    family: Family,
    width: usize,
    /// Layers, and how often they repeat.
    layers: (&'static str, usize),
    heads: usize,
    /// Registers or class tokens, and the reduction r of the neck.
    registers: (usize, usize),
}

const fn arch(
    name: &'static str, family: Family, width: usize, layers: (&'static str, usize), heads: usize,
    registers: (usize, usize),
) -> Arch {
    Arch { name, family, width, layers, heads, registers }
}

use Family::{Hybrid, Vim, Vit};

/// Sizes of the papers' models (src/models/README.md, "Backbones"). The micro models are ours, all of about one size.
const ARCHS: &[Arch] = &[
    arch("map_micro", Hybrid, 64, ("MMMT", 2), 4, (4, 1)),
    arch("map_tiny", Hybrid, 192, ("MMMT", 8), 12, (12, 1)),
    arch("map_small", Hybrid, 384, ("MMMT", 8), 12, (12, 2)),
    arch("map_base", Hybrid, 768, ("MMMT", 8), 12, (12, 4)),
    arch("map_large", Hybrid, 1024, ("MMMT", 16), 16, (16, 8)),
    arch("map_huge", Hybrid, 1536, ("MMMT", 12), 12, (16, 8)),
    arch("mambar_micro", Hybrid, 64, ("M", 7), 4, (4, 1)),
    arch("mambar_tiny", Hybrid, 192, ("M", 24), 12, (12, 1)),
    arch("mambar_small", Hybrid, 384, ("M", 24), 12, (12, 2)),
    arch("mambar_base", Hybrid, 768, ("M", 24), 12, (12, 4)),
    arch("mambar_large", Hybrid, 1024, ("M", 48), 16, (16, 8)),
    arch("vim_micro", Vim, 64, ("M", 7), 4, (1, 1)),
    arch("vim_tiny", Vim, 192, ("M", 24), 12, (1, 1)),
    arch("vim_small", Vim, 384, ("M", 24), 12, (1, 1)),
    arch("vim_base", Vim, 768, ("M", 24), 12, (1, 1)),
    arch("vit_micro", Vit, 64, ("T", 6), 4, (1, 1)),
    arch("vit_base", Vit, 768, ("T", 12), 12, (1, 1)),
    arch("vit_large", Vit, 1024, ("T", 24), 16, (1, 1)),
    arch("deit_tiny", Vit, 192, ("T", 12), 3, (1, 1)),
    arch("deit_small", Vit, 384, ("T", 12), 6, (1, 1)),
    arch("deit_base", Vit, 768, ("T", 12), 12, (1, 1)),
];

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

/// Names of all models, largest families first; the short names are not repeated.
pub fn models() -> Vec<String> {
    let mut names = Vec::new();
    for arch in ARCHS {
        let suffix = if arch.width == 64 { "_patch4_32" } else { "_patch16_224" };
        names.push(format!("{}{suffix}", arch.name));
        if arch.family == Vim {
            names.push(format!("{}{suffix}_columns", arch.name));
        }
    }
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
            None => parse(name).and_then(|(arch, patch, image)| named(arch, patch, image)),
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

fn named(name: &str, patch: usize, image: usize) -> Option<Config> {
    if let Some((size, ordering)) = name.strip_prefix("hybrid_").and_then(|rest| rest.split_once('_')) {
        let ordering = ORDERINGS.iter().find(|o| o.to_lowercase() == ordering)?;
        let base = named(&format!("map_{size}"), patch, image)?;
        // runs of a long ordering grow with it, units of an alternating one repeat
        let times = base.pattern.len() / 8;
        let pattern = match *ordering {
            "TMMMTMMM" | "MMMTMMMT" => ordering.repeat(times),
            runs => runs.chars().flat_map(|c| std::iter::repeat_n(c, times)).collect(),
        };
        return Some(Config { pattern, extra_residual: false, ..base });
    }
    let arch = ARCHS.iter().find(|arch| arch.name == name)?;
    let micro = arch.width == 64;
    Some(Config {
        name: name.into(),
        family: arch.family,
        image_size: image,
        image_width: None,
        patch_size: patch,
        width: arch.width,
        pattern: arch.layers.0.repeat(arch.layers.1),
        heads: arch.heads,
        mlp_ratio: if arch.family == Vit { 4.0 } else { 2.0 },
        qkv_bias: true,
        norm_eps: None,
        extra_residual: arch.family == Hybrid,
        registers: arch.registers.0,
        cls_reduce: arch.registers.1,
        pool: if arch.family == Hybrid { Pool::Registers } else { Pool::Token },
        classes: if image < 128 { 10 } else { 1000 }, // CIFAR-10 or ImageNet
        states: 16,
        conv: 4,
        expand: 2,
        rms_norm: true,
        directions: Directions::Mean,
        order: Order::Rows,
        positions: Positions::Learned,
        drop_path: if micro { 0.0 } else { 0.1 },
        init: InitScheme::default(),
        decoder: if micro { Decoder { width: 64, depth: 2, heads: 4, ..Decoder::map() } } else { Decoder::map() },
    })
}
