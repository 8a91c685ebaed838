// lib/grid — the number of a workgroup in a grid of more than 32768 (Grid::FOLD), which the launcher folds into rows in
// y.
fn grid_row(wid: vec3<u32>) -> u32 {
    return wid.y * 32768u + wid.x;
}
