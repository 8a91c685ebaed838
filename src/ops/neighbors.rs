//! neighbors: the nearest points of each point of a cloud. Definition: `shaders/neighbors.wgsl`.

use super::local_norm_pool::Neighbors;
use crate::error::{Error, Result};
use crate::gpu::{DType, Grid, Kernel, LaunchArgs, Work, params, read, scalars, wgsl, write};
use crate::tape::Recorder;
use crate::tensor::Tensor;

params! {
    /// Scalars of `neighbors.wgsl`.
    pub(crate) struct NeighborsParams { t: u32, k: u32 }
}

const FORWARD: Kernel = Kernel::new::<NeighborsParams>(
    "neighbors.forward",
    wgsl!("neighbors"),
    &[read(1, "points"), write(2, "graph").u32()],
)
.least(work);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD];

/// Every pair of points is measured once for each neighbor that is sought.
fn work(launch: &LaunchArgs<'_>) -> Work {
    let p: NeighborsParams = launch.scalars();
    let pairs = launch.len("points") / 3 * (p.t * p.k) as usize;
    Work { bytes: launch.bytes, ..Work::of(0, 10 * pairs, 0) }
}

/// Most points of a cloud: a lane each.
const MOST: usize = 256;

/// The `k` nearest points of each point of a cloud, itself included, and for each point who has it as a neighbor. Of
/// equally near points the first counts as nearer. It has no gradient.
///
/// - Shapes: points (B, T, 3) → the [`Neighbors`] that [`local_norm_pool`](super::local_norm_pool::local_norm_pool)
///   reads.
/// - PyTorch: `torch.cdist(points, points).topk(k, largest=False).indices`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::neighbors::neighbors, tape::*, tensor::Tensor};
/// let points = Tensor::from_slice(g, &[1, 3, 3], &[0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 5.0, 0.0, 0.0])?;
/// let mut r = Recorder::inference(g);
/// let near = neighbors(&mut r, &points, 2)?;
/// r.run()?;
/// let graph: Vec<u32> = near.graph.to_vec(g)?.into_iter().map(f32::to_bits).collect();
/// assert_eq!(graph[..6], [0, 1, 1, 0, 2, 1]); // each point and its neighbor
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If points do not have three coordinates, if a cloud has more than 256 points, or if there are not K of them.
pub fn neighbors(r: &mut Recorder, points: &Tensor, k: usize) -> Result<Neighbors> {
    let [b, t, three] = points.dims("neighbors: points")?;
    if three != 3 || b == 0 || !(1..=MOST).contains(&t) || !(1..=t).contains(&k) {
        let expected = format!("(B, T, 3), T 1 to {MOST}, at least the {k} neighbors");
        return Err(Error::argument("neighbors: points", format!("{:?}", points.shape()), expected));
    }
    let graph = Tensor::scratch_of(DType::U32, "neighbors", &[b, Neighbors::len(t, k)]);
    r.launch(&FORWARD, Grid::of(b, 1, 1), &scalars!(NeighborsParams { t, k }), &[points, &graph])?;
    Ok(Neighbors { graph, k })
}
