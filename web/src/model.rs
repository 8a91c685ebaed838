//! A pretrained model: loading, masks, reconstructions and features.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;

use rowscan::gpu::Gpu;
use rowscan::infer::program::InferenceProgram;
use rowscan::infer::reconstruct::{Pictures, Reconstructor};
use rowscan::models::{Backbone, Config, Objective, Pretext, pretext_model};
use rowscan::nn::{Params, Weights};
use rowscan::ops::{reduce, reshape};
use rowscan::tape::{Recorder, Var};
use rowscan::train::about::About;
use rowscan::train::checkpoint::{self, State};
use rowscan::train::pretrain::mask::PatchMask;
use rowscan::train::pretrain::settings::{PretrainSettings, lr_of_small_batches};
use rowscan::train::settings::RunSettings;
use rowscan::train::weights_file;
use wasm_bindgen::prelude::*;

use crate::{Device, js};

/// A model on the GPU with its weights.
#[wasm_bindgen]
pub struct Model {
    pub(crate) g: Gpu,
    pub(crate) config: Config,
    /// How it was pretrained: what its files say, or else what its decoder is for.
    pub(crate) objective: Objective,
    pub(crate) model: Box<dyn Pretext>,
    pub(crate) weights: Weights,
    /// The settings of the run that it comes from, where its files say them.
    pub(crate) settings: Option<PretrainSettings>,
    parameters: usize,
    metadata: String,
    /// The last program, with its number of visible tokens.
    reconstructor: RefCell<Option<(usize, Rc<Reconstructor>)>>,
    /// The programs of features: of whole images, and of patches.
    features: [RefCell<Option<Rc<InferenceProgram>>>; 2],
}

/// The reconstruction of one image.
#[wasm_bindgen]
pub struct Reconstruction {
    pictures: Pictures,
    predicted: Vec<f32>,
    /// Mean loss over the predicted patches.
    #[wasm_bindgen(readonly)]
    pub loss: f32,
}

#[wasm_bindgen]
impl Reconstruction {
    /// (S, S, 3): the image with predicted patches gray.
    #[wasm_bindgen(getter)]
    pub fn masked(&self) -> Vec<u8> {
        self.pictures.masked.clone()
    }

    /// (S, S, 3): the image with predictions in these places.
    #[wasm_bindgen(getter)]
    pub fn reconstruction(&self) -> Vec<u8> {
        self.pictures.reconstruction.clone()
    }

    /// (L): 1 for each patch that is predicted: the hidden ones, or those that the method predicts whatever is hidden.
    #[wasm_bindgen(getter)]
    pub fn predicted(&self) -> Vec<f32> {
        self.predicted.clone()
    }

    /// (L): the mean squared error of each predicted patch, 0 for the others.
    #[wasm_bindgen(getter)]
    pub fn errors(&self) -> Vec<f32> {
        self.pictures.errors.clone()
    }

    /// (L, P·P·3) predictions in units of the target.
    #[wasm_bindgen(getter)]
    pub fn predictions(&self) -> Vec<f32> {
        self.pictures.predicted.clone()
    }
}

/// The configuration of a preset with images of another size, as JSON.
#[wasm_bindgen]
pub fn preset(name: &str, side: usize, patch: usize) -> Result<String, JsValue> {
    let config = Config { image_size: side, patch_size: patch, ..Config::preset(name).map_err(js)? };
    config.validate().map_err(js)?;
    Ok(serde_json::to_string(&config).unwrap_or_default())
}

/// The learning rate of training for the model of a `config.json`.
#[wasm_bindgen(js_name = learningRate)]
pub fn learning_rate(config: &str) -> Result<f64, JsValue> {
    let config = checkpoint::config_from_bytes(Path::new(checkpoint::CONFIG), config.as_bytes()).map_err(js)?;
    Ok(lr_of_small_batches(&config))
}

#[wasm_bindgen]
impl Model {
    /// Loads a model from the bytes of `config.json` and `model.safetensors`. How it was pretrained says `state.json`,
    /// if there is one, or else the metadata of the weights.
    pub fn load(device: &Device, config: &[u8], weights: &[u8], state_file: Option<Vec<u8>>) -> Result<Model, JsValue> {
        let config = checkpoint::config_from_bytes(Path::new(checkpoint::CONFIG), config).map_err(js)?;
        let path = Path::new(checkpoint::MODEL);
        let metadata = weights_file::metadata(path, weights).map_err(js)?;
        let text = serde_json::to_string(&metadata).unwrap_or_default();
        let state = |bytes: Vec<u8>| checkpoint::state_from_bytes(Path::new(checkpoint::STATE), &bytes).map_err(js);
        let settings = state_file.map(state).transpose()?.map(|state: State| state.settings);
        let objective = match &settings {
            Some(settings) => settings.objective.clone(),
            None => About::of_metadata(metadata).objective_of(&config),
        };
        if config.dense.is_some() {
            let wanted = "a pretrained one: a segmentation network is for the tab Segment, `Rowscan.segmenter`";
            return Err(js(rowscan::Error::argument("the model", "one of dense predictions", wanted)));
        }
        let weights = weights_file::from_bytes(path, weights).map_err(js)?;
        let (mut model, params) = Self::built(device, config, objective)?;
        params.load(&model.g, &weights).map_err(js)?;
        (model.weights, model.metadata, model.settings) = (weights, text, settings);
        Ok(model)
    }

