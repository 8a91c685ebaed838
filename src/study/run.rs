//! Running a table: each cell is pretrained, then fine-tuned for its task, and tested. Cells with the same pretraining
//! share its run.
//!
//! All runs lie in one folder, as `pretrain-<key>` and `finetune-<key>`, `segment-<key>` or `detect-<key>`. The key is
//! a hash of everything that decides the result, images included, wherever they lie. So a study that was stopped finds
//! its finished runs and continues the others. Of a finished cell its `scores.json` is enough: checkpoints may be
//! deleted, and cells of several machines be copied into one folder.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use serde::Serialize;

use super::report::{CellCost, CellScores};
use super::table::{Budget, Cell, Table, Transfer};
use crate::data::points::CloudView;
use crate::data::{Dataset, Fingerprint, Sample, Transform};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::infer::scores::cost_of;
use crate::models::Config;
use crate::nn::stable_hash;
use crate::run::detect::LabeledObjects;
use crate::run::finetune::{ImageClasses, scores_in, vote};
use crate::run::outputs::RecordArgs;
use crate::run::pretrain::Pretraining;
use crate::run::record::{Line, read_lines, write_atomic};
use crate::run::segment::PixelClasses;
use crate::run::supervised::{DenseLabels, LabelKind, SupervisedTask};
use crate::run::world::World;
use crate::run::{Ended, Outputs, RecordSettings, Run, Task};
use crate::run::{Silent, checkpoint};
use crate::train::detect::settings::DetectSettings;
use crate::train::finetune::recipes::{self, FinetuneRecipe};
use crate::train::finetune::settings::FinetuneSettings;
use crate::train::options::{overlay, read_table, to_toml};
use crate::train::pretrain::settings;
use crate::train::segment::settings::SegmentSettings;
use crate::train::settings::RunSettings;
use crate::train::supervised::SupervisedSettings;

/// Fine-tuning recipe whose settings a budget overrides: of images, and of point clouds.
const RECIPES: [&str; 2] = ["cifar", "points"];

/// Random views of a point cloud that vote.
const VIEWS: usize = 10;
/// Point clouds that are classified at a time.
const BATCH: usize = 32;

/// Models and settings of one cell with one seed.
#[derive(Debug, Clone)]
pub struct CellPlan {
    /// The model that is pretrained, with as many classes as the data set.
    pub config: Config,
    /// Settings of its pretraining; `None` trains from scratch.
    pub pretrain: Option<settings::PretrainSettings>,
    /// The network that is trained for the task: the same with another DropPath rate, or with other heads.
    pub network: Config,
    /// How it is trained.
    pub tuning: CellTraining,
}

/// Settings of what follows the pretraining. The checkpoint to start from is not set, because pretraining has yet to
/// write it.
#[derive(Debug, Clone, Serialize)]
#[serde(untagged)]
pub enum CellTraining {
    /// Of a classifier.
    Finetune(FinetuneSettings),
    /// Of segmentation.
    Segment(SegmentSettings),
    /// Of detection.
    Detect(DetectSettings),
}

impl CellTraining {
    fn run(&mut self) -> &mut RunSettings {
        match self {
            Self::Finetune(settings) => &mut settings.run,
            Self::Segment(settings) => &mut settings.run,
            Self::Detect(settings) => &mut settings.run,
        }
    }
}

/// A table to be run on a data set.
#[derive(Debug, Clone)]
pub struct Study {
    /// The table.
    pub table: Table,
    /// How much its cells train.
    pub budget: Budget,
    /// Train split of a data set that has labels and a test split.
    pub data: Arc<Dataset>,
    /// Folder of all runs and results.
    pub dir: PathBuf,
    /// Threads that decode images (DataLoader's `num_workers`); 0 for one per core.
    pub threads: usize,
}

fn json(it: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(it).map_err(|e| Error::Internal(format!("as JSON: {e}")))
}

/// The scores that a file holds; `None` if there is no such file.
fn read_if_there(file: &Path) -> Result<Option<Vec<f64>>> {
    match std::fs::read(file) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|e| Error::file(file, e)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::file(file, e)),
    }
}

impl CellPlan {
    /// The plan wherever its images lie.
    fn anywhere(&self) -> Self {
        let mut plan = self.clone();
        if let Some(settings) = &mut plan.pretrain {
            settings.run.data.clear();
        }
        plan.tuning.run().data.clear();
        plan
    }

