//! Which points stand for a cloud, and which are near each other.

use std::cmp::Ordering;

/// A point of a squared length up to this is as good as the origin for [`farthest_points`].
const ORIGIN: f32 = 1e-3;

/// The indices of `count` points that cover a cloud: the point `start`, and then again and again the one that is
/// farthest from all chosen ones; of equally far ones the first.
///
/// With `skip_origin` no point next to the origin is chosen but `start`, and point 0 where there is no other left: as
/// in the extension that the official models sample with, which pads clouds with such points. A cloud of fewer points
/// than `count` repeats some. An empty cloud has none.
///
/// - PointNet++: `pointnet2_utils.furthest_point_sample(points, count)` with `start` 0 and `skip_origin`.
/// - Source: Qi et al. 2017 (PointNet++), §3.2.
pub fn farthest_points(points: &[[f32; 3]], count: usize, start: usize, skip_origin: bool) -> Vec<u32> {
    let Some(first) = points.get(start) else { return Vec::new() };
    let mut chosen = vec![start as u32; count.min(1)];
    let mut nearest: Vec<f32> = vec![f32::INFINITY; points.len()]; // to a chosen point, squared
    let skipped = |p: &[f32; 3]| skip_origin && squared(p, &[0.0; 3]) <= ORIGIN;
    let open: Vec<bool> = points.iter().map(|p| !skipped(p)).collect();
    let mut last = first;
    while chosen.len() < count {
        let (mut best, mut most) = (0, -1.0);
        for (i, (point, nearest)) in points.iter().zip(&mut nearest).enumerate() {
            *nearest = squared(point, last).min(*nearest);
            if *nearest > most && open[i] {
                (best, most) = (i, *nearest);
            }
        }
        chosen.push(best as u32);
        last = &points[best];
    }
    chosen
}

/// The indices of the `k` points nearest to each query, one query after the other, by distance; of equally near ones
/// the first comes first. `points` has at least `k` points.
///
/// - PyTorch: `torch.cdist(queries, points).topk(k, largest=False).indices`.
pub fn nearest_points(points: &[[f32; 3]], queries: &[[f32; 3]], k: usize) -> Vec<u32> {
    let mut all: Vec<(f32, u32)> = Vec::with_capacity(points.len());
    let order = |a: &(f32, u32), b: &(f32, u32)| a.0.partial_cmp(&b.0).unwrap_or(Ordering::Equal).then(a.1.cmp(&b.1));
    let mut found = Vec::with_capacity(queries.len() * k);
    for query in queries {
        all.clear();
        all.extend(points.iter().zip(0..).map(|(point, i)| (squared(point, query), i)));
        if (1..all.len()).contains(&k) {
            all.select_nth_unstable_by(k - 1, order);
        }
        let near = k.min(all.len());
        all[..near].sort_unstable_by(order);
        found.extend(all[..near].iter().map(|(_, i)| i));
    }
    found
}

/// Moves the mean of a cloud to the origin and its farthest point to distance 1.
pub fn unit_sphere(points: &mut [[f32; 3]]) {
    let count = points.len().max(1) as f64;
    let mean: [f64; 3] = std::array::from_fn(|axis| points.iter().map(|p| f64::from(p[axis])).sum::<f64>() / count);
    for point in points.iter_mut() {
        *point = std::array::from_fn(|axis| (f64::from(point[axis]) - mean[axis]) as f32);
    }
    let radius = points.iter().map(|p| squared(p, &[0.0; 3])).fold(0.0, f32::max).sqrt();
    if radius > 0.0 {
        points.iter_mut().flatten().for_each(|v| *v /= radius);
    }
}

/// |a − b|²
fn squared(a: &[f32; 3], b: &[f32; 3]) -> f32 {
    let [x, y, z] = std::array::from_fn(|axis| a[axis] - b[axis]);
    x * x + y * y + z * z
}

#[cfg(test)]
mod tests {
    use super::*;

    /// On a line the ends come first, then the middle; of two middles the first.
    #[test]
    fn a_line_is_covered_from_its_ends() {
        let line: Vec<[f32; 3]> = (0..5).map(|i| [i as f32, 1.0, 0.0]).collect();
        assert_eq!(farthest_points(&line, 5, 0, false), [0, 4, 2, 1, 3]);
        assert_eq!(farthest_points(&line, 2, 3, false), [3, 0]);
        assert_eq!(farthest_points(&line, 0, 0, false), [0u32; 0]);
        assert_eq!(farthest_points(&[], 3, 0, false), [0u32; 0]);
    }

    /// Points next to the origin are not chosen, also if nothing else is left.
    #[test]
    fn the_origin_is_skipped() {
        let points = [[0.0; 3], [0.01, 0.0, 0.0], [1.0, 0.0, 0.0]];
        assert_eq!(farthest_points(&points, 3, 0, true), [0, 2, 2]);
        assert_eq!(farthest_points(&points, 3, 0, false), [0, 2, 1]);
        assert_eq!(farthest_points(&points[..2], 3, 1, true), [1, 0, 0]);
    }

    #[test]
    fn of_equally_near_points_the_first_comes_first() {
        let points = [[1.0, 0.0, 0.0], [-1.0, 0.0, 0.0], [0.0; 3], [0.0, 1.0, 0.0]];
        assert_eq!(nearest_points(&points, &[[0.0; 3], [1.0, 0.0, 0.0]], 3), [2, 0, 1, 0, 2, 3]);
        assert_eq!(nearest_points(&points, &[[0.0; 3]], 4), [2, 0, 1, 3]);
        assert_eq!(nearest_points(&points, &[[0.0; 3]], 0), [0u32; 0]);
    }

    #[test]
    fn a_cloud_becomes_as_large_as_the_unit_sphere() {
        let mut points = [[10.0, 5.0, 0.0], [14.0, 5.0, 0.0]];
        unit_sphere(&mut points);
        assert_eq!(points, [[-1.0, 0.0, 0.0], [1.0, 0.0, 0.0]]);
        let mut one = [[3.0; 3]; 2];
        unit_sphere(&mut one);
        assert_eq!(one, [[0.0; 3]; 2]);
    }
}
