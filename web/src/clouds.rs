//! Point clouds: generated solids, and what a model makes of their hidden patches.

use rowscan::data::points::CloudView;
use rowscan::data::{Dataset, Split};
use rowscan::infer::reconstruct_clouds::{CloudReconstructor, RebuiltCloud};
use rowscan::train::pretrain::settings::PretrainSettings;
use rowscan::train::settings::RunSettings;
use wasm_bindgen::prelude::*;

use crate::model::Model;
use crate::{data, js};

/// Generated solids that no model was trained on.
#[wasm_bindgen]
pub struct Solids(Dataset);

#[wasm_bindgen]
impl Solids {
    /// Four solids of each kind.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Result<Solids, JsValue> {
        Ok(Self(Dataset::synthetic_clouds("synthetic-clouds:192", Split::Test).map_err(data)?))
    }

    /// The kinds by name. Solid i is of kind i mod their number.
    #[wasm_bindgen(getter)]
    pub fn kinds(&self) -> Vec<String> {
        self.0.classes().to_vec()
    }

    /// (N, 3): the points of a solid.
    pub fn points(&self, index: usize) -> Result<Vec<f32>, JsValue> {
        Ok(self.0.cloud(index % self.0.len()).map_err(data)?.positions.into_flattened())
    }
}

/// A cloud and its reconstruction: points (·, 3) in the unit sphere.
#[wasm_bindgen]
pub struct CloudReconstruction {
    cloud: RebuiltCloud,
    /// Chamfer distance of the hidden patches.
    #[wasm_bindgen(readonly)]
    pub loss: f32,
}

#[wasm_bindgen]
impl CloudReconstruction {
    /// All points that the model is about.
    #[wasm_bindgen(getter)]
    pub fn original(&self) -> Vec<f32> {
        self.cloud.original.as_flattened().to_vec()
    }

    /// Those that the encoder sees.
    #[wasm_bindgen(getter)]
    pub fn visible(&self) -> Vec<f32> {
        self.cloud.visible.as_flattened().to_vec()
    }

    /// Those that the decoder makes, patch by patch in the order in which it makes them.
    #[wasm_bindgen(getter)]
    pub fn rebuilt(&self) -> Vec<f32> {
        self.cloud.rebuilt.as_flattened().to_vec()
    }
}

#[wasm_bindgen]
impl Model {
    /// Points of a patch; 0 for a model on images.
    #[wasm_bindgen(getter, js_name = groupSize)]
    pub fn group_size(&self) -> usize {
        self.config.points.as_ref().map_or(0, |points| points.group_size)
    }

    /// Hides `ratio` of the patches of a cloud (N, 3) as `seed` draws them, and rebuilds them.
    pub async fn rebuild(&self, points: Vec<f32>, ratio: f64, seed: u32) -> Result<CloudReconstruction, JsValue> {
        let points = points.as_chunks::<3>().0;
        let patches = CloudView::tested(self.config.points().map_err(js)?, points).map_err(js)?;
        let run = RunSettings { seed: seed.into(), ..RunSettings::default() };
        let settings = PretrainSettings { run, mask_ratio: Some(ratio), ..PretrainSettings::default() };
        let mask = settings.masker(&self.config).map_err(js)?.draw(0, 1);
        let rebuild = CloudReconstructor::new(&self.g, &*self.model, &self.config, 1, mask.visible_len).map_err(js)?;
        let (mut clouds, loss) = rebuild.run(&patches, &mask).await.map_err(js)?;
        let cloud = clouds.pop().ok_or_else(|| js(rowscan::Error::argument("clouds", 0, 1)))?;
        Ok(CloudReconstruction { cloud, loss })
    }
}
