//! What the commands that train share: where their options come from, and what they do around a run.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Serialize};

use super::signals::stop_flag;
use super::unused::{Given, Unused, given, refuse, refuse_in_file};
use super::watch::RunView;
use crate::cli::terminal::{Device, Outcome, Stop, quoted, say, tell, usage, warn};
use crate::data::{DataError, Dataset};
use crate::error::{Error, Result};
use crate::gpu::{AdapterChoice, Caps, Gpu};
use crate::models::Config;
use crate::models::dense::Dense;
use crate::run::checkpoint;
use crate::run::detect::LabeledObjects;
use crate::run::finetune::ImageClasses;
use crate::run::output_dir::OutputDir;
use crate::run::outputs::RecordArgs;
use crate::run::pretrain::Pretraining;
use crate::run::segment::PixelClasses;
use crate::run::supervised::LabelKind;
use crate::run::{Ended, Outputs, RecordSettings, Run, Silent, Task, TaskSettings, open_labeled};
use crate::train::checkpoint::Best;
use crate::train::exchange::expect_shared;
use crate::train::memory_check::expect_fit;
use crate::train::options::{Layer, overlay, read_table, to_toml, uppermost};
use crate::train::settings::RunSettings;
use crate::train::supervised::{Supervised, Trainer, Tuning};

/// The command line of a command that trains: what to do, and the options `O`, which may also stand in a file.
#[derive(Debug, clap::Args)]
pub struct CommandLine<O: clap::Args> {
    #[command(flatten)]
    action: Action,
    #[command(flatten)]
    options: O,
}

/// What to do. None of it is an option of the run.
#[derive(Debug, clap::Args)]
struct Action {
    /// TOML file with options under their long names; the command line goes first.
    #[arg(long)]
    config: Option<PathBuf>,
    /// Continue bit-exactly from a checkpoint folder, or from the newest in --output-dir. `--resume=auto` does so where
    /// there is a checkpoint, and begins where there is none: for schedulers that start a job again.
    #[arg(long, value_name = "FOLDER")]
    resume: Option<Option<PathBuf>>,
    /// Print the model, the memory plan and the launches of a step, and stop.
    #[arg(long)]
    dry_run: bool,
}

/// Options that say where a run writes, and how often.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
pub struct OutputArgs {
    /// Folder for checkpoints, log.jsonl, report.html, TensorBoard events and pictures.
    #[arg(long)]
    #[serde(rename = "output-dir", skip_serializing_if = "Option::is_none")]
    pub output_dir: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    pub record: RecordArgs,
}

impl From<&Outputs> for OutputArgs {
    fn from(outputs: &Outputs) -> Self {
        Self { output_dir: Some(outputs.dir.clone()), record: (&outputs.record).into() }
    }
}

/// All options of a command that trains, as one layer gives them: the command line, or the file of `--config`.
pub trait TrainingOptions: clap::Args + Serialize + DeserializeOwned + Layer<RecordSettings> {
    /// Where the run writes.
    fn output(&self) -> &OutputArgs;
}

/// What is different between the commands that train.
pub trait Training: Task {
    /// The options of the command.
    type Options: TrainingOptions;

    /// Model and settings of a new run: the defaults or the recipe under the layers. With the data set, if it had to be
    /// opened for that.
    fn new_run(layers: &[&Self::Options]) -> Result<(Config, Self::Settings, Option<Arc<Dataset>>)>;
    /// Model and settings of a run that goes on: those of its checkpoint under the layers.
    fn resumed(config: Config, settings: Self::Settings, layers: &[&Self::Options])
    -> Result<(Config, Self::Settings)>;
    /// The options that change nothing in a run.
    fn unused(config: &Config, settings: &Self::Settings, record: &RecordSettings) -> Vec<Unused>;
    /// Prints parameters, plan and launches; works without an adapter.
    fn describe(caps: Caps, config: &Config, settings: &Self::Settings) -> Result<()>;
    /// Every option of a run: as a layer over anything it gives this run again.
    fn resolved(config: &Config, settings: &Self::Settings, outputs: &Outputs) -> Self::Options;
}

/// [`Training::describe`] for a step on labels.
pub fn describe_step<S: Supervised>(caps: Caps, config: &Config, run: &RunSettings, tuning: Tuning) -> Result<()> {
    let (batch, hyper) = (run.batch_size, run.hyper()?);
    let trainer = |g: &Gpu, batch, hyper| Trainer::<S>::new(g, config, batch, hyper, tuning, 0);
    expect_fit(&caps, batch, hyper, |g, batch, hyper| trainer(g, batch, hyper)?.plan())?;
    let mut trainer = trainer(&Gpu::dry(caps), batch, hyper)?;
    let plan = trainer.plan()?;
    let (parts, launches) = (run.accum_iter, plan.launches);
    say(format_args!("model {}: {} parameters, {} classes", config.name, trainer.params.count(), config.classes))?;
    say(format_args!("step of {parts} × {batch} images: {launches} launches for {batch} and the update\n{plan}"))
}

