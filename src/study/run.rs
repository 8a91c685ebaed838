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

use super::plan::{CellPlan, CellTraining, Study, json};
use super::report::CellScores;
use crate::data::points::CloudView;
use crate::data::{Dataset, Fingerprint, Transform};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::run::detect::LabeledObjects;
use crate::run::finetune::{ImageClasses, scores_in, vote};
use crate::run::outputs::RecordArgs;
use crate::run::pretrain::Pretraining;
use crate::run::record::{Line, read_lines, write_atomic};
use crate::run::segment::PixelClasses;
use crate::run::supervised::{LabelKind, SupervisedTask};
use crate::run::world::World;
use crate::run::{Ended, Outputs, RecordSettings, Run, Silent, Task, checkpoint};
use crate::train::options::to_toml;
use crate::train::pretrain::settings;
use crate::train::supervised::SupervisedSettings;

/// Random views of a point cloud that vote.
const VIEWS: usize = 10;
/// Point clouds that are classified at a time.
const BATCH: usize = 32;

/// The scores that a file holds; `None` if there is no such file.
fn read_if_there(file: &Path) -> Result<Option<Vec<f64>>> {
    match std::fs::read(file) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|e| Error::file(file, e)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::file(file, e)),
    }
}

impl Study {
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
