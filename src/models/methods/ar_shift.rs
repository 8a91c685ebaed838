//! Autoregression by a shift, as a language model has it: the encoder reads all tokens one way, and each patch is
//! predicted from the tokens that stand n places before it or more (src/models/README.md, "Shifted AR", D-5).

use super::map;
use super::objective::{DecoderMask, Method, MethodFacts, Objective};
use super::pretext::{PixelPretext, Reconstruction, pixel_loss};
use super::region_decoder::{LINEAR, RegionDecoder};
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::backbones::Backbone;
use crate::models::batch::MaskedBatch;
use crate::models::config::Config;
use crate::nn::{Linear, Params};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;

impl Method {
    /// Autoregression in which nothing is hidden: predicts every patch from those [`Objective::shift`] places before.
    pub const AR_SHIFT: Self = Self(&MethodFacts {
        name: "ar-shift",
        encodes: |family| family.one_way,
        hides: false,
        mask_ratio: 0.0,
        decoder_mask: DecoderMask::Ar,
        one_way: true,
        check,
        ..MethodFacts::PLAIN
    });
}

fn check(objective: &Objective, config: &Config) -> Result<()> {
    objective.check_decoder(config, false)?;
    let of = |what: &str| format!("{what} of the method {}", objective.method);
    let (mask, order, n) = (objective.mask(), objective.order(config), objective.shift);
    if mask != DecoderMask::Ar {
        return Err(Error::argument(of("decoder_mask"), format!("{mask:?}"), "Ar"));
    }
    if order != config.order {
        let expected = format!("{:?}, the order in which the encoder reads", config.order);
        return Err(Error::argument(of("decode_order"), format!("{order:?}"), expected));
    }
    let places = config.tokens().saturating_sub(1);
    if !(1..=places).contains(&n) {
        return Err(Error::argument(of("shift"), n, format!("1 to {places}: some patch has to have one before it")));
    }
    Ok(())
}

/// Encoder and decoder. Parameters are those of MAP.
#[derive(Debug, Clone)]
pub struct ArShift {
    encoder: Backbone,
    decoder: RegionDecoder,
    pred: Linear,
    /// All patches in the order of the scan.
    scan: Vec<u32>,
    objective: Objective,
}

impl ArShift {
    /// Parameters under MAP's names (src/models/README.md, "Tensor names"); mixers have one direction.
    pub fn new(g: &Gpu, params: &mut Params, config: &Config, objective: &Objective) -> Result<Self> {
        objective.check(config)?;
        Ok(Self {
            encoder: map::encoder(g, params, config)?,
            decoder: RegionDecoder::new(g, params, config, objective)?,
            pred: Linear::new(params, "ar_pred", config.decoder.width, config.patch_len(), LINEAR)?,
            scan: config.scan(),
            objective: objective.clone(),
        })
    }

    /// A batch in which these patches of every image are visible, in this order.
    fn seeing(r: &Recorder, batch: &MaskedBatch, some: &[u32]) -> Result<MaskedBatch> {
        let [b, l, _] = batch.patches.dims("patches")?;
        let mut places = vec![u32::MAX; l];
        some.iter().zip(0..).for_each(|(&patch, place)| places[patch as usize] = place);
        let visible = Tensor::from_indices(r.gpu(), &[b, some.len()], &some.repeat(b))?;
        let inverse = Tensor::from_indices(r.gpu(), &[b, l], &places.repeat(b))?;
        Ok(MaskedBatch { visible, inverse, ..batch.clone() })
    }

    /// How many patches are encoded: the last ones say nothing about any other.
    fn encoded(&self) -> usize {
        self.scan.len() - self.objective.shift
    }
}

impl PixelPretext for ArShift {
    fn objective(&self) -> &Objective {
        &self.objective
    }

    fn encoder(&self) -> &Backbone {
        &self.encoder
    }

    /// All patches but the last n (B, L−n, D). The tables of `batch` do not count.
    fn encode(&self, r: &mut Recorder, batch: &MaskedBatch, drop_path: Option<&Tensor>) -> Result<Var> {
        let batch = Self::seeing(r, batch, &self.scan[..self.encoded()])?;
        self.encoder.encode_visible(r, &batch, drop_path)
    }

    /// Features of the patch at rank p stand at rank p + n, under the position of that patch: the decoder is causal,
    /// and so a patch is predicted from ranks of p − n or less. Mask tokens stand at the first n.
    fn decode(&self, r: &mut Recorder, features: &Var, batch: &MaskedBatch) -> Result<Var> {
        let batch = Self::seeing(r, batch, &self.scan[self.objective.shift..])?;
        let x = self.decoder.forward(r, features, &batch)?; // (B, L, d)
        r.scope(&self.pred.name, |r| self.pred.forward(r, &x))
    }

    /// All.
    fn targets(&self) -> Option<Vec<bool>> {
        Some(vec![true; self.scan.len()])
    }

    /// The loss counts every patch, whatever the mask of `batch` does.
    fn reconstruct(&self, r: &mut Recorder, batch: &MaskedBatch, drop_path: Option<&Tensor>) -> Result<Reconstruction> {
        let encoder = self.encode(r, batch, drop_path)?;
        let pred = self.decode(r, &encoder, batch)?; // (B, L, P·P·3)
        let [b, l, _] = pred.data.dims("predictions")?;
        let mask = Tensor::scratch("counted", &[b, l]);
        mask.fill(r, 1.0)?;
        let all = MaskedBatch { mask, scale: 1.0 / (b * l) as f32, ..batch.clone() };
        let loss = pixel_loss(r, &pred, &all, self.objective.normalize())?; // [1]
        Ok(Reconstruction { encoder, pred, loss })
    }
}
