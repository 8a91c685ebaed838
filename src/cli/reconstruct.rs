//! `rowscan reconstruct`: original | masked | reconstruction of some images or point clouds.

use std::path::{Path, PathBuf};

use super::features::view_of;
use super::pretrain::expect_of_method;
use crate::cli::terminal::{Device, Outcome, Stop, say, usage};
use crate::data::load_sample;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::{Config, Contents, Pretext, contents, pretext_model};
use crate::nn::Params;
use crate::run::checkpoint;
use crate::run::pictures::{Painter, Painting};
use crate::run::record::{expect_folders, write_atomic};
use crate::train::options::overlay;
use crate::train::pretrain::settings::{MaskArgs, MethodArgs, PretrainSettings};
use crate::train::settings::RunSettings;
use crate::train::weights_file::to_bytes;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Checkpoint folder with config.json and model.safetensors.
    #[arg(long)]
    checkpoint: PathBuf,
    /// Images; for a model on point clouds, clouds and meshes.
    #[arg(required = true, value_name = "IMAGE")]
    images: Vec<PathBuf>,
    /// The mask: by default random, with the share of the checkpoint's method.
    #[command(flatten)]
    mask: MaskArgs,
    /// Seed of a mask that is drawn, 0 by default.
    #[arg(long)]
    seed: Option<u64>,
    /// Share of the shorter side that is kept of an image; by default the model's own, mostly 0.875.
    #[arg(long)]
    crop_ratio: Option<f64>,
    /// safetensors file for what the pictures are made of: images (B, S, S, 3) in 0 … 255, mask (B, L) with 1 where
    /// patches are predicted, predictions (B, L, P·P·3) in units of the target. Of point clouds, the points: clouds
    /// (B, L·K, 3), mask (B, L), visible (B, V·K, 3), predictions (B, M·K, 3).
    #[arg(long, value_name = "FILE")]
    tensors: Option<PathBuf>,
    /// PNG to write.
    #[arg(short, long)]
    output: PathBuf,
}

/// Refuses a file to be written that is one of the others.
fn expect_own_file<'a>(
    option: &'static str, file: &Path, others: impl Iterator<Item = (&'a str, &'a Path)>,
) -> Result<()> {
    let place = |path: &Path| path.canonicalize().unwrap_or_else(|_| path.to_owned());
    for (what, other) in others {
        if place(file) == place(other) {
            return Err(Error::argument(option, format!("{}, {what}", file.display()), "a file of its own"));
        }
    }
    Ok(())
}

/// A checkpoint's model on the GPU.
pub fn open_model(g: &Gpu, folder: &Path) -> Result<(Config, Box<dyn Pretext>)> {
    let (config, weights) = (checkpoint::config(folder)?, checkpoint::weights(folder)?);
    let found = contents(&weights);
    if matches!(found, Contents::Classifier | Contents::Encoder) {
        let reason = format!("holds {found}, which rebuilds nothing; expected a checkpoint of `rowscan pretrain`");
        return Err(Error::file(folder, reason));
    }
    let mut params = Params::new(g);
    let model = pretext_model(g, &mut params, &config, &checkpoint::objective(folder)?)?;
    params.load(g, &weights).map_err(|e| Error::file(folder, e))?;
    Ok((config, model))
}

pub fn run(device: &Device, args: &Args) -> Outcome {
    expect_folders([&args.output].into_iter().chain(&args.tensors))?;
    let config = checkpoint::config_of_images(&args.checkpoint, "decoder of pixels")?;
    let objective = checkpoint::objective(&args.checkpoint)?;
    let asked = MethodArgs { mask: args.mask.clone(), ..MethodArgs::default() };
    usage(expect_of_method(&asked, objective.method))?;
    let run = RunSettings { seed: args.seed.unwrap_or(0), ..RunSettings::default() };
    let normalized = objective.normalize().is_some();
    let base = PretrainSettings { run, objective: objective.clone(), ..PretrainSettings::of(objective.method) };
    let settings = overlay(base, &[&args.mask]);
    let masker = usage(settings.masker(&config))?;
    if let Some(seed) = args.seed.filter(|_| !masker.is_random()) {
        let got =
            format!("{seed} with the mask {}", if objective.method.hides { &*settings.mask } else { "of nothing" });
        let expected = "none: it is the same whatever the seed; draw one with --mask random or --mask-ratio truncnorm";
        return Err(Stop::Usage(Error::argument("--seed", got, expected)));
    }
    let one = masker.draw(0, 1);
    if objective.method.hides && one.visible_len == one.inverse.len() {
        let ratio = settings.mask_ratio.unwrap_or(0.0);
        return Err(Stop::Usage(Error::argument(
            "--mask-ratio",
            ratio,
            "enough to hide a patch: there is none to rebuild",
        )));
    }
    let images = args.images.iter().map(|image| ("an image", image.as_path()));
    usage(expect_own_file("--output", &args.output, images.clone()))?;
    if let Some(tensors) = &args.tensors {
        usage(expect_own_file("--tensors", tensors, images.chain([("--output", args.output.as_path())])))?;
    }
    let transform = usage(view_of(&config, config.test_view, args.crop_ratio))?;
    let mut bytes = Vec::new();
    for path in &args.images {
        bytes.extend(load_sample(path, &transform).map_err(Error::from)?);
    }
    let g = device.open()?;
    let (config, model) = open_model(&g, &args.checkpoint)?;
    let mask = masker.draw(0, args.images.len());
    let painter = Painter::new(&g, &*model, &config, args.images.len(), mask.visible_len)?;
    let Painting { grid, loss, tensors } = painter.run(&bytes, &mask)?;
    if let Some(file) = &args.tensors {
        write_atomic(file, &to_bytes(&tensors, Default::default())?)?;
    }
    grid.save(&args.output)?;
    let file = args.output.display();
    let unit = match (config.family.clouds, normalized) {
        (true, _) => ", as Chamfer distance",
        (false, true) => " (1 is the mean of each patch)",
        (false, false) => ", in deviations of ImageNet's pixels",
    };
    let which = if objective.method.hides || config.family.clouds { "hidden" } else { "predicted" };
    say(format_args!("loss {loss:.4} over the {which} patches{unit}; wrote {file}"))?;
    Ok(())
}
