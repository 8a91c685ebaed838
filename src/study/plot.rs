//! Plot of a table: for each cell a point with an error bar, our accuracy against the paper's.

use std::path::Path;

use plotters::prelude::*;

use super::report::{CellScores, mean_deviation};
use super::table::{Measure, Table};
use crate::error::{Error, Result};
use crate::run::record::write_atomic;

const COLORS: [RGBColor; 3] = [RGBColor(31, 92, 170), RGBColor(200, 80, 30), RGBColor(40, 130, 70)];

/// Writes the plot as an SVG file. Cells that have not run, or that the paper does not have, are left out. If none is
/// left, nothing is written.
///
/// # Errors
/// If the file cannot be written.
pub fn plot(path: &Path, table: &Table, scores: &[CellScores]) -> Result<()> {
    let groups = table.groups();
    let points: Vec<Point> = table
        .cells
        .iter()
        .zip(scores)
        .filter_map(|(cell, scores)| {
            let (mean, deviation) = mean_deviation(&scores.of(0))?;
            let group = groups.iter().position(|g| *g == cell.group).unwrap_or_default();
            Some(Point { paper: *cell.paper.first()?, mean, deviation, group, label: cell.label.clone() })
        })
        .collect();
    let points = share_labels(points);
    if points.is_empty() {
        return Ok(());
    }
    let title = format!("Table {}: {}", table.name, table.title);
    let svg = draw(&title, table.measures.first(), &points)
        .map_err(|e| Error::file(path, format!("cannot be drawn: {e}")))?;
    write_atomic(path, svg.as_bytes())
}

struct Point {
    paper: f64,
    mean: f64,
    deviation: f64,
    group: usize,
    label: String,
}

/// Joins the labels of points in the same place, so that they do not cover each other. The last of these points gets
/// the joined label, the others an empty one.
fn share_labels(mut points: Vec<Point>) -> Vec<Point> {
    for i in 1..points.len() {
        let (before, rest) = points.split_at_mut(i);
        let point = &mut rest[0];
        let hidden = |p: &&mut Point| (p.paper, p.mean) == (point.paper, point.mean) && !p.label.is_empty();
        if let Some(other) = before.iter_mut().find(hidden) {
            point.label = format!("{}, {}", std::mem::take(&mut other.label), point.label);
        }
    }
    points
}

/// The range of the values, enlarged on both sides by `margin` times its length, at least by 0.5.
fn range(values: impl Iterator<Item = f64> + Clone, margin: f64) -> std::ops::Range<f64> {
    let (lo, hi) = (values.clone().fold(f64::MAX, f64::min), values.fold(f64::MIN, f64::max));
    let spare = ((hi - lo) * margin).max(0.5);
    lo - spare..hi + spare
}

fn draw(title: &str, measure: Option<&Measure>, points: &[Point]) -> Result<String, Box<dyn std::error::Error>> {
    let mut svg = String::new();
    let [paper, here] = measure.map_or(["", ""], |measure| [&measure.paper, &measure.here]);
    {
        let root = SVGBackend::with_string(&mut svg, (900, 560)).into_drawing_area();
        root.fill(&WHITE)?;
        let ends = points.iter().flat_map(|p| [p.mean - p.deviation, p.mean + p.deviation]);
        let mut chart = ChartBuilder::on(&root)
            .margin(14)
            .caption(title, ("sans-serif", 20))
            .x_label_area_size(44)
            .y_label_area_size(64)
            .build_cartesian_2d(range(points.iter().map(|p| p.paper), 0.3), range(ends, 0.15))?;
        chart
            .configure_mesh()
            .light_line_style(WHITE)
            .x_desc(format!("paper: {paper}"))
            .y_desc(format!("here: {here}"))
            .draw()?;
        for p in points {
            let color = COLORS[p.group % COLORS.len()];
            let bar = [(p.paper, p.mean - p.deviation), (p.paper, p.mean + p.deviation)];
            chart.draw_series(LineSeries::new(bar, color.stroke_width(2)))?;
            chart.draw_series([Circle::new((p.paper, p.mean), 5, color.filled())])?;
            let style = ("sans-serif", 14).into_font().color(&BLACK);
            chart.draw_series([EmptyElement::at((p.paper, p.mean)) + Text::new(p.label.clone(), (9, -7), style)])?;
        }
        root.present()?;
    }
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_do_not_cover_each_other() {
        let at = |paper, mean, label: &str| Point { paper, mean, deviation: 0.0, group: 0, label: label.into() };
        let points = [at(1.0, 2.0, "a"), at(1.0, 3.0, "b"), at(1.0, 2.0, "c"), at(1.0, 2.0, "d")];
        let labels: Vec<_> = share_labels(points.into()).into_iter().map(|p| p.label).collect();
        assert_eq!(labels, ["", "b", "", "a, c, d"]);
    }
}
