//! What the host does to submit a training step, on a device that computes nothing. benches/README.md has the figures.

use criterion::{Criterion, Throughput};
use rowscan::Result;
use rowscan::gpu::{Caps, Gpu, Program};
use rowscan::models::Config;
use rowscan::train::pretrain::settings::PretrainSettings;
use rowscan::train::pretrain::step::Pretrainer;
use rowscan::train::settings::RunSettings;

/// Images of a step. Launches hardly depend on it, and the device takes main memory.
const BATCH: usize = 4;

/// A step of pretraining, chosen as for a GPU.
fn step(g: &Gpu, model: &str) -> Result<Program> {
    let config = Config::preset(model)?;
    let run = RunSettings { batch_size: BATCH, ..RunSettings::default() };
    let settings = PretrainSettings { run, ..PretrainSettings::default() };
    let visible = *settings.masker(&config)?.all_visible_lengths().end();
    let mut trainer = Pretrainer::new(g, &config, &settings.objective, BATCH, settings.run.hyper()?, 0)?;
    Program::new(trainer.record(visible)?.0)
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let g = Gpu::noop(Caps { max_binding: 2 << 30, max_buffer: 2 << 30, ..Caps::portable() });
    let mut group = criterion.benchmark_group("replay");
    for model in ["micro", "tiny"] {
        let program = step(&g, model).unwrap_or_else(|e| panic!("{model}: {e}"));
        group.throughput(Throughput::Elements(program.plan().launches as u64));
        group.bench_function(model, |b| b.iter(|| program.run().unwrap_or_else(|e| panic!("{model}: {e}"))));
    }
    group.finish();
    criterion.final_summary();
}
