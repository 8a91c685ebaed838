//! `rowscan reconstruct`: original | masked | reconstruction of some images.

use std::path::PathBuf;

use super::pretrain::expect_of_method;
use crate::cli::terminal::{Device, Outcome, say, usage};
use crate::data::{Transform, load_image};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::infer::reconstruct::Reconstructor;
use crate::models::{Config, Pretext, pretext_model};
use crate::nn::{Params, Weights};
use crate::run::checkpoint;
use crate::run::record::{Panel, PictureGrid, write_atomic};
use crate::train::options::overlay;
use crate::train::pretrain::settings::{MaskArgs, MethodArgs, PretrainSettings};
use crate::train::settings::RunSettings;
use crate::train::weights_file::to_bytes;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Checkpoint folder with config.json and model.safetensors.
    #[arg(long)]
    checkpoint: PathBuf,
    /// Images.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// The mask: by default random, with the share of the checkpoint's method.
    #[command(flatten)]
    mask: MaskArgs,
    /// Seed of the mask.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// safetensors file for what the pictures are made of: images (B, S, S, 3) in 0 … 255, mask (B, L) with 1 where
    /// patches are predicted, predictions (B, L, P·P·3) in units of the target.
    #[arg(long, value_name = "FILE")]
    tensors: Option<PathBuf>,
    /// PNG to write.
    #[arg(short, long)]
    output: PathBuf,
}

/// A checkpoint's model on the GPU.
pub fn open_model(g: &Gpu, folder: &std::path::Path) -> Result<(Config, Box<dyn Pretext>)> {
    let config = checkpoint::config(folder)?;
    let mut params = Params::new(g);
    let model = pretext_model(g, &mut params, &config, &checkpoint::objective(folder)?)?;
    checkpoint::load_weights(g, folder, &params)?;
    Ok((config, model))
}

/// Refuses a model that does not read images.
pub fn expect_images(config: &Config) -> Result<()> {
    match config.family.clouds {
        true => Err(Error::argument("the model", format!("a {:?}", config.family), "one on images")),
        false => Ok(()),
    }
}

pub fn run(device: &Device, args: &Args) -> Outcome {
    let (config, objective) = (checkpoint::config(&args.checkpoint)?, checkpoint::objective(&args.checkpoint)?);
    expect_images(&config)?;
    let asked = MethodArgs { mask: args.mask.clone(), ..MethodArgs::default() };
    usage(expect_of_method(&asked, objective.method))?;
    let run = RunSettings { seed: args.seed, ..RunSettings::default() };
    let normalized = objective.normalize();
    let base = PretrainSettings { run, objective: objective.clone(), ..PretrainSettings::of(objective.method) };
    let settings = overlay(base, &[&args.mask]);
    let masker = usage(settings.masker(&config))?;
    let transform = Transform::eval(config.image_size as u32);
    let mut bytes = Vec::new();
    for path in &args.images {
        bytes.extend(load_image(path, &transform).map_err(Error::from)?);
    }
    let g = device.open()?;
    let (config, model) = open_model(&g, &args.checkpoint)?;
    let mask = masker.draw(0, args.images.len());
    let reconstructor = Reconstructor::new(&g, &*model, &config, args.images.len(), mask.visible_len)?;
    let (pictures, loss) = pollster::block_on(reconstructor.run(&bytes, &mask))?;
    if let Some(file) = &args.tensors {
        let (count, side) = (args.images.len(), config.image_size);
        let pixels = bytes.iter().map(|&byte| f32::from(byte)).collect();
        let predictions = pictures.iter().flat_map(|p| p.predicted.iter().copied()).collect();
        let tensors = Weights::from([
            ("images".to_string(), (vec![count, side, side, 3], pixels)),
            ("mask".into(), (vec![count, config.tokens()], reconstructor.predicted(&mask))),
            ("predictions".into(), (vec![count, config.tokens(), config.patch_len()], predictions)),
        ]);
        write_atomic(file, &to_bytes(&tensors, Default::default())?)?;
    }
    let mut grid = PictureGrid::new(config.image_size, config.image_size, 3)?;
    for p in &pictures {
        let row = [Panel::Rgb8(&p.original), Panel::Rgb8(&p.masked), Panel::Rgb8(&p.reconstruction)];
        grid.push_row(&row)?;
    }
    grid.save(&args.output)?;
    let file = args.output.display();
    let unit = if normalized { " (1 is the mean of each patch)" } else { ", in deviations of ImageNet's pixels" };
    let which = if objective.method.hides { "hidden" } else { "predicted" };
    say(format_args!("loss {loss:.4} over the {which} patches{unit}; wrote {file}"))?;
    Ok(())
}
