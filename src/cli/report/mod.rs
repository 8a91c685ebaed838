//! `report.html`: a run in one page that needs nothing beside it. Curves, pictures, settings and the machine; rewritten
//! as the run goes.

mod strip;

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::curve::{Curve, Panel, loss_svg, panel_svg};
use super::tested::{Named, accuracies, overlaps, precisions, probed};
use crate::error::Result;
use crate::run::RunFacts;
use crate::run::record::markup::escaped;
use crate::run::record::{Line, LogLine, read_lines, write_atomic};
use strip::Strip;

/// Name of the page in the folder of a run.
const NAME: &str = "report.html";

/// Time between two versions of the page, at least.
const EVERY: Duration = Duration::from_secs(30);

/// A version takes at most this share of a run's time: the next one waits so many times as long as it took.
const PATIENCE: u32 = 50;

const STYLE: &str = include_str!("style.css");

/// How far a run is.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    pub done: u64,
    pub total: u64,
    /// Why it ended; nothing while it runs.
    pub ended: Option<String>,
}

/// The page of a run.
#[derive(Debug)]
pub struct Report {
    run: RunFacts,
    begun: Instant,
    /// When the last version was written, and how long that took.
    last: Option<(Instant, Duration)>,
    strip: Strip,
}

impl Report {
    pub fn new(run: &RunFacts) -> Self {
        Self { run: run.clone(), begun: Instant::now(), last: None, strip: Strip::default() }
    }

    /// Whether the page is old enough for a new version at the time `now`.
    pub fn is_due(&self, now: Instant) -> bool {
        self.last.is_none_or(|(at, took)| now.saturating_duration_since(at) >= EVERY.max(took * PATIENCE))
    }

    /// Writes the page from the records that are in the folder of the run.
    ///
    /// # Errors
    /// A record that cannot be read; a disk that is full.
    pub fn write(&mut self, standing: &Standing) -> Result<()> {
        let begun = Instant::now();
        let page = self.page(standing)?;
        write_atomic(&self.run.dir.join(NAME), page.as_bytes())?;
        self.last = Some((begun, begun.elapsed()));
        Ok(())
    }

    fn page(&mut self, standing: &Standing) -> Result<String> {
        let log = self.run.dir.join("log.jsonl");
        let (mut steps, mut classes, mut pixels) = (vec![], vec![], vec![]);
        let (mut objects, mut features) = (vec![], vec![]);
        for line in read_lines(&log)? {
            match line {
                Line::Step(line) => steps.push(line),
                Line::Test(line) => classes.push(line),
                Line::Pixels(line) => pixels.push(line),
                Line::Objects(line) => objects.push(line),
                Line::Probe(line) => features.push(line),
            }
        }
        let (classes, pixels) = (accuracies(&classes), overlaps(&pixels));
        let (objects, features) = (precisions(&objects), probed(&features));
        let run = &self.run;
        let title = escaped(&run.title);
        // a page of a run that goes on looks for its next version by itself
        let reload = match standing.ended {
            None => format!("<meta http-equiv=\"refresh\" content=\"{}\">\n", EVERY.as_secs()),
            Some(_) => String::new(),
        };
        let mut page = format!(
            "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n{reload}\
             <title>{title}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<header>\n<h1>{title}</h1>\n"
        );
        page.push_str(&self.state(standing));
        page.push_str("</header>\n<main>\n");
        page.push_str(&numbers(&steps, &[&classes, &pixels, &objects, &features]));
        page.push_str("<h2>Curves</h2>\n<div class=\"curves\">\n");
        let over = |value: &dyn Fn(&LogLine) -> Option<f64>| -> Vec<(f64, f64)> {
            steps.iter().filter_map(|line| Some((line.step as f64, value(line)?))).collect()
        };
        let losses: Vec<(u64, f64)> = steps.iter().map(|line| (line.step, line.loss)).collect();
        if losses.iter().any(|point| point.1.is_finite()) {
            let label = format!("loss over steps, now {}", short(recent(&steps)));
            page.push_str(&figure(&label, &loss_svg("loss", &losses, SIZE)?));
        }
        let percent = |share: f64| 100.0 * share;
        page.push_str(&chart("accuracy on the test half", ("epoch", "%"), &classes)?);
        page.push_str(&chart("segmentation of the test half", ("epoch", "%"), &pixels)?);
        page.push_str(&chart("detection in the test half", ("epoch", "%"), &objects)?);
        page.push_str(&chart("what frozen features know about classes", ("epoch", "%"), &features)?);
        page.push_str(&chart("learning rate", ("step", ""), &[("learning rate", over(&|line| Some(line.lr)))])?);
        let speed = over(&|line| Some(line.images_per_second));
        page.push_str(&chart("samples per second", ("step", ""), &[("samples per second", speed)])?);
        let waits = [
            ("for data", over(&|line| line.data_wait.map(percent))),
            ("in the exchange", over(&|line| line.exchange_share.map(percent))),
        ];
        page.push_str(&chart("time spent waiting", ("step", "%"), &waits)?);
        page.push_str("</div>\n");
        page.push_str(&self.pictures()?);
        page.push_str(&self.facts());
        page.push_str("</main>\n");
        page.push_str(SCRIPT);
        page.push_str("</body>\n</html>\n");
        Ok(page)
    }

