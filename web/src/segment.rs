//! Segmentation: generated scenes, and the class that a network sees in each pixel of an image.

use std::path::Path;

use rowscan::data::{Dataset, Rgb8, Sample, SegmentationMap, Split};
use rowscan::infer::class_color::{COVER, class_color};
use rowscan::infer::program::InferenceProgram;
use rowscan::infer::segment::{WINDOWS, pixel_scores, window_scores};
use rowscan::infer::segmentation_scores::{SegmentationScores, SegmentationTally};
use rowscan::models::dense::Dense;
use rowscan::models::{self, Config, contents};
use rowscan::nn::Params;
use rowscan::train::about::About;
use rowscan::train::{checkpoint, weights_file};
use wasm_bindgen::prelude::*;

use crate::{Device, data, js};

/// Generated scenes that no network was trained on.
#[wasm_bindgen]
pub struct Scenes(Dataset);

/// A generated scene with the class of each pixel.
#[wasm_bindgen]
pub struct Scene {
    image: Rgb8,
    map: SegmentationMap,
}

#[wasm_bindgen]
impl Scenes {
    /// A thousand scenes.
    #[wasm_bindgen(constructor)]
    pub fn new() -> Result<Scenes, JsValue> {
        Ok(Self(Dataset::synthetic_scenes("synthetic-scenes:4000", Split::Test).map_err(data)?))
    }

    /// Number of scenes.
    #[wasm_bindgen(getter)]
    pub fn length(&self) -> usize {
        self.0.len()
    }

    /// Names of the classes, the ground first.
    #[wasm_bindgen(getter)]
    pub fn classes(&self) -> Vec<String> {
        self.0.classes().to_vec()
    }

    /// Scene number `index`, from the start again after the last.
    pub fn scene(&self, index: usize) -> Result<Scene, JsValue> {
        match self.0.sample(index % self.0.len()).map_err(data)? {
            Sample::Segmented(image, map) => Ok(Scene { image, map }),
            other => Err(js(rowscan::Error::argument("a scene", other.kind(), "an image with a segmentation map"))),
        }
    }
}

#[wasm_bindgen]
impl Scene {
    /// Pixels in a row.
    #[wasm_bindgen(getter)]
    pub fn width(&self) -> u32 {
        self.image.width
    }

    /// Rows.
    #[wasm_bindgen(getter)]
    pub fn height(&self) -> u32 {
        self.image.height
    }

    /// (height, width, 3) RGB bytes.
    #[wasm_bindgen(getter)]
    pub fn pixels(&self) -> Vec<u8> {
        self.image.pixels.clone()
    }

    /// (height, width): the class of each pixel, 65535 for none.
    #[wasm_bindgen(getter)]
    pub fn truth(&self) -> Vec<u16> {
        self.map.classes.clone()
    }
}

/// A segmentation network on the GPU.
#[wasm_bindgen]
pub struct Segmenter {
    config: Config,
    names: Vec<String>,
    forward: InferenceProgram,
    parameters: usize,
    metadata: String,
}

/// The classes of the pixels of an image.
#[wasm_bindgen]
pub struct Segmentation {
    classes: Vec<u16>,
    counts: Vec<u32>,
    scores: Option<SegmentationScores>,
}

#[wasm_bindgen]
impl Segmentation {
    /// (height, width): the class of each pixel.
    #[wasm_bindgen(getter)]
    pub fn classes(&self) -> Vec<u16> {
        self.classes.clone()
    }

    /// (K): pixels of each class.
    #[wasm_bindgen(getter)]
    pub fn counts(&self) -> Vec<u32> {
        self.counts.clone()
    }

    /// Share of the pixels with a known class that were recognized; none where nothing is known.
    #[wasm_bindgen(getter)]
    pub fn accuracy(&self) -> Option<f64> {
        self.scores.as_ref()?.aacc
    }

    /// Mean intersection over union of the classes of this image.
    #[wasm_bindgen(getter)]
    pub fn miou(&self) -> Option<f64> {
        self.scores.as_ref()?.miou
    }

    /// (K): intersection over union of each class, NaN for those that are neither here nor seen; empty where nothing is
    /// known.
    #[wasm_bindgen(getter)]
    pub fn iou(&self) -> Vec<f64> {
        let of = |scores: &SegmentationScores| scores.iou.iter().map(|iou| iou.unwrap_or(f64::NAN)).collect();
        self.scores.as_ref().map_or(Vec::new(), of)
    }
}