    /// Names of the folders of the pretraining, which others may share, and of what follows it, on these images.
    fn folders(&self, images: &[Fingerprint; 2]) -> Result<[String; 2]> {
        let plan = self.anywhere();
        let command = match plan.tuning {
            CellTraining::Finetune(_) => ImageClasses::COMMAND,
            CellTraining::Segment(_) => PixelClasses::COMMAND,
            CellTraining::Detect(_) => LabeledObjects::COMMAND,
        };
        let pretrain = format!("pretrain-{}", key(&(&plan.config, &plan.pretrain, &images[0]))?);
        let key = key(&(&plan.config, &plan.pretrain, &plan.network, &plan.tuning, images))?;
        Ok([pretrain, format!("{command}-{key}")])
    }
}

/// Hash of `parts` as 16 hexadecimal digits. `parts` must hold everything that decides a result.
fn key(parts: &impl Serialize) -> Result<String> {
    Ok(format!("{:016x}", stable_hash(&String::from_utf8_lossy(&json(parts)?))))
}

impl Study {
    /// Model and settings of `cell` with `seed`.
    ///
    /// # Errors
    /// If a table or budget has an unknown name or a wrong value, or the data set has no labels.
    pub fn plan(&self, cell: &Cell, seed: u64) -> Result<CellPlan> {
        let what = |part: &str| format!("table {}, {}: {part}", self.table.name, cell.label);
        let base = Config::preset(cell.model.as_ref().unwrap_or(&self.table.model))?;
        let config = Config { classes: self.data.classes().len(), ..base };
        config.validate()?;
        self.check_data(&config)?;
        let budget = match (self.table.task, config.family.clouds) {
            (Transfer::Finetune, false) => &self.budget.pretrain,
            (Transfer::Finetune, true) => &self.budget.clouds.pretrain,
            _ => &self.budget.scenes.pretrain,
        };
        let pretrain = cell.pretrain.as_ref().map(|changes| {
            let budget: settings::PretrainArgs = read_table(&what("budget"), budget, &[])?;
            let cell: settings::PretrainArgs = read_table(&what("pretrain"), changes, &[])?;
            let method = cell.method.objective.method.unwrap_or_default();
            let mut settings = overlay(settings::PretrainSettings::of(method), &[budget, cell]);
            (settings.run.data, settings.run.seed) = (self.data.spec().to_owned(), seed);
            settings.check(&config.clone().pretrained_by(method))?;
            Ok::<_, Error>(settings)
        });
        let (network, tuning) = self.tuning(cell, &config, seed, what)?;
        Ok(CellPlan { config, pretrain: pretrain.transpose()?, network, tuning })
    }

    /// The network of the table's task, and the settings of its training. `what` names a part of the cell.
    fn tuning(
        &self, cell: &Cell, config: &Config, seed: u64, what: impl Fn(&str) -> String,
    ) -> Result<(Config, CellTraining)> {
        let scenes = &self.budget.scenes;
        Ok(match self.table.task {
            Transfer::Finetune => {
                let (budget, recipe) = match config.family.clouds {
                    true => (&self.budget.clouds.finetune, RECIPES[1]),
                    false => (&self.budget.finetune, RECIPES[0]),
                };
                let FinetuneRecipe { settings, drop_path, .. } = recipes::recipe(recipe)?;
                let settings = self.on_budget::<ImageClasses>(settings, budget, seed, &what("budget"))?;
                (Config { drop_path: drop_path.of(config), ..config.clone() }, CellTraining::Finetune(settings))
            }
            Transfer::Segment => {
                let (network, settings) = self.dense::<PixelClasses>(cell, config, &scenes.segment, seed, what)?;
                (network, CellTraining::Segment(settings))
            }
            Transfer::Detect => {
                let (network, settings) = self.dense::<LabeledObjects>(cell, config, &scenes.detect, seed, what)?;
                (network, CellTraining::Detect(settings))
            }
        })
    }

    /// Settings of training on labels under what a budget says, on the study's data.
    fn on_budget<L: LabelKind>(
        &self, settings: L::Settings, budget: &toml::Table, seed: u64, what: &str,
    ) -> Result<L::Settings> {
        let budget: L::Args = read_table(what, budget, &[])?;
        let mut settings = overlay(settings, &[budget]);
        let run = settings.as_mut();
        (run.data, run.seed) = (self.data.spec().to_owned(), seed);
        settings.check()?;
        Ok(settings)
    }

