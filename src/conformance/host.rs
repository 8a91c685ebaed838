//! Kinds that are computed on the CPU alone: geometry of point clouds, masks, boxes and scores of dense tasks.

use super::compare::{FixtureReport, OUTPUT};
use super::fixture::{Array, Fixture};
use crate::data::SegmentationMap;
use crate::data::coco::{CocoDetection, CocoFile};
use crate::data::masks::RunLengths;
use crate::data::points::{farthest_points, nearest_points};
use crate::error::Result;
use crate::infer::coco_scores::{Overlap, coco_scores};
use crate::infer::scores::Tally;
use crate::infer::segmentation_scores::SegmentationTally;
use crate::infer::sliding_window::{ScoreMap, merged, windows};
use crate::infer::vote::mean_scores;
use crate::models::dense::nms::{Corners, nms as suppress};

fn points(array: &Array) -> Vec<[f32; 3]> {
    array.f32().as_chunks::<3>().0.to_vec()
}

/// Whole numbers of a tensor.
fn numbers(array: &Array) -> Vec<u32> {
    array.values.iter().map(|v| *v as u32).collect()
}

fn floats(numbers: impl IntoIterator<Item = impl Into<f64>>) -> Vec<f32> {
    numbers.into_iter().map(|v| v.into() as f32).collect()
}

pub fn fps(f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let (count, start) = (f.size("number", 1)?, f.size("start", 0)?);
    let skip = f.flag("skip_origin", true)?;
    for (name, cloud) in f.with_prefix("input.points.") {
        let index = farthest_points(&points(cloud), count, start, skip);
        report.exact(&format!("output.index.{name}"), &floats(index), f.get(&format!("output.index.{name}"))?);
    }
    Ok(())
}

pub fn knn(f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let k = f.size("k", 1)?;
    let (cloud, queries) = (f.get("input.points")?, f.get("input.queries")?);
    let [clouds, n, _] = three(f, cloud)?;
    let [_, q, _] = three(f, queries)?;
    let (cloud, queries) = (points(cloud), points(queries));
    let (mut index, mut squares) = (Vec::new(), Vec::new());
    for b in 0..clouds {
        let (cloud, queries) = (&cloud[b * n..(b + 1) * n], &queries[b * q..(b + 1) * q]);
        let found = nearest_points(cloud, queries, k);
        squares.extend(found.iter().enumerate().map(|(i, at)| {
            let (a, b) = (queries[i / k.max(1)], cloud[*at as usize]);
            (0..3).map(|axis| (a[axis] - b[axis]).powi(2)).sum::<f32>()
        }));
        index.extend(found);
    }
    report.exact("output.index", &floats(index), f.get("output.index")?);
    report.relative("output.squared_distance", &squares, f.get("output.squared_distance")?, OUTPUT);
    Ok(())
}

fn three(f: &Fixture, array: &Array) -> Result<[usize; 3]> {
    array.shape[..].try_into().map_err(|_| f.error(format!("a tensor of shape {:?} has not 3 dimensions", array.shape)))
}

