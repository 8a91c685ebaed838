//! `rowscan info`: adapters of this machine, and the cost of training a model.

use super::dense::backbone_under;
use super::model_args::{ModelArgs, model_to_pretrain, model_under};
use super::pretrain::expect_of_method;
use crate::cli::terminal::{Device, Outcome, say, usage};
use crate::error::{Error, Result};
use crate::gpu::{Caps, Gpu, Plan, Precision, Recording, human_bytes};
use crate::models::{Classifier, Config, models};
use crate::nn::Params;
use crate::run::detect::LabeledObjects;
use crate::run::segment::PixelClasses;
use crate::run::supervised::DenseLabels;
use crate::train::dense_recipes::DenseRecipe;
use crate::train::finetune::step::Finetuner;
use crate::train::memory_check::expect_fit;
use crate::train::options::word;
use crate::train::pretrain::settings::{MethodArgs, PretrainSettings};
use crate::train::pretrain::step::{Pretrainer, expect_fit as pretraining_fits};
use crate::train::settings::RunSettings;
use crate::train::supervised::{SupervisedSettings, Trainer, Tuning};
use crate::train::update::Hyper;

/// What only a plan depends on, besides model and method.
const OF_A_PLAN: [&str; 3] = ["batch_size", "checkpoint_blocks", "precision"];

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// List all models with their parameters, and nothing else.
    #[arg(long, conflicts_with_all = OF_A_PLAN, conflicts_with = "adapter_only")]
    models: bool,
    /// Print the adapter in use and nothing else; fail if there is none.
    #[arg(long, conflicts_with_all = OF_A_PLAN)]
    adapter_only: bool,
    /// Plan a step of a recipe of segmentation or detection, with its model, heads and batch.
    #[arg(long, conflicts_with_all = ["models", "adapter_only"], value_parser = recipe_names())]
    recipe: Option<String>,
    /// Images per step of the plan; by default 128, or those of the recipe.
    #[arg(long)]
    batch_size: Option<usize>,
    /// Plan steps that compute each block again in the backward pass.
    #[arg(long)]
    checkpoint_blocks: bool,
    /// Plan steps in this precision, by default f32 or that of the recipe: mixed stores in f16 what only products read
    /// between the layers of an MLP.
    #[arg(long, value_parser = word::<Precision>())]
    precision: Option<Precision>,
    #[command(flatten)]
    method: MethodArgs,
}

/// Images per step of a plan without a recipe.
const BATCH: usize = 128;

/// The recipes of dense tasks.
fn recipe_names() -> Vec<&'static str> {
    PixelClasses::RECIPES.iter().chain(LabeledObjects::RECIPES).map(|row| row.0).collect()
}

/// The settings of a plan: those of the command line over others.
fn plan_as(args: &Args, run: &mut RunSettings) {
    run.batch_size = args.batch_size.unwrap_or(run.batch_size);
    run.checkpoint_blocks |= args.checkpoint_blocks;
    run.precision = args.precision.unwrap_or(run.precision);
}

/// The plan of a step of a recipe of a dense task.
fn plan_recipe(args: &Args, name: &str) -> Outcome {
    match PixelClasses::RECIPES.iter().any(|row| row.0 == name) {
        true => plan_dense::<PixelClasses>(args, name, "segmentation"),
        false => plan_dense::<LabeledObjects>(args, name, "detection"),
    }
}

fn plan_dense<L: DenseLabels>(args: &Args, name: &str, task: &str) -> Outcome {
    let DenseRecipe { model, heads, mut settings } = usage(L::recipe(name))?;
    let backbone = usage(backbone_under(&[&args.model], None, Some(model)))?;
    let config = backbone.for_dense(L::dense(heads), args.model.shape.classes.unwrap_or(model.classes));
    usage(config.validate())?;
    plan_as(args, settings.as_mut());
    usage(settings.check())?;
    let (run, tuning) = (settings.as_ref(), settings.tuning());
    let (batch, hyper) = (run.batch_size, run.hyper()?);
    let trainer = |g: &Gpu, batch, hyper| Trainer::<L::Inputs>::new(g, &config, batch, hyper, tuning, 0);
    expect_fit(&planned(), batch, hyper, |g, batch, hyper| trainer(g, batch, hyper)?.plan())?;
    let dry = |hyper| trainer(&Gpu::dry(planned()), batch, hyper);
    let (size, count, parts) = (config.sample_size(), dry(hyper)?.params.count(), run.accum_iter);
    say(format_args!("\n{name}: {} {size}, {count} parameters", config.name))?;
    let what = format!("step of {task} at batch {batch}, one of {parts} micro-batches, {} classes", config.classes);
    Ok(step(&what, hyper, |hyper| Ok(dry(hyper)?.record_whole()?.0))?)
}

