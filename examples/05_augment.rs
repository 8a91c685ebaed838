//! The augmentation recipes: draws a picture of their results and measures images per second of one thread.
//!
//! ```text
//! cargo run --release --example 05_augment -- [DATA [SIZE [PNG]]]
//! ```
//!
//! A row of the picture is one image: as for evaluation, then three draws of each recipe, then MixUp or CutMix with
//! another image.

use std::path::Path;
use std::time::Instant;

use rowscan::data::stream::{Stream, StreamPurpose};
use rowscan::data::{Augmentation, Dataset, Scratch, Split, Transform};
use rowscan::models::TestView;
use rowscan::run::record::{Panel, PictureGrid};
use rowscan::train::finetune::mixup::{Mix, Mixup};

const RECIPES: [(&str, Augmentation); 3] = [
    ("pretrain", Augmentation::PRETRAIN),
    ("RandAugment, erasing", Augmentation::RAND_AUGMENT),
    ("3-Augment", Augmentation::THREE_AUGMENT),
];
const ROWS: usize = 8;
const DRAWS: u64 = 3;

fn main() -> rowscan::Result<()> {
    let mut args = std::env::args().skip(1);
    let data = args.next().unwrap_or("synthetic".into());
    let size = args.next().and_then(|size| size.parse().ok()).unwrap_or(96);
    run(&data, size, Path::new(&args.next().unwrap_or("augment.png".into())))
}

/// Draws the picture `png` of a data set, in images of `size` × `size` pixels, and measures.
pub fn run(data: &str, size: u32, png: &Path) -> rowscan::Result<()> {
    let set = Dataset::open(data, Split::Train)?;
    let eval = Transform::Eval { size, view: TestView::crop(1.0) };
    let transforms = RECIPES.map(|(_, augmentation)| Transform::Train { size, augmentation });
    transforms.iter().try_for_each(Transform::check)?;

    let mut scratch = Scratch::default();
    let mut changed = |transform: &Transform, image, draw, sample: usize| {
        let mut out = vec![0; (size * size * 3) as usize];
        let mut stream = Stream::new(StreamPurpose::Augment, [0, draw, sample as u64]);
        transform.apply(image, &mut stream, &mut scratch, &mut out).map(|()| out)
    };
    let samples: Vec<usize> = (0..ROWS).map(|i| i * set.len() / ROWS).collect();
    let images = samples.iter().map(|&i| set.image(i)).collect::<Result<Vec<_>, _>>()?;
    let plain = images.iter().map(|image| changed(&eval, image, 0, 0)).collect::<Result<Vec<_>, _>>()?;
    let mut mixed = plain.concat();
    let labels: Vec<u32> = (0..ROWS as u32).collect();
    Mixup::new(Mix::DEIT, ROWS, 0)?.apply(0, &mut mixed, &labels)?;
    let mut grid = PictureGrid::new(size as usize, size as usize, 2 + RECIPES.len() * DRAWS as usize)?;
    for (i, (image, mixed)) in images.iter().zip(mixed.chunks(plain[0].len())).enumerate() {
        let mut row = vec![plain[i].clone()];
        for transform in &transforms {
            for draw in 0..DRAWS {
                row.push(changed(transform, image, draw, samples[i])?);
            }
        }
        row.push(mixed.to_vec());
        grid.push_row(&row.iter().map(|pixels| Panel::Rgb8(pixels)).collect::<Vec<_>>())?;
    }
    grid.save(png)?;
    println!("{}", png.display());

    let start = Instant::now();
    let count = set.len().min(256);
    let images = (0..count).map(|i| set.image(i)).collect::<Result<Vec<_>, _>>()?;
    println!("{:<22}{:>8.0} images/s", "decode", count as f64 / start.elapsed().as_secs_f64());
    for ((name, _), transform) in RECIPES.iter().zip(&transforms) {
        let start = Instant::now();
        let rounds = 4096 / count as u64;
        for round in 0..rounds {
            for (i, image) in images.iter().enumerate() {
                changed(transform, image, round, i)?;
            }
        }
        println!("{name:<22}{:>8.0} images/s", (rounds * count as u64) as f64 / start.elapsed().as_secs_f64());
    }
    Ok(())
}
