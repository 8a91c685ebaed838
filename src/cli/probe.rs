//! `rowscan probe`: what the frozen features of a backbone know about classes.

use std::path::PathBuf;
use std::sync::Arc;

use pollster::block_on;
use serde_json::json;

use super::features::{batch_of, encoder_of, listed_anew, open_split, view_of};
use super::model_args::{EmaArgs, ModelArgs, model_under};
use super::training::needed;
use crate::cli::terminal::{Device, Outcome, Stop, say, usage};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::infer::features::FrozenEncoder;
use crate::infer::probe::{linear_probe, nearest_neighbors};
use crate::models::Config;
use crate::run::checkpoint;
use crate::run::probe::features as features_of;
use crate::run::record::{expect_folders, write_atomic};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Checkpoint folder of a model of any family, pretrained or fine-tuned.
    #[arg(long)]
    checkpoint: Option<PathBuf>,
    /// Initial values in place of the checkpoint's weights, for comparison; --model will do without a checkpoint.
    #[arg(long)]
    random_init: bool,
    #[command(flatten)]
    ema: EmaArgs,
    #[command(flatten)]
    model: ModelArgs,
    /// Data set with labels and a test half, as for finetune.
    #[arg(long)]
    data: String,
    /// Look through the data set anew, whatever was remembered of it.
    #[arg(long)]
    rescan: bool,
    /// Images of each half, evenly spread over the classes; 0 for all.
    #[arg(long, default_value_t = 0)]
    max_images: usize,
    /// Images at a time.
    #[arg(long, default_value_t = 64)]
    batch_size: usize,
    /// Share of the shorter side that is kept of an image; by default the model's own, mostly 0.875.
    #[arg(long)]
    crop_ratio: Option<f64>,
    /// Steps of the linear probe, each on all images.
    #[arg(long, default_value_t = 300)]
    steps: u64,
    /// Nearest neighbors that vote.
    #[arg(short, long, default_value_t = 20)]
    k: usize,
    /// Temperature of their votes.
    #[arg(long, default_value_t = 0.07)]
    temperature: f64,
    /// Decoding threads; 0 takes one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Seed of initial values.
    #[arg(long)]
    seed: Option<u64>,
    /// File for the results as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

/// Both halves, with the same classes.
fn halves(args: &Args) -> std::result::Result<(Dataset, Dataset), Stop> {
    listed_anew(args.rescan);
    let open = |split| {
        let data = open_split(&args.data, split)?;
        let count = if args.max_images < data.len() { args.max_images } else { 0 };
        usage(data.limited(count).map_err(Error::from))
    };
    let (train, test) = (open("train")?, open("test")?);
    train.require_labels().map_err(Error::from)?;
    let test = test.numbered_as(train.classes()).map_err(Error::from)?;
    Ok((train, test))
}

/// Refuses options that the features of a probe do not depend on.
fn expect_used(args: &Args) -> Result<()> {
    let shape = &args.model.shape;
    let given = |value: Option<&dyn std::fmt::Debug>| value.map(|value| format!("{value:?}"));
    macro_rules! options {
        ($($flag:literal => $field:ident),*) => { [$(($flag, given(shape.$field.as_ref().map(|v| v as _)))),*] };
    }
    let unused = options!["--classes" => classes, "--pool" => pool, "--drop-path" => drop_path, "--decoder" => decoder,
        "--decoder-width" => decoder_width, "--decoder-depth" => decoder_depth, "--decoder-heads" => decoder_heads];
    if let Some((flag, Some(got))) = unused.into_iter().find(|(_, given)| given.is_some()) {
        return Err(Error::argument(flag, got, "none: the features of a frozen encoder do not depend on it"));
    }
    let drawn = args.random_init || args.checkpoint.is_none();
    let [init] = options!["--init" => init];
    let of_draws = [("--seed", args.seed.map(|seed| seed.to_string())), init];
    if args.random_init && args.ema.is_given() {
        let expected = "no --random-init with it: initial values have no average";
        return Err(Error::argument("--ema", "given", expected));
    }
    match of_draws.into_iter().find(|(_, given)| given.is_some() && !drawn) {
        Some((flag, got)) => {
            let expected = "--random-init with it: the weights of a checkpoint are not drawn";
            Err(Error::argument(flag, got.unwrap_or_default(), expected))
        }
        None => Ok(()),
    }
}