    /// The network of a dense task with the cell's heads, and the settings of its training.
    fn dense<L: DenseLabels>(
        &self, cell: &Cell, config: &Config, budget: &toml::Table, seed: u64, what: impl Fn(&str) -> String,
    ) -> Result<(Config, L::Settings)> {
        let (heads, settings) = L::of_width(config.finest_width());
        let changes: L::HeadArgs = read_table(&what("heads"), &cell.heads, &[])?;
        let network = config.clone().for_dense(L::dense(overlay(heads, &[changes])), config.classes);
        Ok((network, self.on_budget::<L>(settings, budget, seed, &what("budget"))?))
    }

    /// Refuses data that the table's models cannot learn from.
    fn check_data(&self, config: &Config) -> Result<()> {
        let wanted = match (self.table.task, config.family.clouds) {
            (Transfer::Segment, _) => return self.data.good_scene(0).map(drop).map_err(Error::from),
            (Transfer::Detect, _) => return self.data.good_objects(0).map(drop).map_err(Error::from),
            (Transfer::Finetune, clouds) if clouds == self.on_clouds()? => return Ok(()),
            (Transfer::Finetune, true) => "point clouds, such as synthetic-clouds:600",
            (Transfer::Finetune, false) => "images",
        };
        Err(Error::argument("data of the study", format!("`{}`", self.data.spec()), wanted))
    }

    /// Refuses a data set that has no test split, or fewer images than the budget takes.
    ///
    /// # Errors
    /// If it is such a set, and as of [`Study::plan`].
    pub fn expect_enough_data(&self) -> Result<()> {
        self.data.test_split()?;
        for cell in &self.table.cells {
            let mut plan = self.plan(cell, 0)?;
            let pretrain = plan.pretrain.as_ref().map_or(0, |settings| settings.run.max_images);
            let most = plan.tuning.run().max_images.max(pretrain);
            if most > self.data.len() {
                let what = format!("images of {}", self.data.spec());
                let expected =
                    format!("at least {most}, which the budget `{}` takes; `smoke` takes fewest", self.budget.name);
                return Err(Error::argument(what, self.data.len(), expected));
            }
        }
        Ok(())
    }

    /// A line about what the budget trains.
    pub fn about(&self) -> Result<&str> {
        Ok(match self.table.task {
            Transfer::Finetune if self.on_clouds()? => &self.budget.clouds.about,
            Transfer::Finetune => &self.budget.about,
            Transfer::Segment | Transfer::Detect => &self.budget.scenes.about,
        })
    }

    /// Runs every cell with seeds 0 to `seeds` − 1: all cells with one seed, then all with the next. After each cell
    /// `each` gets the scores so far, with one entry per cell. Returns false if `stop` was set before the end; another
    /// call continues.
    ///
    /// # Errors
    /// If a run fails. Finished runs stay on disk.
    pub fn run(
        &self, g: &Gpu, seeds: u64, stop: &AtomicBool, mut each: impl FnMut(&[CellScores]) -> Result<()>,
    ) -> Result<bool> {
        let images = [Fingerprint::of(&self.data), Fingerprint::of(&self.data.test_split()?)];
        let mut scores = vec![CellScores::default(); self.table.cells.len()];
        for seed in 0..seeds {
            for (at, cell) in self.table.cells.iter().enumerate() {
                tracing::info!("{}: {}, seed {seed}", cell.group, cell.label);
                let plan = self.plan(cell, seed)?;
                let Some(found) = self.score(g, &plan, plan.folders(&images)?, stop)? else { return Ok(false) };
                scores[at].0.push(found);
                each(&scores)?;
            }
        }
        Ok(true)
    }

    /// Whether the data set is of point clouds.
    fn on_clouds(&self) -> Result<bool> {
        Ok(matches!(self.data.good_sample(0)?.1, Sample::Points(_)))
    }

