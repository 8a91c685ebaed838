//! The variants that are compiled: what the training steps of the paper's models launch, and every other kernel with
//! its default constants.

use std::collections::BTreeMap;

use rowscan::gpu::{Caps, Gpu, Kernel, Precision, Recording};
use rowscan::models::{Config, Method};
use rowscan::train::finetune::step::Finetuner;
use rowscan::train::pretrain::settings::PretrainSettings;
use rowscan::train::pretrain::step::Pretrainer;
use rowscan::train::settings::RunSettings;
use rowscan::train::supervised::Tuning;

/// A kernel with values for its constants.
pub struct Variant {
    pub kernel: &'static Kernel,
    pub values: Vec<u32>,
}

impl Variant {
    /// The kernel's name and the constants.
    pub fn name(&self) -> String {
        format!("{} {}", self.kernel.name, self.constants())
    }
    /// The constants that are not 0, as `NAME=value` with commas; `-` if there are none.
    pub fn constants(&self) -> String {
        let pairs = self.kernel.consts.iter().zip(&self.values).filter(|(_, value)| **value != 0);
        let list: Vec<_> = pairs.map(|(known, value)| format!("{}={value}", known.name)).collect();
        if list.is_empty() { "-".into() } else { list.join(",") }
    }
}

/// Batch size of the recorded steps: the paper's per GPU.
const BATCH: usize = 128;

/// All variants, in the order of kernel and constants. `models` names models by their presets.
///
/// # Errors
/// If a step cannot be recorded.
pub fn all(caps: &Caps, models: &[String]) -> rowscan::Result<Vec<Variant>> {
    let mut found = BTreeMap::new();
    for model in models {
        let config = Config::preset(model)?;
        for precision in [Precision::F32, Precision::Mixed] {
            let run = RunSettings { batch_size: BATCH, precision, ..RunSettings::default() };
            for method in [Method::MAP, Method::MAE] {
                let settings = PretrainSettings { run: run.clone(), ..PretrainSettings::of(method) };
                if settings.check(&config).is_err() {
                    continue; // a network that this method does not pretrain
                }
                let visible = *settings.masker(&config)?.all_visible_lengths().end();
                let (g, hyper) = (Gpu::dry(caps.clone()), settings.run.hyper()?);
                collect(
                    &mut found,
                    &Pretrainer::new(&g, &config, &settings.objective, BATCH, hyper, 0)?.record(visible)?.0,
                );
            }
            let (g, tuning) = (Gpu::dry(caps.clone()), Tuning { layer_decay: 1.0, average: None, by_name: false });
            collect(&mut found, &Finetuner::new(&g, &config, BATCH, run.hyper()?, tuning, 0)?.record()?.0);
        }
    }
    let launched: Vec<&str> = found.keys().map(|(name, _)| *name).collect();
    let others = rowscan::ops::all().into_iter().filter(|kernel| !kernel.for_cpus && !launched.contains(&kernel.name));
    let others: Vec<_> =
        others.map(|kernel| (kernel, kernel.consts.iter().map(|known| known.default()).collect())).collect();
    for (kernel, values) in others {
        found.insert((kernel.name, values), kernel);
    }
    let runs = |kernel: &Kernel| !kernel.needs.coop || caps.tiers.coop;
    let kept = found.into_iter().filter(|(_, kernel)| runs(kernel));
    Ok(kept.map(|((_, values), kernel)| Variant { kernel, values }).collect())
}

fn collect(found: &mut BTreeMap<(&'static str, Vec<u32>), &'static Kernel>, step: &Recording) {
    for launch in step.launches() {
        found.insert((launch.name(), launch.values().to_vec()), launch.kernel());
    }
}