    /// What the run does at the moment.
    fn state(&self, standing: &Standing) -> String {
        let Standing { done, total, ended } = standing;
        let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let state = escaped(ended.as_deref().unwrap_or("running"));
        let took = clock(self.begun.elapsed());
        let command = self.run.command;
        format!(
            "<p>rowscan {command}: {state}; step {done} of {total}, after {took} since it began or went on. Written \
             <time data-seconds=\"{seconds}\">{seconds} seconds after 1970</time>.</p>\n\
             <progress value=\"{done}\" max=\"{total}\" aria-label=\"steps that are done\"></progress>\n"
        )
    }

    /// Pictures over time.
    fn pictures(&mut self) -> Result<String> {
        let columns = self.strip.of(&self.run.dir, self.run.columns)?;
        if columns.is_empty() {
            return Ok(String::new());
        }
        let mut text = String::from(
            "<h2>Pictures</h2>\n<p>What the model makes of samples that it is not trained on, where the set has a test \
             half: the visible parts, and what it filled in.</p>\n<div class=\"strip\" tabindex=\"0\">\n",
        );
        for column in columns {
            let (caption, address) = (escaped(&column.caption), &column.address);
            let wide = column.width.max(96);
            text.push_str(&format!(
                "<figure style=\"--wide: {wide}px\"><figcaption>{caption}</figcaption>\
                 <img src=\"{address}\" alt=\"{caption}\"></figure>\n"
            ));
        }
        text.push_str("</div>\n");
        Ok(text)
    }

    /// Task, machine and settings.
    fn facts(&self) -> String {
        let RunFacts { task, machine, options, command, .. } = &self.run;
        let table = |rows: &[(&'static str, String)]| {
            let row = |(name, value): &(&str, String)| format!("<tr><th>{name}</th><td>{}</td></tr>\n", escaped(value));
            format!("<table>\n{}</table>\n", rows.iter().map(row).collect::<String>())
        };
        let settings = match options.is_empty() {
            true => String::new(),
            false => format!(
                "<h2>Settings</h2>\n<details open><summary>all options, which <code>rowscan {command} --config \
                 {command}.toml</code> reads again</summary>\n<pre>{}</pre>\n</details>\n",
                escaped(options)
            ),
        };
        format!(
            "<div class=\"facts\">\n<section>\n<h2>Task</h2>\n{}</section>\n<section>\n<h2>Machine</h2>\n{}</section>\n\
             </div>\n{settings}",
            table(task),
            table(machine)
        )
    }
}

/// Size of a curve.
const SIZE: (u32, u32) = (600, 340);

/// Times in the reader's own zone. Without scripts the number of seconds stays.
const SCRIPT: &str = "<script>for (const t of document.querySelectorAll('time')) t.textContent = \
                      new Date(1000 * t.dataset.seconds).toLocaleString();</script>\n";

/// Hours, minutes and seconds.
fn clock(time: Duration) -> String {
    let seconds = time.as_secs();
    format!("{}:{:02}:{:02}", seconds / 3600, seconds / 60 % 60, seconds % 60)
}

/// A number with four digits that say something.
fn short(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size > 0.0 && size < 0.01 => format!("{value:.2e}"),
        _ => format!("{value:.4}"),
    }
}

