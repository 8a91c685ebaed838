//! The checks every configuration has to pass.

use super::config::{Config, Family};
use super::dense::Dense;
use super::options::{DecoderKind, InitPositions, Order, Pool, Positions};
use crate::error::{Error, Result};
use crate::nn::Directions;

impl Config {
    /// Everything that must hold before anything is built.
    pub fn validate(&self) -> Result<()> {
        let check = |ok: bool, what: &str, got: String, expected: &str| match ok {
            true => Ok(()),
            false => Err(Error::argument(what.to_owned(), got, expected)),
        };
        // the bounds are generous, and small enough that no product of the numbers overflows
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
        let least = usize::from(!self.family.hierarchical && !self.family.clouds); // others have stages, or a depth
        within("length of pattern", self.pattern.len(), least, 1024)?;
        ratio("mlp_ratio", self.mlp_ratio, self.width)?;
        ratio("decoder.mlp_ratio", self.decoder.mlp_ratio, self.decoder.width)?;
        for side in [self.image_size, self.image_width.unwrap_or(self.image_size)] {
            let (got, patch) = (format!("{side} with patches of {}", self.patch_size), self.input_patch());
            check(side.is_multiple_of(patch), "image_size", got, "a multiple of the patch size")?;
        }
        let able = self.directions != Directions::One || self.family.one_way;
        let expected = format!("Mean or Sum: a {:?} reads its tokens both ways", self.family);
        check(able, "directions", format!("{:?}", self.directions), &expected)?;
        let letters = self.pattern.chars().all(|c| c == 'M' || c == 'T');
        check(letters, "pattern", format!("`{}`", self.pattern), "a string of M and T, as MMMTMMMT")?;
        let (scale, bounds) = (self.position_scale, "above 0 and at most 100");
        check(scale > 0.0 && scale <= 100.0, "position_scale", scale.to_string(), bounds)?;
        let std = self.mask_token_std;
        check((0.0..=10.0).contains(&std), "mask_token_std", std.to_string(), "0 to 10")?;
        check((0.0..1.0).contains(&self.drop_path), "drop_path", self.drop_path.to_string(), "0 to below 1")?;
        check((0.0..1.0).contains(&self.dropout), "dropout", self.dropout.to_string(), "0 to below 1")?;
        let reduced = self.cls_reduce > 0 && self.width.is_multiple_of(self.cls_reduce);
        check(reduced, "cls_reduce", self.cls_reduce.to_string(), "a divisor of the width")?;
        self.validate_hierarchy()?;
        self.validate_family()?;
        self.validate_points()?;
        self.validate_dense()?;
        (self.family.check)(self)?;
        let heads = |width: usize, heads: usize| heads > 0 && width.is_multiple_of(heads) && width / heads <= 128;
        let fine = !self.pattern.contains('T') || heads(self.width, self.heads);
        check(fine, "heads", self.heads.to_string(), "a divisor of the width with at most 128 per head")?;
        let d = &self.decoder;
        let got = format!("{} at width {}", d.heads, d.width);
        check(heads(d.width, d.heads), "decoder.heads", got, "a divisor of the width with at most 128 per head")
    }

    /// A family on maps has stages, and no other family has.
    fn validate_hierarchy(&self) -> Result<()> {
        match (&self.hierarchy, self.family.hierarchical) {
            (Some(net), true) => {
                net.validate()?;
                let last = net.stages.last().map_or(0, |stage| stage.width);
                if self.width != last && !self.family.widens {
                    let expected = format!("{last}, that of its last stage: the name says how wide the stages are");
                    return Err(Error::argument(format!("width of a {:?}", self.family), self.width, expected));
                }
                if !net.is_dilated() || self.family.dilates || self.dense.is_some() {
                    return Ok(()); // a head says what it reads
                }
                let what = format!("hierarchy.output_stride of a {:?}", self.family);
                Err(Error::argument(what, net.output_stride, 32))
            }
            (None, false) => Ok(()),
            (found, wanted) => {
                let say = |there: bool| if there { "stages" } else { "none" };
                Err(Error::argument(format!("hierarchy of a {:?}", self.family), say(found.is_some()), say(wanted)))
            }
        }
    }

    /// A network on point clouds has their sizes, and no other network has.
    fn validate_points(&self) -> Result<()> {
        match (&self.points, self.family.clouds) {
            (Some(points), true) => {
                points.validate()?;
                let fits = self.heads > 0 && self.width.is_multiple_of(self.heads) && self.width / self.heads <= 128;
                let expected = "a divisor of the width with at most 128 per head";
                if fits { Ok(()) } else { Err(Error::argument("heads", self.heads, expected)) }
            }
            (None, false) => Ok(()),
            (found, _) => {
                let say = |there: bool| if there { "their sizes" } else { "none" };
                let expected = say(found.is_none());
                Err(Error::argument(format!("points of a {:?}", self.family), say(found.is_some()), expected))
            }
        }
    }

