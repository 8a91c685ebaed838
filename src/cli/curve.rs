//! Curves of a run as SVG pictures.
use crate::error::{Error, Result};
use crate::run::record::write_atomic;
use plotters::coord::Shift;
use plotters::prelude::*;
use std::path::Path;

const SIZE: (u32, u32) = (900, 500);
/// Largest number of points of a curve. More would enlarge the file without a visible difference.
const MAX_POINTS: usize = 1500;
/// Colors that color-blind people can tell apart too.
const STRONG: [RGBColor; 6] = [
    RGBColor(31, 92, 170),
    RGBColor(213, 94, 0),
    RGBColor(0, 140, 100),
    RGBColor(180, 70, 140),
    RGBColor(120, 120, 120),
    RGBColor(190, 150, 0),
];

/// A curve of a picture.
#[derive(Clone, Copy, Debug)]
pub struct Curve<'a> {
    /// Its label.
    pub name: &'a str,
    /// (x, y) in order of x.
    pub points: &'a [(f64, f64)],
}

/// Draws the loss over the steps into a file, from `points` (step, loss) in order of step, with a smoothed line on top.
///
/// Points that are not finite are left out. An error if none is left.
pub fn loss_curve(path: &Path, title: &str, points: &[(u64, f64)]) -> Result<()> {
    save(path, title, ("step", "loss"), &loss_lines(points)?)
}

/// The picture of [`loss_curve`], as SVG of this size.
pub fn loss_svg(title: &str, points: &[(u64, f64)], size: (u32, u32)) -> Result<String> {
    picture(&[(title, ("step", "loss"), loss_lines(points)?)], size)
}

fn loss_lines(points: &[(u64, f64)]) -> Result<Vec<Line>> {
    let all: Vec<(f64, f64)> = points.iter().map(|&(s, l)| (s as f64, l)).collect();
    let finite = finite("the loss curve", &all)?;
    let raw = thin(&finite);
    // Smoothed before points are thinned, over a fiftieth of the run.
    let smooth = thin(&smoothed(&finite, finite.len() / 100));
    Ok(vec![(STRONG[0].mix(0.3).stroke_width(1), None, raw), (STRONG[0].stroke_width(2), None, smooth)])
}

/// Draws at most six curves into one picture, with a legend.
///
/// Points that are not finite are left out. An error if a curve has none left.
pub fn curves(path: &Path, title: &str, axes: (&str, &str), all: &[Curve<'_>]) -> Result<()> {
    let line = |(curve, color): (&Curve<'_>, RGBColor)| {
        Ok((color.stroke_width(2), Some(curve.name.to_owned()), thin(&finite(curve.name, curve.points)?)))
    };
    save(path, title, axes, &all.iter().zip(STRONG).map(line).collect::<Result<Vec<_>>>()?)
}

/// A picture beside others: its title, its axes, and its curves.
#[derive(Debug)]
pub struct Panel<'a> {
    /// What it shows.
    pub title: &'a str,
    /// Labels of x and y.
    pub axes: (&'a str, &'a str),
    /// Its curves.
    pub curves: Vec<Curve<'a>>,
    /// Whether each point is the mean of those around it.
    pub smooth: bool,
}

/// Draws panels side by side, each with at most twelve curves and a legend. A curve has the same color in all panels.
///
/// Points that are not finite are left out. An error if a curve has none left.
pub fn panels(path: &Path, all: &[Panel<'_>]) -> Result<()> {
    let charts = all.iter().map(panel_chart).collect::<Result<Vec<_>>>()?;
    write_atomic(path, picture(&charts, (SIZE.0 * all.len() as u32, SIZE.1))?.as_bytes())
}

/// A panel by itself, as SVG of this size; its legend is left out where there is one curve.
///
/// Points that are not finite are left out. An error if a curve has none left.
pub fn panel_svg(panel: &Panel<'_>, size: (u32, u32)) -> Result<String> {
    let mut chart = panel_chart(panel)?;
    if let [(_, label, _)] = &mut *chart.2 {
        *label = None;
    }
    picture(&[chart], size)
}

fn panel_chart<'a>(panel: &Panel<'a>) -> Result<Chart<'a>> {
    let line = |(i, curve): (usize, &Curve<'_>)| {
        let points = finite(curve.name, curve.points)?;
        let points = if panel.smooth { smoothed(&points, points.len() / 50) } else { points };
        Ok((color(i).stroke_width(2), Some(curve.name.to_owned()), thin(&points)))
    };
    Ok((panel.title, panel.axes, panel.curves.iter().enumerate().map(line).collect::<Result<_>>()?))
}

