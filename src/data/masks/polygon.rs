//! The outline of a polygon in pixels, exactly as pycocotools draws it.

/// Steps of the outline in a pixel.
const SCALE: f64 = 5.0;

/// Where the runs of the polygon's mask change, in any order: indices of pixels in columns. Each edge is walked in
/// steps of a fifth of a pixel; a boundary lies where the walk crosses the middle of a column.
pub(super) fn boundary(height: u32, width: u32, corners: &[f64]) -> Vec<u32> {
    let fine = |v: f64| (SCALE * v + 0.5) as i64; // towards zero
    let corners: Vec<[i64; 2]> = corners.as_chunks::<2>().0.iter().map(|[x, y]| [fine(*x), fine(*y)]).collect();
    let mut path = Vec::new();
    for (i, from) in corners.iter().enumerate() {
        walk(*from, corners[(i + 1) % corners.len()], &mut path);
    }
    let crossing = |[from, to]: [[i64; 2]; 2]| {
        let middle = (from[0].min(to[0]) as f64 + 0.5) / SCALE - 0.5;
        let inside = from[0] != to[0] && middle.floor() == middle && middle >= 0.0 && middle <= f64::from(width) - 1.0;
        let row = (from[1].min(to[1]) as f64 + 0.5) / SCALE - 0.5;
        let row = row.clamp(0.0, f64::from(height)).ceil();
        inside.then(|| middle as u32 * height + row as u32)
    };
    path.windows(2).filter_map(|pair| crossing([pair[0], pair[1]])).collect()
}

/// Appends the steps from one corner to the next, both included: whole steps along the longer axis, and the nearest
/// ones along the other, counted from the lower end whatever the direction.
fn walk(from: [i64; 2], to: [i64; 2], path: &mut Vec<[i64; 2]>) {
    let [dx, dy] = [0, 1].map(|axis| (to[axis] - from[axis]).abs());
    let along = usize::from(dx < dy);
    let (length, across) = (dx.max(dy), 1 - along);
    let flipped = from[along] > to[along];
    let (low, high) = if flipped { (to, from) } else { (from, to) };
    let slope = if length == 0 { 0.0 } else { (high[across] - low[across]) as f64 / length as f64 };
    for step in 0..=length {
        let t = if flipped { length - step } else { step };
        let mut at = [0; 2];
        at[along] = low[along] + t;
        at[across] = (low[across] as f64 + slope * t as f64 + 0.5) as i64;
        path.push(at);
    }
}
