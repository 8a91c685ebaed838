// lib/grid — the flat index of a workgroup. WebGPU allows 65535 workgroups per dimension, so a launcher folds a grid of
// more than 32768 (Grid::FOLD): it continues in y.
fn grid_row(wid: vec3<u32>) -> u32 {
    return wid.y * 32768u + wid.x;
}