pub fn needed(what: &str) -> Error {
    Error::argument(what.to_owned(), "nothing", "a value")
}

/// The file of `--config`.
struct OptionFile<O> {
    place: String,
    options: O,
    /// What it wishes for. A file with most of all options is the record of a run, which wishes for nothing.
    wishes: Given,
}

/// Reads the options in the file of `--config`.
fn read_file<O: TrainingOptions>(path: &Path) -> Result<OptionFile<O>> {
    let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
    let place = path.display().to_string();
    let broken = |e: toml::de::Error| Error::argument("--config", format!("{place}: {e}"), "options as in --help");
    let table: toml::Table = toml::from_str(&text).map_err(broken)?;
    let command = O::augment_args(clap::Command::new("options"));
    let known: Vec<&str> = command.get_arguments().filter_map(|arg| arg.get_long()).collect();
    let options: O = read_table(&place, &table, &known)?;
    let wishes = given(&options);
    let wishes = if 2 * wishes.len() > known.len() { Given::new() } else { wishes };
    Ok(OptionFile { place, options, wishes })
}

impl Action {
    /// The checkpoint to go on from, if the run is to go on: the one named, or the newest of the output folder.
    fn resume_from(&self, output: Option<&PathBuf>) -> Result<Option<PathBuf>> {
        let Some(wanted) = &self.resume else { return Ok(None) };
        let auto = wanted.as_deref() == Some(Path::new("auto"));
        if let Some(folder) = wanted.as_ref().filter(|_| !auto) {
            return Ok(Some(folder.clone()));
        }
        let output = output.ok_or_else(|| needed("--output-dir"))?;
        let newest = checkpoint::newest(output)?;
        if auto {
            return Ok(newest);
        }
        newest.map(Some).ok_or_else(|| Error::file(output, "holds no checkpoint to resume from"))
    }
}

/// The adapter that a dry run plans for. Without an adapter, limits that every GPU has.
fn planning_caps(device: &Device) -> Result<Caps> {
    match device.open() {
        Err(Error::NoAdapter(_)) if device.options.adapter == AdapterChoice::Auto => {
            Ok(Caps { max_binding: 2 << 30, max_buffer: 2 << 30, ..Caps::portable() })
        }
        opened => Ok(opened?.caps().clone()),
    }
}

/// A command that trains, from its command line to the end of its run.
pub fn carry_out<T: Training>(device: &Device, line: CommandLine<T::Options>) -> Outcome {
    let CommandLine { action, options } = line;
    let file = usage(action.config.as_deref().map(read_file::<T::Options>).transpose())?;
    let layers: Vec<&T::Options> = file.iter().map(|file| &file.options).chain([&options]).collect();
    let dir = uppermost(&layers, |layer| layer.output().output_dir.as_ref());
    let world = &device.world;
    // the first of several processes looks for the checkpoint, which the others may not see
    let from = usage(world.from_first(|| Found::<T::Settings>::of(action.resume_from(dir)?, T::COMMAND)))?;
    // a resumed run is what its checkpoint and its option file say, unless the layers say otherwise
    let (config, mut settings, opened) = usage(match &from {
        Some(Found { config, settings, .. }) => {
            T::resumed(config.clone(), settings.clone(), &layers).map(|(config, settings)| (config, settings, None))
        }
        None => T::new_run(&layers),
    })?;
    let run = settings.as_mut();
    if from.is_none() && run.accum_iter == 1 && !layers.iter().any(|layer| says(*layer, "accum-iter")) {
        run.accum_iter = world.size(); // a micro-batch each
    }
    let before = || from.as_ref().map(|found| RecordSettings::of_run(&found.folder, T::COMMAND)).transpose();
    let record = overlay(world.from_first(before)?.unwrap_or_default(), &layers);
    let (unused, line) = (T::unused(&config, &settings, &record), given(&options));
    usage(refuse(&line, &unused))?;
    if let Some(OptionFile { place, wishes, .. }) = &file {
        usage(refuse_in_file(place, wishes, &line, &unused))?;
    }
    usage(T::check(&config, &settings))?;
    usage(expect_shared(world.place(), settings.as_ref().accum_iter))?;
    if action.dry_run {
        return Ok(T::describe(planning_caps(device)?, &config, &settings)?);
    }
    if settings.as_ref().data.is_empty() {
        return Err(Stop::Usage(needed("--data")));
    }
    usage(record.check())?;
    let dir = usage(dir.cloned().ok_or_else(|| needed("--output-dir")))?;
    let mut outputs = Outputs { dir, options: String::new(), record };
    outputs.options = usage(to_toml(&T::resolved(&config, &settings, &outputs)))?;
    train::<T>(device, &config, &settings, &outputs, from.as_ref().map(|found| &*found.folder), opened)
}

/// Whether a layer gives an option a value.
fn says(layer: &impl Serialize, option: &str) -> bool {
    serde_json::to_value(layer).is_ok_and(|layer| layer.get(option).is_some_and(|value| !value.is_null()))
}

