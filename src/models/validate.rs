//! The checks every configuration has to pass.

use super::config::{Config, DecoderKind, Family, Pool, Positions};
use crate::error::{Error, Result};

impl Config {
    /// Everything that must hold before anything is built.
    pub fn validate(&self) -> Result<()> {
        let check = |ok: bool, what: &str, got: String, expected: &str| match ok {
            true => Ok(()),
            false => Err(Error::argument(what.to_owned(), got, expected)),
        };
        // generous, and small enough that no product of them overflows
        let within = |what: &str, got: usize, low: usize, high: usize| {
            check((low..=high).contains(&got), what, got.to_string(), &format!("{low} to {high}"))
        };
        let ratio = |what: &str, got: f64, width: usize| {
            let fine = got > 0.0 && got <= 64.0 && (width as f64 * got) >= 1.0;
            check(fine, what, format!("{got:?}"), "a number above 0, at most 64")
        };
        within("image_size", self.image_size, 1, 4096)?;
        within("image_width", self.image_width.unwrap_or(1), 1, 4096)?;
        within("patch_size", self.patch_size, 1, 256)?;
        within("width", self.width, 1, 8192)?;
        within("registers", self.registers, 0, 1024)?;
        within("classes", self.classes, 0, 1_000_000)?;
        within("states", self.states, 1, 64)?;
        within("conv", self.conv, 1, 8)?;
        within("expand", self.expand, 1, 16)?;
        within("decoder.width", self.decoder.width, 1, 8192)?;
        within("decoder.depth", self.decoder.depth, 0, 256)?;
        within("length of pattern", self.pattern.len(), 1, 1024)?;
        ratio("mlp_ratio", self.mlp_ratio, self.width)?;
        ratio("decoder.mlp_ratio", self.decoder.mlp_ratio, self.decoder.width)?;
        for side in [self.image_size, self.image_width.unwrap_or(self.image_size)] {
            let got = format!("{side} with patches of {}", self.patch_size);
            check(side.is_multiple_of(self.patch_size), "image_size", got, "a multiple of the patch size")?;
        }
        let letters = self.pattern.chars().all(|c| c == 'M' || c == 'T');
        check(letters, "pattern", format!("`{}`", self.pattern), "a string of M and T, as MMMTMMMT")?;
        check((0.0..1.0).contains(&self.drop_path), "drop_path", self.drop_path.to_string(), "0 to below 1")?;
        let reduced = self.cls_reduce > 0 && self.width.is_multiple_of(self.cls_reduce);
        check(reduced, "cls_reduce", self.cls_reduce.to_string(), "a divisor of the width")?;
        self.validate_family()?;
        let heads = |width: usize, heads: usize| heads > 0 && width.is_multiple_of(heads) && width / heads <= 128;
        let fine = !self.pattern.contains('T') || heads(self.width, self.heads);
        check(fine, "heads", self.heads.to_string(), "a divisor of the width with at most 128 per head")?;
        let d = &self.decoder;
        let got = format!("{} at width {}", d.heads, d.width);
        check(heads(d.width, d.heads), "decoder.heads", got, "a divisor of the width with at most 128 per head")
    }

    /// What each family can be made of.
    fn validate_family(&self) -> Result<()> {
        let check = |ok: bool, what: &str, got: String, expected: &str| match ok {
            true => Ok(()),
            false => Err(Error::argument(format!("{what} of a {:?}", self.family), got, expected)),
        };
        let only = |letter| self.pattern.chars().all(|c| c == letter);
        let (pattern, registers) = match self.family {
            Family::Hybrid => (true, true),
            Family::Vim => (only('M'), self.registers == 1),
            Family::Vit => (only('T'), self.registers <= 1),
        };
        check(pattern, "pattern", format!("`{}`", self.pattern), "M only in a Vim, T only in a Vit")?;
        check(registers, "registers", self.registers.to_string(), "one class token (a Vit may have none)")?;
        let pool = match self.pool {
            Pool::Registers => self.family == Family::Hybrid,
            Pool::Token => self.family != Family::Hybrid && self.registers == 1,
            Pool::Average => true,
        };
        let got = format!("{:?} with {} registers", self.pool, self.registers);
        check(pool, "pool", got, "registers in a Hybrid, token where there is a class token, or average")?;
        let eps = self.norm_eps.unwrap_or(1e-6);
        check(eps > 0.0 && eps < 1.0, "norm_eps", eps.to_string(), "above 0 and below 1")?;
        let fixed = self.positions == Positions::Learned || self.width.is_multiple_of(4);
        check(fixed, "width", self.width.to_string(), "a multiple of 4 for fixed positions")?;
        let mae = self.decoder.kind == DecoderKind::Map || (self.family == Family::Vit && self.registers == 1);
        let got = format!("{:?} with {} class tokens", self.family, self.registers);
        check(mae, "encoder of MAE's decoder", got, "a Vit with a class token")?;
        let width = self.decoder.kind == DecoderKind::Map || self.decoder.width.is_multiple_of(4);
        check(width, "decoder.width", self.decoder.width.to_string(), "a multiple of 4 for fixed positions")
    }
}
