//! conv2d: convolution of maps, channels last. Maths: `shaders/conv2d.wgsl`, on cooperative matrices (tensor cores)
//! `shaders/conv2d_coop.wgsl`, and for one channel a group `shaders/conv2d_depthwise.wgsl`.

mod dense;
mod depthwise;
mod options;
mod shape;

pub use options::{Conv2dOptions, same_padding};

use self::shape::{Shape, extent};
use super::matmul::{MatmulOptions, matmul};
use super::reduce::column_sum;
use super::reshape::reshape;
use crate::error::{Error, Result};
use crate::gpu::Kernel;
use crate::tape::{Grads, Recorder, Var};
use crate::tensor::Tensor;

/// The kernels of this family.
#[doc(hidden)]
pub const KERNELS: &[&Kernel] = &[
    &dense::DIRECT,
    &dense::TILED,
    &dense::COMBINE,
    &dense::PACK,
    &dense::COOP16,
    &dense::COOP8,
    &depthwise::WALK,
    &depthwise::SUMS,
    &depthwise::FINISH,
];

/// The convolution of maps, channels last, with stride or dilation, groups, four paddings and bias.
///
/// Tokens (B, L, C) of a grid are a map (B, H, W, C) without a copy. Weights are those of a checkpoint. It is a product
/// of matrices, and follows the precision of products: in mixed precision operands are rounded to f16, and run on
/// cooperative matrices where there are any. A 1×1 convolution without stride is a linear layer. One channel a group
/// with a kernel of 3×3, 5×5 or 7×7 and the same stride both ways is no product: it has kernels of its own, which round
/// no operand.
///
/// Maps may be f16: x as it is, and the result by [`Conv2dOptions::dtype`]. Their gradients have their types. Sums are
/// f32, and rounded when they are stored.
///
/// - Shapes: x (B, H, W, C), w (O, C/G, kh, kw), bias (O) → (B, H', W', O), where H' = ⌊(H + top + bottom −
///   dilation·(kh − 1) − 1)/stride⌋ + 1, and W' likewise.
/// - PyTorch: `F.conv2d(F.pad(x, (left, right, top, bottom)), w, bias, stride, dilation=dilation, groups=G)`, with x
///   (B, C, H, W).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::conv2d::{Conv2dOptions, conv2d}, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 1, 3, 1], &[1.0, 2.0, 3.0])?); // one row of three pixels
/// let w = Var::leaf(Tensor::from_slice(g, &[1, 1, 1, 2], &[10.0, 1.0])?);
/// let mut r = Recorder::new(g);
/// let options = Conv2dOptions { padding: [0, 0, 0, 1], ..Conv2dOptions::default() };
/// let y = conv2d(&mut r, &x, &w, options)?;
/// let grads = r.backward(&y, Grads::default())?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [12.0, 23.0, 30.0]); // the last window reads a 0
/// assert_eq!(grads.get(&x).unwrap().to_vec(g)?, [10.0, 11.0, 11.0]);
/// assert_eq!(grads.get(&w).unwrap().to_vec(g)?, [6.0, 5.0]);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// If G does not divide C and O, if a stride is not 1 to 8 (depthwise: 4), if there are a stride and a dilation, if the
/// kernel does not fit into the padded map, if a sum has more than 40,960 terms (taps × channels of a group), or if a
/// map is f16 whose groups have a number of channels that is no multiple of 4 (depthwise: if C is odd).
pub fn conv2d(r: &mut Recorder, x: &Var, w: &Var, options: Conv2dOptions<'_>) -> Result<Var> {
    let bias = options.bias;
    let shape = Shape::new("conv2d", x.data.dims("conv2d: x")?, w.data.dims("conv2d: w")?, &options)?;
    if let Some(bias) = bias {
        bias.data.expect_shape("conv2d: bias", &[shape.o])?;
    }
    shape.check_stored("conv2d", [x.data.dtype(), options.dtype])?;
    if shape.is_linear() {
        let w = reshape(r, w, &[shape.o, shape.c])?;
        return matmul(r, x, &w, MatmulOptions { bias, dtype: options.dtype, ..MatmulOptions::default() });
    }
    let y = Tensor::scratch_of(options.dtype, "conv2d", &[shape.b, shape.rows(), shape.cols(), shape.o]);
    let bias_ = bias.map(|bias| &bias.data);
    match shape.is_depthwise() {
        true => depthwise::forward(r, &shape, &x.data, &w.data, bias_, &y)?,
        false => dense::forward(r, &shape, &x.data, &w.data, bias_, &y)?,
    }
    Ok(r.push((x, w, bias), y, move |r, (x, w, bias), dy, grads| match shape.is_depthwise() {
        true => depthwise::backward(r, &shape, (&x, &w, bias.as_ref()), dy, grads),
        false => {
            bias_gradient(r, bias.as_ref(), dy, grads)?;
            dense::backward(r, &shape, (&x, &w), dy, grads)
        }
    }))
}

