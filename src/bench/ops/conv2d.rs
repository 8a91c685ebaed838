//! conv2d: dense convolutions of ResNet and MambaVision, stems, and depthwise ones of SS2D, EfficientNet and ConvNeXt.

use crate::bench::ops::*;
use crate::gpu::DType;
use cpu::conv2d::{Dims, backward, forward};
use ops::conv2d::{Conv2dOptions, conv2d, conv2d_transposed};

/// The precision of the products of a convolution. A depthwise one is none, and rounds no operand.
fn precision_of(scope: &Scope, dim: &Dims) -> Precision {
    if dim.groups == dim.c && dim.c == dim.o { Precision::F32 } else { scope.precision }
}

/// `halves`: whether x and y are stored as f16.
fn expect(v: &Values, dim: Dims, halves: [bool; 2], precision: Precision) -> Result<Vec<Want>> {
    let dim = Dims { b: v.picked.len(), ..dim };
    let [x, w, dy] = [v.get("x")?, v.get("w")?, v.get("dy")?].map(|values| rounded(values, precision));
    let (x, w, dy) = (&x[..], &w[..], &dy[..]);
    let tol = |k| of_products(precision, k);
    let column = |o: usize| v.get("dy").map(|dy| dy.iter().skip(o).step_by(dim.o).sum()); // a sum, no product
    let dbias = (0..dim.o).map(column).collect::<Result<Vec<f64>>>()?;
    let ([oh, ow], [kh, kw]) = (dim.out(), dim.kernel);
    let grads = backward(dim, x, w, dy);
    let (terms, pixels) = (kh * kw, dim.b * oh * ow);
    Ok(vec![
        want("y", forward(dim, x, w, Some(v.get("bias")?)), tol(terms * dim.c / dim.groups).or_f16(halves[1])),
        want("dx", grads.dx, tol(terms * dim.o / dim.groups).or_f16(halves[0])),
        want("dw", grads.dw, tol(pixels)),
        want("dbias", dbias, tol(pixels)),
    ])
}

fn case(c: &mut Cases, name: &str, dim: Dims, timed: bool) {
    let Dims { b, h, w, c: channels, o, groups, kernel: [kh, kw], .. } = dim;
    let ([oh, ow], cg) = (dim.out(), channels / groups);
    let (x, y, weights) = (b * h * w * channels, b * oh * ow * o, o * cg * kh * kw);
    let each = if cg == 1 { [channels, o] } else { [cg, o / groups] };
    let precision = precision_of(c.scope, &dim);
    let halves = each.map(|channels| halved(c.scope, channels));
    let bytes = halves.map(|half| if half { 2 } else { 4 });
    let mut draft = c.case(format!("{name} {channels}>{o} {h}x{w}x{b}"));
    for (what, value) in [("groups", groups), ("rows", kh), ("stride", dim.stride[0]), ("padding", dim.padding[0])] {
        draft = draft.fact(what, value);
    }
    if dim.dilation[0] > 1 {
        draft = draft.fact("dilation", dim.dilation[0]);
    }
    if timed {
        let flops = 2 * y * cg * kh * kw;
        let moved = bytes[0] * x + bytes[1] * y + 4 * weights;
        draft = draft.floors([Floor::of(moved, flops, 0), Floor::of(2 * moved, 2 * flops, 0)]);
    }
    draft.check(1, "images", move |v| expect(v, dim, halves, precision)).op(move |r, fill| {
        let x = fill.leaf_in(halves[0], "x", Axis(0), &[b, h, w, channels])?;
        let (bias, dtype) = (fill.leaf("bias", Whole, &[o])?, DType::f16_if(halves[1]));
        let weight = fill.leaf("w", Whole, &[o, cg, kh, kw])?;
        let Dims { stride, dilation, padding, .. } = dim;
        let options = Conv2dOptions { bias: Some(&bias), stride, dilation, padding, groups, dtype };
        Ok(vec![out("y", Axis(0), conv2d(r, &x, &weight, options)?)])
    });
}

