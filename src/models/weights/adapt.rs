//! Puts a pretrained checkpoint into a classifier (src/models/README.md, "From pretraining to a classifier").
//!
//! Tensors that fit are taken. Position embeddings are resized to another grid. What the classifier adds is drawn anew
//! where it does not fit, and the decoder is left out.

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
pub fn adapt(mut found: Weights, config: &Config, params: &Params, seed: u64) -> Result<Adapted> {
    let family = config.family;
    (family.translate)(&mut found);
    let before: HashSet<String> = found.keys().cloned().collect();
    (family.adapt)(&mut found, &|name| params.tensors().any(|entry| entry.name == name));
    let has_class = found.contains_key("cls_token");
    let of_classifier = |name: &str| part(family.classifier, name);
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
    let stale = params.tensors().filter(|e| misfits(&e.name, &e.shape)).filter_map(|e| of_classifier(&e.name));
    let stale: HashSet<&str> = stale.collect();
    for entry in params.tensors() {
        let name = &entry.name;
        let values = match found.remove(name) {
            Some((shape, values))
                if shape == entry.shape && of_classifier(name).is_none_or(|module| !stale.contains(module)) =>
            {
                let list = if before.contains(name) { &mut adapted.taken } else { &mut adapted.copied };
                list.push(name.clone());
                values
            }
            Some((shape, values)) if name == "pos_embed" && shape.last() == Some(&config.width) => {
                adapted.resized.push(name.clone());
                let rows = entry.shape.iter().rev().nth(1).copied().unwrap_or(0);
                positions(&values, config, rows, has_class)?
            }
            other if of_classifier(name).is_some() => {
                adapted.ignored.extend(other.map(|_| name.clone()));
                adapted.fresh.push(name.clone());
                let head = name.strip_prefix(family.head) == Some(".weight");
                let init = family.fresh_head.filter(|_| head).unwrap_or(entry.init);
                init.values(name, &entry.shape, seed)
            }
            Some((shape, _)) => {
                differ.shapes.push(Mismatch::shape(name, &shape, &entry.shape));
                continue;
            }
            None => {
                differ.missing.push(name.clone());
                continue;
            }
        };
        adapted.weights.insert(name.clone(), (entry.shape.clone(), values));
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
