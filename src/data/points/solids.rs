//! Generated solids, so that networks on point clouds can be tried without a download.

use std::f64::consts::{PI, TAU};

use crate::data::stream::Stream;

/// The classes.
pub(super) const NAMES: [&str; 12] =
    ["sphere", "box", "cylinder", "cone", "torus", "pyramid", "ellipsoid", "helix", "mug", "table", "chair", "lamp"];

type Point = [f64; 3];

/// A part of a solid, y upwards.
enum Part {
    /// Center, half sizes.
    Box(Point, Point),
    /// Center, radii.
    Ellipsoid(Point, Point),
    /// Center, radius below and above, half height; whether it is closed below and above.
    Cone(Point, [f64; 2], f64, [bool; 2]),
    /// Center, radius of the ring and of the tube, first and last angle; it stands upright.
    Ring(Point, [f64; 2], [f64; 2]),
    /// Radius of the helix and of the tube, rise of a turn, turns.
    Helix([f64; 2], f64, f64),
    /// Half side of the base and height: a pyramid that stands on y = 0.
    Pyramid(f64, f64),
}

impl Part {
    /// Its surface, about.
    fn area(&self) -> f64 {
        match *self {
            Self::Box(_, [x, y, z]) => 8.0 * (x * y + y * z + z * x),
            Self::Ellipsoid(_, [x, y, z]) => 4.0 * PI * (x * y + y * z + z * x) / 3.0,
            Self::Cone(_, [low, high], half, closed) => {
                let end = |r: f64, closed: bool| if closed { PI * r * r } else { 0.0 };
                PI * (low + high) * (low - high).hypot(2.0 * half) + end(low, closed[0]) + end(high, closed[1])
            }
            Self::Ring(_, [ring, tube], [from, to]) => (to - from).abs() * ring * TAU * tube,
            Self::Helix([ring, tube], rise, turns) => turns * (TAU * ring).hypot(rise) * TAU * tube,
            Self::Pyramid(half, height) => 4.0 * half * half + 4.0 * half * half.hypot(height),
        }
    }

    /// A point of its surface. Points are even over the area, but for an ellipsoid's, which follow its sphere.
    fn point(&self, s: &mut Stream) -> Point {
        match *self {
            Self::Box(center, half) => {
                let areas = [half[1] * half[2], half[2] * half[0], half[0] * half[1]];
                let axis = pick(&areas, s);
                let mut p: Point = std::array::from_fn(|axis| center[axis] + half[axis] * s.range(-1.0, 1.0));
                p[axis] = center[axis] + if s.chance(0.5) { half[axis] } else { -half[axis] };
                p
            }
            Self::Ellipsoid(center, radii) => {
                let (y, angle) = (s.range(-1.0, 1.0), s.range(0.0, TAU));
                let around = (1.0 - y * y).sqrt();
                let unit = [around * angle.cos(), y, around * angle.sin()];
                std::array::from_fn(|axis| center[axis] + radii[axis] * unit[axis])
            }
            Self::Cone(center, [low, high], half, closed) => {
                let side = PI * (low + high) * (low - high).hypot(2.0 * half);
                let end = |r: f64, closed: bool| if closed { PI * r * r } else { 0.0 };
                let part = pick(&[side, end(low, closed[0]), end(high, closed[1])], s);
                let angle = s.range(0.0, TAU);
                let (radius, y) = match part {
                    0 => {
                        // the share of the side below a radius grows with its square
                        let u = s.unit();
                        let radius = (low * low + u * (high * high - low * low)).sqrt();
                        let t = if (high - low).abs() < 1e-9 { u } else { (radius - low) / (high - low) };
                        (radius, (2.0 * t - 1.0) * half)
                    }
                    1 => (low * s.unit().sqrt(), -half),
                    _ => (high * s.unit().sqrt(), half),
                };
                [center[0] + radius * angle.cos(), center[1] + y, center[2] + radius * angle.sin()]
            }
            Self::Ring(center, [ring, tube], [from, to]) => {
                // outside is longer than inside: such angles are drawn more often
                let (around, across) = loop {
                    let across = s.range(0.0, TAU);
                    if s.unit() * (ring + tube) <= ring + tube * across.cos() {
                        break (s.range(from, to), across);
                    }
                };
                let radius = ring + tube * across.cos();
                [center[0] + radius * around.cos(), center[1] + radius * around.sin(), center[2] + tube * across.sin()]
            }
            Self::Helix([ring, tube], rise, turns) => {
                let (around, across) = (s.range(0.0, turns * TAU), s.range(0.0, TAU));
                let radius = ring + tube * across.cos();
                let y = rise * (around / TAU - turns / 2.0) + tube * across.sin();
                [radius * around.cos(), y, radius * around.sin()]
            }
            Self::Pyramid(half, height) => {
                let side = half * half.hypot(height);
                match pick(&[4.0 * half * half, 4.0 * side], s) {
                    0 => [half * s.range(-1.0, 1.0), 0.0, half * s.range(-1.0, 1.0)],
                    _ => {
                        let up = 1.0 - s.unit().sqrt(); // a triangle is widest below
                        let reach = half * (1.0 - up);
                        let (along, turn) = (reach * s.range(-1.0, 1.0), s.below(4));
                        let (x, z) = [(reach, along), (-reach, along), (along, reach), (along, -reach)][turn as usize];
                        [x, up * height, z]
                    }
                }
            }
        }
    }
}

