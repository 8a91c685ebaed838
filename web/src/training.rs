//! Pretraining in the browser tab.

use std::path::Path;

use rowscan::data::{Dataset, Split};
use rowscan::gpu::Readback;
use rowscan::infer::reconstruct::Pictures;
use rowscan::models::Config;
use rowscan::session::{Files, Session};
use rowscan::train::checkpoint;
use rowscan::train::pretrain::settings::PretrainSettings;
use rowscan::train::settings::RunSettings;
use wasm_bindgen::prelude::*;

use crate::{Device, data, js, squares};

/// The settings that the page chooses.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Choice {
    /// The model, as in `config.json`.
    model: serde_json::Value,
    batch: usize,
    blr: f64,
    ratio: f64,
    seed: u64,
    /// `synthetic:N`, or a name for the user's own images.
    data: String,
}

/// A pretraining run.
#[wasm_bindgen]
pub struct Training {
    session: Session,
}

/// Held-out images as the model reconstructs them now.
#[wasm_bindgen]
pub struct Shown {
    pictures: Vec<Pictures>,
    /// Mean loss over the hidden patches of these images.
    #[wasm_bindgen(readonly)]
    pub loss: f32,
}

#[wasm_bindgen]
impl Shown {
    /// Number of images.
    #[wasm_bindgen(getter)]
    pub fn length(&self) -> usize {
        self.pictures.len()
    }

    /// (S, S, 3): image `index` in one of three forms, `original`, `masked` or `reconstruction`.
    pub fn picture(&self, index: usize, kind: &str) -> Vec<u8> {
        let Some(p) = self.pictures.get(index) else { return Vec::new() };
        match kind {
            "masked" => p.masked.clone(),
            "reconstruction" => p.reconstruction.clone(),
            _ => p.original.clone(),
        }
    }
}

/// The files of a checkpoint.
#[wasm_bindgen]
pub struct Saved(Files);

#[wasm_bindgen]
impl Saved {
    /// A checkpoint without files, to add files to.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Self {
        Self(Files::new())
    }

    /// Adds a file.
    pub fn add(&mut self, name: String, bytes: Vec<u8>) {
        self.0.push((name, bytes));
    }

    /// Names of the files.
    #[wasm_bindgen(getter)]
    pub fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.clone()).collect()
    }

    /// The bytes of a file, none if there is no such file.
    pub fn bytes(&self, name: &str) -> Vec<u8> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, bytes)| bytes.clone()).unwrap_or_default()
    }
}

/// The configuration of a preset with images of another size, as JSON.
#[wasm_bindgen]
pub fn preset(name: &str, side: usize, patch: usize) -> Result<String, JsValue> {
    let config = Config { image_size: side, patch_size: patch, ..Config::preset(name).map_err(js)? };
    config.validate().map_err(js)?;
    Ok(serde_json::to_string(&config).unwrap_or_default())
}

#[wasm_bindgen]
impl Training {
    /// Starts a run with random weights. `images` are the user's own as RGB bytes of the model's size, of which every
    /// eighth is held out. If there are none, generated images are used.
    pub fn start(device: &Device, choice: &str, images: &[u8]) -> Result<Training, JsValue> {
        let choice: Choice = serde_json::from_str(choice)
            .map_err(|e| js(rowscan::Error::argument("the settings of the page", e, "what `Choice` lists")))?;
        let text = choice.model.to_string();
        let model = checkpoint::config_from_bytes(Path::new(checkpoint::CONFIG), text.as_bytes()).map_err(js)?;
        let side = model.image_size;
        let (train, shown) = if images.is_empty() {
            let set = |split| Dataset::synthetic(&choice.data, side, split).map_err(data);
            let held_out = set(Split::Test)?;
            let few = (0..held_out.len().min(4)).map(|i| held_out.image(i)).collect::<Result<Vec<_>, _>>();
            (set(Split::Train)?, Dataset::from_images("held-out images", few.map_err(data)?).map_err(data)?)
        } else {
            let (train, shown) = rowscan::session::split(squares(images, side));
            let set = |name, images| Dataset::from_images(name, images).map_err(data);
            (set(&choice.data, train)?, set("held-out images", shown)?)
        };
        let settings = PretrainSettings {
            run: RunSettings {
                data: choice.data,
                batch_size: choice.batch,
                blr: choice.blr,
                seed: choice.seed,
                ..RunSettings::default()
            },
            mask_ratio: Some(choice.ratio),
            ..PretrainSettings::default()
        };
        let session = Session::new(&device.0, &model, &settings, train, &shown).map_err(js)?;
        Ok(Self { session })
    }

    /// Submits one training step. The promise resolves to its loss.
    pub fn step(&mut self) -> Result<js_sys::Promise, JsValue> {
        let loss: Readback = self.session.step().map_err(js)?;
        Ok(wasm_bindgen_futures::future_to_promise(async move {
            let bytes = loss.await.map_err(js)?;
            let loss = bytes.first_chunk().map_or(f32::NAN, |bytes| f32::from_le_bytes(*bytes));
            Ok(loss.into())
        }))
    }

    /// Changes the learning rate per 256 images and the mask ratio from the next step on.
    pub fn adjust(&mut self, blr: f64, ratio: f64) -> Result<(), JsValue> {
        self.session.adjust(blr, ratio).map_err(js)
    }

    /// Reconstructs the held-out images.
    pub async fn pictures(&self) -> Result<Shown, JsValue> {
        let (pictures, loss) = self.session.pictures().await.map_err(js)?;
        Ok(Shown { pictures, loss })
    }

    /// The files of a checkpoint of this run.
    pub async fn save(&self) -> Result<Saved, JsValue> {
        Ok(Saved(self.session.save().await.map_err(js)?))
    }

    /// Continues from the files of a checkpoint.
    pub fn load(&mut self, files: &Saved) -> Result<(), JsValue> {
        self.session.load(&files.0).map_err(js)
    }

    /// Number of steps done.
    #[wasm_bindgen(getter)]
    pub fn steps(&self) -> f64 {
        self.session.state().step as f64
    }

    /// The learning rate of the next step.
    #[wasm_bindgen(getter)]
    pub fn lr(&self) -> f64 {
        self.session.lr()
    }

    /// Number of weights.
    #[wasm_bindgen(getter)]
    pub fn parameters(&self) -> usize {
        self.session.parameters()
    }

    /// Side of the square input in pixels.
    #[wasm_bindgen(getter)]
    pub fn side(&self) -> usize {
        self.session.config().image_size
    }
}
