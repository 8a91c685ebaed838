//! batch_norm: batch norm over the last dimension, in training and in evaluation. Maths: `shaders/batch_norm.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{Bind, Const, Grid, Kernel, LaunchArgs, Work, params, read, scalars, update, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `batch_norm.wgsl`.
    pub(crate) struct BatchNormParams {
        rows: u32, c: u32, chunk: u32, chunks: u32, eps: f32, keep: f32, take: f32, unbiased: f32, share: f32,
    }
}

const fn kernel(name: &'static str, binds: &'static [Bind]) -> Kernel {
    Kernel::new::<BatchNormParams>(name, wgsl!("batch_norm", "grid", "math", "half", "element"), binds)
        .consts(PLAIN)
        .rounds()
}

/// Kernels that apply no activation.
const PLAIN: &[Const] = &[Const::of("ACT", &[0]), Const::flag("HALF")];
/// [`BatchNormAct`].
const ACT: &[Const] = &[Const::of("ACT", &[0, 1, 2, 3]), Const::flag("HALF")];
const MOMENTS: Kernel =
    kernel("batch_norm.moments", &[read(1, "x").f16_if("HALF"), write(4, "part")]).least(|x| flops(x, 6));
const STATISTICS: Kernel =
    kernel("batch_norm.statistics", &[read(1, "x").f16_if("HALF"), read(5, "parts"), write(6, "stat")])
        .least(|x| Work::bytes(4 * (x.len("parts") + x.len("stat"))));
const RUNNING: Kernel = kernel(
    "batch_norm.statistics_running",
    &[
        read(1, "x").f16_if("HALF"),
        read(5, "parts"),
        write(6, "stat"),
        update(8, "running_mean"),
        update(9, "running_var"),
    ],
)
.least(|x| Work::bytes(4 * (x.len("parts") + 2 * x.len("stat"))));
const GIVEN: Kernel =
    kernel("batch_norm.statistics_given", &[read(10, "given_mean"), read(11, "given_var"), write(6, "stat")]);
const NORMALIZE: Kernel = kernel(
    "batch_norm.normalize",
    &[read(1, "x").f16_if("HALF"), read(7, "saved_stat"), read(2, "w"), read(3, "b"), write(12, "y").f16_if("HALF")],
)
.consts(ACT)
.least(|x| flops(x, 5));
const SUMS: Kernel = kernel(
    "batch_norm.sums",
    &[
        read(1, "x").f16_if("HALF"),
        read(7, "saved_stat"),
        read(2, "w"),
        read(3, "b"),
        read(13, "dy").f16_if("HALF"),
        write(4, "part"),
    ],
)
.consts(ACT)
.least(|x| flops(x, 6));
const GRADIENTS: Kernel = kernel("batch_norm.gradients", &[read(5, "parts"), write(17, "dw"), write(18, "db")]);
const BACKWARD: Kernel = kernel(
    "batch_norm.backward",
    &[
        read(1, "x").f16_if("HALF"),
        read(7, "saved_stat"),
        read(2, "w"),
        read(3, "b"),
        read(13, "dy").f16_if("HALF"),
        read(14, "sum_w"),
        read(15, "sum_b"),
        write(16, "dx").f16_if("HALF"),
    ],
)
.consts(ACT)
.least(|x| flops(x, 9));

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&MOMENTS, &STATISTICS, &RUNNING, &GIVEN, &NORMALIZE, &SUMS, &GRADIENTS, &BACKWARD];

/// Each array is moved once; an element of x takes `each` flops.
fn flops(launch: &LaunchArgs<'_>, each: usize) -> Work {
    Work { bytes: launch.bytes, ..Work::of(0, each * launch.len("x"), 0) }
}

