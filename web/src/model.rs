//! A pretrained model: loading, masks and reconstructions.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use rowscan::gpu::Gpu;
use rowscan::infer::reconstruct::{Pictures, Reconstructor};
use rowscan::models::{Config, Method, Objective, Pretext, pretext_model};
use rowscan::nn::{Params, Weights};
use rowscan::train::about::About;
use rowscan::train::checkpoint;
use rowscan::train::pretrain::mask::PatchMask;
use rowscan::train::pretrain::settings::PretrainSettings;
use rowscan::train::settings::RunSettings;
use rowscan::train::weights_file;
use wasm_bindgen::prelude::*;

use crate::{Device, js};

/// A model on the GPU with the weights of a checkpoint.
#[wasm_bindgen]
pub struct Model {
    pub(crate) g: Gpu,
    pub(crate) config: Config,
    /// How it was pretrained: what its file says, or else what its decoder is for.
    pub(crate) objective: Objective,
    pub(crate) model: Box<dyn Pretext>,
    pub(crate) weights: Weights,
    parameters: usize,
    metadata: String,
    /// The last program, with its number of visible tokens.
    reconstructor: RefCell<Option<(usize, Rc<Reconstructor>)>>,
}

/// The reconstruction of one image.
#[wasm_bindgen]
pub struct Reconstruction {
    pictures: Pictures,
    /// Mean loss over the hidden patches.
    #[wasm_bindgen(readonly)]
    pub loss: f32,
}

#[wasm_bindgen]
impl Reconstruction {
    /// (S, S, 3): the image with hidden patches gray.
    #[wasm_bindgen(getter)]
    pub fn masked(&self) -> Vec<u8> {
        self.pictures.masked.clone()
    }

    /// (S, S, 3): the image with hidden patches as predicted.
    #[wasm_bindgen(getter)]
    pub fn reconstruction(&self) -> Vec<u8> {
        self.pictures.reconstruction.clone()
    }

    /// (L): the mean squared error of each hidden patch, 0 for a visible patch.
    #[wasm_bindgen(getter)]
    pub fn errors(&self) -> Vec<f32> {
        self.pictures.errors.clone()
    }

    /// (L, P·P·3) predictions in units of the normalized patch.
    #[wasm_bindgen(getter)]
    pub fn predictions(&self) -> Vec<f32> {
        self.pictures.predicted.clone()
    }
}

#[wasm_bindgen]
impl Model {
    /// Loads a model from the bytes of `config.json` and `model.safetensors`, which says in its metadata how it was
    /// pretrained.
    pub fn load(device: &Device, config: &[u8], weights: &[u8]) -> Result<Model, JsValue> {
        let g = device.0.clone();
        let config = checkpoint::config_from_bytes(Path::new(checkpoint::CONFIG), config).map_err(js)?;
        let path = Path::new(checkpoint::MODEL);
        let metadata = weights_file::metadata(path, weights).map_err(js)?;
        let text = serde_json::to_string(&metadata).unwrap_or_default();
        let objective = About::of_metadata(metadata).objective_of(&config);
        if !objective.method.hides {
            let expected = format!("one that hides patches: {}", Method::names(|method| method.hides));
            return Err(js(rowscan::Error::argument("the method of the model", objective.method, expected)));
        }
        let mut params = Params::new(&g);
        let model = pretext_model(&g, &mut params, &config, &objective).map_err(js)?;
        let named = weights_file::from_bytes(path, weights).map_err(js)?;
        params.load(&g, &named).map_err(js)?;
        let (parameters, reconstructor) = (params.count(), RefCell::default());
        Ok(Self { g, config, objective, model, parameters, weights: named, metadata: text, reconstructor })
    }

    /// Side of the square input in pixels.
    #[wasm_bindgen(getter)]
    pub fn side(&self) -> usize {
        self.config.image_size
    }

    /// Patches per side.
    #[wasm_bindgen(getter)]
    pub fn grid(&self) -> usize {
        self.config.grid()
    }

    /// Number of weights.
    #[wasm_bindgen(getter)]
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// The configuration as JSON.
    #[wasm_bindgen(getter)]
    pub fn config(&self) -> String {
        serde_json::to_string(&self.config).unwrap_or_default()
    }

    /// The metadata of the weights file, such as license and training command, as JSON.
    #[wasm_bindgen(getter)]
    pub fn metadata(&self) -> String {
        self.metadata.clone()
    }

    /// (L): the mask that `seed` draws, 1 for a hidden patch. The command line draws the same mask from the same seed.
    pub fn mask(&self, strategy: &str, ratio: f64, seed: u32) -> Result<Vec<f32>, JsValue> {
        let run = RunSettings { seed: seed.into(), ..RunSettings::default() };
        let settings =
            PretrainSettings { run, mask: strategy.into(), mask_ratio: Some(ratio), ..PretrainSettings::default() };
        Ok(settings.masker(&self.config).map_err(js)?.draw(0, 1).mask)
    }

    /// Reconstructs the RGB image (S, S, 3) under a mask (L), 1 for a hidden patch.
    pub async fn reconstruct(&self, image: Vec<u8>, mask: Vec<f32>) -> Result<Reconstruction, JsValue> {
        let mask = self.hidden(&mask)?;
        let reconstructor = self.program(mask.visible_len)?;
        Reconstruction::of(reconstructor.run(&image, &mask).await.map_err(js)?)
    }
}

impl Reconstruction {
    /// Takes the result of a run on one image.
    pub(crate) fn of((mut pictures, loss): (Vec<Pictures>, f32)) -> Result<Self, JsValue> {
        let pictures = pictures.pop().ok_or_else(|| js(rowscan::Error::argument("images", 0, 1)))?;
        Ok(Self { pictures, loss })
    }
}

impl Model {
    /// The index tables for a mask (L), 1 for a hidden patch.
    pub(crate) fn hidden(&self, mask: &[f32]) -> Result<PatchMask, JsValue> {
        PatchMask::from_mask(mask, &self.config.scan()).map_err(js)
    }

    /// The program for `visible` tokens: the last one, or a new one.
    fn program(&self, visible: usize) -> Result<Rc<Reconstructor>, JsValue> {
        let mut last = self.reconstructor.borrow_mut();
        if let Some((_, ready)) = last.as_ref().filter(|(ready, _)| *ready == visible) {
            return Ok(ready.clone());
        }
        let made = Rc::new(Reconstructor::new(&self.g, &*self.model, &self.config, 1, visible).map_err(js)?);
        *last = Some((visible, made.clone()));
        Ok(made)
    }
}
