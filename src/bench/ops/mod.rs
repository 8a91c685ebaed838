//! The cases, one file per operator family: its launches at the models' shapes, the oracle's results, and the floors,
//! which the header of the shader explains. Cases without a floor are checked but not timed: small and awkward shapes,
//! and variants that the device does not choose by itself.

mod activation;
mod adamw;
mod add;
mod attention;
mod batch_norm;
mod box_refine;
mod chamfer;
mod channel_gate;
mod concat;
mod conv1d;
mod conv2d;
mod cross_entropy;
mod diffusion;
mod dropout;
mod ema;
mod hide;
mod info_nce;
mod l2_norm;
mod layer_scale;
mod local_norm_pool;
mod loss_scale;
mod masked_loss;
mod matmul;
mod max_concat;
mod mlp;
mod modulate;
mod mse_norm;
mod neighbors;
mod norm;
mod parts;
mod patchify;
mod pick;
mod pixel_loss;
mod pool;
mod reduce;
mod registers;
mod resample;
mod rng;
mod roi_align;
mod scale;
mod selective_scan;
mod ss2d;
mod ssm;
mod swiglu;
mod tokens;
mod upsample;

use super::case::Case;
use super::case::{Cases, out, result};
use super::inputs::Along::{Axis, Whole};
use super::inputs::Fill;
use super::oracle::{Tol, Values, Want, near, want, words};
use super::selection::Scope;
use crate::error::Result;
use crate::gpu::{Precision, Work as Floor};
use crate::{cpu, ops};

/// Whether a map of this many channels is stored as f16 in the precision of the cases, as layers store it.
fn halved(scope: &Scope, channels: usize) -> bool {
    scope.precision == Precision::Mixed && channels.is_multiple_of(4)
}

/// Operands as products read them: rounded to f16 in mixed precision.
fn rounded(values: &[f64], precision: Precision) -> Vec<f64> {
    let half = |v: &f64| half::f16::from_f64(*v).to_f64();
    if precision == Precision::Mixed { values.iter().map(half).collect() } else { values.to_vec() }
}

/// Tolerance of a sum of `k` products of order 1. Its rounding error is about 2.4e-8·k; eight times that is allowed.
/// Cooperative matrices may truncate sums instead of rounding them: four times as much again. They may also treat f16
/// subnormals as 0, which is an error of 6e-5 times an operand of up to 4. Split operands (`High`) have a relative
/// error of 2⁻²¹ in each product.
fn of_products(precision: Precision, k: usize) -> Tol {
    let sum = 2e-7 * (4.0 + k as f64);
    match precision {
        Precision::F32 => Tol { rel: 2e-7, abs: sum },
        Precision::Mixed => Tol { rel: 8e-7, abs: 4.0 * sum + 2.4e-4 },
        Precision::High => Tol { rel: 1e-6, abs: 4.0 * sum + 2.4e-6 * (k as f64).sqrt() },
    }
}

/// A family: its name, and the function that adds its cases.
pub type FamilyCases = (&'static str, fn(&mut Cases));

/// Every family.
pub const ALL: &[FamilyCases] = &[
    ("activation", activation::cases),
    ("adamw", adamw::cases),
    ("add", add::cases),
    ("attention", attention::cases),
    ("batch_norm", batch_norm::cases),
    ("box_refine", box_refine::cases),
    ("chamfer", chamfer::cases),
    ("channel_gate", channel_gate::cases),
    ("concat", concat::cases),
    ("conv1d", conv1d::cases),
    ("conv2d", conv2d::cases),
    ("cross_entropy", cross_entropy::cases),
    ("diffusion", diffusion::cases),
    ("dropout", dropout::cases),
    ("ema", ema::cases),
    ("hide", hide::cases),
    ("info_nce", info_nce::cases),
    ("l2_norm", l2_norm::cases),
    ("layer_scale", layer_scale::cases),
    ("local_norm_pool", local_norm_pool::cases),
    ("loss_scale", loss_scale::cases),
    ("masked_loss", masked_loss::cases),
    ("matmul", matmul::cases),
    ("max_concat", max_concat::cases),
    ("mlp", mlp::cases),
    ("modulate", modulate::cases),
    ("mse_norm", mse_norm::cases),
    ("neighbors", neighbors::cases),
    ("norm", norm::cases),
    ("parts", parts::cases),
    ("patchify", patchify::cases),
    ("pick", pick::cases),
    ("pixel_loss", pixel_loss::cases),
    ("pool", pool::cases),
    ("reduce", reduce::cases),
    ("registers", registers::cases),
    ("resample", resample::cases),
    ("rng", rng::cases),
    ("roi_align", roi_align::cases),
    ("scale", scale::cases),
    ("selective_scan", selective_scan::cases),
    ("ss2d", ss2d::cases),
    ("ssm", ssm::cases),
    ("swiglu", swiglu::cases),
    ("tokens", tokens::cases),
    ("upsample", upsample::cases),
];

/// The cases of a family that `scope` selects.
pub fn of(scope: &Scope, (family, list): FamilyCases) -> Vec<Case> {
    let mut cases = Cases::new(scope, family);
    list(&mut cases);
    cases.into_list()
}
