// lib/grid — unfolds grids of more than 32768 workgroups (Grid::FOLD): the launcher continues them in y.
fn grid_row(wid: vec3<u32>) -> u32 {
    return wid.y * 32768u + wid.x;
}