/// A number below the number of weights, as often as its weight says.
fn pick(weights: &[f64], s: &mut Stream) -> usize {
    let mut left = s.unit() * weights.iter().sum::<f64>();
    for (i, weight) in weights.iter().enumerate() {
        left -= weight;
        if left < 0.0 {
            return i;
        }
    }
    weights.len() - 1
}

/// The parts of a solid of this class, in random proportions.
fn parts(class: usize, s: &mut Stream) -> Vec<Part> {
    let tall = s.range(0.7, 1.4);
    let legs = |reach: [f64; 2], top: f64, thick: f64| {
        [[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]].map(|[x, z]| {
            let center = [x * (reach[0] - thick), top / 2.0, z * (reach[1] - thick)];
            Part::Box(center, [thick, top / 2.0, thick])
        })
    };
    match NAMES[class] {
        "sphere" => vec![Part::Ellipsoid([0.0; 3], [1.0; 3])],
        "box" => vec![Part::Box([0.0; 3], [s.range(0.5, 1.0), tall, s.range(0.5, 1.0)])],
        "cylinder" => vec![Part::Cone([0.0; 3], [s.range(0.4, 0.9); 2], tall, [true; 2])],
        "cone" => vec![Part::Cone([0.0; 3], [s.range(0.5, 1.0), 0.0], tall, [true, false])],
        "torus" => vec![Part::Ring([0.0; 3], [1.0, s.range(0.15, 0.45)], [0.0, TAU])],
        "pyramid" => vec![Part::Pyramid(s.range(0.6, 1.1), 1.5 * tall)],
        "ellipsoid" => vec![Part::Ellipsoid([0.0; 3], [s.range(0.3, 0.6), s.range(0.9, 1.3), s.range(0.5, 0.8)])],
        "helix" => vec![Part::Helix([0.7, s.range(0.08, 0.18)], s.range(0.5, 0.9), s.range(2.0, 3.5))],
        "mug" => {
            let (radius, half) = (s.range(0.5, 0.7), s.range(0.5, 0.8));
            let handle = [half * s.range(0.5, 0.7), s.range(0.06, 0.12)];
            vec![
                Part::Cone([0.0; 3], [radius; 2], half, [true, false]),
                Part::Ring([radius, 0.0, 0.0], handle, [-PI / 2.0, PI / 2.0]),
            ]
        }
        "table" => {
            let (reach, top) = ([s.range(0.8, 1.3), s.range(0.6, 1.0)], s.range(0.7, 1.1));
            let mut all = vec![Part::Box([0.0, top, 0.0], [reach[0], s.range(0.03, 0.08), reach[1]])];
            all.extend(legs(reach, top, s.range(0.04, 0.1)));
            all
        }
        "chair" => {
            let (half, seat, back) = (s.range(0.45, 0.6), s.range(0.5, 0.7), s.range(0.35, 0.6));
            let mut all = vec![
                Part::Box([0.0, seat, 0.0], [half, 0.05, half]),
                Part::Box([0.0, seat + back, -half], [half, back, 0.05]),
            ];
            all.extend(legs([half; 2], seat, s.range(0.04, 0.08)));
            all
        }
        _ => {
            let (height, wide) = (s.range(1.2, 1.8), s.range(0.4, 0.7));
            vec![
                Part::Cone([0.0, 0.05, 0.0], [s.range(0.3, 0.5); 2], 0.05, [true; 2]),
                Part::Cone([0.0, height / 2.0, 0.0], [0.04; 2], height / 2.0, [false; 2]),
                Part::Cone([0.0, height, 0.0], [wide, wide * s.range(0.4, 0.8)], s.range(0.2, 0.35), [false; 2]),
            ]
        }
    }
}

/// `count` points on a solid of this class, in random proportions, turned about the y axis, with a little noise.
pub(super) fn solid(class: usize, count: usize, s: &mut Stream) -> Vec<[f32; 3]> {
    let parts = parts(class % NAMES.len(), s);
    let areas: Vec<f64> = parts.iter().map(Part::area).collect();
    let ((sin, cos), noise) = (s.range(0.0, TAU).sin_cos(), s.range(0.0, 0.01));
    let mut point = || {
        let [x, y, z] = parts[pick(&areas, s)].point(s);
        let ([a, b], [c, _]) = (s.normal_pair(), s.normal_pair());
        [x * cos - z * sin + noise * a, y + noise * b, x * sin + z * cos + noise * c].map(|v| v as f32)
    };
    (0..count).map(|_| point()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::stream::StreamPurpose;

    #[test]
    fn every_solid_has_points_all_over() {
        for (class, name) in NAMES.iter().enumerate() {
            let mut s = Stream::new(StreamPurpose::Synthetic, [0, 1, class as u64]);
            let points = solid(class, 500, &mut s);
            for axis in 0..3 {
                let (low, high) =
                    points.iter().fold((f32::MAX, f32::MIN), |(low, high), p| (low.min(p[axis]), high.max(p[axis])));
                assert!(high - low > 0.2 && low > -5.0 && high < 5.0, "{name} axis {axis}: {low} {high}");
            }
        }
    }

    /// Each point of a sphere is at distance 1 but for the noise, and halves have half of the points.
    #[test]
    fn a_sphere_is_even() {
        let points = solid(0, 4000, &mut Stream::new(StreamPurpose::Synthetic, [0, 0, 0]));
        let above = points.iter().filter(|p| p[1] > 0.0).count();
        assert!((1800..2200).contains(&above), "{above}");
        for p in points {
            let length = p.iter().map(|v| v * v).sum::<f32>().sqrt();
            assert!((length - 1.0).abs() < 0.08, "{p:?}");
        }
    }
}