/// The mean loss of the last twentieth of the steps that were logged; NaN without steps.
fn recent(steps: &[LogLine]) -> f64 {
    let last = &steps[steps.len() - steps.len().div_ceil(20)..];
    last.iter().map(|line| line.loss).sum::<f64>() / last.len() as f64
}

/// The best point of the curves whose name says top-1, mIoU or AP: name, epoch and percent.
fn best_of(all: &[Named]) -> Option<(&'static str, f64, f64)> {
    let first = all.iter().filter(|curve| ["top-1", "mIoU", "AP of"].iter().any(|word| curve.0.contains(word)));
    let points = first.flat_map(|(name, points)| points.iter().map(|point| (*name, point.0, point.1)));
    points.max_by(|a, b| a.2.total_cmp(&b.2).then(b.1.total_cmp(&a.1)))
}

/// The numbers that people look for first.
fn numbers(steps: &[LogLine], tests: &[&[Named]]) -> String {
    let mut all: Vec<(String, String, String)> = Vec::new();
    if !steps.is_empty() {
        all.push(("loss".into(), short(recent(steps)), "mean of the last twentieth".into()));
        let mut speeds: Vec<f64> = steps.iter().map(|line| line.images_per_second).filter(|v| v.is_finite()).collect();
        speeds.sort_by(f64::total_cmp);
        let median = speeds.get(speeds.len() / 2).copied().unwrap_or(0.0);
        all.push(("samples per second".into(), short(median), "median of the log".into()));
        let share = |value: f64| format!("{:.1} %", 100.0 * value);
        let waits: Vec<f64> = steps.iter().filter_map(|line| line.data_wait).collect();
        if !waits.is_empty() {
            let mean = waits.iter().sum::<f64>() / waits.len() as f64;
            all.push(("waiting for data".into(), share(mean), "of the time".into()));
        }
        if let Some((portion, bytes)) = steps.last().and_then(|line| line.exchange_share.zip(line.exchange_bytes)) {
            let sent = format!("{} sent by rank 0", crate::gpu::human_bytes(bytes));
            all.push(("exchange".into(), share(portion), sent));
        }
    }
    for (name, epoch, score) in tests.iter().filter_map(|curves| best_of(curves)) {
        all.push((format!("best {name}"), format!("{score:.2} %"), format!("after epoch {epoch:.0}")));
    }
    let tile = |(name, value, note): &(String, String, String)| {
        format!("<div><dt>{name}</dt><dd>{value}</dd><small>{note}</small></div>\n")
    };
    format!("<dl class=\"numbers\">\n{}</dl>\n", all.iter().map(tile).collect::<String>())
}

/// A chart of the curves that have a point; nothing if none has.
fn chart(title: &str, axes: (&str, &str), all: &[Named]) -> Result<String> {
    let finite = |points: &[(f64, f64)]| points.iter().any(|point| point.1.is_finite());
    let drawn = all.iter().filter(|curve| finite(&curve.1)).map(|(name, points)| Curve { name, points });
    let curves: Vec<Curve<'_>> = drawn.collect();
    if curves.is_empty() {
        return Ok(String::new());
    }
    let now = |curve: &Curve<'_>| curve.points.last().map_or(String::new(), |point| short(point.1));
    let last: Vec<String> = curves.iter().map(|curve| format!("{} {}", curve.name, now(curve))).collect();
    let label = format!("{title} by {}: {}", axes.0, last.join(", "));
    Ok(figure(&label, &panel_svg(&Panel { title, axes, curves, smooth: false }, SIZE)?))
}