#[wasm_bindgen]
impl Segmenter {
    /// Loads a network from the bytes of `config.json` and `model.safetensors`. The names of its classes say
    /// `classes.json`, if there is one, or else the metadata of the weights.
    pub fn load(
        device: &Device, config: &[u8], weights: &[u8], classes_file: Option<Vec<u8>>,
    ) -> Result<Segmenter, JsValue> {
        let config = checkpoint::config_from_bytes(Path::new(checkpoint::CONFIG), config).map_err(js)?;
        let path = Path::new(checkpoint::MODEL);
        let metadata = weights_file::metadata(path, weights).map_err(js)?;
        let text = serde_json::to_string(&metadata).unwrap_or_default();
        let weights = weights_file::from_bytes(path, weights).map_err(js)?;
        if !matches!(config.dense, Some(Dense::Segmentation(_))) {
            let found = if config.dense.is_some() { "a detector".into() } else { contents(&weights).to_string() };
            let wanted = "a segmentation network, which `rowscan segment` trains";
            return Err(js(rowscan::Error::argument("the model", found, wanted)));
        }
        let named = |bytes: Vec<u8>| {
            serde_json::from_slice::<Vec<String>>(&bytes).map_err(|e| js(rowscan::Error::file(checkpoint::CLASSES, e)))
        };
        let known = match classes_file {
            Some(bytes) => Some(named(bytes)?),
            None => About::of_metadata(metadata).classes,
        };
        let known = known.filter(|names| names.len() == config.classes).unwrap_or_default();
        let name = |class: usize| known.get(class).cloned().unwrap_or_else(|| format!("class {class}"));
        let names = (0..config.classes).map(name).collect();
        let g = &device.0;
        let mut params = Params::new(g);
        let model = models::Segmenter::new(g, &mut params, &config).map_err(js)?;
        params.load(g, &weights).map_err(js)?;
        let forward = window_scores(g, &model, &config, WINDOWS).map_err(js)?;
        Ok(Self { config, names, forward, parameters: params.count(), metadata: text })
    }

    /// Side of a window in pixels, which the shorter side of an image is resized to.
    #[wasm_bindgen(getter)]
    pub fn side(&self) -> usize {
        self.config.image_size
    }

    /// Number of weights.
    #[wasm_bindgen(getter)]
    pub fn parameters(&self) -> usize {
        self.parameters
    }

    /// Names of the classes.
    #[wasm_bindgen(getter)]
    pub fn classes(&self) -> Vec<String> {
        self.names.clone()
    }

    /// (K, 3): the color of each class, RGB, as `rowscan predict` draws it.
    #[wasm_bindgen(getter)]
    pub fn colors(&self) -> Vec<u8> {
        (0..self.names.len()).flat_map(class_color).collect()
    }

    /// The configuration as JSON.
    #[wasm_bindgen(getter)]
    pub fn config(&self) -> String {
        serde_json::to_string(&self.config).unwrap_or_default()
    }

    /// The metadata of the weights file as JSON.
    #[wasm_bindgen(getter)]
    pub fn metadata(&self) -> String {
        self.metadata.clone()
    }

    /// The class of each pixel of an RGB image (height, width, 3), as `rowscan predict` sees it.
    ///
    /// `truth` (height, width) has the classes where they are known, 65535 for a pixel without.
    pub async fn segment(
        &self, width: u32, height: u32, pixels: Vec<u8>, truth: Option<Vec<u16>>,
    ) -> Result<Segmentation, JsValue> {
        let image = Rgb8 { width, height, pixels };
        let classes = pixel_scores(&self.forward, &self.config, &image).await.map_err(js)?.best();
        let mut counts = vec![0; self.names.len()];
        classes.iter().for_each(|class| counts[usize::from(*class)] += 1);
        let scored = |truth: Vec<u16>| {
            let mut tally = SegmentationTally::new(self.names.len());
            tally.add(&classes, &truth).map(|()| tally.scores())
        };
        let scores = truth.map(scored).transpose().map_err(js)?;
        Ok(Segmentation { classes, counts, scores })
    }
}

/// Share of a class's color over an image in the pictures of `rowscan predict`.
#[wasm_bindgen]
pub fn cover() -> f32 {
    COVER
}