/// The statistics that a batch norm takes.
#[derive(Debug, Clone, Copy)]
pub enum BatchStatistics<'a> {
    /// Those of the batch, as in training. The gradient of x goes through them.
    Batch {
        /// The running mean and variance (C), which follow the batch's. They are no parameters and have no gradient:
        /// [`Params::buffer`](crate::nn::Params::buffer) in a model.
        running: Option<[&'a Tensor; 2]>,
        /// The share of the batch in the running statistics: 0.1 by default in PyTorch.
        momentum: f64,
    },
    /// A given mean and variance (C): the running ones, in evaluation.
    Given([&'a Tensor; 2]),
}

/// What follows a batch norm in the same launch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BatchNormAct {
    /// Nothing.
    #[default]
    None,
    /// `F.relu(y)`; its derivative at 0 is 0.
    Relu,
    /// `F.silu(y)`.
    Silu,
    /// `F.gelu(y, approximate="tanh")`.
    GeluTanh,
}

/// The options of a batch norm.
#[derive(Debug, Clone, Copy)]
pub struct BatchNormOptions<'a> {
    /// Which statistics normalize.
    pub statistics: BatchStatistics<'a>,
    /// Added to the variance, inside the root.
    pub eps: f32,
    /// What follows.
    pub act: BatchNormAct,
}

impl<'a> BatchNormOptions<'a> {
    /// PyTorch's default epsilon 1e-5, and no activation.
    pub fn new(statistics: BatchStatistics<'a>) -> Self {
        Self { statistics, eps: 1e-5, act: BatchNormAct::None }
    }
}

