//! What `eval` and `predict` do with a detector.

use std::path::Path;

use serde::Serialize;
use serde_json::json;

use super::classifier::StoredModel;
use super::dense::Pictures;
use super::terminal::{Device, Outcome, printable, say, warn};
use crate::data::coco::CocoDetection;
use crate::data::{Dataset, Place};
use crate::error::{Error, Result};
use crate::infer::coco_scores::COCO_STATS;
use crate::infer::detect::FoundObject;
use crate::run::detect::{DetectionTest, SeenImage, Truth, evaluate_objects, find_objects};
use crate::run::record::{ObjectPicture, write_atomic};

/// Prints the scores of a model on a set, and writes them as JSON.
pub fn evaluate(device: &Device, model: &StoredModel, data: &Dataset, json: Option<&Path>) -> Outcome {
    let names = model.names()?;
    let finder = model.objects(&device.open()?, data.len())?;
    let test = evaluate_objects(&device.world, &finder, data, &names)?;
    let percent = |share: f64| if share < 0.0 { "-".into() } else { format!("{:.2}%", 100.0 * share) };
    say(format_args!("{} images, {} classes, {} objects found", test.images, names.len(), test.found.len()))?;
    say(format_args!("{:<6}  {:>8}  {:>8}", "", "boxes", "masks"))?;
    for (i, name) in COCO_STATS.iter().enumerate() {
        let masks = test.masks.map_or("-".into(), |stats| percent(stats[i]));
        say(format_args!("{name:<6}  {:>8}  {masks:>8}", percent(test.boxes[i])))?;
    }
    let widest = names.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(5);
    say(format_args!("{:>5}  {:<widest$}  {:>8}", "", "class", "AP"))?;
    for (i, name) in names.iter().map(|name| printable(name)).enumerate() {
        say(format_args!("{i:>5}  {name:<widest$}  {:>8}", percent(test.classes[i])))?;
    }
    if let Some(path) = json.filter(|_| device.world.leads()) {
        write_atomic(path, &to_json(&names, data, model.average, &test)?)?;
    }
    if test.skipped > 0 {
        tracing::warn!("{} broken images were skipped: they count neither as right nor as wrong", test.skipped);
    }
    Ok(())
}

/// The numbers under COCO's names; null where nothing counts.
fn stats(stats: &[f64; 12]) -> serde_json::Value {
    let known = |v: f64| (v >= 0.0).then_some(v);
    COCO_STATS.iter().zip(stats).map(|(name, v)| ((*name).to_owned(), json!(known(*v)))).collect()
}

fn to_json(names: &[String], data: &Dataset, average: bool, test: &DetectionTest) -> Result<Vec<u8>> {
    let class = |(name, ap): (&String, &f64)| json!({ "name": name, "ap": (*ap >= 0.0).then_some(*ap) });
    let value = json!({
        "data": data.spec(),
        "ema": average,
        "images": test.images,
        "skipped": test.skipped,
        "objects": test.found.len(),
        "boxes": stats(&test.boxes),
        "masks": test.masks.as_ref().map(stats),
        "classes": names.iter().zip(&test.classes).map(class).collect::<Vec<_>>(),
    });
    serde_json::to_vec_pretty(&value).map_err(|e| Error::Internal(format!("scores as JSON: {e}")))
}

/// The objects in an image.
#[derive(Debug, Serialize)]
struct Detected {
    file: String,
    width: u32,
    height: u32,
    objects: Vec<NamedObject>,
    error: Option<String>,
}

/// An object with the name of its class.
#[derive(Debug, Serialize)]
struct NamedObject {
    class: usize,
    name: String,
    score: f32,
    /// Left, top, width, height.
    bbox: [f64; 4],
    /// Pixels of the mask.
    pixels: Option<u64>,
}

/// What to show of what is found, and where.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// The least score of an object that is printed and drawn.
    pub least: f32,
    /// Whether a JSON array is printed in place of lines.
    pub json: bool,
    /// Folder for pictures and COCO's results.
    pub output: Option<&'a Path>,
}

/// Looks for objects in images; into `output` go pictures with them, and all that was found as COCO results.
pub fn predict(device: &Device, model: &StoredModel, data: &Dataset, shown: Shown<'_>) -> Outcome {
    let names = model.names()?;
    let finder = model.objects(&device.open()?, data.len())?;
    let truth = Truth::of(data, &names).numbered(model.categories()?);
    let mut pictures = shown.output.map(|folder| Pictures::new(folder, (0..data.len()).map(|i| data.sample_name(i))));
    let (mut all, mut results): (Vec<Detected>, Vec<CocoDetection>) = (Vec::new(), Vec::new());
    find_objects(&finder, data, false, Place::ALL, |seen| {
        results.extend(truth.results(&seen));
        let SeenImage { sample, image, found, .. } = seen;
        let file = data.sample_name(sample);
        let sure: Vec<FoundObject> = found.into_iter().filter(|object| object.score >= shown.least).collect();
        let named = |object: &FoundObject| {
            let [left, top, right, bottom] = object.corners;
            NamedObject {
                class: object.class,
                name: names[object.class].clone(),
                score: object.score,
                bbox: [left, top, right - left, bottom - top],
                pixels: object.mask.as_ref().map(|mask| mask.area()),
            }
        };
        let objects: Vec<NamedObject> = sure.iter().map(named).collect();
        if !shown.json {
            say(printable(&file))?;
            for NamedObject { name, score, bbox: [left, top, width, height], .. } in &objects {
                let at = format!("at {left:.0}, {top:.0}, {width:.0} × {height:.0} pixels");
                say(format_args!("{:>7.2}%  {}  {at}", 100.0 * score, printable(name)))?;
            }
        }
        if let Some(pictures) = &mut pictures {
            let svg = ObjectPicture { image: &image, objects: &sure, names: &names }.to_svg()?;
            pictures.write(&file, &[("svg", svg.as_bytes())])?;
        }
        all.push(Detected { file, width: image.width, height: image.height, objects, error: None });
        Ok(())
    })?;
    let seen = all.len();
    for i in 0..data.len() {
        if let Some(error) = data.fault(i) {
            let file = data.sample_name(i);
            all.push(Detected { file, width: 0, height: 0, objects: vec![], error: Some(error) });
        }
    }
    if shown.json {
        let text = serde_json::to_string_pretty(&all);
        say(text.map_err(|e| Error::Internal(format!("predictions as JSON: {e}")))?)?;
    }
    if data.skipped() > 0 {
        tracing::warn!("{} broken images were skipped: nothing is predicted for them", data.skipped());
    }
    if seen == 0 {
        return Err(Error::file(data.spec(), "no image could be read").into());
    }
    if let Some(pictures) = pictures {
        let bytes = serde_json::to_vec(&results).map_err(|e| Error::Internal(format!("results as JSON: {e}")))?;
        write_atomic(&pictures.folder().join("results.json"), &bytes)?;
        let (count, dir) = (results.len(), pictures.folder().display());
        warn(format_args!("wrote {seen} pictures (.svg) and {count} objects (results.json, as COCO) to {dir}"));
    }
    Ok(())
}
