//! Pretraining in the browser tab.

use rowscan::data::{Augmentation, Dataset, Rgb8, Split};
use rowscan::gpu::Readback;
use rowscan::infer::reconstruct::Pictures;
use rowscan::session::{Files, Session, split};
use rowscan::train::pretrain::settings::{PretrainSettings, lr_of_small_batches};
use rowscan::train::settings::RunSettings;
use wasm_bindgen::prelude::*;

use crate::model::Model;
use crate::{data, js};

/// Most images of each half of a probe: more say little more, and a page waits for them.
const PROBED: usize = 256;

/// What a caller chooses.
#[derive(serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Choice {
    batch: usize,
    /// The one for the network's width unless given.
    learning_rate: Option<f64>,
    mask_ratio: f64,
    seed: u64,
    /// Whether images are cropped and mirrored.
    augment: bool,
    /// `synthetic:N`, or a name for the user's own images.
    data: String,
}

/// Images of the user.
#[wasm_bindgen]
pub struct Images(Vec<Rgb8>);

#[wasm_bindgen]
impl Images {
    /// No images yet.
    #[wasm_bindgen(constructor)]
    #[allow(clippy::new_without_default, reason = "JavaScript calls it")]
    pub fn new() -> Self {
        Self(Vec::new())
    }

    /// Adds an image of RGB bytes (height, width, 3).
    pub fn add(&mut self, width: u32, height: u32, pixels: Vec<u8>) {
        self.0.push(Rgb8 { width, height, pixels });
    }
}

/// A pretraining run.
#[wasm_bindgen]
pub struct Training {
    session: Session,
    /// Images with classes, to probe the features with: to train on, and to test.
    labeled: Option<[Dataset; 2]>,
}

/// Held-out images as the model reconstructs them now.
#[wasm_bindgen]
pub struct Shown {
    pictures: Vec<Pictures>,
    /// Mean loss over the predicted patches of these images.
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
pub struct Saved(pub(crate) Files);

#[wasm_bindgen]
impl Saved {
    /// A checkpoint without files, to add files to.
    #[wasm_bindgen(constructor)]
    #[allow(clippy::new_without_default, reason = "JavaScript calls it")]
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

#[wasm_bindgen]
impl Training {
    /// Starts a run from the weights of `model`. Of `images` every eighth is held out; if there are none, generated
    /// images are used. With `going_on` the settings are those of the run that the model comes from, to `load` it.
    pub fn start(model: &Model, choice: &str, going_on: bool, images: Images) -> Result<Training, JsValue> {
        let choice: Choice = serde_json::from_str(choice)
            .map_err(|e| js(rowscan::Error::argument("the settings of training", e, "what `Choice` lists")))?;
        let mut labeled = None;
        let (train, shown) = if images.0.is_empty() {
            let set = |split| Dataset::synthetic(&choice.data, SIDE, split).map_err(data);
            let (train, held_out) = (set(Split::Train)?, set(Split::Test)?);
            let few = |set: &Dataset| set.limited(PROBED.min(set.len())).map_err(data);
            labeled = Some([few(&train)?, few(&held_out)?]);
            let shown = (0..held_out.len().min(4)).map(|i| held_out.image(i)).collect::<Result<Vec<_>, _>>();
            (train, Dataset::from_images("held-out images", shown.map_err(data)?).map_err(data)?)
        } else {
            let (train, shown) = split(images.0);
            let set = |name, images| Dataset::from_images(name, images).map_err(data);
            (set(&choice.data, train)?, set("held-out images", shown)?)
        };
        let settings = match model.settings.clone().filter(|_| going_on) {
            Some(settings) => settings,
            None => PretrainSettings {
                run: RunSettings {
                    data: choice.data,
                    batch_size: choice.batch,
                    lr: Some(choice.learning_rate.unwrap_or_else(|| lr_of_small_batches(&model.config))),
                    seed: choice.seed,
                    ..RunSettings::default()
                },
                recipe: if choice.augment { Augmentation::PRETRAIN } else { PLAIN },
                mask_ratio: Some(choice.mask_ratio),
                objective: model.objective.clone(),
                ..PretrainSettings::default()
            },
        };
        let session = Session::new(&model.g, &model.config, &settings, train, &shown).map_err(js)?;
        session.load_weights(&model.weights).map_err(js)?;
        Ok(Self { session, labeled })
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

    /// Changes learning rate and mask ratio from the next step on.
    pub fn adjust(&mut self, learning_rate: f64, ratio: f64) -> Result<(), JsValue> {
        self.session.adjust(learning_rate, ratio).map_err(js)
    }

    /// Reconstructs the held-out images; none for a method that predicts no patches.
    pub async fn pictures(&self) -> Result<Shown, JsValue> {
        let (pictures, loss) = self.session.pictures().await.map_err(js)?.unwrap_or((Vec::new(), f32::NAN));
        Ok(Shown { pictures, loss })
    }

    /// Top-1 accuracy in percent of a linear classifier of the features now, on generated images, of which the classes
    /// are known. NaN on the user's own.
    pub async fn probe(&self, steps: u32) -> Result<f64, JsValue> {
        let Some([train, test]) = &self.labeled else { return Ok(f64::NAN) };
        Ok(self.session.probe(train, test, steps.into()).await.map_err(js)?.top1)
    }

    /// The files of a checkpoint of this run.
    pub async fn save(&self) -> Result<Saved, JsValue> {
        Ok(Saved(self.session.save().await.map_err(js)?))
    }

    /// Continues from the files of a checkpoint.
    pub fn load(&mut self, files: &Saved) -> Result<(), JsValue> {
        self.session.load(&files.0).map_err(js)
    }

    /// The images of the next step as the network sees them, RGB bytes (B, S, S, 3).
    pub fn batch(&mut self) -> Result<Vec<u8>, JsValue> {
        self.session.images().map_err(js)
    }

    /// Number of steps done.
    #[wasm_bindgen(getter)]
    pub fn steps(&self) -> f64 {
        self.session.state().step as f64
    }

    /// Images of a step.
    #[wasm_bindgen(getter, js_name = batchSize)]
    pub fn batch_size(&self) -> usize {
        self.session.state().settings.run.batch_size
    }

    /// The learning rate of the next step.
    #[wasm_bindgen(getter)]
    pub fn lr(&self) -> f64 {
        self.session.lr()
    }

    /// The learning rate after the warm-up.
    #[wasm_bindgen(getter, js_name = peakLr)]
    pub fn peak_lr(&self) -> f64 {
        self.session.state().settings.run.peak_lr()
    }

    /// Share of hidden patches; NaN where it is drawn.
    #[wasm_bindgen(getter, js_name = maskRatio)]
    pub fn mask_ratio(&self) -> f64 {
        self.session.state().settings.mask_ratio.unwrap_or(f64::NAN)
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

/// Side of generated images in pixels, as the command line generates them.
const SIDE: usize = 96;

/// Images as they are, but resized.
const PLAIN: Augmentation = Augmentation { crop_scale: (1.0, 1.0), hflip: 0.0, ..Augmentation::PRETRAIN };