/// Batch norm over all but the last dimension, (x − mean)·w/√(var + eps) + b for each channel, and an activation.
///
/// The activation's input is computed again in the backward pass, so that only x is kept.
///
/// In training the variance that normalizes is biased (÷ rows), and the one that `running` follows is not, as in
/// PyTorch. The running statistics move once for each time that the operator is recorded; a segment that is recorded
/// again for its gradients ([`Recorder::segment`]) does not move them again. A mean far from 0 costs no digits.
///
/// The result has the element type of x. Statistics, sums and parameters are f32 where maps are f16, as in PyTorch.
///
/// - Shapes: x (.., C), w and b (C) → the shape of x.
/// - PyTorch: `act(F.batch_norm(x, running_mean, running_var, w, b, training, momentum, eps))`, with x (B, C, H, W).
/// - Source: Ioffe and Szegedy 2015.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, tape::*, tensor::Tensor};
/// # use rowscan::ops::batch_norm::{BatchNormAct, BatchNormOptions, BatchStatistics, batch_norm};
/// let x = Var::leaf(Tensor::from_slice(g, &[2, 1], &[3.0, 7.0])?); // mean 5, variance 4, unbiased 8
/// let w = Var::leaf(Tensor::from_slice(g, &[1], &[1.0])?);
/// let b = Var::leaf(Tensor::from_slice(g, &[1], &[10.0])?);
/// let running = [Tensor::from_slice(g, &[1], &[0.0])?, Tensor::from_slice(g, &[1], &[1.0])?];
/// let mut r = Recorder::new(g);
/// let statistics = BatchStatistics::Batch { running: Some([&running[0], &running[1]]), momentum: 0.1 };
/// let options = BatchNormOptions { act: BatchNormAct::Relu, ..BatchNormOptions::new(statistics) };
/// let y = batch_norm(&mut r, &x, &w, &b, options)?;
/// r.run()?;
/// assert_close(&y.data.to_vec(g)?, &[9.0, 11.0], 1e-5);
/// assert_close(&running[0].to_vec(g)?, &[0.5], 1e-6);
/// assert_close(&running[1].to_vec(g)?, &[1.7], 1e-6); // 0.9·1 + 0.1·8
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If there is a single row in training, whose variance is nothing, if `momentum` is not 0 to 1, or if x is f16 and C
/// is odd.
pub fn batch_norm(r: &mut Recorder, x: &Var, w: &Var, b: &Var, options: BatchNormOptions<'_>) -> Result<Var> {
    let BatchNormOptions { statistics, eps, act } = options;
    let consts = [("ACT", act as u32)];
    let (rows, c) = x.data.rows_cols();
    for (what, tensor) in [("batch_norm: w", &w.data), ("batch_norm: b", &b.data)] {
        tensor.expect_shape(what, &[c])?;
    }
    let (training, running) = match statistics {
        BatchStatistics::Batch { running, .. } => (true, running),
        BatchStatistics::Given(given) => (false, Some(given)),
    };
    for tensor in running.into_iter().flatten() {
        tensor.expect_shape("batch_norm: running statistics", &[c])?;
    }
    if x.data.is_empty() || (training && rows < 2) {
        let expected = if training { "at least 2 in training" } else { "at least 1" };
        return Err(Error::argument("batch_norm: rows", rows, expected));
    }
    if x.data.is_f16() && !c.is_multiple_of(2) {
        return Err(Error::argument("batch_norm: channels in f16", c, "an even number"));
    }
    let momentum = match statistics {
        BatchStatistics::Batch { momentum, .. } => momentum,
        BatchStatistics::Given(_) => 0.0,
    };
    if !(0.0..=1.0).contains(&momentum) {
        return Err(Error::argument("batch_norm: momentum", momentum, "0 to 1"));
    }
    let chunk = (rows * c).div_ceil(LANES).next_multiple_of(8).min(rows.next_multiple_of(8));
    let chunks = rows.div_ceil(chunk);
    let p = scalars!(BatchNormParams {
        rows,
        c,
        chunk,
        chunks,
        eps,
        keep: (1.0 - momentum) as f32,
        take: momentum as f32,
        unbiased: (rows as f64 / (rows as f64 - 1.0).max(1.0)) as f32,
        share: if training { (1.0 / rows as f64) as f32 } else { 0.0 },
    });
    let stat = Tensor::scratch("batch norm statistics", &[c, 4]);
    match statistics {
        BatchStatistics::Batch { running, .. } => {
            let part = Tensor::scratch("batch norm moments", &[chunks, 2, c]);
            r.launch(&MOMENTS, Grid::items(chunks * c, 64), &p, &[&x.data, &part])?;
            let grid = Grid::of(c.div_ceil(16), 1, 1);
            match running.filter(|_| !r.records_again()) {
                Some([mean, var]) => r.launch(&RUNNING, grid, &p, &[&x.data, &part, &stat, mean, var])?,
                None => r.launch(&STATISTICS, grid, &p, &[&x.data, &part, &stat])?,
            }
        }
        BatchStatistics::Given([mean, var]) => r.launch(&GIVEN, Grid::items(c, 256), &p, &[mean, var, &stat])?,
    }
    let y = x.data.scratch_like("batch norm", x.data.shape());
    let grid = Grid::items(if x.data.is_f16() { rows * c / 2 } else { rows * c }, 256);
    r.launch_with(&NORMALIZE, &consts, grid, &p, &[&x.data, &stat, &w.data, &b.data, &y])?;
    Ok(r.push((x, w, b), y, move |r, (x, w, b), dy, grads| {
        let (dw, db) = (grads.alloc(&w), grads.alloc(&b));
        let part = Tensor::scratch("batch norm sums", &[chunks, 2, c]);
        let args = [&x.data, &stat, &w.data, &b.data, dy, &part];
        r.launch_with(&SUMS, &consts, Grid::items(chunks * c, 64), &p, &args)?;
        r.launch(&GRADIENTS, Grid::of(c.div_ceil(16), 1, 1), &p, &[&part, &dw, &db])?;
        if grads.wants(&x) {
            let dx = grads.alloc(&x);
            let args = [&x.data, &stat, &w.data, &b.data, dy, &dw, &db, &dx];
            r.launch_with(&BACKWARD, &consts, grid, &p, &args)?;
            grads.add(r, &x, dx)?;
        }
        grads.add(r, &w, dw)?;
        grads.add(r, &b, db)
    }))
}

/// Lanes of a sum over rows that keep a GPU busy.
const LANES: usize = 131_072;
