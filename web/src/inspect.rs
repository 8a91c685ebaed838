//! Inspection: the attention mask of MAP's decoder, its attention weights, reconstructions under other masks, and the
//! states of the encoder's scans.

use rowscan::infer::attention_maps::AttentionMaps;
use rowscan::infer::reconstruct::Reconstructor;
use rowscan::infer::scan_path::{PathStates, ScanPath};
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

/// The states of a Mamba layer along the path of its scan.
#[wasm_bindgen]
pub struct ScanStates(PathStates);

#[wasm_bindgen]
impl ScanStates {
    /// Directions S of the scan.
    #[wasm_bindgen(getter)]
    pub fn directions(&self) -> usize {
        self.0.directions
    }

    /// (S, L): the size of the state after each patch.
    #[wasm_bindgen(getter)]
    pub fn size(&self) -> Vec<f32> {
        self.0.size.clone()
    }

    /// (S, L, L): what the patch of the row wrote into the state, as much as is left after the patch of the column.
    #[wasm_bindgen(getter)]
    pub fn left(&self) -> Vec<f32> {
        self.0.left.clone()
    }
}

#[wasm_bindgen]
impl Model {
    /// The states of Mamba layer number `layer` of the encoder, on all patches of the RGB image (S, S, 3).
    pub async fn scan(&self, image: Vec<u8>, layer: usize) -> Result<ScanStates, JsValue> {
        let path = ScanPath::new(&self.g, &**self.model.encoder(), &self.config, &self.weights, layer).map_err(js)?;
        Ok(ScanStates(path.run(&image).await.map_err(js)?))
    }

    /// Number of Mamba layers of the encoder.
    #[wasm_bindgen(getter, js_name = scanLayers)]
    pub fn scan_layers(&self) -> usize {
        self.weights.keys().filter(|name| name.starts_with("layers.") && name.ends_with("mixer.in_proj.weight")).count()
    }

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
        Reconstruction::of(&program, &image, &mask).await
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
