//! The display of a run: a progress bar on a terminal, a line from time to time in a file; plots and a page beside the
//! log.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::curve::{Curve, curves, loss_curve};
use super::report::{Report, Standing};
use super::terminal::draws;
use super::tested::{Named, accuracies, probed};
use crate::error::Result;
use crate::run::record::{read_log, read_probes, read_tests};
use crate::run::{Observer, RunFacts};

/// Time between two lines where stderr is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// Shows the progress of something long on stderr.
pub enum Watch {
    /// The bar, on a terminal.
    Bar(ProgressBar),
    /// Without a terminal: the time of the last line.
    Lines(Box<dyn Write + Send>, Option<Instant>),
}

impl Watch {
    /// A display with a bar if stderr is a terminal that can draw one, else with lines.
    pub fn new() -> Self {
        let target = ProgressDrawTarget::stderr();
        // indicatif draws nothing at all where it thinks that the terminal cannot
        if !draws() || target.is_hidden() {
            return Self::Lines(Box::new(std::io::stderr()), None);
        }
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {msg}") {
            bar.set_style(style);
        }
        Self::Bar(bar)
    }

    /// Shows step `done` of `total` at the time `now`.
    pub fn step_at(&mut self, now: Instant, done: u64, total: u64, text: &str) {
        match self {
            Self::Bar(bar) => {
                bar.set_length(total);
                bar.set_position(done);
                bar.set_message(text.to_owned());
            }
            Self::Lines(out, last) => {
                if done >= total || last.is_none_or(|t| now.saturating_duration_since(t) >= LINE_EVERY) {
                    *last = Some(now);
                    // a run does not end because its progress cannot be shown
                    let _ = writeln!(out, "{text}");
                }
            }
        }
    }

    /// Shows a line that stays.
    fn line(&mut self, text: &str) {
        match self {
            Self::Bar(bar) => bar.println(text),
            Self::Lines(out, _) => {
                let _ = writeln!(out, "{text}");
            }
        }
    }

    fn finish(&mut self) {
        if let Self::Bar(bar) = self {
            bar.abandon();
        }
    }
}

/// Shows a run on stderr, draws its curves and writes its page.
pub struct RunView {
    watch: Watch,
    report: Option<Report>,
    standing: Standing,
    curves: Curves,
}

/// The curves of a run, whose drawing takes longer the longer the log is.
#[derive(Default)]
struct Curves {
    /// Of which folder and title there are newer ones than were drawn.
    due: Option<(PathBuf, String)>,
    /// Before then, drawing them would take more than a twentieth of the time.
    next: Option<Instant>,
}

impl Curves {
    fn draw(&mut self) -> Result<()> {
        let Some((dir, title)) = self.due.take() else { return Ok(()) };
        let begun = Instant::now();
        draw_curves(&dir, &title)?;
        self.next = Some(begun + 20 * begun.elapsed());
        Ok(())
    }
}

impl RunView {
    pub fn new() -> Self {
        Self { watch: Watch::new(), report: None, standing: Standing::default(), curves: Curves::default() }
    }

    /// A run does not end because its page cannot be written.
    fn write_report(&mut self) {
        let Some(report) = &mut self.report else { return };
        if let Err(e) = report.write(&self.standing) {
            tracing::warn!("the page of the run is not written any more: {e}");
            self.report = None;
        }
    }
}

impl Observer for RunView {
    fn begin(&mut self, run: &RunFacts) {
        (self.standing.done, self.standing.total) = run.steps;
        self.report = Some(Report::new(run));
    }

    fn step(&mut self, done: u64, total: u64, text: &str) {
        (self.standing.done, self.standing.total) = (done, total);
        self.watch.step_at(Instant::now(), done, total, text);
    }

    fn line(&mut self, text: &str) {
        self.watch.line(text);
    }

    fn logged(&mut self) {
        if self.report.as_ref().is_some_and(|report| report.is_due(Instant::now())) {
            self.write_report();
        }
    }

    fn epoch(&mut self, dir: &Path, title: &str) -> Result<()> {
        self.curves.due = Some((dir.to_owned(), title.to_owned()));
        if self.curves.next.is_none_or(|next| Instant::now() >= next) {
            self.curves.draw()?;
        }
        self.logged();
        Ok(())
    }

    fn finish(&mut self, how: &str) {
        self.watch.finish();
        if let Err(e) = self.curves.draw() {
            tracing::warn!("the curves of the run are not of its end: {e}");
        }
        self.standing.ended = Some(how.to_owned());
        self.write_report();
    }
}

fn draw_curves(dir: &Path, title: &str) -> Result<()> {
    let log = dir.join("log.jsonl");
    let points: Vec<_> = read_log(&log)?.iter().map(|l| (l.step, l.loss)).collect();
    if !points.is_empty() {
        loss_curve(&dir.join("loss.svg"), title, &points)?;
    }
    let tests = accuracies(&read_tests(&log)?);
    draw_scores(&dir.join("accuracy.svg"), title, "accuracy on the test half in %", &tests)?;
    let probes = probed(&read_probes(&log)?);
    draw_scores(&dir.join("probe.svg"), title, "accuracy of frozen features in %", &probes)
}

/// Draws the scores of tests or probes over epochs into a file, if there are any.
fn draw_scores(path: &Path, title: &str, what: &str, all: &[Named]) -> Result<()> {
    let drawn = all.iter().filter(|curve| !curve.1.is_empty()).map(|(name, points)| Curve { name, points });
    let drawn: Vec<Curve<'_>> = drawn.collect();
    if drawn.is_empty() { Ok(()) } else { curves(path, title, ("epoch", what), &drawn) }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    /// Output that a test can read.
    #[derive(Clone, Default)]
    pub struct Shared(pub Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn without_a_terminal_there_is_a_line_now_and_then() {
        let out = Shared::default();
        let (mut watch, start) = (Watch::Lines(Box::new(out.clone()), None), Instant::now());
        for second in 1..=90 {
            watch.step_at(start + Duration::from_secs(second), second, 90, &format!("step {second}"));
        }
        watch.line("saved");
        watch.finish();
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().collect::<Vec<_>>(), ["step 1", "step 31", "step 61", "step 90", "saved"]);
    }
}
