//! Prefixes that wrappers put in front of every name: `DistributedDataParallel` writes `module.`, `torch.compile`
//! writes `_orig_mod.`, a model inside a model its own name.

use crate::nn::Weights;

/// What is taken off where every name begins with it.
const PREFIXES: &[&str] = &["module.", "_orig_mod.", "model.", "net.", "network.", "backbone.", "state_dict."];

/// Weights without the prefixes that all names share, and those prefixes, the outermost first.
pub fn without_prefix(mut weights: Weights) -> (Weights, Vec<&'static str>) {
    let mut found = Vec::new();
    while let Some(prefix) = PREFIXES.iter().find(|prefix| shared(&weights, prefix)) {
        weights = weights.into_iter().map(|(name, tensor)| (name[prefix.len()..].to_string(), tensor)).collect();
        found.push(*prefix);
    }
    (weights, found)
}

fn shared(weights: &Weights, prefix: &str) -> bool {
    !weights.is_empty() && weights.keys().all(|name| name.len() > prefix.len() && name.starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_all_names_share_is_taken_off() {
        let weights =
            |names: &[&str]| -> Weights { names.iter().map(|n| (n.to_string(), (vec![], vec![1.0]))).collect() };
        let names = |weights: &Weights| weights.keys().cloned().collect::<Vec<_>>();
        for prefix in PREFIXES {
            let found = without_prefix(weights(
                &["a.b", "norm"].map(|n| format!("{prefix}{n}")).each_ref().map(|n| n.as_str()),
            ));
            assert_eq!((names(&found.0), found.1), (vec!["a.b".to_string(), "norm".into()], vec![*prefix]));
        }
        let (found, taken) = without_prefix(weights(&["module.model.a", "module.model.b"]));
        assert_eq!((names(&found), taken), (vec!["a".to_string(), "b".into()], vec!["module.", "model."]));
        for kept in [&["module.a", "b"][..], &["module.", "module.a"], &["modulea"], &[]] {
            let (found, taken) = without_prefix(weights(kept));
            assert_eq!((names(&found).len(), taken.len()), (kept.len(), 0), "{kept:?}");
        }
    }
}
