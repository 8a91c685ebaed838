//! Which of the dictionaries of a checkpoint holds the weights.

use std::collections::HashMap;

use super::Result;
use super::values::{Id, Tensor, Value, Values};

/// The keys under which training scripts keep the weights, the preferred first.
const WEIGHTS: &[&str] = &["model", "state_dict", "model_state_dict", "module", "net", "network", "weights", "params"];
/// How deep dictionaries are searched.
const DEPTH: usize = 4;
/// Letters of a key that messages show.
const SHOWN: usize = 60;

/// A chosen dictionary: names and tensors.
pub(super) type Dictionary<'v> = Vec<(String, &'v Tensor)>;

struct Search<'v, 'a> {
    values: &'v Values<'a>,
    /// Whether a dictionary leads to weights in so many steps, as far as known.
    known: HashMap<(Id, usize), bool>,
}

impl<'v> Search<'v, '_> {
    fn entries(&self, id: Id) -> &'v [(Id, Id)] {
        match self.values.get(id) {
            Value::Dictionary(entries) => entries,
            _ => &[],
        }
    }

    /// Whether a dictionary holds weights itself. A step counter is no weight.
    fn has_weights(&self, id: Id) -> bool {
        let weight = |id| matches!(self.values.get(id), Value::Tensor(tensor) if !tensor.shape.is_empty());
        self.entries(id).iter().any(|(_, value)| weight(*value))
    }

    /// Whether a dictionary holds weights, itself or in a dictionary inside. Each is asked once for each depth, however
    /// often dictionaries hold each other.
    fn leads_to_weights(&mut self, id: Id, depth: usize) -> bool {
        if self.entries(id).is_empty() {
            return false;
        }
        if let Some(known) = self.known.get(&(id, depth)) {
            return *known;
        }
        let leads = self.has_weights(id)
            || depth > 0 && self.entries(id).iter().any(|(_, value)| self.leads_to_weights(*value, depth - 1));
        self.known.insert((id, depth), leads);
        leads
    }

    /// The entries of a dictionary that lead to weights, by key.
    fn inside(&mut self, id: Id) -> Vec<(&'v [u8], Id)> {
        let named = self.entries(id).iter().filter_map(|(key, value)| Some((self.values.text_of(*key)?, *value)));
        let named: Vec<_> = named.collect();
        named.into_iter().filter(|(_, value)| self.leads_to_weights(*value, DEPTH)).collect()
    }

    /// The entry that `key` names: as it is, or with its dots between the keys of nested dictionaries.
    fn under(&self, id: Id, key: &str) -> Option<Id> {
        let found = |name: &str| {
            let named = |(key, _): &&(Id, Id)| self.values.text_of(*key) == Some(name.as_bytes());
            self.entries(id).iter().rev().find(named).map(|entry| entry.1)
        };
        found(key).or_else(|| {
            let (first, rest) = key.split_once('.')?;
            self.under(found(first)?, rest)
        })
    }

    /// The tensors of a dictionary. Whatever else it holds is ignored.
    fn tensors(&self, id: Id) -> Result<Dictionary<'v>> {
        let (mut found, mut letters) = (Vec::new(), 0);
        for (key, value) in self.entries(id) {
            let (Some(name), Value::Tensor(tensor)) = (self.values.text_of(*key), self.values.get(*value)) else {
                continue;
            };
            letters += name.len();
            // each name is written out once; a file that repeats one by reference is no state dict
            if letters > self.values.bytes.len() {
                return Err("repeats the names of its tensors".into());
            }
            found.push((String::from_utf8_lossy(name).into_owned(), &**tensor));
        }
        Ok(found)
    }
}

fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(&name[..name.len().min(4 * SHOWN)]).chars().take(SHOWN).collect()
}

fn listed(found: &[(&[u8], Id)]) -> String {
    let names: Vec<String> = found.iter().take(12).map(|(name, _)| shown(name)).collect();
    if names.is_empty() { "none".into() } else { names.join(", ") }
}

/// The dictionary of weights, and a sentence for each that was passed over.
pub(super) fn choose<'v>(values: &'v Values<'_>, key: Option<&str>) -> Result<(Dictionary<'v>, Vec<String>)> {
    let mut search = Search { values, known: HashMap::new() };
    let (mut at, mut passed) = (values.root, Vec::new());
    if let Some(key) = key {
        let found = search.under(at, key).filter(|id| search.leads_to_weights(*id, DEPTH));
        at = found.ok_or_else(|| {
            format!("holds no tensors under the key {key:?}; keys with tensors: {}", listed(&search.inside(at)))
        })?;
    }
    for _ in 0..=DEPTH {
        if search.has_weights(at) {
            return Ok((search.tensors(at)?, passed));
        }
        let found = search.inside(at);
        let called = |wanted: &&str| found.iter().rev().find(|(name, _)| *name == wanted.as_bytes());
        let (name, id) = match (WEIGHTS.iter().find_map(called), found.as_slice()) {
            (Some(found), _) | (None, [found]) => *found,
            (None, []) => return Err("holds no dictionary of named tensors".into()),
            (None, _) => {
                let keys = listed(&found);
                return Err(format!("holds several dictionaries of tensors, choose one with `key`: {keys}"));
            }
        };
        let others: Vec<_> = found.iter().filter(|(other, _)| *other != name).copied().collect();
        if !others.is_empty() {
            passed.push(format!("took `{}`, left out {}", shown(name), listed(&others)));
        }
        at = id;
    }
    Err("holds its tensors in dictionaries nested too deep".into())
}