fn config_of(args: &Args) -> Result<Config> {
    expect_used(args)?;
    match &args.checkpoint {
        Some(folder) => model_under(checkpoint::config_of_images(folder, "features of whole images")?, &[&args.model]),
        None if args.random_init && args.model.model.is_some() => args.model.resolve(),
        None => Err(needed("--checkpoint, or --model with --random-init")),
    }
}

pub fn run(device: &Device, args: &Args) -> Outcome {
    let config = usage(config_of(args))?;
    let within = |ok: bool, what: &str, got: String, expected: &str| match ok {
        true => Ok(()),
        false => Err(Stop::Usage(Error::argument(what.to_owned(), got, expected))),
    };
    within((1..=1000).contains(&args.k), "--k", args.k.to_string(), "1 to 1000")?;
    within(args.temperature > 0.0, "--temperature", args.temperature.to_string(), "above 0")?;
    within((1..=100_000).contains(&args.steps), "--steps", args.steps.to_string(), "1 to 100000")?;
    let transform = usage(view_of(&config, config.test_view, args.crop_ratio))?;
    device.world.from_first(|| expect_folders(&args.json))?;
    let (train, test) = halves(args)?;
    if args.k > train.len() {
        let expected = format!("at most {}, the images of the train half", train.len());
        return Err(Stop::Usage(Error::argument("--k", args.k, expected)));
    }
    let batch = batch_of(args.batch_size, train.len().min(test.len()))?;
    let classes = train.classes().len();
    let g = device.open()?;
    let encoder = match &args.checkpoint {
        Some(folder) if !args.random_init => encoder_of(&g, folder, &config, args.ema)?,
        _ => FrozenEncoder::open(&g, &config, None, args.seed.unwrap_or(0))?,
    };
    let forward = encoder.program(&g, &config, batch)?;
    let features = |data: Dataset| {
        features_of(&device.world, &forward, &Arc::new(data), transform, device.world.threads(args.threads))
    };
    let (train, test) = (features(train)?, features(test)?);
    let (counts, weights) = ((train.len(), test.len()), if args.random_init { "initial values" } else { "checkpoint" });
    say(format_args!("{} ({weights}): features of {} and {} images", config.name, counts.0, counts.1))?;
    let linear = block_on(linear_probe(&g, &train, &test, classes, args.steps))?;
    say(format_args!("linear probe          top-1 {:.2}%  top-5 {:.2}%", linear.top1, linear.top5))?;
    let nearest = block_on(nearest_neighbors(&g, &train, &test, classes, args.k, args.temperature))?;
    say(format_args!("{:>2} nearest neighbors top-1 {:.2}%  top-5 {:.2}%", args.k, nearest.top1, nearest.top5))?;
    if let Some(path) = args.json.as_ref().filter(|_| device.world.leads()) {
        let value = json!({
            "model": config.name,
            "checkpoint": args.checkpoint,
            "random_init": args.random_init,
            "features": encoder.to_string(),
            "not_used": encoder.left_out,
            "data": args.data,
            "train_images": counts.0,
            "test_images": counts.1,
            "linear": { "top1": linear.top1, "top5": linear.top5 },
            "knn": { "k": args.k, "top1": nearest.top1, "top5": nearest.top5 },
        });
        let text = serde_json::to_vec_pretty(&value);
        let text = text.map_err(|e| Error::Internal(format!("scores as JSON: {e}")))?;
        write_atomic(path, &text)?;
    }
    Ok(())
}