/// The transposed convolution that is the gradient of `dim`.
fn transposed(c: &mut Cases, dim: Dims) {
    let dim = Dims { padding: [0; 4], ..dim };
    let (Dims { b, h, w, c: o, o: channels, kernel: [kh, kw], .. }, [rows, cols]) = (dim, dim.out());
    let precision = c.scope.precision;
    let expect = move |v: &Values| {
        let dim = Dims { b: v.picked.len(), ..dim };
        let [x, weight, dy] = [v.get("x")?, v.get("w")?, v.get("dy")?].map(|values| rounded(values, precision));
        let (x, weight, dy) = (&x[..], &weight[..], &dy[..]);
        let tol = |k| of_products(precision, k);
        let dbias = cpu::conv2d::transposed_backward(dim, x, weight, v.get("dy")?).dbias; // a sum, no product
        let grads = cpu::conv2d::transposed_backward(dim, x, weight, dy);
        Ok(vec![
            want("y", cpu::conv2d::transposed(dim, x, weight, Some(v.get("bias")?)), tol(kh * kw * channels)),
            want("dx", grads.dx, tol(kh * kw * o)),
            want("dw", grads.dw, tol(dim.b * rows * cols)),
            want("dbias", dbias, tol(dim.b * h * w)),
        ])
    };
    c.case("small transposed").check(2, "images", expect).op(move |r, fill| {
        let (x, bias) = (fill.leaf("x", Axis(0), &[b, rows, cols, channels])?, fill.leaf("bias", Whole, &[o])?);
        let weight = fill.leaf("w", Whole, &[channels, o, kh, kw])?;
        let options = Conv2dOptions { bias: Some(&bias), stride: dim.stride, ..Conv2dOptions::default() };
        Ok(vec![out("y", Axis(0), conv2d_transposed(r, &x, &weight, options)?)])
    });
}

pub fn cases(c: &mut Cases) {
    let dim = |b, side: usize, c, o, groups, k: usize, s| Dims {
        b,
        h: side,
        w: side,
        c,
        o,
        groups,
        kernel: [k; 2],
        stride: [s; 2],
        padding: [k / 2; 4],
        ..Dims::default()
    };
    let dilated = |dilation: usize, dim: Dims| Dims { dilation: [dilation; 2], padding: [dilation; 4], ..dim };
    case(c, "small", Dims { h: 9, ..dim(2, 11, 5, 7, 1, 3, 2) }, false);
    case(c, "small groups", dim(2, 6, 8, 12, 2, 3, 1), false);
    case(c, "small depthwise", dim(2, 13, 67, 67, 67, 5, 2), false);
    case(c, "small dilated", dilated(2, dim(2, 9, 8, 12, 2, 3, 1)), false);
    case(c, "small depthwise dilated", dilated(3, dim(2, 10, 7, 7, 7, 3, 1)), false);
    transposed(c, dim(2, 8, 12, 8, 1, 2, 2));
    let (b, quick) = (c.scope.batch(), c.scope.quick);
    // with `quick` maps are smaller, because the oracle computes a whole image
    let side = |n: usize| if quick { n / 4 } else { n };
    case(c, "3x3", dim(b, side(56), 64, 64, 1, 3, 1), true);
    case(c, "3x3", dim(b, side(28), 256, 256, 1, 3, 1), !quick);
    case(c, "3x3 s2", dim(b, side(56), 80, 160, 1, 3, 2), true);
    // the last stage of a ResNet at stride 8, and the spatial pyramid behind it
    case(c, "3x3 d4", dilated(4, dim(b, side(64), 512, 512, 1, 3, 1)), !quick);
    case(c, "depthwise 3x3 d12", dilated(12, dim(b, side(64), 2048, 2048, 2048, 3, 1)), !quick);
    case(c, "7x7 s2", dim(b, side(224), 3, 64, 1, 7, 2), true);
    case(c, "2x2 s2", Dims { padding: [0; 4], ..dim(b, side(56), 96, 192, 1, 2, 2) }, true);
    for (k, s) in [(3, 1), (7, 1), (5, 2)] {
        case(c, &format!("depthwise {k}x{k} s{s}"), dim(b, side(56), 96, 96, 96, k, s), true);
        case(c, &format!("depthwise {k}x{k} s{s}"), dim(b, side(28) / 2, 384, 384, 384, k, s), !quick);
    }
}
