//! Speed of a run and time left, as text.

use std::time::Instant;

use crate::gpu::human_bytes;

/// Seconds over which the speed is averaged.
const SPEED_OVER: f64 = 10.0;

/// What a run has waited for since it began, in seconds, and the bytes that this process has sent to the others.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Waited {
    /// For decoded samples: the loader's threads were slower than the steps.
    pub data: f64,
    /// For the exchange with other processes.
    pub exchange: f64,
    pub sent: u64,
}

/// Counts steps and estimates images per second and time left.
pub(crate) struct Progress {
    pub total: u64,
    images_per_step: u64,
    /// What a sample is called: images or clouds.
    what: &'static str,
    speed: Speed,
    /// Processes that share the steps.
    ranks: usize,
}

impl Progress {
    /// The progress of a run of `total` steps that starts or resumes at step `start`. Each step is of so many samples,
    /// which are called so.
    pub fn new(total: u64, start: u64, (images_per_step, what): (u64, &'static str)) -> Self {
        Self { total, images_per_step, what, speed: Speed::new(start, Instant::now()), ranks: 1 }
    }

    /// The same of a run that so many processes share.
    pub fn among(self, ranks: usize) -> Self {
        Self { ranks, ..self }
    }

    /// Share of the last seconds that went into the exchange.
    pub fn exchange_share(&self) -> f64 {
        self.speed.share(self.speed.recent.exchange)
    }

    /// Share of the last seconds in which the loop waited for decoded samples.
    pub fn data_wait(&self) -> f64 {
        self.speed.share(self.speed.recent.data)
    }

    /// Notes that `done` steps are complete, and what the run waited for since it began. Returns the line to show, with
    /// loss and rate of the last step whose loss was read back.
    pub fn update(&mut self, done: u64, loss: f64, lr: f64, waited: Waited) -> String {
        self.update_at(Instant::now(), done, loss, lr, waited)
    }

    fn update_at(&mut self, now: Instant, done: u64, loss: f64, lr: f64, waited: Waited) -> String {
        self.speed.update(done, now, waited);
        let left = match self.speed.steps_per_second {
            speed if speed > 0.0 => duration(self.total.saturating_sub(done) as f64 / speed),
            _ => "?".to_owned(),
        };
        let speed = self.images_per_second();
        let among = match self.ranks {
            1 => String::new(),
            ranks => {
                let share = 100.0 * self.exchange_share();
                format!(" on {ranks} GPUs, exchange {share:.0} %, {} sent", human_bytes(waited.sent))
            }
        };
        let (total, what, wait) = (self.total, self.what, 100.0 * self.data_wait());
        let speed = format!("{speed:.0} {what}/s{among}, data wait {wait:.0} %");
        format!("step {done}/{total}  loss {loss:.4}  lr {lr:.2e}  {speed}  {left} left")
    }

    /// Images per second, averaged over the last seconds; 0 before the first step.
    pub fn images_per_second(&self) -> f64 {
        self.speed.steps_per_second * self.images_per_step as f64
    }
}

/// A duration as text with its two largest units among days, hours, minutes and seconds.
fn duration(seconds: f64) -> String {
    let s = seconds.round() as u64;
    match (s / 86_400, s / 3600 % 24, s / 60 % 60, s % 60) {
        (0, 0, 0, s) => format!("{s}s"),
        (0, 0, m, s) => format!("{m}m {s:02}s"),
        (0, h, m, _) => format!("{h}h {m:02}m"),
        (d, h, _, _) => format!("{d}d {h:02}h"),
    }
}

/// Steps per second: an exponential moving average over time, corrected for its start as Adam corrects its moments.
struct Speed {
    at: (u64, Instant),
    steps: f64,
    seconds: f64,
    steps_per_second: f64,
    /// What of `seconds` was waited for, and all of it so far.
    recent: Waited,
    waited: Waited,
}

impl Speed {
    fn new(start: u64, now: Instant) -> Self {
        Self {
            at: (start, now),
            steps: 0.0,
            seconds: 0.0,
            steps_per_second: 0.0,
            recent: Waited::default(),
            waited: Waited::default(),
        }
    }

    /// A part of the last seconds, as a share.
    fn share(&self, seconds: f64) -> f64 {
        if self.seconds > 0.0 { (seconds / self.seconds).min(1.0) } else { 0.0 }
    }

    fn update(&mut self, done: u64, now: Instant, waited: Waited) {
        let (steps, seconds) = (done.saturating_sub(self.at.0), now.saturating_duration_since(self.at.1).as_secs_f64());
        if steps == 0 || seconds <= 0.0 {
            return;
        }
        let keep = (-seconds / SPEED_OVER).exp();
        self.steps = keep * self.steps + steps as f64;
        self.seconds = keep * self.seconds + seconds;
        self.recent.exchange = keep * self.recent.exchange + (waited.exchange - self.waited.exchange).max(0.0);
        self.recent.data = keep * self.recent.data + (waited.data - self.waited.data).max(0.0);
        self.waited = waited;
        self.steps_per_second = self.steps / self.seconds;
        self.at = (done, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_step_in_words() {
        let (mut progress, start) = (Progress::new(1000, 100, (64, "images")), Instant::now());
        progress.speed = Speed::new(100, start);
        let mut text = String::new();
        for second in 1..=90 {
            text = progress.update_at(
                start + Duration::from_secs(second),
                100 + second * 10,
                0.5,
                1e-3,
                Waited::default(),
            );
            if second == 1 {
                let expected = "step 110/1000  loss 0.5000  lr 1.00e-3  640 images/s, data wait 0 %  1m 29s left";
                assert_eq!(text, expected);
            }
        }
        assert!(text.starts_with("step 1000/1000") && text.ends_with("0s left"), "{text}");
        assert!((progress.images_per_second() - 640.0).abs() < 1e-6);
    }

    #[test]
    fn what_is_waited_for_is_told() {
        let (progress, start) = (Progress::new(1000, 0, (64, "images")), Instant::now());
        let mut progress = progress.among(4);
        progress.speed = Speed::new(0, start);
        let mut text = String::new();
        for second in 1..=30 {
            let share = second as f64 * 0.25;
            let waited = Waited { data: share / 5.0, exchange: share, sent: second * 10_000_000 };
            text = progress.update_at(start + Duration::from_secs(second), second * 10, 0.5, 1e-3, waited);
        }
        let expected = "640 images/s on 4 GPUs, exchange 25 %, 300.0 MB sent, data wait 5 %";
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn speed_follows_a_change() {
        let start = Instant::now();
        let mut speed = Speed::new(0, start);
        for i in 1..=60 {
            speed.update(i * 2, start + Duration::from_secs(i), Waited::default());
        }
        assert!((speed.steps_per_second - 2.0).abs() < 1e-9);
        for i in 1..=60 {
            speed.update(120 + i * 8, start + Duration::from_secs(60 + i), Waited::default());
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
