//! norm: RMS norm and layer norm, fused with the residual addition and DropPath in front of them. Maths:
//! `shaders/norm.wgsl`.

use super::parts::{Rows, sum_parts};
use crate::error::{Error, Result};
use crate::gpu::{
    Bind, Caps, Choice, Const, DType, Grid, Kernel, LaunchArgs, Work, params, read, scalars, wgsl, write,
};
use crate::tape::{Grads, Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `norm.wgsl`.
    pub(crate) struct Norm { rows: u32, d: u32, l: u32, residual: u32, dsum: u32, groups: u32, eps: f32 }
}

const SRC: &str = wgsl!("norm", "grid", "reduce", "half", "element");
const SUBGROUP: &str = wgsl!("norm", "grid", "reduce_subgroup", "half", "element");
/// WG: invocations per row. COLS: columns per invocation. HALF: y is f16. MEAN: a layer norm, which subtracts the mean.
/// X16: x is f16.
const CONSTS: &[Const] = &[
    Const::of("WG", ROW_WORKGROUPS),
    Const::within("COLS", 1, 4096, &[4, 1, 3, 12]),
    Const::flag("HALF"),
    Const::flag("MEAN"),
    Const::flag("X16"),
];
/// A lane with f16 has whole words of two columns.
fn in_words(c: &Choice<'_>) -> bool {
    c.get("HALF") + c.get("X16") == 0 || c.get("COLS").is_multiple_of(2)
}
/// The values of [`row_workgroup`], the default first.
pub(super) const ROW_WORKGROUPS: &[u32] = &[256, 32, 64, 128];

const fn kernel(name: &'static str, binds: &'static [Bind]) -> Kernel {
    Kernel::new::<Norm>(name, SRC, binds).consts(CONSTS).admits(in_words).rounds()
}

const FORWARD: Kernel = kernel(
    "norm.forward",
    &[
        read(1, "x").f16_if("X16"),
        read(2, "residual"),
        read(3, "drop_path"),
        read(4, "w"),
        read(17, "b"),
        write(5, "sum"),
        write(6, "y").f16_if("HALF"),
        write(7, "stat"),
    ],
)
.subgroup(SUBGROUP)
.least(|launch| columns(launch, 6, 8));
const BACKWARD: Kernel = kernel(
    "norm.backward",
    &[
        read(8, "saved_sum").f16_if("X16"),
        read(4, "w"),
        read(9, "saved_stat"),
        read(10, "dy").f16_if("HALF"),
        read(11, "dsum").f16_if("X16"),
        write(12, "dx").f16_if("X16"),
        write(13, "dresidual"),
        write(14, "share"),
    ],
)
.subgroup(SUBGROUP)
.least(|launch| columns(launch, 12, 16));
// the same on a CPU, in two launches back: the first writes no share, the second nothing else
const FORWARD_ROWS: Kernel = kernel("norm.forward_rows", FORWARD.binds).least(|launch| columns(launch, 6, 8));
const BACKWARD_ROWS: Kernel =
    kernel("norm.backward_rows", BACKWARD.binds.split_at(7).0).least(|launch| columns(launch, 10, 13));
const BACKWARD_COLUMNS: Kernel = kernel(
    "norm.backward_columns",
    &[
        read(8, "saved_sum").f16_if("X16"),
        read(4, "w"),
        read(9, "saved_stat"),
        read(10, "dy").f16_if("HALF"),
        write(14, "share"),
    ],
)
.least(|launch| columns(launch, 3, 5));
/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD, &BACKWARD, &FORWARD_ROWS, &BACKWARD_ROWS, &BACKWARD_COLUMNS];

/// Each array is moved once. An element takes `rms` flops in an RMS norm and `layer` flops in a layer norm.
fn columns(launch: &LaunchArgs<'_>, rms: usize, layer: usize) -> Work {
    let p: Norm = launch.scalars();
    let flops = if launch.constant("MEAN") > 0 { layer } else { rms };
    Work { bytes: launch.bytes, ..Work::of(0, flops * (p.rows * p.d) as usize, 0) }
}

