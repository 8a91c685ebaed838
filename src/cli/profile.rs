//! `rowscan profile`: GPU time of one pretraining step by kernel.

use std::collections::BTreeMap;

use super::model_args::ModelArgs;
use super::{Device, Outcome, Stop, usage};
use crate::error::Error;
use crate::gpu::{Program, human_bytes};
use crate::train::settings::{RunSettings, Settings};
use crate::train::step::Pretrainer;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Images per step.
    #[arg(long, default_value_t = 32)]
    batch_size: usize,
    /// Share of hidden patches.
    #[arg(long, default_value_t = 0.5)]
    mask_ratio: f64,
}

/// Runs a step on zeros three times and prints the last: the first ones compile and touch the memory.
pub fn run(device: &Device, args: &Args) -> Outcome {
    let config = usage(args.model.resolve())?;
    let run = RunSettings { batch_size: args.batch_size, ..RunSettings::default() };
    let settings = Settings { run, mask_ratio: Some(args.mask_ratio), ..Settings::default() };
    let masker = usage(settings.masker(&config))?;
    if args.batch_size == 0 {
        return Err(Stop::Usage(Error::argument("--batch-size", 0, "at least 1")));
    }
    let g = device.open()?;
    println!("{}", g.caps());
    let mut trainer = Pretrainer::new(&g, &config, args.batch_size, settings.run.hyper()?, 0)?;
    let mask = masker.draw(0, args.batch_size);
    let bytes = args.batch_size * config.image_size * config.image_size * 3;
    trainer.step(&vec![128; bytes], &mask, 0, 0.0)?;
    let (recording, _kept) = trainer.record(mask.visible_len)?;
    let program = Program::new(&g, recording)?;
    let _ = (program.profile()?, program.profile()?);
    let mut kernels: BTreeMap<&str, (u64, u64, u64)> = BTreeMap::new();
    for launch in program.profile()? {
        let row = kernels.entry(launch.name).or_default();
        *row = (row.0 + 1, row.1 + launch.ns, row.2 + launch.bytes);
    }
    let total: u64 = kernels.values().map(|row| row.1).sum();
    let mut rows: Vec<_> = kernels.into_iter().collect();
    rows.sort_by_key(|(_, row)| std::cmp::Reverse(row.1));
    println!("{:<32} {:>8} {:>10} {:>7} {:>12} {:>8}", "kernel", "launches", "ms", "share", "bound bytes", "GB/s");
    for (name, (launches, ns, bytes)) in rows {
        let (ms, share) = (ns as f64 / 1e6, 100.0 * ns as f64 / total.max(1) as f64);
        let speed = bytes as f64 / ns.max(1) as f64;
        println!("{name:<32} {launches:>8} {ms:>10.3} {share:>6.1}% {:>12} {speed:>8.2}", human_bytes(bytes));
    }
    println!("{:<32} {:>8} {:>10.3}", "all", program.plan().launches, total as f64 / 1e6);
    Ok(())
}