pub fn vote(f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let cloud = f.get("input.points")?;
    let ([clouds, n, _], all) = (three(f, cloud)?, f.size("point_all", 1)?);
    let cloud = points(cloud);
    let chosen: Vec<Vec<u32>> =
        (0..clouds).map(|b| farthest_points(&cloud[b * n..(b + 1) * n], all, 0, true)).collect();
    report.exact("output.fps_index", &floats(chosen.concat()), f.get("output.fps_index")?);
    let (choice, scale, shift) = (f.get("input.choice")?, f.get("input.scale")?, f.get("input.shift")?);
    let (scale, shift) = (points(scale), points(shift));
    let mut moved = Vec::new();
    for (vote, choice) in numbers(choice).chunks(choice.shape.last().copied().unwrap_or(1).max(1)).enumerate() {
        for (b, chosen) in chosen.iter().enumerate() {
            let at = vote * clouds + b;
            for i in choice {
                let point = cloud[b * n + chosen[*i as usize] as usize];
                moved.extend((0..3).map(|axis| point[axis] * scale[at][axis] + shift[at][axis]));
            }
        }
    }
    report.relative("output.clouds", &moved, f.get("output.clouds")?, OUTPUT);
    let logits = f.get("input.logits")?;
    let [votes, samples, classes] = three(f, logits)?;
    let values = logits.f32();
    let votes: Vec<Vec<f32>> = values.chunks(values.len() / votes.max(1)).map(<[f32]>::to_vec).collect();
    let mean = mean_scores(&votes)?;
    report.relative("output.mean_logits", &mean, f.get("output.mean_logits")?, OUTPUT);
    let best = ScoreMap::new([1, samples], classes, mean.clone())?.best();
    report.exact("output.pred", &floats(best), f.get("output.pred")?);
    let mut tally = Tally::new(classes);
    tally.add(&mean, &numbers(f.get("input.labels")?))?;
    let recalls: Vec<f64> = tally.by_class().iter().filter_map(|class| class.recall).collect();
    let of_classes = recalls.iter().sum::<f64>() / recalls.len().max(1) as f64;
    let one = |name: &str| Ok::<f64, crate::Error>(f.get(name)?.values.first().copied().unwrap_or(f64::NAN));
    report.absolute("output.accuracy", tally.scores().top1 / 100.0, one("output.accuracy")?, OUTPUT);
    report.absolute("output.class_accuracy", of_classes / 100.0, one("output.class_accuracy")?, OUTPUT);
    Ok(())
}

pub fn rle(f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let sizes = f.config("sizes").as_array().cloned().unwrap_or_default();
    for (s, size) in sizes.iter().enumerate() {
        let wrong = |what: &str| f.error(format!("config `sizes[{s}].{what}` is missing or of another type"));
        let side = |name: &str| size[name].as_u64().and_then(|v| u32::try_from(v).ok()).ok_or_else(|| wrong(name));
        let (height, width) = (side("height")?, side("width")?);
        let polygons: Vec<Vec<f64>> =
            serde_json::from_value(size["polygons"].clone()).map_err(|_| wrong("polygons"))?;
        let masks = polygons.iter().map(|polygon| RunLengths::of_polygon(height, width, polygon));
        let masks = masks.collect::<Result<Vec<_>>>()?;
        for (i, mask) in masks.iter().enumerate() {
            let name = format!("counts.{s}.{i}");
            report.exact(&name, &floats(mask.counts().to_vec()), f.get(&format!("output.{name}"))?);
        }
        let areas = masks.iter().map(|mask| mask.area() as f64);
        report.exact(&format!("area.{s}"), &floats(areas), f.get(&format!("output.area.{s}"))?);
        let bounds = masks.iter().flat_map(RunLengths::bounds);
        report.exact(&format!("bbox.{s}"), &floats(bounds), f.get(&format!("output.bbox.{s}"))?);
        for (name, crowds) in [("iou", false), ("iou_crowd", true)] {
            let mut all = Vec::new();
            for a in &masks {
                for (i, b) in masks.iter().enumerate() {
                    all.push(a.iou(b, crowds && i % 3 == 0)?);
                }
            }
            report.relative(&format!("{name}.{s}"), &floats(all), f.get(&format!("output.{name}.{s}"))?, OUTPUT);
        }
        let mut union = RunLengths::new(height, width, vec![height * width])?;
        for mask in masks.iter().take(4) {
            union = union.union(mask)?;
        }
        report.exact(&format!("union.{s}"), &floats(union.counts().to_vec()), f.get(&format!("output.union.{s}"))?);
    }
    for pair in f.config("strings").as_array().into_iter().flatten() {
        let (Some(name), Some(text)) = (pair[0].as_str(), pair[1].as_str()) else {
            return Err(f.error("config `strings` holds no pairs of texts"));
        };
        let Ok(theirs) = f.get(&format!("output.counts.{name}")) else { continue };
        let at = name.split('.').next().and_then(|s| s.parse::<usize>().ok()).unwrap_or(0);
        let side = |side: &str| sizes.get(at).and_then(|size| size[side].as_u64()).unwrap_or(0) as u32;
        let mask = RunLengths::of_text(side("height"), side("width"), text)?;
        report.exact(&format!("text.{name}"), &floats(mask.counts().to_vec()), theirs);
        let same = if mask.text() == text { 0.0 } else { f64::INFINITY };
        report.absolute(&format!("text.{name} written"), same, 0.0, 0.0);
    }
    Ok(())
}

