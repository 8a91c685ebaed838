//! masked_loss: losses of the rows that count. Maths: `shaders/masked_loss.wgsl`.

use crate::error::{Error, Result};
use crate::gpu::{Bind, Const, Grid, Kernel, params, read, scalars, wgsl, write};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

params! {
    /// Scalars of `masked_loss.wgsl`.
    pub(crate) struct MaskedLoss { n: u32, d: u32, groups: u32, counts: u32, divisor: f32 }
}

const BOTH: &[Const] = &[Const::of("FORM", &[0, 1])];
const fn kernel(name: &'static str, binds: &'static [Bind]) -> Kernel {
    Kernel::new::<MaskedLoss>(name, wgsl!("masked_loss", "grid", "reduce", "math"), binds).consts(BOTH)
}
const FORWARD: Kernel =
    kernel("masked_loss.forward", &[read(1, "x"), read(2, "tgt"), read(3, "weight"), write(4, "part")]);
const FINISH: Kernel =
    kernel("masked_loss.finish", &[read(5, "parts"), read(6, "counts"), write(7, "loss"), write(8, "scale")])
        .consts(&[Const::of("FORM", &[0])]);
const BACKWARD: Kernel = kernel(
    "masked_loss.backward",
    &[read(1, "x"), read(2, "tgt"), read(3, "weight"), read(9, "saved_scale"), read(10, "dloss"), write(11, "dx")],
);

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[&FORWARD, &FINISH, &BACKWARD];

/// Most workgroups of the first stage. One workgroup of the second adds up their sums.
const GROUPS: usize = 1024;

/// What the sum over elements is divided by.
#[derive(Debug, Clone, Copy)]
pub enum Divisor<'a> {
    /// A number.
    Of(f64),
    /// The number times the sum of the tensor's elements, which the GPU finds: rows that count.
    Times(f64, &'a Tensor),
}

/// The binary cross-entropy of logits, over the rows that count. A row of weight 0 is left out, whatever its logits
/// are. If the divisor is 0, loss and gradients are too.
///
/// - Shapes: x and `target` (R, .., D), the same, and `weight` (R), or (R, ..) with as many numbers as rows → (1).
/// - PyTorch: `(F.binary_cross_entropy_with_logits(x, target, reduction="none") * weight[:, None]).sum() / divisor`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{doctest::assert_close, ops::masked_loss::{Divisor, bce_with_logits}, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[2, 1], &[0.0, 7.0])?);
/// let target = Tensor::from_slice(g, &[2, 1], &[1.0, 0.0])?;
/// let weight = Tensor::from_slice(g, &[2], &[1.0, 0.0])?;
/// let mut r = Recorder::new(g);
/// let loss = bce_with_logits(&mut r, &x, &target, &weight, Divisor::Times(1.0, &weight))?;
/// let grads = r.backward(&loss, Grads::default())?;
/// r.run()?;
/// assert_close(&loss.data.to_vec(g)?, &[0.6931], 1e-4);
/// assert_close(&grads.get(&x).unwrap().to_vec(g)?, &[-0.5, 0.0], 1e-6);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If shapes do not fit, or if x is empty or f16.
pub fn bce_with_logits(
    r: &mut Recorder, x: &Var, target: &Tensor, weight: &Tensor, divisor: Divisor<'_>,
) -> Result<Var> {
    loss(r, "bce_with_logits", 0, x, target, weight, divisor)
}

/// The absolute differences of the rows that count. Weights and divisor are as in [`bce_with_logits`].
///
/// - Shapes: x and `target` (R, .., D), the same, and `weight` (R) → (1).
/// - PyTorch: `(F.l1_loss(x, target, reduction="none") * weight[:, None]).sum() / divisor`.
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::masked_loss::{Divisor, l1}, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 2], &[1.0, 5.0])?);
/// let target = Tensor::from_slice(g, &[1, 2], &[1.0, 2.0])?;
/// let weight = Tensor::from_slice(g, &[1], &[1.0])?;
/// let mut r = Recorder::new(g);
/// let loss = l1(&mut r, &x, &target, &weight, Divisor::Of(2.0))?;
/// let grads = r.backward(&loss, Grads::default())?;
/// r.run()?;
/// assert_eq!(loss.data.to_vec(g)?, [1.5]);
/// assert_eq!(grads.get(&x).unwrap().to_vec(g)?, [0.0, 0.5]);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If shapes do not fit, or if x is empty or f16.
pub fn l1(r: &mut Recorder, x: &Var, target: &Tensor, weight: &Tensor, divisor: Divisor<'_>) -> Result<Var> {
    loss(r, "l1", 1, x, target, weight, divisor)
}

fn loss(
    r: &mut Recorder, op: &str, form: u32, x: &Var, target: &Tensor, weight: &Tensor, divisor: Divisor<'_>,
) -> Result<Var> {
    target.expect_shape(&format!("{op}: target"), x.data.shape())?;
    let (n, rows) = (x.data.len(), weight.len());
    if n == 0 || x.data.is_f16() || rows == 0 || !n.is_multiple_of(rows) {
        let got = format!("{:?} {:?} and {rows} weights", x.data.dtype(), x.data.shape());
        return Err(Error::argument(format!("{op}: x"), got, "F32, not empty, rows that have a weight each"));
    }
    let (divisor, counts) = match divisor {
        Divisor::Of(number) => (number, None),
        Divisor::Times(number, counts) => (number, Some(counts)),
    };
    let groups = n.div_ceil(1024).min(GROUPS);
    let counted = counts.map_or(0, Tensor::len);
    let p = scalars!(MaskedLoss { n, d: n / rows, groups, counts: counted, divisor: divisor as f32 });
    let consts = [("FORM", form)];
    let part = Tensor::scratch("losses", &[groups]);
    let (loss, scale) = (Tensor::scratch("loss", &[1]), Tensor::scratch("share of an element", &[1]));
    r.launch_with(&FORWARD, &consts, Grid::rows(groups), &p, &[&x.data, target, weight, &part])?;
    r.launch(&FINISH, Grid::rows(1), &p, &[Some(&part), counts, Some(&loss), Some(&scale)])?;
    let (target, weight) = (target.clone(), weight.clone());
    Ok(r.push(x, loss, move |r, x, dloss, grads| {
        let dx = grads.alloc(&x);
        let args = [&x.data, &target, &weight, &scale, dloss, &dx];
        r.launch_with(&BACKWARD, &consts, Grid::items(n, 256), &p, &args)?;
        grads.add(r, &x, dx)
    }))
}
