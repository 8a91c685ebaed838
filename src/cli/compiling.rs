//! Progress while kernels are compiled for the first time, which takes minutes with some drivers: a bar on a terminal,
//! a line now and then elsewhere. The library reports each kernel as an event of `tracing`, which a layer shows here.

use std::fmt::Debug;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::watch::Watch;

/// Where the library reports compiled kernels.
const TARGET: &str = "rowscan::gpu::pipeline";
/// Shorter compilations are not shown.
const AFTER: Duration = Duration::from_secs(5);

/// A layer that shows the progress, for those events alone.
pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a>>() -> impl Layer<S> + Send + Sync {
    Compiling(Mutex::default()).with_filter(Targets::new().with_target(TARGET, Level::DEBUG))
}

struct Compiling(Mutex<Batch>);

impl<S: Subscriber> Layer<S> for Compiling {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut one = Compiled::default();
        event.record(&mut one);
        if let Ok(mut batch) = self.0.lock() {
            batch.add(Instant::now(), &one, Watch::new);
        }
    }
}

/// A kernel that was compiled, and the number of kernels in its batch.
#[derive(Default)]
struct Compiled {
    all: u64,
    kernel: String,
}

impl Visit for Compiled {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "all" {
            self.all = value;
        }
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "kernel" {
            self.kernel = value.into();
        }
    }
    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

/// The kernels of a program that are compiled at the same time.
#[derive(Default)]
struct Batch {
    done: u64,
    begun: Option<Instant>,
    shown: Option<Watch>,
}

impl Batch {
    /// Counts a kernel. `watch` makes the display, when there is something to show.
    fn add(&mut self, now: Instant, one: &Compiled, watch: impl FnOnce() -> Watch) {
        let Compiled { all, kernel } = one;
        self.done += 1;
        let begun = *self.begun.get_or_insert(now);
        let long = now.saturating_duration_since(begun) >= AFTER;
        if self.shown.is_some() || long && self.done < *all {
            let shown = self.shown.get_or_insert_with(watch);
            shown.step_at(now, self.done, *all, &format!("{} of {all} kernels compiled: {kernel}", self.done));
        }
        if self.done >= *all {
            if let Some(Watch::Bar(bar)) = &self.shown {
                bar.finish_and_clear();
            }
            *self = Self::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::watch::tests::Shared;
    use std::sync::Arc;

    #[test]
    fn only_long_compilations_are_shown() {
        let out = Shared::default();
        let lines = || Watch::Lines(Box::new(out.clone()), None);
        let (mut batch, start) = (Batch::default(), Instant::now());
        let mut run = |seconds: f64, all: u64| {
            for i in 0..all {
                let now = start + Duration::from_secs_f64(seconds * i as f64);
                batch.add(now, &Compiled { all, kernel: format!("made.up{i}") }, lines);
            }
        };
        run(0.1, 10);
        run(15.0, 4); // the second one is past the threshold
        run(0.1, 10);
        let text = String::from_utf8(out.0.lock().unwrap().clone()).unwrap();
        let expected = ["2 of 4 kernels compiled: made.up1", "4 of 4 kernels compiled: made.up3"];
        assert_eq!(text.lines().collect::<Vec<_>>(), expected);
    }

    #[test]
    fn the_library_s_events_are_understood() {
        use tracing_subscriber::layer::SubscriberExt;
        let seen = Arc::new(Mutex::new(Vec::new()));
        struct Collect(Arc<Mutex<Vec<(u64, String)>>>);
        impl<S: Subscriber> Layer<S> for Collect {
            fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
                let mut one = Compiled::default();
                event.record(&mut one);
                self.0.lock().unwrap().push((one.all, one.kernel));
            }
        }
        let Ok(g) = crate::gpu::Gpu::open_blocking(&crate::gpu::Options::default()) else { return };
        let collect = Collect(seen.clone()).with_filter(Targets::new().with_target(TARGET, Level::DEBUG));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(collect), || {
            let x = crate::tensor::Tensor::input("x", &[64]);
            let mut r = crate::tape::Recorder::inference(&g);
            x.fill(&mut r, 1.0).unwrap();
            r.run().unwrap();
        });
        assert_eq!(*seen.lock().unwrap(), [(1, "tensor.fill".to_string())]);
    }
}
