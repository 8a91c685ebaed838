//! registers: class tokens and registers at evenly spaced places among the tokens of an image. Shapes and maths:
//! `shaders/registers.wgsl`.

use super::parts::{Rows, sum_parts};
use crate::error::{Error, Result};
use crate::gpu::{Grid, Kernel, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `registers.wgsl`.
    pub(crate) struct Registers {
        n: u32, d: u32, dst_rows: u32, src_rows: u32, first: u32, step: u32, count: u32, has_x: u32, r_stride: u32,
        has_r: u32,
    }
}

const SRC: &str = wgsl!("registers", "grid");
const INSERT: Kernel =
    Kernel::new::<Registers>("registers.insert", SRC, &[read(1, "x"), read(2, "r"), write(3, "dst")]);
const EXTRACT: Kernel = Kernel::new::<Registers>("registers.extract", SRC, &[read(1, "x"), write(3, "dst")]);
const REST: Kernel = Kernel::new::<Registers>("registers.rest", SRC, &[read(1, "x"), write(3, "dst")]);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&INSERT, &EXTRACT, &REST];

/// The places of registers in a sequence of tokens and registers: register k stands at `first + k·step`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// Place of the first register.
    pub first: usize,
    /// Distance from a register to the next, at least 1.
    pub step: usize,
    /// Number of registers.
    pub count: usize,
}

impl Places {
    /// One class token in front of all tokens, as in ViT.
    pub fn front() -> Self {
        Self { first: 0, step: 1, count: 1 }
    }

    /// One class token in the middle of `len` tokens, as in Vim.
    pub fn middle(len: usize) -> Self {
        Self { first: len / 2, step: 1, count: 1 }
    }

    /// `count` registers spread over `len` tokens, as in Mamba-R. A register follows every ⌊len / (count + 1)⌋ tokens,
    /// and the tokens left over follow the last register.
    pub fn even(len: usize, count: usize) -> Self {
        let between = len / (count + 1);
        Self { first: between, step: between + 1, count }
    }

    /// The places of all registers, in order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..self.count).map(move |k| self.first + k * self.step)
    }

    /// An error unless all registers lie within a sequence of `len`.
    fn within(self, what: &str, len: usize) -> Result<()> {
        if self.step > 0 && self.count <= len && self.iter().last().is_none_or(|last| last < len) {
            return Ok(());
        }
        Err(Error::argument(what.to_owned(), format!("{self:?}"), format!("places within {len} tokens")))
    }
}

/// Tokens with registers among them.
///
/// - Shapes: x (B, L, D), `registers` (B, n, D), or (1, n, D) for all samples → (B, L+n, D).
/// - PyTorch, for [`Places::front`]: `torch.cat([cls_token.expand(B, -1, -1), x], dim=1)`.
/// - Source: Darcet et al. 2024 (registers); evenly spaced: Wang et al. 2024 (Mamba-R).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::registers::{Places, insert}, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 2, 1], &[1.0, 2.0])?);
/// let registers = Var::leaf(Tensor::from_slice(g, &[1, 1, 1], &[9.0])?);
/// let mut r = Recorder::inference(g);
/// let y = insert(&mut r, &x, &registers, Places::middle(2))?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [1.0, 9.0, 2.0]);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If a place is outside of the L + n tokens, or if the number of registers is not that of `places`.
pub fn insert(r: &mut Recorder, x: &Var, registers: &Var, places: Places) -> Result<Var> {
    let [b, l, d] = x.data.dims("registers.insert: x")?;
    let [samples, n, _] = registers.data.dims("registers.insert: registers")?;
    registers.data.expect_shape("registers.insert: registers", &[if samples == 1 { 1 } else { b }, places.count, d])?;
    places.within("registers.insert: places", l + n)?;
    let out = Tensor::scratch("insert", &[b, l + n, d]);
    put(r, Some(&x.data), Some(&registers.data), places, &out)?;
    Ok(r.push((x, registers), out, move |r, (x, registers), dout, grads| {
        if grads.wants(&registers) {
            let dregisters = grads.alloc(&registers);
            if samples == b {
                get(r, &EXTRACT, dout, places, &dregisters)?;
            } else {
                let each = Tensor::scratch("registers", &[b, n, d]);
                get(r, &EXTRACT, dout, places, &each)?;
                sum_parts(r, &each, Rows::dense(b, n * d), &dregisters)?;
            }
            grads.add(r, &registers, dregisters)?;
        }
        if grads.wants(&x) {
            let dx = grads.alloc(&x);
            get(r, &REST, dout, places, &dx)?;
            grads.add(r, &x, dx)?;
        }
        Ok(())
    }))
}

