//! local_norm_pool: what the neighbors of each point tell of it. Maths: `shaders/local_norm_pool.wgsl`.

use super::parts::{Rows, sum_parts};
use crate::error::{Error, Result};
use crate::gpu::{Bind, Grid, Kernel, LaunchArgs, Work, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `local_norm_pool.wgsl`.
    pub(crate) struct LocalNormPool { rows: u32, t: u32, k: u32, c: u32, chunk: u32, chunks: u32, group: u32 }
}

const fn kernel(name: &'static str, binds: &'static [Bind]) -> Kernel {
    Kernel::new::<LocalNormPool>(name, wgsl!("local_norm_pool", "grid", "reduce"), binds).subgroup(wgsl!(
        "local_norm_pool",
        "grid",
        "reduce_subgroup"
    ))
}
const MOMENTS: Kernel = kernel("local_norm_pool.moments", &[read(1, "x"), read(2, "graph").u32(), write(5, "part")])
    .least(|x| work(x, 6, 0));
const STATISTICS: Kernel = kernel("local_norm_pool.statistics", &[read(6, "parts"), write(7, "stat")]);
const FORWARD: Kernel = kernel(
    "local_norm_pool.forward",
    &[
        read(1, "x"),
        read(2, "graph").u32(),
        read(3, "alpha"),
        read(4, "beta"),
        read(8, "saved_stat"),
        write(9, "y"),
        write(10, "saved"),
    ],
)
.least(|x| work(x, 7, 1));
const SUMS: Kernel = kernel(
    "local_norm_pool.sums",
    &[
        read(1, "x"),
        read(2, "graph").u32(),
        read(3, "alpha"),
        read(4, "beta"),
        read(8, "saved_stat"),
        read(11, "kept"),
        read(12, "dy"),
        write(5, "part"),
    ],
)
.least(|x| work(x, 12, 1));
const SLOPES: Kernel =
    kernel("local_norm_pool.slopes", &[read(6, "parts"), read(3, "alpha"), read(8, "saved_stat"), write(7, "stat")])
        .least(|x| Work::of(4 * x.len("alpha") + x.len("parts"), x.len("parts") / 2, 0));
const BACKWARD: Kernel = kernel(
    "local_norm_pool.backward",
    &[
        read(1, "x"),
        read(2, "graph").u32(),
        read(3, "alpha"),
        read(4, "beta"),
        read(8, "saved_stat"),
        read(11, "kept"),
        read(12, "dy"),
        write(13, "dx"),
    ],
)
.least(|x| work(x, 26, 2));

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&MOMENTS, &STATISTICS, &FORWARD, &SUMS, &SLOPES, &BACKWARD];

/// Each bound element is moved once; a difference takes `each` flops and `exps` exponentials.
fn work(launch: &LaunchArgs<'_>, each: usize, exps: usize) -> Work {
    let p: LocalNormPool = launch.scalars();
    let differences = (p.rows * p.k * p.c) as usize;
    Work { bytes: launch.bytes, ..Work::of(0, each * differences, exps * differences) }
}

/// Points of a chunk.
const CHUNK: usize = 16;

/// The neighbors of the points of some clouds, both ways round.
#[derive(Debug, Clone)]
pub struct Neighbors {
    /// (B, 2·T·K + T + 1) in u32: the tables of [`Neighbors::table`].
    pub graph: Tensor,
    /// Neighbors K of a point.
    pub k: usize,
}

impl Neighbors {
    /// The graph of one cloud as the operator reads it, from the neighbors (T, K) of each point: these, and for each
    /// point who has it as a neighbor. Its length is [`Neighbors::len`].
    ///
    /// # Errors
    ///
    /// If `index` does not hold K neighbors for each point, or a neighbor is no point.
    pub fn table(index: &[u32], k: usize) -> Result<Vec<u32>> {
        let points = index.len() / k.max(1);
        if k == 0 || points == 0 || points * k != index.len() {
            return Err(Error::argument("neighbors", index.len(), format!("a multiple of {k}, at least one point")));
        }
        if let Some(wrong) = index.iter().find(|j| **j as usize >= points) {
            return Err(Error::argument("neighbor", wrong, format!("below {points}, the number of points")));
        }
        let mut offsets = vec![0; points + 1];
        index.iter().for_each(|j| offsets[*j as usize + 1] += 1);
        (0..points).for_each(|j| offsets[j + 1] += offsets[j]);
        let (mut next, mut entries) = (offsets.clone(), vec![0; index.len()]);
        for (i, j) in index.iter().enumerate() {
            let at = &mut next[*j as usize];
            entries[*at as usize] = i as u32;
            *at += 1;
        }
        Ok([index, &offsets, &entries].concat())
    }

    /// Length of the table of a cloud of `points` points with `k` neighbors each.
    pub fn len(points: usize, k: usize) -> usize {
        2 * points * k + points + 1
    }
}

