//! Polygons cut off at the borders of a rectangle.

use crate::models::dense::boxes::Region;

/// A corner: x, y.
type Point = [f64; 2];

/// A polygon x₀, y₀, x₁, y₁, … inside a rectangle, by Sutherland and Hodgman; empty if nothing is inside.
///
/// Parts that the rectangle separates stay joined by edges along its border, there and back. They enclose nothing, so a
/// rasterizer does not see them; a hull of the corners would, hence [`hull`].
pub fn clipped(polygon: &[f64], within: Region) -> Vec<f64> {
    let mut points: Vec<Point> = polygon.as_chunks::<2>().0.to_vec();
    for (side, bound) in within.into_iter().enumerate() {
        let (axis, sign) = (side % 2, if side < 2 { 1.0 } else { -1.0 });
        let depth = |p: &Point| sign * (p[axis] - bound); // from 0 on inside
        let mut kept = Vec::with_capacity(points.len() + 2);
        for (i, to) in points.iter().enumerate() {
            let from = &points[(i + points.len() - 1) % points.len()];
            let (a, b) = (depth(from), depth(to));
            if (a < 0.0) != (b < 0.0) {
                let t = a / (a - b);
                let mut crossing = [from[0] + t * (to[0] - from[0]), from[1] + t * (to[1] - from[1])];
                crossing[axis] = bound;
                kept.push(crossing);
            }
            if b >= 0.0 {
                kept.push(*to);
            }
        }
        points = kept;
    }
    if points.len() < 3 { Vec::new() } else { points.concat() }
}

/// The smallest box around what is inside a rectangle of polygons: of every edge the part inside, and the corners of
/// the rectangle that a polygon covers. `None` if nothing is inside.
pub fn hull<'a>(polygons: impl IntoIterator<Item = &'a Vec<f64>>, within: Region) -> Option<Region> {
    let mut found: Option<Region> = None;
    let mut take = |[x, y]: Point| {
        let [left, top, right, bottom] = found.unwrap_or([x, y, x, y]);
        found = Some([left.min(x), top.min(y), right.max(x), bottom.max(y)]);
    };
    let [left, top, right, bottom] = within;
    for polygon in polygons {
        let points = polygon.as_chunks::<2>().0;
        for (i, to) in points.iter().enumerate() {
            let from = points[(i + points.len() - 1) % points.len()];
            if let Some(ends) = inside(from, *to, within) {
                ends.into_iter().for_each(&mut take);
            }
        }
        let corners = [[left, top], [right, top], [right, bottom], [left, bottom]];
        corners.into_iter().filter(|corner| covers(points, *corner)).for_each(&mut take);
    }
    found
}

/// The ends of the part of an edge inside a rectangle, by Liang and Barsky.
fn inside(from: Point, to: Point, within: Region) -> Option<[Point; 2]> {
    let (mut first, mut last) = (0.0f64, 1.0f64);
    for axis in 0..2 {
        let step = to[axis] - from[axis];
        let [low, high] = [within[axis] - from[axis], within[axis + 2] - from[axis]];
        if step == 0.0 {
            if low > 0.0 || high < 0.0 {
                return None;
            }
            continue;
        }
        let (enter, leave) = if step > 0.0 { (low / step, high / step) } else { (high / step, low / step) };
        (first, last) = (first.max(enter), last.min(leave));
    }
    let at = |t: f64| {
        std::array::from_fn(|axis| (from[axis] + t * (to[axis] - from[axis])).clamp(within[axis], within[axis + 2]))
    };
    (first <= last).then(|| [at(first), at(last)])
}

/// Whether a point lies inside a polygon: a ray from it crosses an odd number of edges.
fn covers(points: &[Point], [x, y]: Point) -> bool {
    let crosses = |(i, to): (usize, &Point)| {
        let from = points[(i + points.len() - 1) % points.len()];
        (from[1] > y) != (to[1] > y) && x < from[0] + (y - from[1]) / (to[1] - from[1]) * (to[0] - from[0])
    };
    points.iter().enumerate().filter(|edge| crosses(*edge)).count() % 2 == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    const WINDOW: Region = [0.0, 0.0, 10.0, 10.0];

    fn area(polygon: &[f64]) -> f64 {
        let points = polygon.as_chunks::<2>().0;
        let cross = |(i, b): (usize, &Point)| {
            let a = points[(i + points.len() - 1) % points.len()];
            a[0] * b[1] - b[0] * a[1]
        };
        points.iter().enumerate().map(cross).sum::<f64>().abs() / 2.0
    }

    #[test]
    fn polygons_are_cut_at_each_border() {
        let square = vec![-5.0, 4.0, 5.0, 4.0, 5.0, 14.0, -5.0, 14.0];
        assert_eq!(area(&clipped(&square, WINDOW)), 30.0);
        assert_eq!(hull([&square], WINDOW), Some([0.0, 4.0, 5.0, 10.0]));
        let around = vec![-50.0, -50.0, 60.0, -50.0, 60.0, 60.0, -50.0, 60.0];
        assert_eq!((area(&clipped(&around, WINDOW)), hull([&around], WINDOW)), (100.0, Some(WINDOW)));
        let outside = vec![20.0, 20.0, 30.0, 20.0, 30.0, 30.0];
        assert_eq!((clipped(&outside, WINDOW), hull([&outside], WINDOW)), (vec![], None));
    }

    /// A horseshoe around the right border: two legs inside. A bridge along the border does not widen the box.
    #[test]
    fn a_hull_has_no_bridges() {
        let horseshoe = vec![8.0, 1.0, 20.0, 1.0, 20.0, 9.0, 8.0, 9.0, 8.0, 8.0, 19.0, 8.0, 19.0, 2.0, 8.0, 2.0];
        assert_eq!(area(&clipped(&horseshoe, WINDOW)), 4.0);
        assert_eq!(hull([&horseshoe], WINDOW), Some([8.0, 1.0, 10.0, 9.0]));
        // a corner of a triangle passes outside the window's corner: nothing is inside
        let past = vec![9.0, -9.0, 19.0, 1.0, 19.0, -9.0];
        assert_eq!((clipped(&past, WINDOW), hull([&past], WINDOW)), (vec![], None));
    }
}
