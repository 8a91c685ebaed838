//! Which path is fastest for the products of a recording, measured once per class of shapes.
//!
//! Candidates are timed in turn, over and over, so that a change of the GPU's clock affects all alike. A candidate may
//! win only if its result equals that of [`Route::Direct`] bit for bit; paths on cooperative matrices must equal each
//! other and be close to it. So tuning never changes a result. The number of k-splits would change it, and is
//! therefore a function of the shape, not measured.

use std::collections::BTreeMap;
use std::time::Instant;

use super::gemm::{Form, Gemm, Matmul};
use super::launch::{Added, gemm_with};
use super::variant::{ROUTES, Route, Variant, pick};
use crate::error::Result;
use crate::gpu::{Gpu, Launch, Precision, Program};
use crate::tape::Recorder;
use crate::tensor::Tensor;

/// Timed replays of a candidate. An untimed one, whose result is compared, comes first.
const TURNS: usize = 5;
/// Elements of a product that are compared: this many from its beginning, and this many from its end.
const COMPARED: usize = 1 << 18;

/// Measures every class of products in `launches` that has no choice yet, and returns the number of classes measured.
///
/// If it is above 0, record again, so that the launches take the measured paths. On a CPU adapter nothing is measured.
/// `precision` is the precision of the recording.
///
/// # Errors
///
/// If the device fails. A candidate with another result is no error: it is passed over with a warning.
pub fn tune(g: &Gpu, launches: &[Launch], precision: Precision) -> Result<usize> {
    if g.caps().software || g.is_dry() || Route::candidates(g.caps(), precision).len() < 2 {
        return Ok(0);
    }
    let mut classes = BTreeMap::new();
    for p in launches.iter().filter_map(product_of) {
        let class = p.class(precision);
        if g.choice(&class).is_none() {
            classes.entry(class).or_insert(p);
        }
    }
    if classes.is_empty() {
        return Ok(0);
    }
    let start = Instant::now();
    let operand = |salt: u32, len: fn(&Gemm) -> usize| -> Result<Tensor> {
        let len = classes.values().map(len).max().unwrap_or_default();
        let values: Vec<f32> = (0..len).map(|i| scattered(i as u32 ^ salt)).collect();
        Tensor::from_slice(g, &[len], &values)
    };
    let (a, b) = (operand(0, |p| p.batch * p.m * p.k)?, operand(0x9e37_79b9, |p| p.batch * p.n * p.k)?);
    let mut found = BTreeMap::new();
    for (class, p) in &classes {
        let path = fastest(g, precision, p, &a, &b)?;
        tracing::debug!("{class}: {path:?}");
        found.insert(class.clone(), ROUTES.iter().position(|known| *known == path).unwrap_or_default() as u32);
    }
    g.choose(found)?;
    tracing::info!("{} classes of products measured in {:.1} s", classes.len(), start.elapsed().as_secs_f64());
    Ok(classes.len())
}

/// The product that a launch computes, with dense matrices of its sizes. None for other kernels, and for `combine`,
/// which adds the parts of a product.
fn product_of(launch: &Launch) -> Option<Gemm> {
    if !launch.kernel().product {
        return None;
    }
    let p: Matmul = launch.with_args(|args| args.scalars());
    let form = *[Form::Nt, Form::Nn, Form::Tn].get(*launch.consts.first()? as usize)?;
    let [batch, m, n, k] = [p.batch, p.m, p.n, p.k].map(|size| size as usize);
    Some(Gemm::dense(form, batch, m, n, k))
}

/// The fastest eligible path for the product, timed on the first elements of `a` and `b`.
fn fastest(g: &Gpu, precision: Precision, p: &Gemm, a: &Tensor, b: &Tensor) -> Result<Route> {
    let c = Tensor::input("product", &[p.batch, p.m, p.n]);
    let splits = pick(g.caps(), precision, p).splits;
    let program = |path| -> Result<Program> {
        let variant = Variant { path, splits, precision };
        let mut r = Recorder::inference(g);
        gemm_with(&mut r, variant, p, a, b, Added::default(), &c)?;
        Program::new(r.finish())
    };
    let values = |program: &Program| -> Result<Vec<f32>> {
        program.run()?;
        let len = c.len().min(COMPARED);
        let last = (c.len() - len) / 64 * 64; // ranges start at multiples of 64
        Ok([c.range(0, &[len])?.to_vec(g)?, c.range(last, &[c.len() - last])?.to_vec(g)?].concat())
    };
    let simple = values(&program(Route::Direct(8, 8))?)?;
    let mut first: Option<Vec<f32>> = None;
    let mut right = Vec::new();
    for path in Route::candidates(g.caps(), precision) {
        let program = program(path)?;
        let got = values(&program)?;
        let same = match path {
            Route::Coop(_) => close(&simple, &got, p.k) && first.as_ref().is_none_or(|first| same_bits(first, &got)),
            _ => same_bits(&simple, &got),
        };
        if same {
            first.get_or_insert(got);
            right.push((path, program, f64::MAX));
        } else {
            tracing::warn!("{path:?} of {p:?} computes something else: not used");
        }
    }
    for _ in 0..TURNS {
        for (_, program, best) in &mut right {
            *best = best.min(seconds(g, program)?);
        }
    }
    let fastest = right.iter().min_by(|a, b| a.2.total_cmp(&b.2));
    Ok(fastest.map_or_else(|| pick(g.caps(), precision, p).path, |(path, ..)| *path))
}

/// A pseudorandom multiple of 1/512 in [-1, 1), which f16 represents exactly.
///
/// If rows of one operand resembled rows of the other, sums would reach hundreds. The digits that cooperative matrices
/// truncate from such sums exceed the tolerance of `close` (seen on an H200).
fn scattered(i: u32) -> f32 {
    let mut x = (i ^ (i >> 16)).wrapping_mul(0x7feb_352d);
    x = (x ^ (x >> 15)).wrapping_mul(0x846c_a68b);
    ((x ^ (x >> 16)) >> 22) as f32 / 512.0 - 1.0
}

fn same_bits(a: &[f32], b: &[f32]) -> bool {
    a.iter().map(|v| v.to_bits()).eq(b.iter().map(|v| v.to_bits()))
}

/// Whether two products agree up to rounding. An element is a sum of k terms of at most 1 each. Another order of
/// addition, or truncation, costs about 2^-23 a term, and splitting an operand ([`Precision::High`]) loses a little.
fn close(a: &[f32], b: &[f32], k: usize) -> bool {
    let most = 1e-6 * (4.0 + k as f32);
    a.iter().zip(b).all(|(a, b)| (a - b).abs() <= most)
}

/// Seconds of one replay: by GPU timestamps where the adapter has them, else by the host's clock.
fn seconds(g: &Gpu, program: &Program) -> Result<f64> {
    if g.caps().timestamps {
        return Ok(program.profile()?.iter().map(|launch| launch.ns as f64 * 1e-9).sum());
    }
    g.wait()?;
    let start = Instant::now();
    program.run()?;
    g.wait()?;
    Ok(start.elapsed().as_secs_f64())
}
