//! Comparing a case with its oracle, on all samples or on some of them.
//!
//! The oracle is slow, so it often computes only some samples, while the kernels run at the full shape that is timed.
//! Gradients of weights are sums over the whole batch. To compare them as well, the gradients of the results are set to
//! 0 for all samples that are not compared. Gradients are linear in them, so only compared samples contribute then.

use super::case::{Case, Direction};
use super::inputs::{Along, Named};
use super::oracle::{Values, compare, halves};
use crate::error::{Error, Result};
use crate::gpu::{DType, Gpu};
use crate::tensor::Tensor;

impl Case {
    /// Runs the case once and compares every result and every gradient. Returns the compared share as text: "all", or
    /// "2 of 128 images".
    ///
    /// # Errors
    /// [`Error::Mismatch`] that names the first wrong value, or any error of building and running the case.
    pub fn check(&self, g: &Gpu) -> Result<String> {
        let direction = if self.has_rule() { Direction::Backward } else { Direction::Forward };
        let built = self.build(g, direction)?;
        let samples = built.inputs.iter().chain(&built.outputs).find_map(samples).unwrap_or(1);
        let picked = pick(samples, self.oracle.count);
        let mut values = Values { samples, picked: picked.clone(), ..Values::default() };
        for input in &built.inputs {
            values.named.insert(input.name.clone(), taken(g, input, &picked)?);
        }
        for dout in &built.douts {
            let some = taken(g, dout, &picked)?;
            leave(g, dout, &picked)?;
            values.named.insert(format!("d{}", dout.name), some);
        }
        built.forward.run()?;
        if let Some(backward) = &built.backward {
            backward.run()?;
        }
        let wants = (self.oracle.expect)(&values)?;
        let grads = built.grads.iter().map(|grad| (format!("d{}", grad.name), grad));
        let outputs = built.outputs.iter().map(|out| (out.name.clone(), out));
        for (name, named) in outputs.chain(grads) {
            let Some(want) = wants.iter().find(|want| want.name == name) else {
                let what = "the oracle returns no expected values for";
                return Err(Error::Mismatch(format!("{self:?}: {what} `{name}`; add them to the case's `check`")));
            };
            let mut got = read(g, named, &picked)?.1;
            if named.tensor.dtype() == DType::U32 {
                got = got.into_iter().flat_map(|v| halves(v.to_bits())).map(f32::from).collect();
            }
            let compared = compare(&name, &got, &want.values, want.tol);
            let difference = compared.map_err(|e| Error::Mismatch(format!("{self:?}: {e}")))?;
            tracing::debug!("{self:?}: {name}: max |difference| {difference:.2e} over {}", got.len());
        }
        let unit = self.oracle.unit;
        Ok(if picked.len() == samples { "all".into() } else { format!("{} of {samples} {unit}", picked.len()) })
    }
}

fn samples(named: &Named) -> Option<usize> {
    match named.along {
        Along::Axis(axis) => named.tensor.shape().get(axis).copied(),
        Along::Whole => None,
    }
}

/// Indices of the samples to compare: all if there are at most `count`; one from the middle if `count` is 1; else half
/// of `count` from each end.
fn pick(samples: usize, count: usize) -> Vec<usize> {
    match count.max(1) {
        count if count >= samples => (0..samples).collect(),
        1 => vec![samples / 2],
        count => (0..count.div_ceil(2)).chain(samples - count / 2..samples).collect(),
    }
}

/// [`read`] as f64 for the oracle. u32 words become their value, which f64 holds exactly.
fn taken(g: &Gpu, named: &Named, picked: &[usize]) -> Result<(Vec<usize>, Vec<f64>)> {
    let (shape, values) = read(g, named, picked)?;
    let wide = |v: f32| if named.words { f64::from(v.to_bits()) } else { f64::from(v) };
    Ok((shape, values.into_iter().map(wide).collect()))
}

/// Shape and values of the picked samples, or of the whole tensor if it has no samples. u32 words are returned as the
/// f32 with the same bits.
fn read(g: &Gpu, named: &Named, picked: &[usize]) -> Result<(Vec<usize>, Vec<f32>)> {
    let mut shape = named.tensor.shape().to_vec();
    let mut values = Vec::new();
    for (start, len) in runs(named, picked) {
        values.extend(named.tensor.range(start, &[len])?.to_vec(g)?);
    }
    if let Along::Axis(axis) = named.along {
        shape[axis] = picked.len();
    }
    Ok((shape, values))
}

/// Sets all samples to 0 except the picked ones.
fn leave(g: &Gpu, named: &Named, picked: &[usize]) -> Result<()> {
    let tensor: &Tensor = &named.tensor;
    if samples(named).is_none_or(|n| n == picked.len()) {
        return Ok(());
    }
    let mut values = vec![0.0f32; tensor.len()];
    for (start, len) in runs(named, picked) {
        values[start..start + len].copy_from_slice(&tensor.range(start, &[len])?.to_vec(g)?);
    }
    if tensor.is_f16() {
        return tensor.write(g, &values.into_iter().map(half::f16::from_f32).collect::<Vec<_>>());
    }
    tensor.write(g, &values)
}

/// Contiguous ranges (start, length) of the picked samples, in elements.
fn runs(named: &Named, picked: &[usize]) -> Vec<(usize, usize)> {
    let shape = named.tensor.shape();
    let Along::Axis(axis) = named.along else { return vec![(0, named.tensor.len())] };
    let (outer, n) = (shape[..axis].iter().product::<usize>(), shape[axis]);
    let inner = shape[axis + 1..].iter().product::<usize>();
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for at in (0..outer).flat_map(|o| picked.iter().map(move |p| (o * n + p) * inner)) {
        match runs.last_mut() {
            Some((start, len)) if *start + *len == at => *len += inner,
            _ => runs.push((at, inner)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_come_from_both_ends() {
        assert_eq!(pick(5, 9), [0, 1, 2, 3, 4]);
        assert_eq!(pick(128, 1), [64]);
        assert_eq!(pick(128, 3), [0, 1, 127]);
        let tensor = Tensor::input("x", &[2, 5, 3]);
        let named = Named { name: "x".into(), along: Along::Axis(1), tensor, leaf: None, words: false };
        assert_eq!(runs(&named, &[0, 4]), [(0, 3), (12, 6), (27, 3)]);
    }
}