/// The colors of curves as SVG writes them.
#[cfg(test)]
pub fn colors() -> Vec<String> {
    STRONG.iter().map(|RGBColor(r, g, b)| format!("#{r:02X}{g:02X}{b:02X}")).collect()
}

/// The color of curve i. From the seventh on the colors come again, lighter.
fn color(i: usize) -> RGBAColor {
    STRONG[i % STRONG.len()].mix(if i < STRONG.len() { 1.0 } else { 0.45 })
}

/// The finite points; an error if there is none.
fn finite(what: &str, points: &[(f64, f64)]) -> Result<Vec<(f64, f64)>> {
    let finite: Vec<_> = points.iter().copied().filter(|p| p.0.is_finite() && p.1.is_finite()).collect();
    if finite.is_empty() {
        let expected = "at least one finite value to draw";
        return Err(Error::argument(what.to_owned(), format!("{} points, none finite", points.len()), expected));
    }
    Ok(finite)
}

/// Style of a curve, its label if it has one, and its points.
type Line = (ShapeStyle, Option<String>, Vec<(f64, f64)>);

fn save(path: &Path, title: &str, axes: (&str, &str), lines: &[Line]) -> Result<()> {
    write_atomic(path, picture(&[(title, axes, lines.to_vec())], SIZE)?.as_bytes())
}

/// Centered moving average over `half` points on either side. Towards the ends the window shrinks on both sides alike.
/// A window that only looks back would shift slopes.
fn smoothed(points: &[(f64, f64)], half: usize) -> Vec<(f64, f64)> {
    let mut sums = vec![0.0];
    sums.extend(points.iter().scan(0.0, |sum, p| {
        *sum += p.1;
        Some(*sum)
    }));
    let mean = |i: usize| {
        let half = half.min(i).min(points.len() - 1 - i);
        (sums[i + half + 1] - sums[i - half]) / (2 * half + 1) as f64
    };
    points.iter().enumerate().map(|(i, p)| (p.0, mean(i))).collect()
}

/// Every k-th point, and the last one.
fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let every = points.len().div_ceil(MAX_POINTS).max(1);
    let last = points.len().saturating_sub(1);
    points.iter().enumerate().filter(|(i, _)| i % every == 0 || *i == last).map(|(_, &p)| p).collect()
}

/// The range of `values` with a margin; never empty.
fn range(values: impl Iterator<Item = f64>, margin: f64) -> std::ops::Range<f64> {
    let (lo, hi) = values.fold((f64::MAX, f64::MIN), |(lo, hi), v| (lo.min(v), hi.max(v)));
    let spare = if hi > lo { (hi - lo) * margin } else { (lo.abs() * 0.1).max(0.5) };
    lo - spare..hi + spare
}

/// A chart: its title, its axes, and its lines.
type Chart<'a> = (&'a str, (&'a str, &'a str), Vec<Line>);