fn figure(label: &str, svg: &str) -> String {
    format!("<figure role=\"img\" aria-label=\"{}\">{}</figure>\n", escaped(label), svg.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::record::{TestLine, TrainLog};

    fn line(step: u64) -> LogLine {
        LogLine {
            step,
            epoch: step as f64 / 8.0,
            loss: 1.0 / (1.0 + step as f64),
            lr: 1e-3,
            images_per_second: 100.0 + step as f64,
            data_wait: Some(0.25),
            loss_scale: None,
            skipped: None,
            exchange_share: None,
            exchange_bytes: None,
        }
    }

    fn report(dir: &std::path::Path) -> Report {
        Report::new(&RunFacts {
            dir: dir.to_owned(),
            command: "finetune",
            title: "a<b> on \"c\"".into(),
            task: vec![("data", "x & y".into())],
            machine: vec![("adapter", "a GPU".into())],
            steps: (0, 80),
            options: "lr = 1.0\n".into(),
            columns: 3,
        })
    }

    #[test]
    fn a_page_has_everything_and_fetches_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = TrainLog::open(&dir.path().join("log.jsonl"), 0).unwrap();
        (0..40).for_each(|step| log.append(Line::Step(line(step))).unwrap());
        let test =
            TestLine { step: 39, epoch: 5.0, test_loss: 1.0, top1: 61.25, top5: 90.0, ema_top1: None, ema_top5: None };
        log.append(Line::Test(test)).unwrap();
        let mut report = report(dir.path());
        let page = report.page(&Standing { done: 40, total: 80, ended: None }).unwrap();
        for part in [
            "<title>a&lt;b&gt; on &quot;c&quot;</title>",
            "step 40 of 80",
            "http-equiv=\"refresh\"",
            "61.25 %",
            "after epoch 5",
            "x &amp; y",
            "a GPU",
            "lr = 1.0",
            "25.0 %",
        ] {
            assert!(page.contains(part), "{part} is missing");
        }
        assert_eq!(page.matches("<svg").count(), 5, "loss, accuracy, rate, speed, waiting");
        let outside = page.replace("http://www.w3.org/2000/svg", "");
        for link in ["http:", "https:", "src=\"/", "@import", "url("] {
            assert!(!outside.contains(link), "{link}: the page needs something beside it");
        }
        let ended = report.page(&Standing { done: 80, total: 80, ended: Some("finished".into()) }).unwrap();
        assert!(!ended.contains("http-equiv=\"refresh\"") && ended.contains("finished"));
    }

    #[test]
    fn the_colors_of_the_curves_have_dark_ones() {
        let dark = STYLE.split("prefers-color-scheme: dark").nth(1).unwrap();
        for color in super::super::curve::colors().iter().take(4) {
            assert!(dark.contains(&format!("[stroke=\"{color}\"]")), "{color}");
        }
    }

    #[test]
    fn a_run_without_a_line_has_a_page() {
        let dir = tempfile::tempdir().unwrap();
        TrainLog::open(&dir.path().join("log.jsonl"), 0).unwrap();
        let page = report(dir.path()).page(&Standing::default()).unwrap();
        assert!(page.contains("step 0 of 0") && !page.contains("<svg") && !page.contains("NaN"));
    }

    #[test]
    fn a_page_is_written_now_and_then() {
        let dir = tempfile::tempdir().unwrap();
        TrainLog::open(&dir.path().join("log.jsonl"), 0).unwrap();
        let mut report = report(dir.path());
        let now = Instant::now();
        assert!(report.is_due(now));
        report.write(&Standing::default()).unwrap();
        assert!(dir.path().join(NAME).exists());
        assert!(!report.is_due(now + Duration::from_secs(5)) && report.is_due(now + Duration::from_secs(40)));
        report.last = Some((now, Duration::from_secs(3)));
        assert!(!report.is_due(now + Duration::from_secs(140)) && report.is_due(now + Duration::from_secs(151)));
    }
}