    /// What the models of a table of point clouds cost, cell by cell; nothing for other tables.
    ///
    /// # Errors
    /// As of [`Study::plan`].
    pub fn costs(&self) -> Result<Vec<CellCost>> {
        if !self.on_clouds()? {
            return Ok(Vec::new());
        }
        let cost = |cell: &Cell| {
            let (parameters, flops) = cost_of(&self.plan(cell, 0)?.config)?;
            Ok(CellCost { parameters, flops: flops as f64 })
        };
        self.table.cells.iter().map(cost).collect()
    }

    /// The scores of one cell with one seed, kept in the folder of its training. `None` if `stop` was set.
    fn score(
        &self, g: &Gpu, plan: &CellPlan, [pretrain, tuning]: [String; 2], stop: &AtomicBool,
    ) -> Result<Option<Vec<f64>>> {
        let dir = self.dir.join(&tuning);
        let file = dir.join("scores.json");
        if let Some(known) = read_if_there(&file)? {
            return Ok(Some(known));
        }
        let checkpoint = match &plan.pretrain {
            None => None,
            Some(settings) => {
                let outputs = self.outputs(&pretrain, settings::PretrainArgs::from(settings), settings.run.epochs)?;
                let data = self.limited(settings.run.max_images)?;
                let config = plan.config.clone().pretrained_by(settings.objective.method);
                let start =
                    |resume: Option<&Path>| Run::<Pretraining>::new(g, &config, settings, &outputs, resume, data);
                match self.finish(&outputs, settings.run.epochs, stop, start)? {
                    None => return Ok(None),
                    folder => folder,
                }
            }
        };
        let ended = match &plan.tuning {
            CellTraining::Finetune(settings) => {
                self.tuned::<ImageClasses>(g, plan, &tuning, settings, checkpoint, stop)?
            }
            CellTraining::Segment(settings) => {
                self.tuned::<PixelClasses>(g, plan, &tuning, settings, checkpoint, stop)?
            }
            CellTraining::Detect(settings) => {
                self.tuned::<LabeledObjects>(g, plan, &tuning, settings, checkpoint, stop)?
            }
        };
        let Some(last) = ended else { return Ok(None) };
        let mut scores = self.tested(&dir)?;
        if let Some(points) = &plan.network.points {
            scores.push(self.voted(g, &last, Transform::Cloud(CloudView::finetuning(points)))?);
        }
        write_atomic(&file, &json(&scores)?)?;
        Ok(Some(scores))
    }

    /// Trains the network of a cell for its task, from a checkpoint of its pretraining or from initial values: the
    /// last checkpoint. `None` if `stop` was set.
    fn tuned<L: LabelKind>(
        &self, g: &Gpu, plan: &CellPlan, folder: &str, settings: &L::Settings, checkpoint: Option<PathBuf>,
        stop: &AtomicBool,
    ) -> Result<Option<PathBuf>> {
        let settings = settings.clone().starting_from(checkpoint);
        let run = settings.as_ref();
        // a few epochs of a dense task are a curve; classifiers are tested on more images than an epoch has
        let eval_every = if matches!(plan.tuning, CellTraining::Finetune(_)) { run.epochs } else { 1 };
        let outputs = self.outputs(folder, L::Args::from(&settings), eval_every)?;
        let data = self.limited(run.max_images)?;
        let start =
            |resume: Option<&Path>| Run::<SupervisedTask<L>>::new(g, &plan.network, &settings, &outputs, resume, data);
        self.finish(&outputs, run.epochs, stop, start)
    }

    /// The scores of the last test of a run.
    fn tested(&self, dir: &Path) -> Result<Vec<f64>> {
        let scores = |line: Line| match line {
            Line::Test(test) => Some(vec![test.top1]),
            Line::Pixels(test) => Some(vec![test.miou]),
            Line::Objects(test) => Some([test.ap].into_iter().chain(test.mask_ap).collect()),
            Line::Step(_) | Line::Probe(_) => None,
        };
        let untested = || Error::file(dir, format!("has no test results; {} needs a test split", self.data.spec()));
        read_lines(&dir.join("log.jsonl"))?.into_iter().filter_map(scores).next_back().ok_or_else(untested)
    }

    /// Accuracy in percent of the mean scores of [`VIEWS`] random views, of the checkpoint `last` of a run.
    fn voted(&self, g: &Gpu, last: &Path, view: Transform) -> Result<f64> {
        let data = Arc::new(self.data.test_split()?);
        let forward = scores_in(g, last, BATCH.min(data.len()))?;
        Ok(vote(&World::alone(), &forward, &data, view, (VIEWS, self.threads))?.together.scores().top1)
    }

