//! registers: launchers and tape rules of tokens at evenly spaced places among others. Shapes and maths:
//! `shaders/registers.wgsl`.

use super::reduce::column_sum;
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Grid, Kernel, params, read, wgsl, write};
use crate::tape::{Tape, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `registers.wgsl`.
    pub struct Registers {
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
pub const KERNELS: &[&Kernel] = &[&INSERT, &EXTRACT, &REST];

/// Where the registers stand in a sequence: register k at `first + k·step`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Places {
    /// Place of the first.
    pub first: usize,
    /// From one to the next, at least 1.
    pub step: usize,
    /// How many.
    pub count: usize,
}

impl Places {
    /// One in front of all tokens (ViT).
    pub fn front() -> Self {
        Self { first: 0, step: 1, count: 1 }
    }

    /// One in the middle of `len` tokens (Vim).
    pub fn middle(len: usize) -> Self {
        Self { first: len / 2, step: 1, count: 1 }
    }

    /// `count` spread over `len` tokens: each behind ⌊len / (count + 1)⌋ of them, what is left over at the end
    /// (Mamba-R).
    pub fn even(len: usize, count: usize) -> Self {
        let between = len / (count + 1);
        Self { first: between, step: between + 1, count }
    }

    /// Places of all registers.
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

/// Tokens with registers among them: x (B, L, D), r (B, n, D) or (1, n, D) for all samples -> (B, L+n, D).
pub fn insert(g: &Gpu, t: &mut Tape, x: &Var, r: &Var, places: Places) -> Result<Var> {
    let [b, l, d] = x.data.dims("registers.insert: x")?;
    let [samples, n, _] = r.data.dims("registers.insert: r")?;
    r.data.expect_shape("registers.insert: r", &[if samples == 1 { 1 } else { b }, places.count, d])?;
    places.within("registers.insert: places", l + n)?;
    let out = Tensor::scratch("insert", &[b, l + n, d]);
    put(g, Some(&x.data), Some(&r.data), places, &out)?;
    let (x, r) = (x.clone(), r.clone());
    Ok(t.push(g, out, move |g, dout, grads| {
        if grads.wants(&r) {
            let dr = grads.alloc(&r);
            if samples == b {
                get(g, &EXTRACT, dout, places, &dr)?;
            } else {
                let each = Tensor::scratch("registers", &[b, n, d]);
                get(g, &EXTRACT, dout, places, &each)?;
                column_sum(g, &each.reshape(&[b, n * d])?, &dr.reshape(&[n * d])?)?;
            }
            grads.add(g, &r, dr)?;
        }
        if grads.wants(&x) {
            let dx = grads.alloc(&x);
            get(g, &REST, dout, places, &dx)?;
            grads.add(g, &x, dx)?;
        }
        Ok(())
    }))
}

/// The registers of a sequence: x (B, L+n, D) -> (B, n, D).
pub fn extract(g: &Gpu, t: &mut Tape, x: &Var, places: Places) -> Result<Var> {
    let [b, len, d] = x.data.dims("registers.extract: x")?;
    places.within("registers.extract: places", len)?;
    let out = Tensor::scratch("extract", &[b, places.count, d]);
    part(g, t, x, places, true, out)
}

/// All tokens but the registers: x (B, L+n, D) -> (B, L, D).
pub fn rest(g: &Gpu, t: &mut Tape, x: &Var, places: Places) -> Result<Var> {
    let [b, len, d] = x.data.dims("registers.rest: x")?;
    places.within("registers.rest: places", len)?;
    let out = Tensor::scratch("rest", &[b, len - places.count, d]);
    part(g, t, x, places, false, out)
}

/// The registers or the other rows of a sequence; backward puts their gradient between zeros.
fn part(g: &Gpu, t: &mut Tape, x: &Var, places: Places, registers: bool, out: Tensor) -> Result<Var> {
    get(g, if registers { &EXTRACT } else { &REST }, &x.data, places, &out)?;
    if x.id() == 0 {
        return Ok(Var::constant(out)); // rows of a constant are constant
    }
    let x = x.clone();
    Ok(t.push(g, out, move |g, dout, grads| {
        if !grads.wants(&x) {
            return Ok(());
        }
        let dx = grads.alloc(&x);
        let (tokens, taken) = if registers { (None, Some(dout)) } else { (Some(dout), None) };
        put(g, tokens, taken, places, &dx)?;
        grads.add(g, &x, dx)
    }))
}

/// dst (B, len, D) <- tokens x and registers r, zero where one is missing
fn put(g: &Gpu, x: Option<&Tensor>, r: Option<&Tensor>, places: Places, dst: &Tensor) -> Result<()> {
    if x.is_none() && r.is_none() {
        return dst.fill(g, 0.0);
    }
    let shared = r.is_some_and(|r| r.shape()[0] == 1);
    let p = Registers {
        has_x: x.is_some().into(),
        has_r: r.is_some().into(),
        r_stride: if shared { 0 } else { (places.count * dst.shape()[2]) as u32 },
        ..sizes(dst, dst.shape()[1] - places.count, places)
    };
    g.launch(&INSERT, Grid::items(dst.len(), 256), &p, &[x, r, Some(dst)])
}

/// dst (B, _, D) <- some of src (B, len, D)
fn get(g: &Gpu, kernel: &'static Kernel, src: &Tensor, places: Places, dst: &Tensor) -> Result<()> {
    if dst.is_empty() {
        return Ok(());
    }
    let p = sizes(dst, src.shape()[1], places);
    g.launch(kernel, Grid::items(dst.len(), 256), &p, &[src, dst])
}

fn sizes(dst: &Tensor, src_rows: usize, places: Places) -> Registers {
    let [n, d, dst_rows, src_rows] = [dst.len(), dst.shape()[2], dst.shape()[1], src_rows].map(|v| v as u32);
    let [first, step, count] = [places.first, places.step, places.count].map(|v| v as u32);
    Registers { n, d, dst_rows, src_rows, first, step, count, has_x: 0, r_stride: 0, has_r: 0 }
}