/// Mamba3D's local norm pooling (LNP) up to its linear layer: the differences between each point and its neighbors,
/// divided by one deviation, scaled, and pooled over the neighbors by their own softmax; beside them the point itself,
/// scaled.
///
/// With d_n = x\[neighbor n\] − x and s the unbiased deviation of all d: f_n = α₁·d_n/(s + 1e-5) + β₁, and the result
/// is \[Σ_n f_n·e^f_n / Σ_n e^f_n, α₂·x + β₂\], with α = \[α₁, α₂\]. s is one number for the whole batch, as in the
/// official code: a cloud's result depends on the others of its batch. With `per_cloud` it does not.
///
/// - Shapes: x (B, T, C), `alpha` and `beta` (2C), `neighbors` of B clouds of T points → (B, T, 2C).
/// - Mamba3D: `K_Norm` and `K_Pool` of `LNPBlock`.
/// - Source: Han et al. 2024 (Mamba3D), §3.2.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, tape::*, tensor::Tensor};
/// # use rowscan::ops::local_norm_pool::{Neighbors, local_norm_pool};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 2, 1], &[0.0, 2.0])?);
/// let table = Neighbors::table(&[0, 1, 1, 0], 2)?; // each point, and the other one
/// let neighbors = Neighbors { graph: Tensor::from_indices(g, &[1, table.len()], &table)?, k: 2 };
/// let ones = Var::leaf(Tensor::from_slice(g, &[2], &[1.0, 1.0])?);
/// let zeros = Var::leaf(Tensor::from_slice(g, &[2], &[0.0, 0.0])?);
/// let mut r = Recorder::inference(g);
/// let y = local_norm_pool(&mut r, &x, &ones, &zeros, &neighbors, false)?;
/// r.run()?;
/// // differences 0, 2, 0, −2: s = 1.633, f = 0 and ±1.2247, pooled f·e^f/(1 + e^f)
/// assert_close(&y.data.to_vec(g)?, &[0.9464, 0.0, -0.2783, 2.0], 1e-3);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If the neighbors are not those of B clouds of T points, or if there is a single difference, which has no deviation.
pub fn local_norm_pool(
    r: &mut Recorder, x: &Var, alpha: &Var, beta: &Var, neighbors: &Neighbors, per_cloud: bool,
) -> Result<Var> {
    let ([b, t, c], k) = (x.data.dims("local_norm_pool: x")?, neighbors.k);
    neighbors.graph.expect_shape("local_norm_pool: graph of the neighbors", &[b, Neighbors::len(t, k)])?;
    for (what, tensor) in [("local_norm_pool: alpha", &alpha.data), ("local_norm_pool: beta", &beta.data)] {
        tensor.expect_shape(what, &[2 * c])?;
    }
    let group = if per_cloud { t } else { b * t };
    if x.data.is_empty() || group * k * c < 2 {
        return Err(Error::argument("local_norm_pool: differences", group * k * c, "at least 2"));
    }
    let (groups, chunks) = (b * t / group, group.div_ceil(CHUNK));
    let p = scalars!(LocalNormPool { rows: b * t, t, k, c, chunk: CHUNK, chunks, group });
    let graph = neighbors.graph.clone();
    let part = Tensor::scratch("local norm pool moments", &[groups * chunks, 2]);
    r.launch(&MOMENTS, Grid::rows(groups * chunks), &p, &[&x.data, &graph, &part])?;
    let stat = Tensor::scratch("local norm pool statistics", &[groups, 4]);
    r.launch(&STATISTICS, Grid::of(groups, 1, 1), &p, &[&part, &stat])?;
    let y = Tensor::scratch("local norm pool", &[b, t, 2 * c]);
    let saved = Tensor::scratch("local norm pool saved", &[b, t, 2, c]);
    let grid = Grid::items(b * t * c, 256);
    r.launch(&FORWARD, grid, &p, &[&x.data, &graph, &alpha.data, &beta.data, &stat, &y, &saved])?;
    Ok(r.push((x, alpha, beta), y, move |r, (x, alpha, beta), dy, grads| {
        let part = Tensor::scratch("local norm pool sums", &[groups * chunks, 4, c]);
        let args = [&x.data, &graph, &alpha.data, &beta.data, &stat, &saved, dy, &part];
        r.launch(&SUMS, Grid::items(groups * chunks * c, 64), &p, &args)?;
        for (at, parameter) in [(0, &alpha), (2 * c, &beta)] {
            if grads.wants(parameter) {
                let down = grads.alloc(parameter);
                let rows = Rows { at, rows: groups * chunks, stride: 4 * c, cols: 2 * c, to: 0 };
                sum_parts(r, &part, rows, &down)?;
                grads.add(r, parameter, down)?;
            }
        }
        if !grads.wants(&x) {
            return Ok(());
        }
        let slopes = Tensor::scratch("local norm pool slopes", &[groups, 4]);
        r.launch(&SLOPES, Grid::of(groups, 1, 1), &p, &[&part, &alpha.data, &stat, &slopes])?;
        let dx = grads.alloc(&x);
        let args = [&x.data, &graph, &alpha.data, &beta.data, &slopes, &saved, dy, &dx];
        r.launch(&BACKWARD, grid, &p, &args)?;
        grads.add(r, &x, dx)
    }))
}
