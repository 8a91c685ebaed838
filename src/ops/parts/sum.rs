//! The sums: of one tensor, and of many in one launch.

use crate::error::{Error, Result};
use crate::gpu::{Const, Grid, Kernel, LaunchArgs, Recording, Work, params, read, scalars, wgsl, write};
use crate::tensor::Tensor;

params! {
    /// Scalars of `parts.wgsl`.
    pub(crate) struct Parts { sums: u32, at: u32, rows: u32, stride: u32, cols: u32, to: u32 }
}

const SRC: &str = wgsl!("parts", "grid");
const CONSTS: &[Const] = &[Const::of("C4", &[1, 0])];
pub(super) const SUM: Kernel =
    Kernel::new::<Parts>("parts.sum", SRC, &[read(1, "x"), write(3, "y")]).consts(CONSTS).least(one);
const SUM_MANY: Kernel =
    Kernel::new::<Parts>("parts.sum_many", SRC, &[read(1, "x"), read(2, "table").u32(), write(3, "y")])
        .consts(CONSTS)
        .least(many);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&SUM, &SUM_MANY];

/// Least work: every part is read and every sum is written.
fn one(launch: &LaunchArgs<'_>) -> Work {
    let p: Parts = launch.scalars();
    let [rows, cols] = [p.rows, p.cols].map(|size| size as usize);
    Work::of(4 * (rows + 1) * cols, rows * cols, 0)
}

/// [`one`], added up over the table: `sum_many` has the number of parts in `rows`, and of sums in `cols`.
fn many(launch: &LaunchArgs<'_>) -> Work {
    let p: Parts = launch.scalars();
    let [parts, sums] = [p.rows, p.cols].map(|size| size as usize);
    Work::of(4 * (parts + sums), parts, 0)
}

/// A matrix in a flat tensor, and where the sum of its rows goes, all in elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rows {
    /// The first element of the matrix.
    pub at: usize,
    /// Its rows, or 0: then the sum is 0.
    pub rows: usize,
    /// Elements from one row to the next.
    pub stride: usize,
    /// Its columns, at least 1.
    pub cols: usize,
    /// The first element of the sum, in the tensor that gets it.
    pub to: usize,
}

impl Rows {
    /// The matrix (rows, cols) at the beginning of a tensor, and its sum at the beginning of another.
    pub fn dense(rows: usize, cols: usize) -> Self {
        Self { at: 0, rows, stride: cols, cols, to: 0 }
    }

    /// Whether the kernels may take four columns at a time.
    fn quads(self) -> bool {
        let Self { at, stride, cols, to, .. } = self;
        [at, stride, cols, to].iter().all(|size| size % 4 == 0)
    }

    /// An error unless the matrix lies in x and its sum in `y`.
    fn fit(self, op: &str, x: &Tensor, y: &Tensor) -> Result<()> {
        let Self { at, rows, stride, cols, to } = self;
        if cols == 0 || rows > 0 && at + (rows - 1) * stride + cols > x.len() {
            let expected = format!("at least one column, and an end within {} elements", x.len());
            return Err(Error::argument(format!("{op}: x"), format!("{self:?}"), expected));
        }
        if to + cols > y.len() {
            let expected = format!("an end of the sum within {} elements", y.len());
            return Err(Error::argument(format!("{op}: y"), format!("{self:?}"), expected));
        }
        Ok(())
    }

    /// Workgroups of the kernels.
    fn workgroups(self, quads: bool) -> usize {
        let lanes = if self.rows > 64 { 16 } else { 1 };
        self.cols.div_ceil(if quads { 4 } else { 1 }).div_ceil(256 / lanes)
    }
}

/// Writes the sum over the rows of a matrix in x to `y`: the second half of a gradient that many workgroups sum. It has
/// no gradient of its own.
///
/// A training step has hundreds of these, each of them small; [`join`](super::join) makes few launches of them.
///
/// - Shapes: x and `y`, any; the matrix and its sum as [`Rows`] describes them. The rest of `y` stays as it is.
/// - PyTorch: `y[to:to + cols] = x.as_strided((rows, cols), (stride, 1), at).sum(0)`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::parts::{Rows, sum_parts}, tape::*, tensor::Tensor};
/// let x = Tensor::from_slice(g, &[2, 2], &[1.0, 2.0, 3.0, 6.0])?;
/// let y = Tensor::scratch("sums", &[2]);
/// let mut r = Recorder::inference(g);
/// sum_parts(&mut r, &x, Rows::dense(2, 2), &y)?;
/// r.run()?;
/// assert_eq!(y.to_vec(g)?, [4.0, 8.0]);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If the matrix has no columns, or if it or its sum does not fit the tensor.
pub fn sum_parts(r: &mut Recording, x: &Tensor, rows: Rows, y: &Tensor) -> Result<()> {
    let Rows { at, stride, cols, to, .. } = rows;
    rows.fit("sum_parts", x, y)?;
    let p = scalars!(Parts { sums: 1, at, rows: rows.rows, stride, cols, to });
    let quads = rows.quads();
    r.launch_with(&SUM, &[("C4", quads.into())], Grid::rows(rows.workgroups(quads)), &p, &[x, y])
}

/// [`sum_parts`] of many matrices in one launch. They lie in one tensor, and their sums in another. The sums have the
/// bits that `sum_parts` gives.
///
/// - Shapes: x and `y`, any; each matrix and its sum as [`Rows`] describes them.
/// - PyTorch: `for at, rows, stride, cols, to in sums: y[to:to + cols] = x.as_strided((rows, cols), (stride, 1),
///   at).sum(0)`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::parts::{Rows, sum_many}, tape::*, tensor::Tensor};
/// let x = Tensor::from_slice(g, &[6], &[1.0, 2.0, 3.0, 6.0, 5.0, 7.0])?;
/// let y = Tensor::scratch("sums", &[3]);
/// let column = Rows { at: 4, to: 2, ..Rows::dense(2, 1) }; // 5 and 7
/// let mut r = Recorder::inference(g);
/// sum_many(&mut r, &x, &[Rows::dense(2, 2), column], &y)?;
/// r.run()?;
/// assert_eq!(y.to_vec(g)?, [4.0, 8.0, 12.0]);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// Those of [`sum_parts`], and if there are no matrices.
pub fn sum_many(r: &mut Recording, x: &Tensor, sums: &[Rows], y: &Tensor) -> Result<()> {
    if sums.is_empty() {
        return Err(Error::argument("sum_many: sums", "none", "at least one"));
    }
    let quads = sums.iter().all(|sum| sum.quads());
    let (mut table, mut workgroups, mut parts, mut written) = (Vec::new(), 0, 0, 0);
    for sum in sums {
        sum.fit("sum_many", x, y)?;
        let Rows { at, rows, stride, cols, to } = *sum;
        table.extend([at, rows, stride, cols, to, workgroups, 0, 0].map(|number| number as u32));
        workgroups += sum.workgroups(quads);
        parts += rows * cols;
        written += cols;
    }
    let table = Tensor::from_indices(r.gpu(), &[sums.len(), 8], &table)?;
    let p = scalars!(Parts { sums: sums.len(), at: 0, rows: parts, stride: 0, cols: written, to: 0 });
    r.launch_with(&SUM_MANY, &[("C4", quads.into())], Grid::rows(workgroups), &p, &[x, &table, y])
}
