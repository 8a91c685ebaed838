//! Puts a checkpoint into a classifier (src/models/README.md, "From pretraining to a classifier") or into a model that
//! is pretrained.
//!
//! Tensors that fit are taken. Position embeddings are resized to another grid. What the classifier adds, or the
//! decoder, is drawn anew where it does not fit, and what has no place in the model is left out.

use std::collections::HashSet;
use std::fmt;

use crate::error::{Error, Result};
use crate::models::backbones::positions::resize_positions;
use crate::models::config::Config;
use crate::nn::{Mismatch, Params, Weights};

/// The weights of a model, and where each comes from.
#[derive(Debug, Clone)]
pub struct Adapted {
    /// A value for every parameter.
    pub weights: Weights,
    /// Tensors taken from the checkpoint as they are.
    pub taken: Vec<String>,
    /// Tensors that the checkpoint lacks and that start as copies of others: further directions of mixers that were
    /// pretrained in one.
    pub copied: Vec<String>,
    /// Position embeddings resized to another grid.
    pub resized: Vec<String>,
    /// Tensors that were drawn anew.
    pub fresh: Vec<String>,
    /// Tensors of the checkpoint that were not used.
    pub ignored: Vec<String>,
}

impl fmt::Display for Adapted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tensors taken", self.taken.len())?;
        let lists =
            [(&self.copied, "copied"), (&self.resized, "resized"), (&self.fresh, "fresh"), (&self.ignored, "ignored")];
        for (names, what) in lists {
            if !names.is_empty() {
                let more = if names.len() > 6 { ", …" } else { "" };
                write!(f, "; {} {what} ({}{more})", names.len(), names[..names.len().min(6)].join(", "))?;
            }
        }
        Ok(())
    }
}

/// Which of these modules a tensor's name belongs to.
fn part<'a>(modules: &[&'a str], name: &str) -> Option<&'a str> {
    let within =
        |module: &&&str| name.strip_prefix(**module).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    modules.iter().find(within).copied()
}

/// Makes the weights of a checkpoint fit the model `config`, whose parameters are `params`: PyTorch's
/// `load_state_dict(strict=False)`, but strict about the trunk. Where the checkpoint has nothing that fits, initial
/// values are drawn from `seed`. Registers keep their embeddings, since their places follow from the grid. A head of
/// another shape is drawn anew as a whole, weight and bias.
///
/// # Errors
/// A layer that is missing, has another shape, or is one too many: the checkpoint is of another model.
pub fn adapt(found: Weights, config: &Config, params: &Params, seed: u64) -> Result<Adapted> {
    adapted(found, config, params, seed, false)
}

/// The same for a model that is pretrained: what it has besides the trunk, such as a decoder, is drawn anew where the
/// checkpoint has nothing that fits.
///
/// # Errors
/// As [`adapt`].
pub fn adapt_to_pretrain(found: Weights, config: &Config, params: &Params, seed: u64) -> Result<Adapted> {
    adapted(found, config, params, seed, true)
}

fn adapted<'a>(mut found: Weights, config: &Config, params: &'a Params, seed: u64, pretrain: bool) -> Result<Adapted> {
    let family = config.family;
    (family.translate)(&mut found);
    // names of the encoder without what pretraining puts before them
    let inner = |name: &'a str| name.strip_prefix(family.pretrained_prefix).unwrap_or(name);
    let bare = |name: String| name.strip_prefix(family.pretrained_prefix).map(str::to_owned).unwrap_or(name);
    let mut found: Weights = found.into_iter().map(|(name, tensor)| (bare(name), tensor)).collect();
    let before: HashSet<String> = found.keys().cloned().collect();
    (family.adapt)(&mut found, &|name| params.tensors().any(|entry| entry.name == name));
    let has_class = found.contains_key("cls_token");
    // the module that is drawn anew as a whole if it does not fit; none for the trunk
    let outside = |name: &'a str| {
        let decodes = pretrain && part(family.trunk, name).is_none();
        part(family.classifier, name).or(decodes.then_some(name))
    };
    let mut adapted = Adapted {
        weights: Weights::new(),
        taken: vec![],
        copied: vec![],
        resized: vec![],
        fresh: vec![],
        ignored: vec![],
    };
    let mut differ = Mismatch::default();
    let misfits = |name: &str, shape: &[usize]| found.get(name).is_some_and(|(found, _)| found != shape);
    let stale = params.tensors().filter(|e| misfits(inner(&e.name), &e.shape)).filter_map(|e| outside(inner(&e.name)));
    let stale: HashSet<&str> = stale.collect();
    for entry in params.tensors() {
        let (full, name) = (&entry.name, inner(&entry.name));
        let values = match found.remove(name) {
            Some((shape, values))
                if shape == entry.shape && outside(name).is_none_or(|module| !stale.contains(module)) =>
            {
                let list = if before.contains(name) { &mut adapted.taken } else { &mut adapted.copied };
                list.push(full.clone());
                values
            }
            Some((shape, values)) if name == "pos_embed" && shape.last() == Some(&config.width) => {
                adapted.resized.push(full.clone());
                let rows = entry.shape.iter().rev().nth(1).copied().unwrap_or(0);
                positions(&values, config, rows, has_class)?
            }
            other if outside(name).is_some() => {
                adapted.ignored.extend(other.map(|_| full.clone()));
                adapted.fresh.push(full.clone());
                let head = name.strip_prefix(family.head) == Some(".weight");
                let init = family.fresh_head.filter(|_| head).unwrap_or(entry.init);
                init.values(full, &entry.shape, seed)
            }
            Some((shape, _)) => {
                differ.shapes.push(Mismatch::shape(full, &shape, &entry.shape));
                continue;
            }
            None => {
                differ.missing.push(full.clone());
                continue;
            }
        };
        adapted.weights.insert(full.clone(), (entry.shape.clone(), values));
    }
    for name in found.into_keys() {
        let list = if part(family.trunk, &name).is_some() { &mut differ.unknown } else { &mut adapted.ignored };
        list.push(name);
    }
    differ.into_result()?;
    Ok(adapted)
}

/// Resizes position embeddings (rows, width) of any square grid to `rows` of them, for the grid of `config`. The row of
/// a class token moves to its new place. It is 0 where the checkpoint has no class token, as `has_class` says.
fn positions(old: &[f32], config: &Config, rows: usize, has_class: bool) -> Result<Vec<f32>> {
    let d = config.width;
    let class = rows.saturating_sub(config.tokens());
    let rows = old.len() / d;
    let lacks = class == 1 && !has_class && rows.isqrt().pow(2) == rows;
    let patches = if lacks { rows } else { rows.saturating_sub(class) };
    if patches == 0 || patches.isqrt().pow(2) != patches || config.image_width.is_some() {
        let expected = format!("a square number of patches and {class} class tokens");
        return Err(Error::argument("rows of pos_embed", rows, expected));
    }
    let at = |patches: usize| if class == 0 { patches } else { (config.family.places)(patches, class).first };
    let (before, after) = old.split_at(at(patches) * d);
    let (row, after) = if lacks { (&vec![0.0; d][..], after) } else { after.split_at(class * d) };
    let mut new = resize_positions(&[before, after].concat(), d, config.grid())?;
    let here = at(config.tokens()) * d;
    new.splice(here..here, row.iter().copied());
    Ok(new)
}
