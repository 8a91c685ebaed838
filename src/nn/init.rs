//! Initial values. They are drawn on the CPU from (seed, name), so that they depend neither on the order of the
//! parameters nor on the GPU.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

/// Which published code the initial values follow (src/models/README.md, "Initial values" and D-4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "snake_case")]
pub enum InitScheme {
    /// Mamba's: step sizes log-uniform in [0.001, 0.1] in both directions, `out_proj` divided by √depth. Our default.
    #[default]
    Mamba,
    /// The MAP repository's: xavier-uniform Linear weights and zero Linear biases, `dt_proj` included, so that every
    /// step size starts at softplus(0) = 0.693.
    MapRepo,
}

/// How a parameter starts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Init {
    /// All zero.
    Zeros,
    /// All one.
    Ones,
    /// All this value.
    Constant(f32),
    /// N(0, std²).
    Normal(f32),
    /// N(0, std²), redrawn outside of [−2, 2] in absolute terms: timm's `trunc_normal_`.
    TruncNormal(f32),
    /// N(0, 1/fan_in), cut at two standard deviations and rescaled: timm's `lecun_normal_`.
    LecunNormal,
    /// U(−bound, bound).
    Uniform(f32),
    /// U(±√(6 / (fan_in + fan_out))): PyTorch's `xavier_uniform_`.
    XavierUniform,
    /// N(0, 2/fan_out): PyTorch's `kaiming_normal_(mode="fan_out", nonlinearity="relu")`.
    KaimingFanOut,
    /// U(±1/√fan_in): PyTorch's default for Linear and Conv, times a factor.
    FanIn(f32),
    /// ln(1 … N) along the last axis. For `A_log` this makes A = −(1 … N): S4D-real, as in Mamba.
    LogArange,
    /// Fixed 2-D positions (1, L, D) of tokens in raster order: MAE's `get_2d_sincos_pos_embed`
    /// (src/models/README.md, "Patches, positions and registers").
    SinCos {
        /// Tokens in a row of the grid.
        columns: usize,
        /// The row of the class token among them, if there is one. It is all zero.
        class: Option<usize>,
        /// Factor of the sines and cosines: 1 in MAE.
        scale: f32,
    },
    /// softplus⁻¹ of a step size drawn log-uniformly in [0.001, 0.1], at least 1e-4: Mamba's `dt_proj.bias`.
    DtBias,
}

/// A draw from U[0, 1).
fn unit(rng: &mut ChaCha8Rng) -> f64 {
    (rng.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

fn gauss(rng: &mut ChaCha8Rng) -> f64 {
    let radius = (-2.0 * (1.0 - unit(rng)).ln()).sqrt();
    radius * (std::f64::consts::TAU * unit(rng)).cos()
}

/// A draw from N(0, 1) within ±cut, by rejection.
fn truncated(rng: &mut ChaCha8Rng, cut: f64) -> f64 {
    loop {
        let draw = gauss(rng);
        if draw.abs() <= cut {
            return draw;
        }
    }
}

/// FNV-1a: a hash that stays the same on every machine and in every version.
pub fn stable_hash(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(b)).wrapping_mul(0x100_0000_01b3))
}

/// The first half of a position encodes the column of a token, the second half its row. Each half is D/4 sines and then
/// D/4 cosines of p·10000^(−k/(D/4)).
fn sin_cos(shape: &[usize], columns: usize, class: Option<usize>) -> Vec<f32> {
    let (rows, d) = (shape.iter().rev().skip(1).product::<usize>(), shape.last().copied().unwrap_or(0));
    let (columns, quarter) = (columns.max(1), (d / 4).max(1));
    let value = |token: usize, c: usize| {
        let place = if c < 2 * quarter { token % columns } else { token / columns };
        let angle = place as f64 * 10_000f64.powf(-((c % quarter) as f64) / quarter as f64);
        (if (c / quarter).is_multiple_of(2) { angle.sin() } else { angle.cos() }) as f32
    };
    let row = |row: usize| match class {
        Some(class) if row == class => vec![0.0; d],
        Some(class) if row > class => (0..d).map(|c| value(row - 1, c)).collect(),
        _ => (0..d).map(|c| value(row, c)).collect(),
    };
    (0..rows).flat_map(row).collect()
}

