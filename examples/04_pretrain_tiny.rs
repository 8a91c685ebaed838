//! Pretraining as a library: a very small HybridNet on generated images, a minute on two CPU cores.
//!
//! ```text
//! cargo run --release --example 04_pretrain_tiny
//! ```

use std::sync::Arc;

use rowscan::prelude::*;

/// Trains for some steps. Returns the losses of the first and of the last one.
pub fn run(steps: usize) -> rowscan::Result<(f32, f32)> {
    let g = Gpu::open_blocking(&Options::default())?;
    let config = Config { image_size: 32, width: 32, pattern: "MMMT".into(), ..Config::preset("micro")? };
    let run = RunSettings { batch_size: 16, ..RunSettings::default() };
    let settings = PretrainSettings { run, ..PretrainSettings::default() };
    let data = Arc::new(Dataset::open("synthetic:512", Split::Train)?);
    let options = LoaderOptions::new(settings.run.batch_size, Transform::train(config.image_size as u32));
    let masker = settings.masker(&config)?;
    let mut trainer =
        Pretrainer::new(&g, &config, &settings.objective, settings.run.batch_size, settings.run.hyper()?, 0)?;
    println!("{} parameters on {}", trainer.params.count(), g.caps());

    let (mut first, mut last) = (f32::NAN, f32::NAN);
    for (step, batch) in Loader::train(data, &options, Cursor::default())?.take(steps).enumerate() {
        let mask = masker.draw(step as u64, settings.run.batch_size);
        let loss = trainer.step(&batch?.images, &mask, step as u64, 1e-3)?;
        if step % 20 == 0 || step + 1 == steps {
            last = loss.to_vec(&g)?[0];
            println!("step {step:>3}  loss {last:.4}");
        }
        first = if step == 0 { last } else { first };
    }
    Ok((first, last))
}

fn main() -> rowscan::Result<()> {
    run(200).map(|_| ())
}