/// Residual addition and DropPath in front of a norm, its epsilon, and how its result is stored.
#[derive(Debug, Clone, Copy)]
pub struct NormOptions<'a> {
    /// Added to the variance (layer norm) or to the mean square (RMS norm), under the root.
    pub eps: f32,
    /// Added to x before the norm, in the shape of x: mamba_ssm's `residual`.
    pub residual: Option<&'a Var>,
    /// DropPath's factor for each sample of x (B): 0 where the sample is dropped, else 1/(1 − p).
    pub drop_path: Option<&'a Tensor>,
    /// Element type of y. f16 is for operators that read f16, and needs an even D. The sum stays f32. x may be f16
    /// where nothing is added to it.
    pub dtype: DType,
}

impl NormOptions<'_> {
    /// A norm with this epsilon, without residual and DropPath, in f32.
    pub const fn eps(eps: f32) -> Self {
        Self { eps, residual: None, drop_path: None, dtype: DType::F32 }
    }
}

impl Default for NormOptions<'_> {
    /// [`NormOptions::eps`] of 1e-5, the default of `nn.LayerNorm`.
    fn default() -> Self {
        Self::eps(1e-5)
    }
}

/// RMS norm of sum = residual + `drop_path`·x over the last dimension: y = sum·w/√(mean(sum²) + eps).
///
/// The result is (y, sum), because the next layer of a pre-norm network adds to the sum. Without residual and
/// `drop_path`, the sum is x itself.
///
/// - Shapes: x (B, L, D) or (rows, D), w (D) → (y, sum), both in the shape of x.
/// - PyTorch: `F.rms_norm(sum, (D,), w, eps)`. mamba_ssm: `rms_norm_fn(x, w, None, residual=…, prenorm=True)`.
/// - Source: Zhang and Sennrich 2019.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::norm::{NormOptions, rms_norm}, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 2], &[2.0, 3.0])?);
/// let residual = Var::leaf(Tensor::from_slice(g, &[1, 2], &[5.0, -2.0])?);
/// let w = Var::leaf(Tensor::from_slice(g, &[2], &[1.0, 10.0])?);
/// let mut r = Recorder::inference(g);
/// let options = NormOptions { residual: Some(&residual), ..NormOptions::eps(1e-6) };
/// let (y, sum) = rms_norm(&mut r, &x, &w, options)?;
/// r.run()?;
/// assert_eq!(sum.data.to_vec(g)?, [7.0, 1.0]); // mean square (49 + 1)/2 = 25
/// assert_close(&y.data.to_vec(g)?, &[1.4, 2.0], 1e-5);
/// # Ok(()) });
/// ```
pub fn rms_norm(r: &mut Recorder, x: &Var, w: &Var, options: NormOptions<'_>) -> Result<(Var, Var)> {
    apply(r, "rms_norm", x, &[("w", w)], options)
}

/// Layer norm of sum = residual + `drop_path`·x over the last dimension: y = (sum − mean)·w/√(var + eps) + b.
///
/// The result is (y, sum), because the next layer of a pre-norm network adds to the sum. Without residual and
/// `drop_path`, the sum is x itself. The variance is biased (÷ D), as in PyTorch.
///
/// - Shapes: x (B, L, D) or (rows, D), w and b (D) → (y, sum), both in the shape of x.
/// - PyTorch: `F.layer_norm(sum, (D,), w, b, eps)`. mamba_ssm: `layer_norm_fn(x, w, b, residual=…, prenorm=True)`.
/// - Source: Ba et al. 2016.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::norm::{NormOptions, layer_norm}, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 2], &[3.0, 7.0])?); // mean 5, variance 4
/// let w = Var::leaf(Tensor::from_slice(g, &[2], &[1.0, 1.0])?);
/// let b = Var::leaf(Tensor::from_slice(g, &[2], &[0.0, 10.0])?);
/// let mut r = Recorder::inference(g);
/// let (y, _) = layer_norm(&mut r, &x, &w, &b, NormOptions::eps(1e-6))?;
/// r.run()?;
/// assert_close(&y.data.to_vec(g)?, &[-1.0, 11.0], 1e-5);
/// # Ok(()) });
/// ```
pub fn layer_norm(r: &mut Recorder, x: &Var, w: &Var, b: &Var, options: NormOptions<'_>) -> Result<(Var, Var)> {
    apply(r, "layer_norm", x, &[("w", w), ("b", b)], options)
}

