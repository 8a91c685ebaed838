//! `rowscan compare`: the curves of several runs in one picture, and what differs in their settings.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::curve::{Curve, Panel, panels};
use crate::cli::terminal::{Outcome, Stop, say};
use crate::error::{Error, Result};
use crate::run::record::{Line, LogLine, read_lines};

/// The options of a run, as it wrote them into its folder.
const OPTIONS: [&str; 4] = ["pretrain.toml", "finetune.toml", "segment.toml", "detect.toml"];
/// Options that differ between runs without making them different.
const IDLE: &[&str] = &["output-dir", "threads", "keep", "log-every"];
/// Columns of a value in the table; longer ones are cut.
const WIDEST: usize = 40;
/// Logged steps whose mean loss has to be below a limit.
const MEAN_OF: usize = 20;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Folders of runs, as `--output-dir` names them.
    #[arg(required = true, num_args = 1..=12, value_name = "RUN")]
    runs: Vec<PathBuf>,
    /// Picture to write: loss over steps and, of tested runs, accuracy, mIoU or average precisions over epochs.
    #[arg(short, long, default_value = "compare.svg")]
    output: PathBuf,
    /// Also say after how many steps the loss is below this, as the mean of twenty logged steps.
    #[arg(long, value_name = "LOSS")]
    below: Option<f64>,
}

/// What tests measure, by name.
const SCORES: [&str; 4] = ["top-1", "mIoU", "AP of boxes", "AP of masks"];

/// What a folder says about its run.
struct Run {
    name: String,
    steps: Vec<LogLine>,
    /// (epoch, percent) of each of [`SCORES`].
    scores: [Vec<(f64, f64)>; SCORES.len()],
    options: toml::Table,
}

/// The scores of a test and its epoch, in the order of [`SCORES`]: the better of the weights and their moving average.
fn scores(line: &Line) -> [Option<(f64, f64)>; SCORES.len()] {
    let better = |epoch, score: f64, average: Option<f64>| Some((epoch, average.map_or(score, |it| it.max(score))));
    match line {
        Line::Test(test) => [better(test.epoch, test.top1, test.ema_top1), None, None, None],
        Line::Pixels(test) => [None, better(test.epoch, test.miou, test.ema_miou), None, None],
        Line::Objects(test) => {
            let masks = test.mask_ap.map(|ap| (test.epoch, ap));
            [None, None, better(test.epoch, test.ap, test.ema_ap), masks]
        }
        Line::Step(_) | Line::Probe(_) => [None; SCORES.len()],
    }
}

impl Run {
    fn read(folder: &Path) -> Result<Self> {
        let log = folder.join("log.jsonl");
        let lines = read_lines(&log)?;
        let step = |line: &Line| if let Line::Step(line) = line { Some(*line) } else { None };
        let steps: Vec<_> = lines.iter().filter_map(step).collect();
        if steps.is_empty() {
            return Err(Error::file(&log, "has no step yet; expected at least one to draw"));
        }
        let file = OPTIONS.iter().map(|name| folder.join(name)).find(|path| path.exists());
        let file = file.ok_or_else(|| Error::file(folder, format!("has none of {}", OPTIONS.join(", "))))?;
        let text = std::fs::read_to_string(&file).map_err(Error::io(&file, "read"))?;
        let options = toml::from_str(&text).map_err(|e| Error::file(&file, e.message().to_owned()))?;
        let scores = std::array::from_fn(|i| lines.iter().filter_map(|line| scores(line)[i]).collect());
        Ok(Self { name: folder.display().to_string(), steps, scores, options })
    }

    /// (step, loss)
    fn losses(&self) -> Vec<(f64, f64)> {
        self.steps.iter().map(|line| (line.step as f64, line.loss)).collect()
    }

    /// The value of an option, or nothing.
    fn option(&self, name: &str) -> String {
        match self.options.get(name) {
            Some(toml::Value::String(text)) => text.clone(),
            Some(value) => value.to_string(),
            None => String::new(),
        }
    }

    /// The number of steps after which the mean loss of [`MEAN_OF`] logged steps is below `limit`.
    fn steps_until(&self, limit: f64) -> Option<u64> {
        let below = |lines: &&[LogLine]| lines.iter().map(|line| line.loss).sum::<f64>() < limit * MEAN_OF as f64;
        self.steps.windows(MEAN_OF).find(below)?.last().map(|line| line.step + 1)
    }