/// The transposed convolution of maps, channels last, which spreads each pixel over a window: the gradient of
/// [`conv2d`] with respect to its input. Its precision, and the types of its maps, are as there.
///
/// - Shapes: x (B, H, W, C), w (C, O/G, kh, kw), bias (O) → (B, H', W', O), where H' = (H − 1)·stride +
///   dilation·(kh − 1) + 1 − top − bottom, and W' likewise.
/// - PyTorch: `F.conv_transpose2d(x, w, bias, stride, padding, groups=G, dilation=dilation)`, with x (B, C, H, W).
///
/// ```
/// # rowscan::doctest::run(|g| {
/// # use rowscan::{ops::conv2d::{Conv2dOptions, conv2d_transposed}, tape::*, tensor::Tensor};
/// let x = Var::leaf(Tensor::from_slice(g, &[1, 1, 2, 1], &[1.0, 2.0])?); // one row of two pixels
/// let w = Var::leaf(Tensor::from_slice(g, &[1, 1, 1, 2], &[10.0, 1.0])?);
/// let mut r = Recorder::new(g);
/// let options = Conv2dOptions { stride: [1, 2], ..Conv2dOptions::default() };
/// let y = conv2d_transposed(&mut r, &x, &w, options)?;
/// let grads = r.backward(&y, Grads::default())?;
/// r.run()?;
/// assert_eq!(y.data.to_vec(g)?, [10.0, 1.0, 20.0, 2.0]);
/// assert_eq!(grads.get(&w).unwrap().to_vec(g)?, [3.0, 3.0]);
/// # Ok(()) });
/// ```
///
/// # Errors
///
/// Those of [`conv2d`], and if the padding takes the whole result.
pub fn conv2d_transposed(r: &mut Recorder, x: &Var, w: &Var, options: Conv2dOptions<'_>) -> Result<Var> {
    const OP: &str = "conv2d_transposed";
    let (bias, [top, bottom, left, right]) = (options.bias, options.padding);
    let [b, h, width, c] = x.data.dims("conv2d_transposed: x")?;
    let [inputs, og, kh, kw] = w.data.dims("conv2d_transposed: w")?;
    let side = |n: usize, stride: usize, kernel: usize, cut: usize| {
        (n.saturating_sub(1) * stride + kernel).checked_sub(cut).filter(|side| *side > 0)
    };
    let [rows, cols] = extent([kh.max(1), kw.max(1)], options.dilation);
    let sides = [side(h, options.stride[0], rows, top + bottom), side(width, options.stride[1], cols, left + right)];
    let [Some(out_h), Some(out_w)] = sides else {
        let what = "conv2d_transposed: padding";
        return Err(Error::argument(what, format!("{:?}", options.padding), "less than the result without it"));
    };
    if inputs != c {
        return Err(Error::argument(
            "conv2d_transposed: w",
            format!("{:?}", w.data.shape()),
            format!("({c}, O/G, ..)"),
        ));
    }
    // the convolution whose gradient this is: x is the gradient of its result
    let o = og * options.groups;
    let shape = Shape::new(OP, [b, out_h, out_w, o], [c, og, kh, kw], &options)?;
    if let Some(bias) = bias {
        bias.data.expect_shape("conv2d_transposed: bias", &[o])?;
    }
    shape.check_stored(OP, [options.dtype, x.data.dtype()])?;
    let y = Tensor::scratch_of(options.dtype, OP, &[b, out_h, out_w, o]);
    dense::input(r, &shape, &x.data, &w.data, [bias.map(|bias| &bias.data), None], &y)?;
    Ok(r.push((x, w, bias), y, move |r, (x, w, bias), dy, grads| {
        bias_gradient(r, bias.as_ref(), dy, grads)?;
        if grads.wants(&w) {
            let dw = grads.alloc(&w);
            dense::weights(r, &shape, dy, &x.data, &dw)?;
            grads.add(r, &w, dw)?;
        }
        if !grads.wants(&x) {
            return Ok(());
        }
        let dx = grads.alloc(&x);
        dense::forward(r, &shape, dy, &w.data, None, &dx)?;
        grads.add(r, &x, dx)
    }))
}

/// The gradient of the bias, where it is wanted: the sum of dy over pixels.
fn bias_gradient(r: &mut Recorder, bias: Option<&Var>, dy: &Tensor, grads: &mut Grads) -> Result<()> {
    let Some(bias) = bias.filter(|bias| grads.wants(bias)) else { return Ok(()) };
    let dbias = grads.alloc(bias);
    let (pixels, o) = dy.rows_cols();
    column_sum(r, &dy.reshape(&[pixels, o])?, &dbias)?;
    grads.add(r, bias, dbias)
}
