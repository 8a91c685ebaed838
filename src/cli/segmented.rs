//! What `eval` and `predict` do with a segmentation network.

use std::path::Path;

use serde::Serialize;
use serde_json::json;

use super::classifier::StoredModel;
use super::dense::Pictures;
use super::terminal::{Device, Outcome, printable, say, warn};
use crate::data::Dataset;
use crate::error::{Error, Result};
use crate::run::record::{Overlay, write_atomic};
use crate::run::segment::{SegmentationTest, evaluate_pixels, segment};

/// Prints the scores of a model on a set, and writes them as JSON.
pub fn evaluate(device: &Device, model: &StoredModel, data: &Dataset, json: Option<&Path>) -> Outcome {
    let names = model.names()?;
    let forward = model.pixel_scores(&device.open()?)?;
    let test = evaluate_pixels(&device.world, &forward, &model.config, data)?;
    let percent = |share: Option<f64>| share.map_or("-".into(), |share| format!("{:.2}%", 100.0 * share));
    say(format_args!("{} images, {} classes", test.images, model.config.classes))?;
    let s = &test.scores;
    let (miou, macc, aacc) = (percent(s.miou), percent(s.macc), percent(s.aacc));
    say(format_args!("mIoU {miou}  mAcc {macc}  aAcc {aacc}  loss {:.4}", test.loss))?;
    let widest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(5);
    say(format_args!("{:>5}  {:<widest$}  {:>8}  {:>8}", "", "class", "IoU", "Acc"))?;
    for (i, name) in names.iter().map(|name| printable(name)).enumerate() {
        say(format_args!("{i:>5}  {name:<widest$}  {:>8}  {:>8}", percent(s.iou[i]), percent(s.acc[i])))?;
    }
    if let Some(path) = json.filter(|_| device.world.leads()) {
        write_atomic(path, &to_json(&names, data, model.average, &test)?)?;
    }
    if test.skipped > 0 {
        tracing::warn!("{} broken images were skipped: they count neither as right nor as wrong", test.skipped);
    }
    Ok(())
}

fn to_json(names: &[String], data: &Dataset, average: bool, test: &SegmentationTest) -> Result<Vec<u8>> {
    let class =
        |(i, name): (usize, &String)| json!({ "name": name, "iou": test.scores.iou[i], "acc": test.scores.acc[i] });
    let value = json!({
        "data": data.spec(),
        "ema": average,
        "images": test.images,
        "skipped": test.skipped,
        "loss": test.loss,
        "miou": test.scores.miou,
        "macc": test.scores.macc,
        "aacc": test.scores.aacc,
        "classes": names.iter().enumerate().map(class).collect::<Vec<_>>(),
    });
    serde_json::to_vec_pretty(&value).map_err(|e| Error::Internal(format!("scores as JSON: {e}")))
}

/// The classes in an image.
#[derive(Debug, Serialize)]
struct Segmented {
    file: String,
    width: u32,
    height: u32,
    classes: Vec<Share>,
    error: Option<String>,
}

/// A class, and its share of the pixels.
#[derive(Debug, Clone, Serialize)]
struct Share {
    class: usize,
    name: String,
    share: f64,
}

/// Segments images; into `output` go the classes of pixels as PNG and pictures with colors and a legend.
pub fn predict(device: &Device, model: &StoredModel, data: &Dataset, json: bool, output: Option<&Path>) -> Outcome {
    let names = model.names()?;
    let forward = model.pixel_scores(&device.open()?)?;
    let mut pictures = output.map(|folder| Pictures::new(folder, (0..data.len()).map(|i| data.sample_name(i))));
    let (mut all, mut written) = (Vec::new(), 0);
    for i in 0..data.len() {
        let file = data.sample_name(i);
        let Some(image) = data.readable_image(i).map_err(Error::from)? else {
            let error = data.fault(i);
            all.push(Segmented { file, width: 0, height: 0, classes: vec![], error });
            continue;
        };
        let classes = segment(&forward, &model.config, &image)?.best();
        let mut counts = vec![0usize; names.len()];
        classes.iter().for_each(|class| counts[usize::from(*class)] += 1);
        let share = |class: usize| counts[class] as f64 / classes.len() as f64;
        let mut shares: Vec<Share> = (0..names.len())
            .filter(|class| counts[*class] > 0)
            .map(|class| Share { class, name: names[class].clone(), share: share(class) })
            .collect();
        shares.sort_by(|a, b| b.share.total_cmp(&a.share)); // stable
        if !json {
            say(printable(&file))?;
            for Share { class, name, share } in &shares {
                say(format_args!("{:>7.2}%  {class:>3}  {}", 100.0 * share, printable(name)))?;
            }
        }
        if let Some(pictures) = &mut pictures {
            let overlay = Overlay { image: &image, classes: &classes, names: &names };
            pictures.write(&file, &[("png", &overlay.index_png()?), ("svg", overlay.to_svg()?.as_bytes())])?;
            written += 1;
        }
        all.push(Segmented { file, width: image.width, height: image.height, classes: shares, error: None });
    }
    if json {
        let text = serde_json::to_string_pretty(&all);
        say(text.map_err(|e| Error::Internal(format!("predictions as JSON: {e}")))?)?;
    }
    if data.skipped() > 0 {
        tracing::warn!("{} broken images were skipped: nothing is predicted for them", data.skipped());
    }
    if all.iter().all(|image| image.error.is_some()) {
        return Err(Error::file(data.spec(), "no image could be read").into());
    }
    if let Some(pictures) = pictures {
        warn(format_args!("wrote {written} maps (.png) and pictures (.svg) to {}", pictures.folder().display()));
    }
    Ok(())
}