    /// Starts or resumes a run, unless it is finished already, and returns its last checkpoint. `None` if `stop` was
    /// set.
    fn finish<'a, T: Task>(
        &self, outputs: &Outputs, epochs: u64, stop: &AtomicBool,
        start: impl FnOnce(Option<&Path>) -> Result<Run<'a, T>>,
    ) -> Result<Option<PathBuf>> {
        let last = outputs.dir.join(format!("checkpoint-{epochs}"));
        if checkpoint::read_complete_state(&last).is_ok() {
            return Ok(Some(last));
        }
        let resume = checkpoint::newest(&outputs.dir)?;
        match start(resume.as_deref())?.train(stop, &mut Silent)? {
            Ended::Finished(_) => Ok(Some(last)),
            Ended::Interrupted(_) => Ok(None),
        }
    }

    /// The data set, limited to `max_images` images; 0 for all.
    fn limited(&self, max_images: usize) -> Result<Arc<Dataset>> {
        Ok(Arc::new(self.data.limited(max_images)?))
    }

    /// Output settings of a run: it is tested after each `eval_every` epochs and the last, draws no pictures, and keeps
    /// only its newest checkpoint.
    fn outputs(&self, name: &str, settings: impl Serialize, eval_every: u64) -> Result<Outputs> {
        #[derive(Serialize)]
        struct Options<S> {
            #[serde(flatten)]
            settings: S,
            #[serde(flatten)]
            record: RecordArgs,
        }
        let record = RecordSettings { keep: 1, threads: self.threads, grid_every: 0, eval_every, ..Default::default() };
        let options = to_toml(&Options { settings, record: (&record).into() })?;
        Ok(Outputs { dir: self.dir.join(name), options, record })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Split;

    fn study(table: Table, budget: &str) -> Study {
        let budget = Budget::named(budget).unwrap();
        let data = match table.name.as_str() {
            "9" => "synthetic-scenes:8",
            "10" => "synthetic-objects:8",
            "11" => "synthetic-clouds:24",
            _ => "synthetic:64",
        };
        let data = Arc::new(Dataset::open(data, Split::Train).unwrap());
        Study { table, budget, data, dir: "unused".into(), threads: 1 }
    }

    #[test]
    fn every_cell_of_every_budget_can_be_trained() {
        for budget in Budget::all().unwrap() {
            for table in Table::all().unwrap() {
                let study = study(table, &budget.name);
                let classes = study.data.classes().len();
                for cell in &study.table.cells {
                    let plan = study.plan(cell, 0).unwrap_or_else(|e| panic!("{}: {}: {e}", budget.name, cell.label));
                    assert_eq!((plan.config.classes, plan.pretrain.is_some()), (classes, cell.pretrain.is_some()));
                }
            }
        }
    }

    #[test]
    fn cells_that_ask_for_the_same_share_their_runs_and_no_others() {
        let study = study(Table::named("5").unwrap(), "cpu");
        let plan = |label: &str, seed| {
            let cell = study.table.cells.iter().find(|cell| cell.label == label).unwrap();
            let plan = study.plan(cell, seed).unwrap();
            let images = |n| Fingerprint::of(&Dataset::open(&format!("synthetic:{n}"), Split::Train).unwrap());
            let folders = |n| plan.folders(&[images(n), images(8)]).unwrap();
            assert!(folders(64)[0] != folders(32)[0] && folders(64)[1] != folders(32)[1]);
            folders(64)
        };
        assert_eq!(plan("random", 0), plan("50%", 0));
        assert_ne!(plan("random", 0)[0], plan("random", 1)[0]);
        assert_ne!(plan("random", 0)[1], plan("diagonal", 0)[1]);
    }

    #[test]
    fn keys_that_nothing_has_are_named() {
        let mut study = study(Table::named("6").unwrap(), "cpu");
        study.table.cells[0].pretrain.as_mut().unwrap().insert("maks".into(), "random".into());
        let error = study.plan(&study.table.cells[0], 0).unwrap_err().to_string();
        assert!(error.contains("table 6, AR: pretrain") && error.contains("`maks`"), "{error}");
    }
}