    /// A model with random weights, those with which `rowscan pretrain --seed` starts. `config` is what `config.json`
    /// holds.
    pub async fn random(device: &Device, config: &str, seed: u32) -> Result<Model, JsValue> {
        let config = checkpoint::config_from_bytes(Path::new(checkpoint::CONFIG), config.as_bytes()).map_err(js)?;
        let objective = Objective::default_for(&config);
        let (mut model, params) = Self::built(device, config, objective)?;
        params.init(&model.g, seed.into()).map_err(js)?;
        model.model.init(&model.g, &params, seed.into()).map_err(js)?;
        model.weights = params.weights(&model.g).await.map_err(js)?;
        Ok(model)
    }

    /// The files of a checkpoint: the configuration, and the weights as they were loaded or drawn.
    pub fn save(&self) -> Result<crate::training::Saved, JsValue> {
        let config = checkpoint::config_to_bytes(&self.config).map_err(js)?;
        let metadata = serde_json::from_str(&self.metadata).unwrap_or_default();
        let about = About { objective: Some(self.objective.clone()), ..About::of_metadata(metadata) };
        let metadata = about.to_metadata().map_err(js)?;
        let weights = weights_file::to_bytes(&self.weights, metadata).map_err(js)?;
        let files = [(checkpoint::CONFIG, config), (checkpoint::MODEL, weights)];
        Ok(crate::training::Saved(files.map(|(name, bytes)| (name.to_string(), bytes)).into()))
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

    /// The name of the method that pretrained it.
    #[wasm_bindgen(getter)]
    pub fn method(&self) -> String {
        self.objective.method.name.into()
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
        let settings = PretrainSettings {
            run: RunSettings { seed: seed.into(), ..RunSettings::default() },
            mask: strategy.into(),
            mask_ratio: Some(ratio),
            objective: self.objective.clone(),
            ..PretrainSettings::default()
        };
        Ok(settings.masker(&self.config).map_err(js)?.draw(0, 1).mask)
    }

    /// Reconstructs the RGB image (S, S, 3) under a mask (L), 1 for a hidden patch.
    pub async fn reconstruct(&self, image: Vec<u8>, mask: Vec<f32>) -> Result<Reconstruction, JsValue> {
        let mask = self.hidden(&mask)?;
        let reconstructor = self.program(mask.visible_len)?;
        Reconstruction::of(&reconstructor, &image, &mask).await
    }

    /// (D): the features of the RGB image (S, S, 3), the mean of its patch tokens, as `rowscan features` writes them.
    pub async fn features(&self, image: Vec<u8>) -> Result<Vec<f32>, JsValue> {
        self.features_of(0, |r, tokens| reduce::mean_tokens(r, &tokens))?.run(&image).await.map_err(js)
    }

    /// (L, D): the patch tokens of the RGB image (S, S, 3), all patches visible.
    #[wasm_bindgen(js_name = patchFeatures)]
    pub async fn patch_features(&self, image: Vec<u8>) -> Result<Vec<f32>, JsValue> {
        let flat = |r: &mut _, tokens: Var| {
            let [batch, rest] = [tokens.data.shape()[0], tokens.data.shape()[1..].iter().product()];
            reshape::reshape(r, &tokens, &[batch, rest])
        };
        self.features_of(1, flat)?.run(&image).await.map_err(js)
    }
}

impl Reconstruction {
    /// Runs `program` on one image.
    pub(crate) async fn of(program: &Reconstructor, image: &[u8], mask: &PatchMask) -> Result<Self, JsValue> {
        let (mut pictures, loss) = program.run(image, mask).await.map_err(js)?;
        let pictures = pictures.pop().ok_or_else(|| js(rowscan::Error::argument("images", 0, 1)))?;
        Ok(Self { pictures, predicted: program.predicted(mask), loss })
    }
}

impl Model {
    /// A model whose weights have no values yet, and its parameters.
    fn built(device: &Device, config: Config, objective: Objective) -> Result<(Self, Params), JsValue> {
        let g = device.0.clone();
        let mut params = Params::new(&g);
        let model = pretext_model(&g, &mut params, &config, &objective).map_err(js)?;
        let (parameters, weights, metadata, settings) = (params.count(), Weights::new(), "{}".into(), None);
        let (reconstructor, features) = (RefCell::default(), Default::default());
        let model =
            Self { g, config, objective, model, weights, settings, parameters, metadata, reconstructor, features };
        Ok((model, params))
    }

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

    /// Program number `kind` from an image to `read` of the encoder's tokens (1, L, D).
    fn features_of(
        &self, kind: usize, read: impl Fn(&mut Recorder, Var) -> rowscan::Result<Var> + 'static,
    ) -> Result<Rc<InferenceProgram>, JsValue> {
        let mut made = self.features[kind].borrow_mut();
        if let Some(ready) = &*made {
            return Ok(ready.clone());
        }
        let encoder: Backbone = self.model.encoder().clone();
        let program = InferenceProgram::new(&self.g, &self.config, 1, move |r, patches| {
            let tokens = encoder.tokens(r, patches, None)?;
            read(r, tokens)
        });
        let program = Rc::new(program.map_err(js)?);
        *made = Some(program.clone());
        Ok(program)
    }
}
