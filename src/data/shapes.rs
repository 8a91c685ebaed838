//! The ten shapes of the synthetic set as signed distances to their border, negative inside, in units of the shape's
//! radius. A distance makes antialiasing simple.

/// Class names; a label is a position in them.
pub(crate) const NAMES: [&str; 10] =
    ["disc", "square", "triangle", "ring", "stripes", "checker", "cross", "blob", "star", "crescent"];

/// The class without a border: its coverage is a Gaussian of the distance to its center.
pub(crate) const BLOB: usize = 7;

/// Signed distance from (x, y) to the border of shape number `class`. All shapes lie within 1.3 radii of the origin.
pub(crate) fn distance(class: usize, x: f32, y: f32) -> f32 {
    match class {
        0 => x.hypot(y) - 0.95,
        1 => rectangle(x, y, 0.8, 0.8),
        2 => triangle(x, y),
        3 => (x.hypot(y) - 0.72).abs() - 0.22,
        4 => rectangle(x, y, 0.9, 0.9).max(wave(x, 0.45)),
        5 => rectangle(x, y, 0.9, 0.9).max(checker(wave(x, 0.6), wave(y, 0.6))),
        6 => rectangle(x, y, 0.95, 0.28).min(rectangle(x, y, 0.28, 0.95)),
        8 => star(x, y),
        9 => (x.hypot(y) - 0.95).max(0.8 - (x - 0.45).hypot(y)),
        _ => x.hypot(y) - 1.0,
    }
}

fn rectangle(x: f32, y: f32, half_width: f32, half_height: f32) -> f32 {
    let (dx, dy) = (x.abs() - half_width, y.abs() - half_height);
    dx.max(0.0).hypot(dy.max(0.0)) + dx.max(dy).min(0.0)
}

/// Bars perpendicular to x: negative on one half of every `period`.
fn wave(x: f32, period: f32) -> f32 {
    let phase = (x / period).rem_euclid(1.0);
    ((phase - 0.5).abs() - 0.25) * period
}

/// A checkerboard from two sets of bars: inside where `a` and `b` have the same sign.
fn checker(a: f32, b: f32) -> f32 {
    let border = a.abs().min(b.abs());
    if (a < 0.0) == (b < 0.0) { -border } else { border }
}

/// A regular polygon: the largest of the distances to `n` lines that lie `r` from the origin.
fn polygon(x: f32, y: f32, n: u32, r: f32) -> f32 {
    let side = |k: u32| {
        let (sin, cos) = (std::f32::consts::TAU * (k as f32 + 0.75) / n as f32).sin_cos();
        x * cos + y * sin - r
    };
    (0..n).map(side).fold(f32::MIN, f32::max)
}

fn triangle(x: f32, y: f32) -> f32 {
    polygon(x, y, 3, 0.48)
}

/// A star with five points: what lies inside at least four of the five sides of a pentagon.
fn star(x: f32, y: f32) -> f32 {
    let mut sides = [0.0f32; 5];
    for (k, side) in sides.iter_mut().enumerate() {
        let (sin, cos) = (std::f32::consts::TAU * (k as f32 + 0.75) / 5.0).sin_cos();
        *side = x * cos + y * sin - 0.36;
    }
    sides.sort_by(f32::total_cmp);
    sides[3]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_fit_their_radius_and_fill_a_share_of_it() {
        for (class, name) in NAMES.iter().enumerate() {
            let (mut inside, mut outside) = (0, 0);
            for i in 0..200 {
                for j in 0..200 {
                    let (x, y) = (i as f32 / 50.0 - 1.99, j as f32 / 50.0 - 1.99);
                    let d = distance(class, x, y);
                    inside += u32::from(d < 0.0);
                    outside += u32::from(d < 0.0 && x.hypot(y) > 1.3);
                }
            }
            // 2500 samples per unit area; the smallest shape still covers half a unit.
            assert!((1_200..9_000).contains(&inside) && outside == 0, "{name}: {inside} inside, {outside} outside");
        }
    }
}