/// Refuses options of the method beside `--recipe`, and those of model and method beside `--models` and
/// `--adapter-only`, which plan nothing.
fn expect_used(args: &Args) -> Result<()> {
    let (models, alone) = match () {
        () if args.recipe.is_some() => (None, "--recipe: a dense task has no method"),
        () if args.models => (Some(&args.model), "--models, which lists all models: nothing is planned"),
        () => (Some(&args.model), "--adapter-only: nothing is planned"),
    };
    let internal = |e: serde_json::Error| Error::Internal(format!("options as JSON: {e}"));
    let models = models.map(serde_json::to_value).unwrap_or_else(|| Ok(serde_json::Value::Null));
    for options in [models, serde_json::to_value(&args.method)] {
        let options = options.map_err(internal)?;
        if let Some((name, value)) = options.as_object().and_then(|given| given.iter().next()) {
            return Err(Error::argument(format!("--{name}"), value, format!("none with {alone}")));
        }
    }
    Ok(())
}

pub fn run(device: &Device, args: &Args) -> Outcome {
    if args.models || args.adapter_only || args.recipe.is_some() {
        usage(expect_used(args))?;
    }
    if args.models {
        return Ok(list()?);
    }
    let opened = device.open();
    if args.adapter_only {
        return Ok(say(opened?.caps())?);
    }
    say("adapters")?;
    for (i, caps) in pollster::block_on(Gpu::adapters()).iter().enumerate() {
        say(format_args!("  {i}: {}, {}, driver {}", caps.name, caps.backend, caps.driver))?;
    }
    match &opened {
        Ok(g) => adapter(g.caps())?,
        Err(e) => say(format_args!("  none in use: {e}"))?,
    }
    let largest = human_bytes(planned().max_buffer);
    say(format_args!(
        "plans are for a GPU with buffers of {largest}; `--dry-run` of a command that trains plans for the one in use"
    ))?;
    if let Some(name) = &args.recipe {
        return plan_recipe(args, name);
    }
    usage(expect_of_method(&args.method, args.method.objective.method.unwrap_or_default()))?;
    let configs: Vec<Config> = match &args.model.model {
        Some(_) => vec![usage(model_to_pretrain(None, None, &[&args.model], args.method.objective.method))?],
        None => usage(Config::presets().map(|name| model_under(Config::preset(name)?, &[&args.model])).collect())?,
    };
    for config in configs {
        let mut run = RunSettings { batch_size: BATCH, ..RunSettings::default() };
        plan_as(args, &mut run);
        let settings = PretrainSettings { run, ..PretrainSettings::default() }
            .under(&[&args.method], args.method.objective.method);
        if config.family.masked_pretraining {
            usage(settings.check(&config))?;
            plan_pretraining(&config, &settings)?;
        }
        plan_finetuning(&config, &settings)?;
    }
    Ok(())
}

/// Lists every model by name: its parameters with classifier and without decoder, its layers and tokens.
fn list() -> Result<()> {
    let names = models();
    let width = names.iter().map(String::len).max().unwrap_or_default();
    say(format_args!("{:width$}  {:>11}  {:>6}  {:>5}  {:>6}", "model", "parameters", "layers", "width", "tokens"))?;
    for name in names {
        let config = Config::preset(&name)?;
        let g = Gpu::dry(planned());
        let mut params = Params::new(&g);
        Classifier::new(&g, &mut params, &config)?;
        let layers = config.layers();
        let tokens = if config.family.hierarchical { "maps".into() } else { config.tokens().to_string() };
        say(format_args!("{name:width$}  {:>11}  {layers:>6}  {:>5}  {tokens:>6}", params.count(), config.width))?;
    }
    let short: Vec<_> = Config::presets().collect();
    say(format_args!("short names: {}; another patch or image size goes into the name", short.join(", ")))
}

