//! `rowscan study`: a table of the paper at a reduced scale, cell by cell.

use std::path::PathBuf;

use super::dense::{objects, scenes};
use super::signals::stop_flag;
use crate::cli::terminal::{Device, Outcome, say, usage, warn};
use crate::data::{Dataset, Split};
use crate::error::{Error, Result};
use crate::gpu::Caps;
use crate::run::output_dir::OutputDir;
use crate::run::record::write_atomic;
use crate::study::{Budget, CellScores, CellTraining, Study, Table, Transfer, markdown, plot};

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Number of the table, 1 to 11: 9 is of segmentation, 10 of detection, 11 of point clouds.
    table: String,
    /// Labeled data set with a test split, as of `rowscan finetune`, `segment` or `detect`.
    #[arg(long)]
    data: String,
    /// Scale: smoke, cpu, long or gpu; --dry-run says what each trains.
    #[arg(long, default_value = "cpu")]
    budget: String,
    /// Seeds of each cell; by default the budget's number.
    #[arg(long)]
    seeds: Option<u64>,
    /// Folder of all runs and results; run the same command again to go on. Tables may share it, and with it their
    /// runs.
    #[arg(long)]
    output_dir: PathBuf,
    /// Only the cells whose label or group is one of these.
    #[arg(long, value_delimiter = ',')]
    cells: Vec<String>,
    /// Decoding threads; 0 takes one per core.
    #[arg(long, default_value_t = 0)]
    threads: usize,
    /// Print what each cell would train, and stop.
    #[arg(long)]
    dry_run: bool,
}

pub fn run(device: &Device, args: &Args) -> Outcome {
    let mut table = usage(Table::named(&args.table))?;
    usage(choose(&mut table, &args.cells))?;
    let budget = usage(Budget::named(&args.budget))?;
    let seeds = args.seeds.unwrap_or(budget.seeds);
    if !(1..=100).contains(&seeds) {
        return usage(Err(Error::argument("--seeds", seeds, "1 to 100")));
    }
    let data = match table.task {
        Transfer::Finetune => args.data.clone(),
        Transfer::Segment => scenes(&args.data),
        Transfer::Detect => objects(&args.data),
    };
    let data = std::sync::Arc::new(usage(Dataset::open(&data, Split::Train).map_err(Error::from))?);
    let study = Study { table, budget, data, dir: args.output_dir.clone(), threads: args.threads };
    usage(study.expect_enough_data())?; // before anything that takes time
    if args.dry_run {
        return Ok(describe(&study)?);
    }
    let g = device.open()?;
    if g.caps().software {
        warn(format_args!("a study on the CPU adapter {}: expect hours", g.caps().name));
    }
    let stop = stop_flag()?;
    let _alone = OutputDir::open(&study.dir)?;
    let done = study.run(&g, seeds, &stop, |scores| write(&study, scores, seeds, g.caps()))?;
    let file = results(&study, "md");
    match done {
        true => say(format_args!("done: {}", file.display()))?,
        false => say(format_args!("stopped; what is done is in {}\ngo on with the same command", file.display()))?,
    }
    Ok(())
}

/// Keeps the cells that were asked for; all if none was.
fn choose(table: &mut Table, wanted: &[String]) -> Result<()> {
    let known: Vec<String> =
        table.groups().into_iter().map(str::to_owned).chain(table.cells.iter().map(|c| c.label.clone())).collect();
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(name)) {
        return Err(Error::argument("--cells", format!("`{unknown}`"), format!("some of {}", known.join(", "))));
    }
    table.cells.retain(|cell| wanted.is_empty() || wanted.contains(&cell.label) || wanted.contains(&cell.group));
    Ok(())
}

fn results(study: &Study, extension: &str) -> PathBuf {
    study.dir.join(format!("table-{}.{extension}", study.table.name))
}

/// Writes the table and its picture with the scores so far, and prints the table.
fn write(study: &Study, scores: &[CellScores], seeds: u64, caps: &Caps) -> Result<()> {
    let costs = study.costs()?;
    let about = study.about()?;
    let drawn = if seeds == 1 { "seed 0".into() } else { format!("seeds 0 to {}", seeds - 1) };
    let scale = format!("On {}, {about}, {drawn}; on {caps}.", study.data.spec());
    let text = markdown(&study.table, scores, &costs, &scale);
    write_atomic(&results(study, "md"), text.as_bytes())?;
    plot(&results(study, "svg"), &study.table, scores)?;
    say(format_args!("\n{text}"))
}

fn describe(study: &Study) -> Result<()> {
    for budget in Budget::all()? {
        let study = Study { budget, ..study.clone() };
        say(format_args!("budget {}: {}", study.budget.name, study.about()?))?;
    }
    say(format_args!("\ntable {}: {}, budget {}", study.table.name, study.table.title, study.budget.name))?;
    for cell in &study.table.cells {
        let plan = study.plan(cell, 0)?;
        let printed: Vec<_> = cell.paper.iter().map(|paper| format!("{paper:.1} %")).collect();
        let paper = if printed.is_empty() { "not in the paper".into() } else { printed.join(", ") + " in the paper" };
        say(format_args!("\n{}: {}, {paper}", cell.group, cell.label))?;
        say(format_args!("  model     {}", json(&plan.config)?))?;
        match &plan.pretrain {
            Some(settings) => say(format_args!("  pretrain  {}", json(settings)?))?,
            None => say("  pretrain  none")?,
        }
        let (command, settings) = match &plan.tuning {
            CellTraining::Finetune(settings) => ("finetune", json(settings)?),
            CellTraining::Segment(settings) => ("segment ", json(settings)?),
            CellTraining::Detect(settings) => ("detect  ", json(settings)?),
        };
        say(format_args!("  {command}  {settings}"))?;
    }
    Ok(())
}

fn json(it: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(it).map_err(|e| Error::Internal(format!("settings as JSON: {e}")))
}