/// A checkpoint to go on from, and what is read of it before a run begins.
#[derive(Serialize, Deserialize)]
struct Found<S> {
    folder: PathBuf,
    config: Config,
    settings: S,
}

impl<S: DeserializeOwned> Found<S> {
    /// What `command` goes on from.
    fn of(folder: Option<PathBuf>, command: &str) -> Result<Option<Self>> {
        let Some(folder) = folder else { return Ok(None) };
        let config = checkpoint::config(&folder)?;
        checkpoint::state::<IgnoredAny>(&folder)?;
        let wrote = command_of(&folder)?;
        if wrote != command {
            let advice = format!(
                "`rowscan {wrote}` goes on with it; to start from its weights, give --checkpoint in place of --resume"
            );
            return Err(Error::file(folder, format!("is of a run of `rowscan {wrote}`, not `{command}`: {advice}")));
        }
        let settings = checkpoint::state(&folder)?.settings;
        Ok(Some(Self { folder, config, settings }))
    }
}

/// The command whose run wrote a checkpoint.
fn command_of(folder: &Path) -> Result<&'static str> {
    Ok(match checkpoint::config(folder)?.dense {
        Some(Dense::Segmentation(_)) => PixelClasses::COMMAND,
        Some(Dense::Detection(_)) => LabeledObjects::COMMAND,
        None if checkpoint::about(folder)?.objective.is_some() => Pretraining::COMMAND,
        None => ImageClasses::COMMAND,
    })
}

/// Checks what can be checked without a device, opens one, and trains to the end. `opened` is the data set where it had
/// to be opened before.
fn train<T: Training>(
    device: &Device, config: &Config, settings: &T::Settings, outputs: &Outputs, resume: Option<&Path>,
    opened: Option<Arc<Dataset>>,
) -> Outcome {
    let world = &device.world;
    world.from_first(|| {
        OutputDir::expect_free(&outputs.dir)?;
        if resume.is_none() { expect_no_run(&outputs.dir) } else { Ok(()) }
    })?;
    // before anything that takes time
    let data = match opened {
        Some(data) => data,
        None => usage(
            open_labeled(settings.as_ref(), &settings.labels())
                .map_err(|e| if resume.is_some() { moved(e) } else { e }),
        )?,
    };
    let g = device.open()?;
    if g.caps().software && world.leads() {
        warn(format_args!("training on the CPU adapter {}: expect a small fraction of a GPU's speed", g.caps().name));
    }
    let stop = stop_flag()?;
    let mut run = Run::<T>::among(world, &g, config, settings, outputs, resume, data)?;
    let dir = outputs.dir.display();
    let several = if world.size() > 1 { format!("mpirun -n {} ", world.size()) } else { String::new() };
    let go_on = format!("{several}rowscan {} --output-dir {} --resume", T::COMMAND, quoted(&outputs.dir));
    let ended = match world.leads() {
        true => run.train(&stop, &mut RunView::new()),
        false => run.train(&stop, &mut Silent),
    };
    match ended {
        Ok(_) if !world.leads() => {}
        Ok(Ended::Finished(Some(loss))) => {
            tell(format_args!("done: loss {loss:.4}, results in {dir}"));
            if let Some((Best { epoch, top1, average }, folder)) = run.best() {
                let of = if average { " of the moving average" } else { "" };
                let score = T::SCORE;
                tell(format_args!("best: {score} {top1:.2}%{of} after epoch {epoch}, {}", folder.display()));
            }
        }
        Ok(Ended::Finished(None)) => tell(format_args!("all {} epochs were done before", settings.as_ref().epochs)),
        Ok(Ended::Interrupted(folder)) => {
            tell(format_args!("stopped; saved {}\ngo on with: {go_on}", folder.display()));
        }
        Err(e) => {
            if !world.leads() {
                return Err(Stop::Failure(e));
            }
            if let Ok(Some(folder)) = checkpoint::newest(&outputs.dir) {
                warn(format_args!("the checkpoint {} is intact; go on with: {go_on}", folder.display()));
            }
            return Err(Stop::Failure(e));
        }
    }
    Ok(())
}

/// The error of a resumed run whose data set is not where it was.
fn moved(e: Error) -> Error {
    match e {
        Error::Data(DataError::Missing { path, .. } | DataError::Empty { path, .. }) => {
            let advice = "if it moved, or its disk is not mounted, add --data NEW with the place where it is now";
            Error::file(path, format!("held the data set of this run, and holds none now: {advice}"))
        }
        other => other,
    }
}

/// An output folder that already holds a run is not overwritten.
fn expect_no_run(output: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(output) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        entries => entries.map_err(Error::io(output, "read"))?,
    };
    let mut paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let Some(found) = paths.find(|path| checkpoint::is_checkpoint_name(path)) else { return Ok(()) };
    let advice = "add --resume to go on, or choose another --output-dir";
    Err(Error::file(output, format!("already holds {}: {advice}", found.display())))
}
