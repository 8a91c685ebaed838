//! Point clouds as pictures: points as discs, the farther the paler.

/// Red, green and blue.
pub type Colour = [u8; 3];

/// What can be seen of a cloud.
pub const SEEN: Colour = [60, 90, 150];

/// What a network made.
pub const MADE: Colour = [220, 95, 20];

/// Points in a colour.
#[derive(Clone, Copy, Debug)]
pub struct Drawn<'a> {
    /// (x, y, z) of each, y upwards.
    pub points: &'a [[f32; 3]],
    /// Of the nearest ones; the farthest are nearly white.
    pub colour: Colour,
}

/// A `side` × `side` × 3 picture in bytes, seen from afar at `turn` radians about the y axis and a little from above.
/// The sphere of radius 1 about the origin fills it; points that are not finite are left out.
pub fn draw(clouds: &[Drawn<'_>], turn: f64, side: usize) -> Vec<u8> {
    let ((sin, cos), (up, level)) = (turn.sin_cos(), 0.35f64.sin_cos());
    let place = |[x, y, z]: [f64; 3]| {
        let (across, away) = (x * cos - z * sin, x * sin + z * cos);
        [across, y * level - away * up, y * up + away * level] // right, up, towards the eye
    };
    let discs = clouds.iter().flat_map(|drawn| drawn.points.iter().map(|p| (place(p.map(f64::from)), drawn.colour)));
    let mut discs: Vec<([f64; 3], Colour)> = discs.filter(|(p, _)| p.iter().all(|v| v.is_finite())).collect();
    discs.sort_by(|(a, _), (b, _)| a[2].total_cmp(&b[2])); // near ones cover far ones
    let mut pixels = vec![255; side * side * 3];
    let (middle, radius) = (side as f64 / 2.0, (side as f64 / 90.0).max(0.7));
    for ([x, y, near], colour) in discs {
        let (column, row) = (middle + 0.46 * side as f64 * x, middle - 0.46 * side as f64 * y);
        let strength = (0.65 + 0.35 * near).clamp(0.2, 1.0);
        let within = |at: f64| {
            let edge = |v: f64| v.round().clamp(0.0, side as f64) as usize;
            edge(at - radius)..edge(at + radius)
        };
        for (r, c) in within(row).flat_map(|r| within(column).map(move |c| (r, c))) {
            let distance = (r as f64 + 0.5 - row).hypot(c as f64 + 0.5 - column);
            if distance <= radius {
                let at = (r * side + c) * 3;
                let mixed = colour.map(|v| (255.0 - strength * (255.0 - f64::from(v))).round() as u8);
                pixels[at..at + 3].copy_from_slice(&mixed);
            }
        }
    }
    pixels
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_where_they_are_seen_from() {
        let side = 100;
        let pixel = |points: &[[f32; 3]], turn: f64, [column, row]: [usize; 2]| {
            let pixels = draw(&[Drawn { points, colour: MADE }], turn, side);
            let at = (row * side + column) * 3;
            [pixels[at], pixels[at + 1], pixels[at + 2]]
        };
        let white = [255; 3];
        assert_ne!(pixel(&[[0.0; 3]], 0.0, [50, 50]), white);
        assert_ne!(pixel(&[[0.5, 0.0, 0.0]], 0.0, [73, 50]), white);
        assert_eq!(pixel(&[[0.5, 0.0, 0.0]], 0.0, [50, 50]), white);
        // x points away from the eye after a quarter turn, which is up in the picture; y is upwards
        assert_ne!(pixel(&[[-0.5, 0.0, 0.0]], std::f64::consts::FRAC_PI_2, [50, 42]), white);
        assert_ne!(pixel(&[[0.0, 0.5, 0.0]], 0.0, [50, 28]), white);
    }

    #[test]
    fn the_near_point_covers_the_far_one_and_what_is_not_finite_is_left_out() {
        let (far, near) = ([[0.0, 0.0, -0.5]], [[0.0, 0.364 * 0.5, 0.5 + 0.0]]);
        let one = draw(&[Drawn { points: &near, colour: SEEN }, Drawn { points: &far, colour: MADE }], 0.0, 64);
        let other = draw(&[Drawn { points: &far, colour: MADE }, Drawn { points: &near, colour: SEEN }], 0.0, 64);
        assert_eq!(one, other);
        let nothing = [[f32::NAN, 0.0, 0.0], [0.0, f32::INFINITY, 0.0], [9.0, 9.0, 0.0]];
        assert!(draw(&[Drawn { points: &nothing, colour: SEEN }], 1.0, 32).iter().all(|&v| v == 255));
    }
}
