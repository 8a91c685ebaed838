//! Inspection of MAP's decoder: its attention mask, its attention weights, and reconstructions under other masks.

use rowscan::infer::attention_maps::AttentionMaps;
use rowscan::infer::reconstruct::Reconstructor;
use rowscan::models::{DecoderKind, DecoderMask, Map, Objective};
use rowscan::nn::Params;
use wasm_bindgen::prelude::*;

use crate::js;
use crate::model::{Model, Reconstruction};

/// Parses the name of a decoder mask: `ar`, `mae`, `local-mae` or `map`.
fn named(mask: &str) -> Result<DecoderMask, JsValue> {
    serde_json::from_value::<DecoderMask>(mask.into())
        .map_err(|_| js(rowscan::Error::argument("the decoder's mask", mask, "ar, mae, local-mae or map")))
}

#[wasm_bindgen]
impl Model {
    /// Number of blocks in the decoder.
    #[wasm_bindgen(getter)]
    pub fn blocks(&self) -> usize {
        self.config.decoder.depth
    }

    /// Number of attention heads in a decoder block.
    #[wasm_bindgen(getter)]
    pub fn heads(&self) -> usize {
        self.config.decoder.heads
    }

    /// (L, L): 1 where the patch of the row may attend to the patch of the column under the mask named `mask`.
    pub fn seen(&self, mask: &str) -> Result<Vec<u8>, JsValue> {
        let allowed = named(mask)?.allows(self.config.order, (self.config.grid(), self.config.grid_columns()));
        Ok(allowed.into_iter().map(u8::from).collect())
    }

    /// The reconstruction of `image` if the decoder attends under the mask named `decoder`, with unchanged weights.
    pub async fn under(&self, decoder: &str, image: Vec<u8>, mask: Vec<f32>) -> Result<Reconstruction, JsValue> {
        let mask = self.hidden(&mask)?;
        let map = self.with(named(decoder)?)?;
        let program = Reconstructor::new(&self.g, &map, &self.config, 1, mask.visible_len).map_err(js)?;
        Reconstruction::of(program.run(&image, &mask).await.map_err(js)?)
    }

    /// (blocks, heads, L, L): the softmax weights of the decoder under the mask of MAP. A row is a query.
    pub async fn attention(&self, image: Vec<u8>, mask: Vec<f32>) -> Result<Vec<f32>, JsValue> {
        let mask = self.hidden(&mask)?;
        let map = self.with(DecoderMask::Map)?;
        let maps = AttentionMaps::new(&self.g, &map, &self.config, 1, mask.visible_len).map_err(js)?;
        Ok(maps.run(&image, &mask).await.map_err(js)?.concat())
    }
}

impl Model {
    /// A copy of the model whose decoder attends under `mask`.
    fn with(&self, mask: DecoderMask) -> Result<Map, JsValue> {
        if self.config.decoder.kind != DecoderKind::Map {
            return Err(js(rowscan::Error::argument(
                "the model",
                "one with the decoder of MAE",
                "one with that of MAP",
            )));
        }
        let objective = Objective { decoder_mask: Some(mask), ..self.objective.clone() };
        let mut params = Params::new(&self.g);
        let map = Map::with(&self.g, &mut params, &self.config, &objective).map_err(js)?;
        params.load(&self.g, &self.weights).map_err(js)?;
        Ok(map)
    }
}
