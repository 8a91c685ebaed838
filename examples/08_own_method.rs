//! A pretraining method of your own, on a backbone that is there: which way is up? Each image is turned by 0, 90, 180
//! or 270 degrees, and the network says by how much (RotNet, Gidaris et al. 2018). What it learned is then saved, and
//! `rowscan probe --checkpoint out/rotations --data synthetic:512` or `finetune` reads it.
//!
//! ```text
//! cargo run --release --example 08_own_method
//! ```

use std::path::Path;
use std::sync::Arc;

use rowscan::ops::cross_entropy::cross_entropy;
use rowscan::ops::reduce;
use rowscan::prelude::*;
use rowscan::run::checkpoint;
use rowscan::train::image_input::Images;
use rowscan::train::optimizer::Group;
use rowscan::train::update::Update;

const TURNS: usize = 4;

/// An image (S, S, 3) turned by `quarters` · 90 degrees, clockwise.
fn turned(image: &[u8], side: usize, quarters: usize) -> Vec<u8> {
    let last = side - 1;
    let source = |y: usize, x: usize| match quarters {
        0 => (y, x),
        1 => (last - x, y),
        2 => (last - y, last - x),
        _ => (x, last - y),
    };
    let pixel = |i: usize| {
        let (y, x) = source(i / side, i % side);
        &image[(y * side + x) * 3..][..3]
    };
    (0..side * side).flat_map(pixel).copied().collect()
}

/// Pretrains for some steps, and saves the backbone in `folder`. Returns the mean loss of the first five and of the
/// last five.
pub fn run(steps: usize, folder: &Path) -> rowscan::Result<(f32, f32)> {
    let g = Gpu::open_blocking(&Options::default())?;
    let (batch, side) = (16, 32);
    let hyper = RunSettings::default().hyper()?;
    let micro = Config::preset("micro")?;
    let config = Config { image_size: side, width: 32, pattern: "MMT".into(), classes: TURNS, ..micro };
    let mut params = Params::new(&g);
    // four classes, one for each turn; the head is dropped later
    let model = Classifier::new(&g, &mut params, &config)?;
    let mut update = Update::new(&g, &params, hyper)?;
    params.init(&g, 0)?;

    let images = Images::new(&config, batch)?;
    let targets = Tensor::input("turns", &[batch, TURNS]);
    let (recording, loss) = hyper.recorder(&g).record(|r| {
        let patches = Var::constant(images.patches(r, config.input_patch())?);
        let scores = model.forward(r, &patches, None)?.logits;
        let rows = cross_entropy(r, &scores, &targets)?;
        let loss = reduce::sum(r, &rows)?; // the rows are parts of the mean
        update.launch(r, &loss, &params, |entry| Group { lr_scale: 1.0, weight_decay: hyper.decay_of(entry) })
    })?;
    let program = Program::new(recording)?;

    let data = Arc::new(Dataset::open("synthetic:512", Split::Train)?);
    let options = LoaderOptions::new(batch, Transform::eval(side as u32));
    let mut losses = Vec::new();
    for (step, found) in Loader::train(data, &options, Cursor::default())?.take(steps).enumerate() {
        // every turn as often as every other one, in an order that depends on the step alone
        let turns: Vec<usize> = (0..batch).map(|i| (i + step) % TURNS).collect();
        let found = found?.images;
        let all = found.chunks(side * side * 3).zip(&turns).flat_map(|(image, &turn)| turned(image, side, turn));
        images.write(&g, &all.collect::<Vec<u8>>(), (0, 1))?;
        let one_hot = turns.iter().flat_map(|&turn| (0..TURNS).map(move |k| f32::from(u8::from(k == turn))));
        targets.write(&g, &one_hot.collect::<Vec<_>>())?;
        update.begin(step as u64, 0, 2e-3)?;
        program.run()?;
        losses.push(loss.to_vec(&g)?[0]);
        if step % 20 == 0 {
            println!("step {step:>3}  loss {:.4}  ({:.4} is a guess)", losses[step], (TURNS as f32).ln());
        }
    }
    let mut weights = pollster::block_on(params.weights(&g))?;
    weights.retain(|name, _| !name.starts_with("head."));
    checkpoint::save_weights(folder, &Config { classes: 0, ..config }, &weights)?;
    println!("the backbone is in {}", folder.display());
    let mean = |some: &[f32]| some.iter().sum::<f32>() / some.len().max(1) as f32;
    let few = losses.len().min(5);
    Ok((mean(&losses[..few]), mean(&losses[losses.len() - few..])))
}

fn main() -> rowscan::Result<()> {
    run(200, Path::new("out/rotations")).map(|_| ())
}
