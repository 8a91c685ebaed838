//! What a table asks for: models and settings of each cell, checked against the data, and the names of the folders of
//! its runs.

use std::path::PathBuf;
use std::sync::Arc;

use serde::Serialize;

use super::report::CellCost;
use super::table::{Budget, Cell, Table, Transfer};
use crate::data::{Dataset, Fingerprint, Sample};
use crate::error::{Error, Result};
use crate::infer::scores::cost_of;
use crate::models::Config;
use crate::nn::stable_hash;
use crate::run::detect::LabeledObjects;
use crate::run::finetune::ImageClasses;
use crate::run::segment::PixelClasses;
use crate::run::supervised::{DenseLabels, LabelKind};
use crate::train::detect::settings::DetectSettings;
use crate::train::finetune::recipes::{self, FinetuneRecipe};
use crate::train::finetune::settings::FinetuneSettings;
use crate::train::options::{overlay, read_table};
use crate::train::pretrain::settings;
use crate::train::segment::settings::SegmentSettings;
use crate::train::settings::RunSettings;
use crate::train::supervised::SupervisedSettings;

/// Fine-tuning recipe whose settings a budget overrides: of images, and of point clouds.
const RECIPES: [&str; 2] = ["cifar", "points"];

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

pub(super) fn json(it: &impl Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(it).map_err(|e| Error::Internal(format!("as JSON: {e}")))
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
    pub(super) fn folders(&self, images: &[Fingerprint; 2]) -> Result<[String; 2]> {
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
