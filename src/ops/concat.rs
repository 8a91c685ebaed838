//! concat: tensors joined along the last dimension, and a range of columns. Maths: `shaders/concat.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{Const, DType, Grid, Kernel, params, read, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `concat.wgsl`.
    pub(crate) struct Concat {
        n: u32, ld: u32,
        start_0: u32, start_1: u32, start_2: u32, start_3: u32,
        width_0: u32, width_1: u32, width_2: u32, width_3: u32,
    }
}

const SRC: &str = wgsl!("concat", "grid");
const CONSTS: &[Const] = &[Const::flag("HALF")];
const FORWARD: Kernel = Kernel::new::<Concat>(
    "concat.forward",
    SRC,
    &[
        read(1, "a").f16_if("HALF"),
        read(2, "b").f16_if("HALF"),
        read(3, "c").f16_if("HALF"),
        read(4, "d").f16_if("HALF"),
        write(5, "y").f16_if("HALF"),
    ],
)
.consts(CONSTS);
const NARROW: Kernel =
    Kernel::new::<Concat>("concat.narrow", SRC, &[read(6, "x").f16_if("HALF"), write(7, "out").f16_if("HALF")])
        .consts(CONSTS);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD, &NARROW];

/// Most parts of one launch. Parts and result are storage buffers of one kernel, and WebGPU promises eight of those.
const PARTS: usize = 4;

/// One to four tensors joined along the last dimension.
///
/// - Shapes: parts (.., width_i) with the same leading dimensions → (.., Σ width_i). All f32 or all f16.
/// - PyTorch: `torch.cat(parts, dim=-1)`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::concat::concat, tape::*, tensor::Tensor};
/// let a = Var::leaf(Tensor::from_slice(g, &[2, 1], &[1.0, 2.0])?);
/// let b = Var::leaf(Tensor::from_slice(g, &[2, 2], &[3.0, 4.0, 5.0, 6.0])?);
/// let mut r = Recorder::inference(g);
/// let y = concat(&mut r, &[&a, &b])?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [1.0, 3.0, 4.0, 2.0, 5.0, 6.0]);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If there are no parts or more than four, if shapes do not fit, or if a width is odd in f16.
pub fn concat(r: &mut Recorder, parts: &[&Var]) -> Result<Var> {
    let mut width = 0;
    let mut placed = Vec::with_capacity(parts.len());
    for part in parts {
        placed.push((width, Some(*part)));
        width += part.data.rows_cols().1;
    }
    concat_at(r, &placed, width)
}

/// [`concat()`] with gaps: each part begins at its own column, and columns that no part covers are 0.
///
/// A part may be absent, which leaves its columns 0 too. So a caller can pack optional operands into one layout.
///
/// - Shapes: parts (.., width_i), each with its first column → (.., `width`). All f32 or all f16.
/// - PyTorch: `y = x.new_zeros(.., width)`, then `y[..., start : start + width_i] = part` for each part.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::concat::concat_at, tape::*, tensor::Tensor};
/// let a = Var::leaf(Tensor::from_slice(g, &[2], &[1.0, 2.0])?);
/// let b = Var::leaf(Tensor::from_slice(g, &[1], &[3.0])?);
/// let mut r = Recorder::inference(g);
/// let y = concat_at(&mut r, &[(0, Some(&a)), (3, Some(&b))], 5)?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [1.0, 2.0, 0.0, 3.0, 0.0]);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If there are more than four parts or all are absent, if parts overlap, are out of order or leave the row, or if a
/// column or width is odd in f16.
pub fn concat_at(r: &mut Recorder, parts: &[(usize, Option<&Var>)], width: usize) -> Result<Var> {
    let Some(first) = parts.iter().find_map(|(_, part)| *part).filter(|_| parts.len() <= PARTS) else {
        return Err(Error::argument("concat: parts", parts.len(), format!("1 to {PARTS}, at least one of them there")));
    };
    let dtype = first.data.dtype();
    let leading = &first.data.shape()[..first.data.shape().len().saturating_sub(1)];
    let mut end = 0;
    for (start, part) in parts.iter().filter_map(|(start, part)| Some((*start, (*part)?))) {
        let cols = part.data.rows_cols().1;
        part.data.expect_shape("concat: part", &[leading, &[cols]].concat())?;
        if start < end || start + cols > width || !words_fit(dtype, &[start, cols, width]) {
            let got = format!("columns {start}..{} of {width} in {dtype}", start + cols);
            return Err(Error::argument("concat: part", got, "parts in order, within the row, even in number in f16"));
        }
        end = start + cols;
    }
    let y = Tensor::scratch_of(dtype, "concat", &[leading, &[width]].concat());
    let widths = parts.iter().map(|(start, part)| (*start, part.map_or(0, |part| part.data.rows_cols().1)));
    let p = scalars(dtype, y.len(), width, &widths.collect::<Vec<_>>());
    let part = |i: usize| parts.get(i).and_then(|(_, part)| part.map(|part| &part.data));
    let args = [part(0), part(1), part(2), part(3), Some(&y)];
    r.launch(&FORWARD, Grid::items(p.n as usize, 256), &p, &args)?;

    let starts: Vec<usize> = parts.iter().map(|(start, _)| *start).collect();
    let operands: Vec<Option<&Var>> = parts.iter().map(|(_, part)| *part).collect();
    Ok(r.push(&operands[..], y, move |r, parts, dy, grads| {
        for (start, part) in starts.into_iter().zip(parts) {
            let Some(part) = part.filter(|part| grads.wants(part)) else { continue };
            let dpart = grads.alloc(&part);
            take(r, dy, start, &dpart)?;
            grads.add(r, &part, dpart)?;
        }
        Ok(())
    }))
}