    /// The mean loss of the last twentieth of the steps that were logged.
    fn last_loss(&self) -> f64 {
        let last = &self.steps[self.steps.len() - self.steps.len().div_ceil(20)..];
        last.iter().map(|line| line.loss).sum::<f64>() / last.len() as f64
    }
}

pub fn run(args: &Args) -> Outcome {
    let names: BTreeSet<&PathBuf> = args.runs.iter().collect();
    if names.len() < args.runs.len() {
        let got = args.runs.iter().map(|run| run.display().to_string()).collect::<Vec<_>>().join(" ");
        return Err(Stop::Usage(Error::argument("runs", got, "each folder once")));
    }
    let runs = args.runs.iter().map(|folder| Run::read(folder)).collect::<Result<Vec<_>>>()?;
    let losses: Vec<_> = runs.iter().map(Run::losses).collect();
    let curve = |(name, points)| Curve { name, points };
    let names = runs.iter().map(|run| run.name.as_str());
    let loss = Panel {
        title: "loss",
        axes: ("step", "loss"),
        curves: names.zip(losses.iter().map(Vec::as_slice)).map(curve).collect(),
        smooth: true,
    };
    let mut drawn = vec![loss];
    for i in tested(&runs) {
        let runs = runs.iter().filter(|run| !run.scores[i].is_empty());
        let curves = runs.map(|run| curve((run.name.as_str(), run.scores[i].as_slice()))).collect();
        drawn.push(Panel { title: SCORES[i], axes: ("epoch", "%"), curves, smooth: false });
    }
    panels(&args.output, &drawn)?;
    for row in aligned(&table(&runs, args.below)) {
        say(row)?;
    }
    Ok(say(format_args!("curves in {}", args.output.display()))?)
}

/// Places in [`SCORES`] that a test of some run has.
fn tested(runs: &[Run]) -> Vec<usize> {
    (0..SCORES.len()).filter(|i| runs.iter().any(|run| !run.scores[*i].is_empty())).collect()
}

/// A row for each run: its name, the options that are not the same in all of them, and what came out. With `below`,
/// also the steps that this loss took, or `never`.
fn table(runs: &[Run], below: Option<f64>) -> Vec<Vec<String>> {
    let all: BTreeSet<&String> = runs.iter().flat_map(|run| run.options.keys()).collect();
    let differs = |name: &&&String| {
        !IDLE.contains(&name.as_str()) && runs.iter().any(|run| run.option(name) != runs[0].option(name))
    };
    let options: Vec<&&String> = all.iter().filter(differs).collect();
    let names = options.iter().map(|name| name.to_string());
    let results = ["steps".to_owned()].into_iter().chain(below.map(|limit| format!("below {limit}")));
    let tested = tested(runs);
    let results = results.chain(["loss".into()]).chain(tested.iter().map(|i| SCORES[*i].to_owned()));
    let head = std::iter::once("run".to_owned()).chain(names).chain(results);
    let row = |run: &Run| {
        let steps = run.steps.last().map_or(0, |line| line.step + 1);
        let best = |i: &usize| {
            let best = run.scores[*i].iter().map(|(_, score)| *score).reduce(f64::max);
            best.map_or(String::new(), |score| format!("{score:.2}%"))
        };
        let until = |limit| run.steps_until(limit).map_or_else(|| "never".to_owned(), |steps| steps.to_string());
        let results = [steps.to_string()].into_iter().chain(below.map(until));
        let results = results.chain([format!("{:.4}", run.last_loss())]).chain(tested.iter().map(best));
        let values = options.iter().map(|name| run.option(name));
        std::iter::once(run.name.clone()).chain(values).chain(results).map(short).collect()
    };
    std::iter::once(head.collect()).chain(runs.iter().map(row)).collect()
}

/// A value, cut where it is too long for a column.
fn short(text: String) -> String {
    if text.chars().count() <= WIDEST { text } else { text.chars().take(WIDEST - 1).chain(['…']).collect() }
}

/// Rows as lines, each column as wide as its widest value.
fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.first().map_or(0, Vec::len);
    let width = |i: usize| rows.iter().map(|row| row[i].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}"));
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}