/// Charts side by side, as SVG.
fn picture(charts: &[Chart<'_>], size: (u32, u32)) -> Result<String> {
    draw(charts, size).map_err(|e| Error::Internal(format!("curves cannot be drawn: {e}")))
}

fn draw(charts: &[Chart<'_>], size: (u32, u32)) -> Result<String, Box<dyn std::error::Error>> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, size).into_drawing_area();
        root.fill(&WHITE)?;
        for (area, (title, axes, lines)) in root.split_evenly((1, charts.len())).iter().zip(charts) {
            draw_chart(area, title, *axes, lines)?;
        }
        root.present()?;
    }
    Ok(svg)
}

/// A number beside an axis: without zeros that say nothing, and with a power of ten where it is small.
fn tick(value: f64) -> String {
    match value.abs() {
        0.0 => "0".into(),
        size if size < 0.01 => format!("{value:.1e}"),
        _ => format!("{value:.4}").trim_end_matches('0').trim_end_matches('.').to_owned(),
    }
}

fn draw_chart(
    area: &DrawingArea<SVGBackend<'_>, Shift>, title: &str, axes: (&str, &str), lines: &[Line],
) -> Result<(), Box<dyn std::error::Error>> {
    let all = || lines.iter().flat_map(|line| &line.2);
    let mut chart = ChartBuilder::on(area)
        .margin(14)
        .caption(title, ("sans-serif", 20))
        .x_label_area_size(44)
        .y_label_area_size(64)
        .build_cartesian_2d(range(all().map(|p| p.0), 0.0), range(all().map(|p| p.1), 0.05))?;
    chart
        .configure_mesh()
        .light_line_style(WHITE)
        .x_desc(axes.0)
        .y_desc(axes.1)
        .x_label_formatter(&|v| if v.fract() == 0.0 { format!("{v:.0}") } else { format!("{v:.1}") })
        .y_label_formatter(&|v| tick(*v))
        .draw()?;
    for (style, name, points) in lines {
        let drawn = chart.draw_series(LineSeries::new(points.iter().copied(), *style))?;
        if let Some(name) = name {
            let style = *style;
            drawn.label(name.as_str()).legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
        }
    }
    if lines.iter().any(|line| line.1.is_some()) {
        let background = WHITE.mix(0.8);
        chart.configure_series_labels().background_style(background).border_style(BLACK.mix(0.3)).draw()?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn smoothing_keeps_a_line_and_averages_noise() {
        let line: Vec<(f64, f64)> = (0..100).map(|i| (f64::from(i), 2.0 - f64::from(i))).collect();
        assert!(smoothed(&line, 10).iter().zip(&line).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-9));
        let noisy: Vec<(f64, f64)> = (0..1000).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        assert!((smoothed(&noisy, 50)[500].1 - 0.5).abs() < 0.02);
        assert_eq!(smoothed(&noisy, 0), noisy);
        assert_eq!(smoothed(&noisy[..1], 5), noisy[..1]);
    }

    #[test]
    fn curves_are_drawn_with_labels_and_bounded_size() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("loss.svg");
        let mut points: Vec<(u64, f64)> = (0..100_000).map(|i| (i, 1.0 / (1.0 + i as f64 / 1e4))).collect();
        points[5].1 = f64::NAN;
        loss_curve(&path, "a < b", &points).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
        assert!(svg.contains("step") && svg.contains("loss") && svg.contains("a &lt; b"));
        assert!(!svg.contains("NaN") && svg.len() < 200_000, "{} bytes", svg.len());
        let lines = |opacity: &str| svg.matches(&format!("opacity=\"{opacity}\" stroke=\"#1F5CAA\"")).count();
        assert_eq!((lines("0.3"), lines("1")), (1, 1), "one raw and one smoothed line");
        for few in [&[(3, 0.5)][..], &[(0, 1.0), (1, 1.0)], &[(0, -1e30), (1, 1e30)]] {
            loss_curve(&path, "few", few).unwrap();
        }
    }

    #[test]
    fn numbers_beside_an_axis_are_told_apart() {
        let ticks = [0.0, 0.00003, -0.0015, 0.01, 2.36, 50.0, 1200.0].map(tick);
        assert_eq!(ticks, ["0", "3.0e-5", "-1.5e-3", "0.01", "2.36", "50", "1200"]);
    }

    #[test]
    fn several_curves_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("accuracy.svg");
        let (one, two) = ([(1.0, 10.0), (2.0, 30.0)], [(1.0, 50.0), (2.0, f64::NAN)]);
        let all = [Curve { name: "top-1", points: &one }, Curve { name: "top-5", points: &two }];
        curves(&path, "t", ("epoch", "accuracy in %"), &all).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        assert!(["top-1", "top-5", "epoch", "accuracy in %"].iter().all(|word| svg.contains(word)), "{svg}");
        let error = curves(&path, "t", ("", ""), &[Curve { name: "top-9", points: &two[1..] }]).unwrap_err();
        assert!(error.to_string().contains("top-9: got 1 points, none finite"), "{error}");
    }

    #[test]
    fn panels_stand_side_by_side() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("compare.svg");
        let points = [(0.0, 1.0), (1.0, 0.5)];
        let curves = || ["one", "two"].map(|name| Curve { name, points: &points }).to_vec();
        let panel = |title, smooth| Panel { title, axes: ("step", "y"), curves: curves(), smooth };
        panels(&path, &[panel("loss", true), panel("accuracy", false)]).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        assert!(svg.contains(&format!("width=\"{}\"", 2 * SIZE.0)) && svg.contains("accuracy"), "{svg}");
        assert_eq!((svg.matches(">\ntwo\n<").count(), color(0) == color(6)), (2, false));
    }

    #[test]
    fn nothing_to_draw_is_an_error() {
        let error = loss_curve(Path::new("x.svg"), "t", &[(0, f64::NAN)]).unwrap_err().to_string();
        assert!(error.contains("1 points, none finite"), "{error}");
        assert!(loss_curve(Path::new("x.svg"), "t", &[]).is_err());
    }
}
