//! The display of a run: a progress bar on a terminal, a line from time to time in a file, and plots beside the log.

use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::curve::{Curve, curves, loss_curve};
use super::terminal::draws;
use crate::error::Result;
use crate::run::Observer;
use crate::run::record::{TestLine, read_log, read_tests};

/// Time between two lines where stderr is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);

/// Shows the progress of a run on stderr and draws its curves.
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
}

impl Observer for Watch {
    fn step(&mut self, done: u64, total: u64, text: &str) {
        self.step_at(Instant::now(), done, total, text);
    }

    fn line(&mut self, text: &str) {
        match self {
            Self::Bar(bar) => bar.println(text),
            Self::Lines(out, _) => {
                let _ = writeln!(out, "{text}");
            }
        }
    }

    fn epoch(&mut self, dir: &Path, title: &str) -> Result<()> {
        let log = dir.join("log.jsonl");
        let points: Vec<_> = read_log(&log)?.iter().map(|l| (l.step, l.loss)).collect();
        if !points.is_empty() {
            loss_curve(&dir.join("loss.svg"), title, &points)?;
        }
        draw_tests(dir, title, &read_tests(&log)?)
    }

    fn finish(&mut self) {
        if let Self::Bar(bar) = self {
            bar.abandon();
        }
    }
}

/// Draws accuracy over epochs, if the run was tested.
fn draw_tests(dir: &Path, title: &str, tests: &[TestLine]) -> Result<()> {
    let points = |value: fn(&TestLine) -> Option<f64>| -> Vec<(f64, f64)> {
        tests.iter().filter_map(|test| Some((test.epoch, value(test)?))).collect()
    };
    let all = [
        ("top-1", points(|t| Some(t.top1))),
        ("top-5", points(|t| Some(t.top5))),
        ("top-1 of the average", points(|t| t.ema_top1)),
        ("top-5 of the average", points(|t| t.ema_top5)),
    ];
    let drawn = all.iter().filter(|curve| !curve.1.is_empty()).map(|(name, points)| Curve { name, points });
    let drawn: Vec<_> = drawn.collect();
    if drawn.is_empty() {
        return Ok(());
    }
    curves(&dir.join("accuracy.svg"), title, ("epoch", "accuracy on the test half in %"), &drawn)
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
