//! The mixer of ARM: a Mamba mixer that reads the tokens of an image by rows and by columns, each both ways. Formulae
//! and names: src/models/README.md, "ARM".

use super::init::{Init, InitScheme};
use super::linear::Linear;
use super::mamba::{MambaConfig, branch};
use super::params::Params;
use crate::error::Result;
use crate::ops::add::add;
use crate::ops::scale::scale;
use crate::ops::ssm::{Ssm, ssm};
use crate::ops::tokens::gather;
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

/// The mixer: ARM's `Mamba` with `bimamba_type="v3"`. in_proj and out_proj are shared, and each of the four directions
/// has its own convolution, projections and channels. So the gate goes with the token, whatever the order.
#[derive(Debug, Clone)]
pub struct CrossMamba {
    in_proj: Linear,
    rows: Ssm,
    columns: Ssm,
    out_proj: Linear,
}

impl CrossMamba {
    /// Parameters `name.*` under the names of official checkpoints: without a suffix by rows, and with `_b`, `_c` and
    /// `_c_b` by rows from the last token, by columns, and by columns from the last token. `directions` of the
    /// configuration does not count.
    pub fn new(params: &mut Params, name: &str, config: &MambaConfig) -> Result<Self> {
        let (d, e) = (config.width, config.inner());
        let map_repo = config.init == InitScheme::MapRepo;
        let either = |ours: Init, theirs: Init| if map_repo { theirs } else { ours };
        let linear = either(Init::FanIn(1.0), Init::XavierUniform);
        // as in ARM's code, only the first direction's step sizes start as Mamba's; the others start at 0.693
        let steps = either(Init::DtBias, Init::Zeros);
        params.scope(name, |p| {
            Ok(Self {
                in_proj: Linear::no_bias(p, "in_proj", d, 2 * e, linear)?,
                rows: branch(p, config, &["", "_b"], &[steps, Init::Zeros], false)?,
                columns: branch(p, config, &["_c", "_c_b"], &[Init::Zeros; 2], false)?,
                out_proj: Linear::no_bias(p, "out_proj", e, d, either(Init::FanIn(config.out_scale), linear))?,
            })
        })
    }

    /// x (B, L, D) → (B, L, D), plus `residual` (B, L, D) if there is one. `columns` (L) are the tokens in the order of
    /// the columns, and `rows` (L) is the inverse: the place of each token in that order.
    pub fn forward(
        &self, r: &mut Recorder, x: &Var, [columns, rows]: &[Tensor; 2], residual: Option<&Var>,
    ) -> Result<Var> {
        let xz = self.in_proj.forward(r, x)?; // (B, L, 2E)
        let by_rows = ssm(r, &xz, &self.rows)?; // (B, L, E), the mean over two directions
        let xz = gather(r, &xz, columns, rows)?;
        let by_columns = ssm(r, &xz, &self.columns)?;
        let by_columns = gather(r, &by_columns, rows, columns)?;
        let y = add(r, &by_rows, &by_columns)?;
        let y = scale(r, &y, 0.5)?;
        match residual {
            Some(residual) => self.out_proj.forward_onto(r, &y, residual),
            None => self.out_proj.forward(r, &y),
        }
    }
}