fn adapter(caps: &Caps) -> Result<()> {
    say(format_args!("in use: {caps}"))?;
    say(format_args!("  subgroup sizes     {} to {}", caps.subgroup_sizes.0, caps.subgroup_sizes.1))?;
    say(format_args!("  timestamps         {}", if caps.timestamps { "yes" } else { "no" }))?;
    say(format_args!("  largest binding    {}", human_bytes(caps.max_binding)))?;
    say(format_args!("  largest buffer     {}", human_bytes(caps.max_buffer)))?;
    say(format_args!("  device memory      {}", caps.memory.map_or("unknown".into(), human_bytes)))
}

/// An adapter with 2 GiB bindings. Wherever a model fits, its plan is the same.
fn planned() -> Caps {
    Caps { max_binding: 2 << 30, max_buffer: 2 << 30, ..Caps::portable() }
}

fn plan_pretraining(config: &Config, settings: &PretrainSettings) -> Result<()> {
    let (batch, hyper) = (settings.run.batch_size, settings.run.hyper()?);
    let visible = *settings.masker(config)?.all_visible_lengths().end();
    pretraining_fits(&planned(), config, &settings.objective, hyper, visible, batch)?;
    let trainer = |hyper| Pretrainer::new(&Gpu::dry(planned()), config, &settings.objective, batch, hyper, 0);
    let (size, tokens) = (config.sample_size(), config.tokens());
    say(format_args!("\n{} {size}, {} parameters", config.name, trainer(hyper)?.params.count()))?;
    let method = settings.objective.method;
    step(&format!("step of {method} at batch {batch}, {visible} of {tokens} tokens visible"), hyper, |hyper| {
        Ok(trainer(hyper)?.record(visible)?.0)
    })
}

fn plan_finetuning(config: &Config, settings: &PretrainSettings) -> Result<()> {
    if config.classes == 0 || config.features() == 0 {
        return Ok(());
    }
    let (batch, hyper) = (settings.run.batch_size, settings.run.hyper()?);
    let tuning = Tuning { layer_decay: 1.0, average: None, by_name: false };
    expect_fit(&planned(), batch, hyper, |g, batch, hyper| Finetuner::new(g, config, batch, hyper, tuning, 0)?.plan())?;
    let tuner = |hyper| Finetuner::new(&Gpu::dry(planned()), config, batch, hyper, tuning, 0);
    if !config.family.masked_pretraining {
        let (size, count) = (config.sample_size(), tuner(hyper)?.params.count());
        say(format_args!("\n{} {size}, {count} parameters", config.name))?;
    }
    let what = format!("step of fine-tuning at batch {batch}, {} classes", config.classes);
    step(&what, hyper, |hyper| Ok(tuner(hyper)?.record()?.0))
}

/// Prints memory, launches and work of a step, and what changes with `--checkpoint-blocks`, or without it if it was
/// given.
fn step(what: &str, hyper: Hyper, record: impl Fn(Hyper) -> Result<Recording>) -> Result<()> {
    let recording = record(hyper)?;
    let plan = Plan::new(&recording)?;
    say(format_args!("  {what}"))?;
    let (forward, step) = recording.count("layers.1");
    let of_block = match step {
        0 => String::new(), // a network without Mamba layers
        _ => format!("   a Mamba block: {forward} forward, {step} in a training step"),
    };
    say(format_args!("{plan}  launches     {:>12}{of_block}", plan.launches))?;
    let other = Plan::new(&record(Hyper { checkpoint_blocks: !hyper.checkpoint_blocks, ..hyper })?)?;
    let (name, with) = if hyper.checkpoint_blocks { ("kept", "without") } else { ("checkpointed", "with") };
    let (total, launches) = (human_bytes(other.total()), other.launches);
    say(format_args!("  {name:<12} {total:>12}   in total {with} --checkpoint-blocks, in {launches} launches"))?;
    let work = recording.work();
    let products: u64 =
        recording.launches().iter().filter(|l| l.name().starts_with("matmul")).map(|l| l.work().flops).sum();
    let share = 100.0 * products as f64 / work.flops.max(1) as f64;
    say(format_args!("  flops        {:>12.3} T   {share:.1}% of them in matmul", work.flops as f64 / 1e12))?;
    let (moved, least) = (human_bytes(work.bytes), human_bytes(plan.least_traffic()));
    say(format_args!(
        "  moved        {moved:>12}   by launches that touch each element once; no step can do with less than {least}"
    ))
}