/// Columns `start..start + len` of x, as a copy.
///
/// - Shapes: x (.., D), f32 or f16 → (.., `len`).
/// - PyTorch: `x.narrow(-1, start, len)`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::concat::narrow, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])?);
/// let mut r = Recorder::new(g);
/// let y = narrow(&mut r, &x, 1, 2)?;
/// let grads = r.backward(&y, Grads::default())?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [2.0, 3.0, 5.0, 6.0]);
/// assert_eq!(grads.get(&x).unwrap().to_vec(g)?, [0.0, 1.0, 1.0, 0.0, 1.0, 1.0]);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If `len` is 0, if the columns leave the row, or if `start`, `len` or D is odd in f16.
pub fn narrow(r: &mut Recorder, x: &Var, start: usize, len: usize) -> Result<Var> {
    let ((_, width), dtype) = (x.data.rows_cols(), x.data.dtype());
    if len == 0 || start.checked_add(len).is_none_or(|end| end > width) || !words_fit(dtype, &[start, len, width]) {
        let got = format!("columns {start}..{} of {width} in {dtype}", start.saturating_add(len));
        return Err(Error::argument("narrow", got, "at least one column within the row, even numbers in f16"));
    }
    let mut shape = x.data.shape().to_vec();
    shape.pop();
    shape.push(len);
    let out = Tensor::scratch_of(dtype, "narrow", &shape);
    take(r, &x.data, start, &out)?;
    Ok(r.push(x, out, move |r, x, dout, grads| {
        let dx = grads.alloc(&x);
        let p = scalars(dtype, dx.len(), width, &[(start, len)]);
        r.launch(&FORWARD, Grid::items(p.n as usize, 256), &p, &[Some(dout), None, None, None, Some(&dx)])?;
        grads.add(r, &x, dx)
    }))
}

/// Copies columns `start..start + len` of x (rows, ld) to `out` (rows, len).
fn take(r: &mut Recorder, x: &Tensor, start: usize, out: &Tensor) -> Result<()> {
    let p = scalars(x.dtype(), out.len(), x.rows_cols().1, &[(start, out.rows_cols().1)]);
    r.launch(&NARROW, Grid::items(p.n as usize, 256), &p, &[x, out])
}

/// The scalars of a launch. All arguments count elements, and the kernel counts words of four bytes. `parts` are
/// (start, width).
fn scalars(dtype: DType, n: usize, ld: usize, parts: &[(usize, usize)]) -> Concat {
    let words = |elements: usize| (elements * dtype.size() as usize / 4) as u32;
    let part = |i: usize| parts.get(i).map_or((0, 0), |&(start, width)| (words(start), words(width)));
    let [(start_0, width_0), (start_1, width_1), (start_2, width_2), (start_3, width_3)] = [0, 1, 2, 3].map(part);
    Concat { n: words(n), ld: words(ld), start_0, start_1, start_2, start_3, width_0, width_1, width_2, width_3 }
}

/// Whether columns begin and end at whole words: in f16, which has two elements in a word, they must be even.
fn words_fit(dtype: DType, columns: &[usize]) -> bool {
    dtype != DType::F16 || columns.iter().all(|columns| columns.is_multiple_of(2))
}
