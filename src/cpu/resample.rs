//! Maps of another size, channels last: bilinear interpolation in both conventions (`F.interpolate(mode="bilinear")`)
//! and the average over bins (`F.adaptive_avg_pool2d`). All are sums over the cells of a row, then over rows.
//!
//! ```text
//!   x (B, H, W, C)   y (B, H', W', C)   y[o] = Σ_i w(o, i)·x[i] along rows, and the same along columns
//!   half pixels: s = max((o + ½)·in/out − ½, 0);  corners: s = o·(in − 1)/(out − 1), 0 where out = 1
//!     w(o, ⌊s⌋) = 1 − (s − ⌊s⌋),  w(o, min(⌊s⌋ + 1, in − 1)) += s − ⌊s⌋
//!   average: w(o, i) = 1/(end − start) for start = ⌊o·in/out⌋ ≤ i < end = ⌈(o + 1)·in/out⌉
//! ```

/// What is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Bilinear, `align_corners=False`.
    HalfPixels,
    /// Bilinear, `align_corners=True`.
    Corners,
    /// The average over bins.
    Average,
}

/// The cells of a side of `n` that cell `o` of `out` reads, with their weights.
pub fn weights(form: Form, n: usize, out: usize, o: usize) -> Vec<(usize, f64)> {
    let (from, ratio) = (o as f64, n as f64 / out as f64);
    let at = match form {
        Form::HalfPixels => ((from + 0.5) * ratio - 0.5).max(0.0),
        Form::Corners if out == 1 => 0.0,
        Form::Corners => from * (n as f64 - 1.0) / (out as f64 - 1.0),
        Form::Average => {
            let (start, end) = (o * n / out, ((o + 1) * n).div_ceil(out));
            return (start..end).map(|i| (i, 1.0 / (end - start) as f64)).collect();
        }
    };
    let (first, part) = ((at.floor() as usize).min(n - 1), at - at.floor());
    vec![(first, 1.0 - part), ((first + 1).min(n - 1), part)]
}

/// For each element of y, in order, its elements of x with their weights. `size` is [B, H, W, C].
fn terms(form: Form, [b, h, w, c]: [usize; 4], [oh, ow]: [usize; 2]) -> impl Iterator<Item = Vec<(usize, f64)>> {
    (0..b * oh * ow * c).map(move |i| {
        let (sample, row, col, channel) = (i / c / ow / oh, i / c / ow % oh, i / c % ow, i % c);
        let across = weights(form, w, ow, col);
        let each = |(y, wy): (usize, f64)| {
            let at = move |x: usize| ((sample * h + y) * w + x) * c + channel;
            across.iter().map(move |(x, wx)| (at(*x), wy * wx)).collect::<Vec<_>>()
        };
        weights(form, h, oh, row).into_iter().flat_map(each).collect()
    })
}

/// Returns y.
pub fn forward(form: Form, size: [usize; 4], out: [usize; 2], x: &[f64]) -> Vec<f64> {
    terms(form, size, out).map(|terms| terms.into_iter().map(|(i, w)| w * x[i]).sum()).collect()
}

/// Returns dx.
pub fn backward(form: Form, size: [usize; 4], out: [usize; 2], dy: &[f64]) -> Vec<f64> {
    let mut dx = vec![0.0; size.iter().product()];
    for (terms, dy) in terms(form, size, out).zip(dy) {
        terms.into_iter().for_each(|(i, w)| dx[i] += w * dy);
    }
    dx
}

#[cfg(test)]
mod tests {
    use super::super::gradcheck::{check, dot, random};
    use super::*;

    #[test]
    fn by_hand() {
        let x = [0.0, 4.0];
        assert_eq!(forward(Form::HalfPixels, [1, 1, 2, 1], [1, 4], &x), [0.0, 1.0, 3.0, 4.0]);
        assert_eq!(forward(Form::Corners, [1, 1, 2, 1], [1, 5], &x), [0.0, 1.0, 2.0, 3.0, 4.0]);
        assert_eq!(forward(Form::Average, [1, 1, 3, 1], [1, 2], &[1.0, 3.0, 7.0]), [2.0, 5.0]);
    }

    #[test]
    fn gradients() {
        for form in [Form::HalfPixels, Form::Corners, Form::Average] {
            for ([h, w], [oh, ow]) in [([3, 5], [7, 4]), ([1, 2], [3, 1]), ([4, 4], [4, 9]), ([6, 5], [2, 2])] {
                let (x, dy) = (random(1, 2 * h * w * 2), random(2, 2 * oh * ow * 2));
                let dx = backward(form, [2, h, w, 2], [oh, ow], &dy);
                check("dx", &x, &dx, |x| dot(&forward(form, [2, h, w, 2], [oh, ow], x), &dy));
            }
        }
    }
}