    /// A network for a dense task reads images, and has no tokens besides patches.
    fn validate_dense(&self) -> Result<()> {
        let Some(dense) = &self.dense else { return Ok(()) };
        let family = self.family;
        let tokens = !family.hierarchical && !family.clouds && dense.reads_tokens();
        let maps = family.hierarchical && (dense.output_stride() == 32 || family.dilates);
        if !(tokens || maps) || self.registers > 0 || self.classes == 0 {
            let got = format!("a {family:?} with {} prefix tokens and {} classes", self.registers, self.classes);
            let backbone = if dense.reads_tokens() { "a backbone on images without prefix tokens" } else { "a ResNet" };
            return Err(Error::argument("dense", got, format!("{backbone}, and at least one class")));
        }
        if let Some(net) = self.hierarchy.as_ref().filter(|net| net.output_stride != dense.output_stride()) {
            let expected = format!("{}, which the head reads", dense.output_stride());
            return Err(Error::argument("hierarchy.output_stride", net.output_stride, expected));
        }
        if self.hierarchy.is_some() {
            self.feature_stages()?;
            let sides = [self.image_size, self.image_width.unwrap_or(self.image_size)];
            if matches!(dense, Dense::Detection(_)) && !sides.iter().all(|side| side.is_multiple_of(32)) {
                let expected = "multiples of 32, so that each map of the pyramid has half the sides of the one before";
                return Err(Error::argument("image_size", format!("{} × {}", sides[0], sides[1]), expected));
            }
        }
        let letter = if family == Family::HYBRID { "M" } else { "MT" };
        let layers = self.pattern.chars().filter(|kind| letter.contains(*kind)).count();
        let depths = if matches!(dense, Dense::Detection(_)) { 1 } else { 4 };
        if tokens && layers < depths {
            let what = if family == Family::HYBRID { "Mamba layers" } else { "layers" };
            let expected = format!("at least {depths}: the heads read the map behind {depths} of them");
            return Err(Error::argument("pattern", format!("`{}` with {layers} {what}", self.pattern), expected));
        }
        let by_rows = self.order == Order::Rows && self.directions != Directions::One;
        let blocks = !family.hierarchical && self.pattern.contains('T') && by_rows;
        if dense.window() > 0 && !blocks {
            let expected = "0 for a backbone other than a ViT, a DeiT or a HybridNet that scans by rows";
            return Err(Error::argument("dense.window", dense.window(), expected));
        }
        dense.validate(self.width, [self.grid(), self.grid_columns()])
    }

    /// Whether the family can be made of this.
    fn validate_family(&self) -> Result<()> {
        let check = |ok: bool, what: &str, got: String, expected: &str| match ok {
            true => Ok(()),
            false => Err(Error::argument(format!("{what} of a {:?}", self.family), got, expected)),
        };
        let (family, registers) = (self.family, self.registers);
        let expected = match family.layers {
            "" => "none: its name says which layers it has".to_owned(),
            "MT" => "letters M and T, as MMMTMMMT".to_owned(),
            letter => format!("the letter {letter} for each layer and no other, as {}", letter.repeat(4)),
        };
        let pattern = self.pattern.chars().all(|c| family.layers.contains(c));
        check(pattern, "pattern", format!("`{}`", self.pattern), &expected)?;
        let (least, most) = (family.prefix_tokens.start(), family.prefix_tokens.end());
        let expected = if least == most { format!("{least} class token") } else { format!("{least} to {most}") };
        let dense = self.dense.is_some() && registers == 0; // no head of a dense task reads them
        check(dense || family.prefix_tokens.contains(&registers), "registers", registers.to_string(), &expected)?;
        // a head that reads a class token has to find exactly one
        let pool = family.pools.contains(&self.pool) && (self.pool != Pool::Token || registers == 1);
        let got = format!("{:?} with {registers} registers", self.pool);
        let pools: Vec<String> = family.pools.iter().map(|pool| format!("{pool:?}")).collect();
        check(pool, "pool", got, &format!("{}; Token only with one class token", pools.join(" or ")))?;
        let eps = self.norm_eps.unwrap_or(family.eps);
        check(eps > 0.0 && eps < 1.0, "norm_eps", eps.to_string(), "above 0 and below 1")?;
        let waves = self.positions == Positions::SinCos || self.init_positions == InitPositions::SinCos;
        let expected = "a multiple of 4 for positions of sines and cosines";
        check(!waves || self.width.is_multiple_of(4), "width", self.width.to_string(), expected)?;
        let mae = self.decoder.kind == DecoderKind::Map || (family.prefix_in_pretraining && registers == 1);
        let takers = Family::all().filter(|family| family.prefix_in_pretraining);
        let takers: Vec<String> = takers.map(|family| format!("{family:?}")).collect();
        let expected = format!("a {} with a class token", takers.join(" or "));
        check(mae, "encoder of MAE's decoder", format!("{family:?} with {registers} class tokens"), &expected)?;
        let waves = self.decoder.kind == DecoderKind::Mae || self.init_positions == InitPositions::SinCos;
        let expected = "a multiple of 4 for positions of sines and cosines";
        let fits = !waves || self.decoder.width.is_multiple_of(4);
        check(fits, "decoder.width", self.decoder.width.to_string(), expected)
    }
}