pub fn coco_eval(f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let truth = CocoFile::parse(&f.config("gt").to_string())?;
    let broken = |e| f.error(format!("config `dt` is no list of detections: {e}"));
    let found: Vec<CocoDetection> = serde_json::from_value(f.config("dt").clone()).map_err(broken)?;
    for (name, overlap) in [("bbox", Overlap::Boxes), ("segm", Overlap::Masks)] {
        let scores = coco_scores(&truth, &found, overlap)?;
        for (what, ours) in [("stats", &scores.stats[..]), ("precision", &scores.precision), ("recall", &scores.recall)]
        {
            let name = format!("output.{name}.{what}");
            report.relative(&name, &floats(ours.to_vec()), f.get(&name)?, OUTPUT);
        }
    }
    Ok(())
}

pub fn miou(f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let (classes, reduce) = (f.size("num_classes", 1)?, f.flag("reduce_zero_label", false)?);
    let mut tally = SegmentationTally::new(classes);
    let label = |v: &f64| match *v as u16 {
        255 => SegmentationMap::IGNORED,
        v if reduce => v.checked_sub(1).unwrap_or(SegmentationMap::IGNORED),
        v => v,
    };
    for (name, labels) in f.with_prefix("input.label.") {
        let predicted: Vec<u16> = f.get(&format!("input.pred.{name}"))?.values.iter().map(|v| *v as u16).collect();
        tally.add(&predicted, &labels.values.iter().map(label).collect::<Vec<_>>())?;
    }
    let scores = tally.scores();
    let known = |values: &[Option<f64>]| floats(values.iter().map(|v| v.unwrap_or(-1.0)));
    for (name, ours) in [("iou", &scores.iou), ("acc", &scores.acc)] {
        report.relative(&format!("output.{name}"), &known(ours), f.get(&format!("output.{name}"))?, OUTPUT);
    }
    for (name, ours) in [("miou", scores.miou), ("macc", scores.macc), ("aacc", scores.aacc)] {
        report.relative(&format!("output.{name}"), &known(&[ours]), f.get(&format!("output.{name}"))?, OUTPUT);
    }
    Ok(())
}

pub fn slide(f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let pair = |key: &str| -> Result<[usize; 2]> {
        let numbers = f.numbers(key).unwrap_or_default().into_iter().map(|v| v as usize).collect::<Vec<_>>();
        numbers.try_into().map_err(|_| f.error(format!("config `{key}` are not two numbers")))
    };
    let (size, channels) = (pair("size")?, f.size("num_classes", 1)?);
    let places = windows(size, pair("crop")?, pair("stride")?)?;
    report.exact("output.windows", &floats(places.concat().into_iter().map(|v| v as f64)), f.get("output.windows")?);
    let mut maps = Vec::new();
    for i in 0..places.len() {
        let (shape, values) = super::maps::channels_last_of_one(f.get(&format!("input.logits.{i}"))?);
        maps.push(ScoreMap::new(shape, channels, values)?);
    }
    let whole = merged(size, &places, &maps)?;
    let (rows, values) = (size[0] * size[1], &whole.values);
    let first: Vec<f32> = (0..channels).flat_map(|c| (0..rows).map(move |i| values[i * channels + c])).collect();
    report.relative("output.merged", &first, f.get("output.merged")?, OUTPUT);
    let best = whole.resized(pair("original_size")?)?.best();
    report.exact("output.pred", &floats(best), f.get("output.pred")?);
    Ok(())
}

pub fn nms(f: &Fixture, report: &mut FixtureReport) -> Result<()> {
    let threshold = f.number("iou_threshold", 0.5)? as f32;
    let boxes: Vec<Corners> = f.get("input.boxes")?.f32().as_chunks::<4>().0.to_vec();
    let (scores, classes) = (f.get("input.scores")?.f32(), numbers(f.get("input.classes")?));
    let one = vec![0; classes.len()];
    for (name, groups) in [("keep", &classes), ("keep_agnostic", &one)] {
        let kept = suppress(&boxes, &scores, groups, threshold).into_iter().map(|i| i as f64);
        report.exact(&format!("output.{name}"), &floats(kept), f.get(&format!("output.{name}"))?);
    }
    Ok(())
}