/// Most workgroups of a backward launch: enough to fill a large GPU, few enough that their partial sums of dw stay
/// small.
const GROUPS: usize = 1024;
/// On a CPU: invocations of a workgroup, and rows for each share of dw and db.
const LANES: usize = 32;
const ROWS: usize = 64;

/// Workgroups that share the rows for dw and db.
fn groups(caps: &Caps, rows: usize) -> usize {
    if caps.software { rows.div_ceil(ROWS).clamp(1, GROUPS) } else { rows.min(GROUPS) }
}

/// Invocations for a row of `d` columns: 32 to 256 with about four columns each, or about twelve on a CPU, where
/// barriers cost more than serial loops.
fn row_workgroup(caps: &Caps, d: usize) -> usize {
    (d / if caps.software { 12 } else { 3 }).clamp(32, 256).next_power_of_two()
}

fn pick(caps: &Caps, d: usize, half: bool, weights: usize) -> [(&'static str, u32); 3] {
    let (wg, columns) = match caps.software {
        true => (LANES, 1), // an invocation takes whole rows or columns
        false => (row_workgroup(caps, d), d.div_ceil(row_workgroup(caps, d))),
    };
    let columns = columns.next_multiple_of(if half { 2 } else { 1 });
    [("WG", wg as u32), ("COLS", columns as u32), ("MEAN", weights as u32 - 1)]
}

/// The constant WG of kernels with a workgroup for each row of `d` columns.
pub(super) fn row_consts(caps: &Caps, d: usize) -> [(&'static str, u32); 1] {
    [("WG", row_workgroup(caps, d) as u32)]
}

/// Both norms. `weights` are named: w for an RMS norm, w and b for a layer norm.
fn apply(
    r: &mut Recorder, op: &str, x: &Var, weights: &[(&str, &Var)], options: NormOptions<'_>,
) -> Result<(Var, Var)> {
    let NormOptions { eps, residual, drop_path, dtype } = options;
    let shape = x.data.shape();
    let (rows, d) = x.data.rows_cols();
    for (name, weight) in weights {
        weight.data.expect_shape(&format!("{op}: {name}"), &[d])?;
    }
    if let Some(residual) = residual {
        residual.data.expect_shape(&format!("{op}: residual"), shape)?;
    }
    let samples = drop_path.map_or(1, Tensor::len);
    if samples == 0 || rows % samples != 0 || (drop_path.is_some() && shape.len() > 2 && samples != shape[0]) {
        return Err(Error::argument(format!("{op}: drop_path"), samples, format!("one per sample of {shape:?}")));
    }
    let half = dtype == DType::F16 || x.data.is_f16();
    if half && !d.is_multiple_of(2) {
        return Err(Error::argument(format!("{op}: columns in f16"), d, "an even number"));
    }
    let plain = residual.is_none() && drop_path.is_none();
    if x.data.is_f16() && !plain {
        return Err(Error::argument(format!("{op}: x"), "f16", "f32 where a residual or DropPath is added"));
    }
    let p = scalars!(Norm {
        rows,
        d,
        l: if drop_path.is_some() { rows / samples } else { 0 },
        residual: residual.is_some(),
        dsum: 0,
        groups: groups(r.caps(), rows),
        eps,
    });
    let y = Tensor::scratch_of(dtype, "norm", shape);
    let stat = Tensor::scratch("norm statistics", &[rows, 4]);
    let sum = Tensor::scratch("residual", if plain { &[1] } else { shape });
    let weights: Vec<&Var> = weights.iter().map(|(_, weight)| *weight).collect();
    let [w, b] = [0, 1].map(|i| weights.get(i).map(|weight| &weight.data));
    let args = [Some(&x.data), residual.map(|r| &r.data), drop_path, w, b, Some(&sum), Some(&y), Some(&stat)];
    let consts = pick(r.caps(), d, half, weights.len());
    match r.caps().software {
        true => r.launch_with(&FORWARD_ROWS, &consts, Grid::items(rows, LANES), &p, &args)?,
        false => r.launch_with(&FORWARD, &consts, Grid::rows(rows), &p, &args)?,
    }

    let operands = (x, residual, &weights[..]);
    let saved = Saved { p, sum: if plain { x.data.clone() } else { sum }, stat };
    if plain {
        let y = r.push(operands, y, move |r, operands, dy, grads| {
            let others = grads.take(&operands.0); // sum is x here, so this is dsum
            saved.backward(r, operands, dy, others.as_ref(), grads)
        });
        return Ok((y, x.clone()));
    }
    let out = [y, saved.sum.clone()];
    let [y, sum] = r.push_many(operands, out, move |r, operands, [dy, dsum], grads| {
        let dy = match dy {
            Some(dy) => dy,
            None => {
                let zeros = Tensor::scratch("no gradient", operands.0.data.shape());
                zeros.fill(r, 0.0)?;
                zeros
            }
        };
        saved.backward(r, operands, &dy, dsum.as_ref(), grads)
    });
    Ok((y, sum))
}

/// Tensors that the forward pass keeps for the backward pass.
struct Saved {
    p: Norm,
    sum: Tensor,
    stat: Tensor,
}

impl Saved {
    fn backward(
        self, r: &mut Recorder, (x, residual, weights): (Var, Option<Var>, Vec<Var>), dy: &Tensor,
        dsum: Option<&Tensor>, grads: &mut Grads,
    ) -> Result<()> {
        let (d, groups) = (self.p.d as usize, self.p.groups as usize);
        let p = Norm { dsum: dsum.is_some().into(), ..self.p };
        let dropped = p.l > 0;
        let dx = grads.alloc(&x);
        let dresidual = match &residual {
            Some(residual) if dropped => grads.alloc(residual),
            _ => Tensor::scratch("unused", if dropped { x.data.shape() } else { &[1] }),
        };
        let shares = Tensor::scratch("norm shares", &[groups, weights.len(), d]);
        let consts = pick(r.caps(), d, dy.is_f16() || x.data.is_f16(), weights.len());
        let [sum, w, stat, dy, dx_] = [&self.sum, &weights[0].data, &self.stat, dy, &dx].map(Some);
        if r.caps().software {
            let args = [sum, w, stat, dy, dsum, dx_, Some(&dresidual)];
            r.launch_with(&BACKWARD_ROWS, &consts, Grid::items(p.rows as usize, LANES), &p, &args)?;
            let grid = Grid::of(d.div_ceil(LANES), groups, 1);
            r.launch_with(&BACKWARD_COLUMNS, &consts, grid, &p, &[sum, w, stat, dy, Some(&shares)])?;
        } else {
            let args = [sum, w, stat, dy, dsum, dx_, Some(&dresidual), Some(&shares)];
            r.launch_with(&BACKWARD, &consts, Grid::of(groups, 1, 1), &p, &args)?;
        }
        if let Some(residual) = &residual {
            grads.add(r, residual, if dropped { dresidual } else { dx.clone() })?;
        }
        grads.add(r, &x, dx)?;

        let stride = weights.len() * d;
        for (i, weight) in weights.iter().enumerate() {
            if grads.wants(weight) {
                let dw = grads.alloc(weight);
                sum_parts(r, &shares, Rows { at: i * d, stride, ..Rows::dense(groups, d) }, &dw)?;
                grads.add(r, weight, dw)?;
            }
        }
        Ok(())
    }
}
