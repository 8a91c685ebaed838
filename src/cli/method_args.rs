//! The arguments that say what a model is pretrained to do.

use serde::{Deserialize, Serialize};

use super::model_args::ModelArgs;
use super::run_args::{word, word_of};
use crate::error::{Error, Result};
use crate::models::{Config, Method, Objective};
use crate::train::pretrain::settings::Settings;

/// Method, masks and what belongs to single methods.
#[derive(Debug, Clone, Default, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct MethodArgs {
    #[arg(long, help = Method::names(|_| true))]
    method: Option<String>,
    /// random, sequential (the last in the order of prediction) or diagonal.
    #[arg(long, value_parser = ["random", "sequential", "diagonal"])]
    mask: Option<String>,
    /// Share of hidden patches, or `truncnorm` for the MAP repository's draw around 0.5; at 0 all count. By default the method's.
    #[arg(long, allow_negative_numbers = true)]
    mask_ratio: Option<String>,
    /// Number of hidden patches, in place of their share.
    #[arg(long)]
    mask_tokens: Option<usize>,
    /// What the decoder sees: map (its line and those before), ar (what comes before), mae (all) or local-mae (its line).
    #[arg(long, value_parser = ["map", "ar", "mae", "local-mae"])]
    decoder_mask: Option<String>,
    /// Order of prediction: rows or columns; by default the encoder's.
    #[arg(long, value_parser = ["rows", "columns"])]
    decode_order: Option<String>,
    /// What is predicted: normalised pixels, or raw ones.
    #[arg(long, value_parser = ["normalised", "raw"])]
    target: Option<String>,
    /// Diffusion: width of the denoiser (1024 in MAR).
    #[arg(long)]
    diffusion_width: Option<usize>,
    /// Diffusion: residual blocks of the denoiser.
    #[arg(long)]
    diffusion_depth: Option<usize>,
    /// Diffusion: noise levels drawn for each patch.
    #[arg(long)]
    diffusion_repeats: Option<usize>,
    /// Diffusion: a squared error alone, without learned variances and their bound.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    no_vlb: Option<bool>,
    /// Contrastive: negatives, a multiple of the batch.
    #[arg(long)]
    queue: Option<usize>,
    /// Contrastive: what similarities are divided by.
    #[arg(long, allow_negative_numbers = true)]
    temperature: Option<f64>,
    /// Contrastive: how much of the key encoder stays in a step.
    #[arg(long, allow_negative_numbers = true)]
    key_momentum: Option<f64>,
}

impl MethodArgs {
    /// The options over `d`; those of the method, if it is another one.
    pub fn settings(&self, mut d: Settings) -> Result<Settings> {
        let method = self.method.as_deref().map(str::parse::<Method>).transpose()?;
        if let Some(method) = method.filter(|method| *method != d.objective.method) {
            d = Settings { run: d.run, recipe: d.recipe, ..Settings::of(method) };
        }
        let mask = word("--decoder-mask", self.decoder_mask.as_deref(), "map, ar, mae or local-mae")?;
        let order = word("--decode-order", self.decode_order.as_deref(), "rows or columns")?;
        let target = word("--target", self.target.as_deref(), "normalised or raw")?;
        let o = d.objective;
        Ok(Settings {
            run: d.run,
            recipe: d.recipe,
            mask: self.mask.clone().unwrap_or(d.mask),
            mask_ratio: mask_ratio(self.mask_ratio.as_deref(), d.mask_ratio)?,
            // a share given on the command line stands, and so does a number
            mask_tokens: self.mask_tokens.or(d.mask_tokens.filter(|_| self.mask_ratio.is_none())),
            objective: Objective {
                method: o.method,
                decoder_mask: mask.or(o.decoder_mask),
                decode_order: order.or(o.decode_order),
                target: target.unwrap_or(o.target),
                diffusion_width: self.diffusion_width.unwrap_or(o.diffusion_width),
                diffusion_depth: self.diffusion_depth.unwrap_or(o.diffusion_depth),
                diffusion_repeats: self.diffusion_repeats.unwrap_or(o.diffusion_repeats),
                vlb: self.no_vlb.map_or(o.vlb, |no| !no),
                queue: self.queue.unwrap_or(o.queue),
                temperature: self.temperature.unwrap_or(o.temperature),
                key_momentum: self.key_momentum.unwrap_or(o.key_momentum),
            },
        })
    }

    /// The model of a new run: MAE on a ViT is MAE proper, with its own decoder and positions, unless others are asked for.
    pub fn model(&self, model: &ModelArgs) -> Result<Config> {
        let config = model.resolve()?;
        if !config.family.prefix_in_pretraining
            || self.method.as_deref() != Some(Method::MAE.name)
            || model.decoder.is_some()
        {
            return Ok(config);
        }
        let positions = model.positions.clone().or_else(|| Some("sin-cos".into()));
        ModelArgs { decoder: Some("mae".into()), positions, ..model.clone() }.resolve()
    }

    /// Every option, as `settings` has it.
    pub fn of(settings: &Settings) -> Self {
        let o = settings.objective.clone();
        Self {
            method: Some(o.method.to_string()),
            mask: Some(settings.mask.clone()),
            mask_ratio: Some(settings.mask_ratio.map_or("truncnorm".into(), |ratio| ratio.to_string())),
            mask_tokens: settings.mask_tokens,
            decoder_mask: o.decoder_mask.and_then(word_of),
            decode_order: o.decode_order.and_then(word_of),
            target: word_of(o.target),
            diffusion_width: Some(o.diffusion_width),
            diffusion_depth: Some(o.diffusion_depth),
            diffusion_repeats: Some(o.diffusion_repeats),
            no_vlb: Some(!o.vlb),
            queue: Some(o.queue),
            temperature: Some(o.temperature),
            key_momentum: Some(o.key_momentum),
        }
    }
}

/// A share, `truncnorm`, or the default.
pub fn mask_ratio(text: Option<&str>, default: Option<f64>) -> Result<Option<f64>> {
    match text {
        None => Ok(default),
        Some("truncnorm") => Ok(None),
        Some(text) => {
            let wrong =
                |_| Error::argument("--mask-ratio", format!("`{text}`"), "a number from 0 to below 1, or truncnorm");
            text.parse().map(Some).map_err(wrong)
        }
    }
}