impl Init {
    /// The values of parameter `name` of `shape` (out, in, …) under `seed`.
    pub fn values(self, name: &str, shape: &[usize], seed: u64) -> Vec<f32> {
        let n = shape.iter().product::<usize>();
        let mut rng = ChaCha8Rng::seed_from_u64(seed ^ stable_hash(name));
        let receptive = shape.iter().skip(2).product::<usize>() as f64;
        let fan_in = shape.iter().skip(1).product::<usize>().max(1) as f64;
        let fan_out = shape.first().copied().unwrap_or(1) as f64 * receptive;
        let mut draw = |value: &mut dyn FnMut(&mut ChaCha8Rng) -> f64| (0..n).map(|_| value(&mut rng) as f32).collect();
        let mut uniform = |bound: f64| draw(&mut |rng| (2.0 * unit(rng) - 1.0) * bound);
        match self {
            Self::Zeros => vec![0.0; n],
            Self::Ones => vec![1.0; n],
            Self::Constant(value) => vec![value; n],
            Self::Uniform(bound) => uniform(f64::from(bound)),
            Self::XavierUniform => uniform((6.0 / (fan_in + fan_out)).sqrt()),
            Self::FanIn(factor) => uniform(f64::from(factor) / fan_in.sqrt()),
            Self::KaimingFanOut => draw(&mut |rng| gauss(rng) * (2.0 / fan_out).sqrt()),
            Self::Normal(std) => draw(&mut |rng| gauss(rng) * f64::from(std)),
            Self::TruncNormal(std) => draw(&mut |rng| truncated(rng, 2.0 / f64::from(std)) * f64::from(std)),
            // 0.8796 is the standard deviation of N(0, 1) cut at ±2
            Self::LecunNormal => draw(&mut |rng| truncated(rng, 2.0) / 0.879_625_661_034_239_8 / fan_in.sqrt()),
            Self::LogArange => {
                let last = shape.last().copied().unwrap_or(1).max(1);
                (0..n).map(|i| ((i % last + 1) as f32).ln()).collect()
            }
            Self::SinCos { columns, class, scale } => {
                let mut values = sin_cos(shape, columns, class);
                values.iter_mut().for_each(|v| *v *= scale);
                values
            }
            Self::DtBias => draw(&mut |rng| {
                let dt = (unit(rng) * 100f64.ln() + 0.001f64.ln()).exp().max(1e-4);
                dt + (-(-dt).exp_m1()).ln()
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(values: &[f32]) -> (f64, f64) {
        let n = values.len() as f64;
        let mean = values.iter().map(|&v| f64::from(v)).sum::<f64>() / n;
        (mean, (values.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n).sqrt())
    }

    #[test]
    fn moments_are_as_named() {
        let shape = [64, 48, 4];
        for (init, std) in [
            (Init::Normal(0.02), 0.02),
            (Init::TruncNormal(0.02), 0.02),
            (Init::LecunNormal, 1.0 / 192f64.sqrt()),
            (Init::XavierUniform, (2.0 / f64::from(192 + 256)).sqrt()),
            (Init::FanIn(1.0), 1.0 / 192f64.sqrt() / 3f64.sqrt()),
        ] {
            let (mean, found) = moments(&init.values("w", &shape, 1));
            // 12288 draws: the standard error of the deviation is 0.64%, of the mean 0.9% of std
            assert!(
                (found / std - 1.0).abs() < 0.04 && mean.abs() < 0.04 * std,
                "{init:?}: {mean} ± {found}, want {std}"
            );
        }
    }

    #[test]
    fn fixed_positions_are_sines_of_column_and_row() {
        let values = |class, rows| Init::SinCos { columns: 3, class, scale: 1.0 }.values("pos", &[1, rows, 8], 0);
        let plain = values(None, 9);
        let front = values(Some(0), 10);
        assert_eq!((&front[..8], &front[8..]), (&[0.0; 8][..], &plain[..]));
        let middle = values(Some(4), 10);
        assert_eq!((&middle[..32], &middle[32..40], &middle[40..]), (&plain[..32], &[0.0; 8][..], &plain[32..]));
        // token 5 of a 3×3 grid is in row 1, column 2; ω = 1, 0.01
        let token: Vec<f64> = [2.0, 0.02, 2.0, 0.02, 1.0, 0.01, 1.0, 0.01].to_vec();
        for (c, angle) in token.iter().enumerate() {
            let want = if c / 2 % 2 == 0 { angle.sin() } else { angle.cos() };
            assert!((f64::from(plain[5 * 8 + c]) - want).abs() < 1e-7, "column {c}");
        }
    }

    #[test]
    fn step_sizes_lie_in_their_range() {
        for bias in Init::DtBias.values("dt", &[4096], 3) {
            let dt = f64::from(bias).exp().ln_1p();
            assert!((0.000_99..0.101).contains(&dt), "softplus({bias}) = {dt}");
        }
        assert_eq!(Init::LogArange.values("A_log", &[2, 3], 0)[3..], [0.0, 2f32.ln(), 3f32.ln()]);
        assert_ne!(Init::Normal(1.0).values("a", &[4], 0), Init::Normal(1.0).values("b", &[4], 0));
    }
}
