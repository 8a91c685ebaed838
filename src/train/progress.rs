//! How far a run is: a bar on a terminal, a line now and then in a file.
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Between two lines when there is no terminal.
const LINE_EVERY: Duration = Duration::from_secs(30);
/// Over about this time the speed is averaged.
const SPEED_OVER: f64 = 10.0;

/// Shows step, loss, learning rate, images per second and time left on stderr.
pub struct Progress {
    total: u64,
    images_per_step: u64,
    speed: Speed,
    show: Show,
}

enum Show {
    Bar(ProgressBar),
    Lines { out: Box<dyn Write + Send>, last: Option<Instant> },
}

impl Progress {
    /// For a run of `total` steps of `images_per_step` images that goes on at step `start`.
    pub fn new(total: u64, start: u64, images_per_step: u64) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self::with_lines(total, start, images_per_step, Box::new(std::io::stderr()));
        }
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {msg}") {
            bar.set_style(style);
        }
        bar.set_position(start);
        Self { total, images_per_step, speed: Speed::new(start, Instant::now()), show: Show::Bar(bar) }
    }

    fn with_lines(total: u64, start: u64, images_per_step: u64, out: Box<dyn Write + Send>) -> Self {
        let speed = Speed::new(start, Instant::now());
        Self { total, images_per_step, speed, show: Show::Lines { out, last: None } }
    }

    /// `done` steps are complete; the last one whose loss is known had `loss` at rate `lr`.
    pub fn update(&mut self, done: u64, loss: f64, lr: f64) {
        self.update_at(Instant::now(), done, loss, lr);
    }

    fn update_at(&mut self, now: Instant, done: u64, loss: f64, lr: f64) {
        self.speed.update(done, now);
        let text = self.line(done, loss, lr);
        match &mut self.show {
            Show::Bar(bar) => {
                bar.set_position(done);
                bar.set_message(text);
            }
            Show::Lines { out, last } => {
                if done >= self.total || last.is_none_or(|t| now.saturating_duration_since(t) >= LINE_EVERY) {
                    *last = Some(now);
                    // Progress that cannot be shown is no reason to end a run.
                    let _ = writeln!(out, "{text}");
                }
            }
        }
    }

    /// Images per second, averaged over the last seconds; 0 before the first step.
    pub fn images_per_second(&self) -> f64 {
        self.speed.steps_per_second * self.images_per_step as f64
    }

    /// Prints a line without tearing the bar.
    pub fn println(&mut self, text: &str) {
        match &mut self.show {
            Show::Bar(bar) => bar.println(text),
            Show::Lines { out, .. } => {
                let _ = writeln!(out, "{text}");
            }
        }
    }

    /// Leaves the bar as it is and ends its line.
    pub fn finish(&mut self) {
        if let Show::Bar(bar) = &self.show {
            bar.abandon();
        }
    }

    fn line(&self, done: u64, loss: f64, lr: f64) -> String {
        let left = match self.speed.steps_per_second {
            speed if speed > 0.0 => duration(self.total.saturating_sub(done) as f64 / speed),
            _ => "?".to_owned(),
        };
        let speed = self.images_per_second();
        format!("step {done}/{}  loss {loss:.4}  lr {lr:.2e}  {speed:.0} images/s  {left} left", self.total)
    }
}

/// Hours, minutes and seconds, the two largest that matter.
fn duration(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match (s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m {s:02}s"),
        (0, h, m, _) => format!("{h}h {m:02}m"),
        (d, h, _, _) => format!("{d}d {h:02}h"),
    }
}

/// Steps per second as a moving average weighted by time, corrected for its start.
struct Speed {
    at: (u64, Instant),
    steps: f64,
    seconds: f64,
    steps_per_second: f64,
}

impl Speed {
    fn new(start: u64, now: Instant) -> Self {
        Self { at: (start, now), steps: 0.0, seconds: 0.0, steps_per_second: 0.0 }
    }

    fn update(&mut self, done: u64, now: Instant) {
        let (steps, seconds) = (done.saturating_sub(self.at.0), now.saturating_duration_since(self.at.1).as_secs_f64());
        if steps == 0 || seconds <= 0.0 {
            return;
        }
        let keep = (-seconds / SPEED_OVER).exp();
        self.steps = keep * self.steps + steps as f64;
        self.seconds = keep * self.seconds + seconds;
        self.steps_per_second = self.steps / self.seconds;
        self.at = (done, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

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
        let mut progress = Progress::with_lines(1000, 100, 64, Box::new(out.clone()));
        let start = Instant::now();
        progress.speed = Speed::new(100, start);
        for second in 1..=90 {
            progress.update_at(start + Duration::from_secs(second), 100 + second * 10, 0.5, 1e-3);
        }
        progress.println("saved");
        progress.finish();
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "step 110/1000  loss 0.5000  lr 1.00e-3  640 images/s  1m 29s left");
        assert_eq!(lines.len(), 5, "at 1, 31, 61 and 90 s, and the message: {text}");
        assert!(lines[3].starts_with("step 1000/1000") && lines[3].ends_with("0s left"));
        assert!((progress.images_per_second() - 640.0).abs() < 1e-6);
    }

    #[test]
    fn speed_follows_a_change() {
        let start = Instant::now();
        let mut speed = Speed::new(0, start);
        for i in 1..=60 {
            speed.update(i * 2, start + Duration::from_secs(i));
        }
        assert!((speed.steps_per_second - 2.0).abs() < 1e-9);
        for i in 1..=60 {
            speed.update(120 + i * 8, start + Duration::from_secs(60 + i));
        }
        assert!((speed.steps_per_second - 8.0).abs() < 0.1, "{}", speed.steps_per_second);
    }

    #[test]
    fn durations() {
        for (seconds, text) in [(5.4, "5s"), (65.0, "1m 05s"), (3660.0, "1h 01m"), (200_000.0, "2d 07h")] {
            assert_eq!(duration(seconds), text);
        }
    }
}
