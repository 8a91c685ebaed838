// lib/grid — the index of a workgroup. A launcher folds a grid of more than 32768 workgroups (Grid::FOLD) into rows in
// y.
fn grid_row(wid: vec3<u32>) -> u32 {
    return wid.y * 32768u + wid.x;
}