/// The registers of a sequence, without the other tokens.
///
/// - Shapes: x (B, L+n, D) → (B, n, D).
/// - PyTorch: `x[:, places]`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::registers::{Places, extract}, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 3, 1], &[1.0, 9.0, 2.0])?);
/// let mut r = Recorder::new(g);
/// let y = extract(&mut r, &x, Places::middle(2))?;
/// let grads = r.backward(&y, Grads::default())?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [9.0]);
/// assert_eq!(grads.get(&x).unwrap().to_vec(g)?, [0.0, 1.0, 0.0]);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If a place is outside of the L + n tokens.
pub fn extract(r: &mut Recorder, x: &Var, places: Places) -> Result<Var> {
    let [b, len, d] = x.data.dims("registers.extract: x")?;
    places.within("registers.extract: places", len)?;
    let out = Tensor::scratch("extract", &[b, places.count, d]);
    part(r, x, places, true, out)
}

/// The tokens of a sequence, without the registers.
///
/// - Shapes: x (B, L+n, D) → (B, L, D).
/// - PyTorch, for [`Places::front`]: `x[:, 1:]`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::registers::{Places, rest}, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 3, 1], &[1.0, 9.0, 2.0])?);
/// let mut r = Recorder::inference(g);
/// let y = rest(&mut r, &x, Places::middle(2))?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [1.0, 2.0]);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If a place is outside of the L + n tokens.
pub fn rest(r: &mut Recorder, x: &Var, places: Places) -> Result<Var> {
    let [b, len, d] = x.data.dims("registers.rest: x")?;
    places.within("registers.rest: places", len)?;
    let out = Tensor::scratch("rest", &[b, len - places.count, d]);
    part(r, x, places, false, out)
}

/// The registers of a sequence, or the other tokens. Their gradient has 0 at the places that were left out.
fn part(r: &mut Recorder, x: &Var, places: Places, registers: bool, out: Tensor) -> Result<Var> {
    get(r, if registers { &EXTRACT } else { &REST }, &x.data, places, &out)?;
    Ok(r.push(x, out, move |r, x, dout, grads| {
        let dx = grads.alloc(&x);
        let (tokens, taken) = if registers { (None, Some(dout)) } else { (Some(dout), None) };
        put(r, tokens, taken, places, &dx)?;
        grads.add(r, &x, dx)
    }))
}

/// Launches dst (B, len, D) ← tokens x and registers, 0 in place of the one that is absent.
fn put(r: &mut Recorder, x: Option<&Tensor>, registers: Option<&Tensor>, places: Places, dst: &Tensor) -> Result<()> {
    if x.is_none() && registers.is_none() {
        return dst.fill(r, 0.0);
    }
    let shared = registers.is_some_and(|registers| registers.shape()[0] == 1);
    let p = scalars!(Registers {
        has_x: x.is_some(),
        has_r: registers.is_some(),
        r_stride: if shared { 0 } else { places.count * dst.shape()[2] },
        ..sizes(dst, dst.shape()[1] - places.count, places)
    });
    r.launch(&INSERT, Grid::items(dst.len(), 256), &p, &[x, registers, Some(dst)])
}

/// Launches dst (B, _, D) ← the registers (`EXTRACT`) or the other tokens (`REST`) of src (B, len, D).
fn get(r: &mut Recorder, kernel: &'static Kernel, src: &Tensor, places: Places, dst: &Tensor) -> Result<()> {
    if dst.is_empty() {
        return Ok(());
    }
    let p = sizes(dst, src.shape()[1], places);
    r.launch(kernel, Grid::items(dst.len(), 256), &p, &[src, dst])
}

fn sizes(dst: &Tensor, src_rows: usize, places: Places) -> Registers {
    let Places { first, step, count } = places;
    let (n, dst_rows, d) = (dst.len(), dst.shape()[1], dst.shape()[2]);
    scalars!(Registers { n, d, dst_rows, src_rows, first, step, count, has_x: false, r_stride: 0, has_r: false })
}
