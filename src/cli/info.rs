//! `rowscan info`: what this machine has, and what a model would take.

use super::model_args::ModelArgs;
use super::{Device, Outcome, Stop, usage};
use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu, human_bytes};
use crate::models::Config;
use crate::train::settings::Settings;
use crate::train::step::Pretrainer;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Print the adapter in use and nothing else; fail if there is none.
    #[arg(long)]
    adapter_only: bool,
    /// Images per step of the plan.
    #[arg(long, default_value_t = 128)]
    batch_size: usize,
    /// Share of hidden patches of the plan.
    #[arg(long, default_value_t = 0.5)]
    mask_ratio: f64,
}

pub fn run(device: &Device, args: &Args) -> Outcome {
    let opened = device.open();
    if args.adapter_only {
        println!("{}", opened?.caps());
        return Ok(());
    }
    println!("adapters");
    for (i, caps) in pollster::block_on(Gpu::adapters()).iter().enumerate() {
        println!("  {i}: {}, {}, driver {}", caps.name, caps.backend, caps.driver);
    }
    match &opened {
        Ok(g) => adapter(g.caps()),
        Err(e) => println!("  none in use: {e}"),
    }
    if args.batch_size == 0 {
        return Err(Stop::Usage(Error::argument("--batch-size", 0, "at least 1")));
    }
    let configs: Vec<Config> = match &args.model.model {
        Some(_) => vec![usage(args.model.resolve())?],
        None => Config::presets().map(Config::preset).collect::<Result<_>>()?,
    };
    for config in configs {
        usage(plan(&config, args.batch_size, args.mask_ratio))?;
    }
    Ok(())
}

fn adapter(caps: &Caps) {
    println!("in use: {caps}");
    println!("  subgroup sizes     {} to {}", caps.subgroup_sizes.0, caps.subgroup_sizes.1);
    println!("  timestamps         {}", if caps.timestamps { "yes" } else { "no" });
    println!("  largest binding    {}", human_bytes(caps.max_binding));
    println!("  largest buffer     {}", human_bytes(caps.max_buffer));
    println!("  device memory      {}", caps.memory.map_or("unknown".into(), human_bytes));
}

/// Planned for an adapter with 2 GiB bindings: the plan of a model is the same everywhere it fits.
fn plan(config: &Config, batch: usize, ratio: f64) -> Result<()> {
    let caps = Caps { max_binding: 2 << 30, max_buffer: 2 << 30, ..Caps::portable() };
    let settings = Settings { batch_size: batch, mask_ratio: Some(ratio), ..Settings::default() };
    let visible = *settings.masker(config)?.all_visible_lengths().end();
    let mut trainer = Pretrainer::new(&Gpu::dry(caps), config, batch, settings.hyper()?, 0)?;
    let (recording, _) = trainer.record(visible)?;
    let plan = crate::gpu::Plan::new(&recording)?;
    println!("\n{} {}×{}, {} parameters", config.name, config.image_size, config.image_size, trainer.params.count());
    println!("  pretraining step at batch {batch}, {visible} of {} tokens visible", config.tokens());
    print!("{plan}");
    let (forward, step) = recording.count("layers.1");
    println!("  launches     {:>12}   a Mamba block: {forward} forward, {step} in a training step", plan.launches);
    Ok(())
}
