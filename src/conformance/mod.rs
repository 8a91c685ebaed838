//! Conformance: runs fixtures, which hold the inputs and results of another implementation (PyTorch), and compares our
//! results tensor by tensor. `tests/fixtures/README.md` describes the fixtures.

mod adamw;
mod arm_pretrain;
mod classify;
mod compare;
mod dense_ops;
mod dense_recipes;
mod detection;
mod fill;
mod fixture;
mod hierarchy;
mod host;
mod mae_pretrain;
mod map_pretrain;
mod map_train;
mod maps;
mod mixer;
mod model;
mod points;
mod scan;
mod segmentation;
mod ss2d;
mod tables;

pub use compare::{FixtureReport, FixtureRow};
pub use fixture::Fixture;

use std::path::Path;

use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::models::{Config, Method};

/// The kinds of fixtures.
pub const KINDS: &[&str] = &[
    "map_pretrain",
    "map_train",
    "mae_pretrain",
    "vit_classify",
    "mambar_classify",
    "vim_classify",
    "selective_scan",
    "mamba_mixer",
    "adamw",
    "tables",
    "conv2d",
    "batch_norm",
    "pool",
    "squeeze_excite",
    "resnet_classify",
    "efficientnet_classify",
    "mambavision_classify",
    "mambavision_mixer",
    "map_hier_pretrain",
    "convnext_classify",
    "vmamba_classify",
    "arm_classify",
    "arm_pretrain",
    "ss2d",
    "fps",
    "knn",
    "vote",
    "chamfer",
    "mamba3d_classify",
    "map3d_pretrain",
    "pointmae_pretrain",
    "nms",
    "coco_rle",
    "coco_eval",
    "miou",
    "seg_slide",
    "roi_align",
    "dense_ops",
    "upernet",
    "deeplab",
    "simple_feature_pyramid",
    "feature_pyramid",
    "rpn",
    "cascade_heads",
    "mask_head",
    "dense_schedule",
];

/// Runs the fixture in a file and compares the results. Differences are in the report, and are no error.
///
/// # Errors
/// If the file is no fixture, its kind is unknown, its sizes contradict each other, or it does not fit the adapter.
pub fn check(g: &Gpu, path: &Path) -> Result<FixtureReport> {
    let fixture = Fixture::open(path)?;
    let mut report = FixtureReport::new(&fixture);
    match fixture.kind.as_str() {
        "map_pretrain" => map_pretrain::check(g, &fixture, &mut report),
        "map_train" => map_train::check(g, &fixture, &mut report),
        "mae_pretrain" => mae_pretrain::check(g, &fixture, &mut report),
        "vit_classify" => classify::vit(&fixture).and_then(|c| classify::check(g, &fixture, &mut report, &c)),
        "mambar_classify" => classify::mambar(&fixture).and_then(|c| classify::check(g, &fixture, &mut report, &c)),
        "vim_classify" => classify::vim(&fixture).and_then(|c| classify::check(g, &fixture, &mut report, &c)),
        "selective_scan" => scan::check(g, &fixture, &mut report),
        "mamba_mixer" => mixer::check(g, &fixture, &mut report),
        "adamw" => adamw::check(g, &fixture, &mut report),
        "tables" => tables::check(g, &fixture, &mut report),
        "conv2d" => maps::conv2d(g, &fixture, &mut report),
        "batch_norm" => maps::norm(g, &fixture, &mut report),
        "pool" => maps::pool(g, &fixture, &mut report),
        "resnet_classify" => hierarchy::resnet(&fixture).and_then(|c| on_maps(g, &fixture, &mut report, &c)),
        "mambavision_classify" => hierarchy::mambavision(&fixture).and_then(|c| on_maps(g, &fixture, &mut report, &c)),
        "map_hier_pretrain" => hierarchy::check_map(g, &fixture, &mut report),
        "mambavision_mixer" => mixer::mambavision(g, &fixture, &mut report),
        "efficientnet_classify" => {
            hierarchy::efficientnet(&fixture).and_then(|c| on_maps(g, &fixture, &mut report, &c))
        }
        "convnext_classify" => hierarchy::convnext(&fixture).and_then(|c| plain(g, &fixture, &mut report, &c)),
        "vmamba_classify" => hierarchy::vmamba(&fixture).and_then(|c| plain(g, &fixture, &mut report, &c)),
        "arm_classify" => classify::arm(&fixture).and_then(|c| plain(g, &fixture, &mut report, &c)),
        "arm_pretrain" => arm_pretrain::check(g, &fixture, &mut report),
        "ss2d" => ss2d::check(g, &fixture, &mut report),
        "squeeze_excite" => maps::squeeze_excite(g, &fixture, &mut report),
        "fps" => host::fps(&fixture, &mut report),
        "knn" => host::knn(&fixture, &mut report),
        "vote" => host::vote(&fixture, &mut report),
        "chamfer" => points::chamfer(g, &fixture, &mut report),
        "mamba3d_classify" => points::classify(g, &fixture, &mut report),
        "map3d_pretrain" => points::pretrain(g, &fixture, &mut report, Method::MAP),
        "pointmae_pretrain" => points::pretrain(g, &fixture, &mut report, Method::POINT_MAE),
        "nms" => host::nms(&fixture, &mut report),
        "coco_rle" => host::rle(&fixture, &mut report),
        "coco_eval" => host::coco_eval(&fixture, &mut report),
        "miou" => host::miou(&fixture, &mut report),
        "seg_slide" => host::slide(&fixture, &mut report),
        "roi_align" => dense_ops::roi_align(g, &fixture, &mut report),
        "dense_ops" => dense_ops::check(g, &fixture, &mut report),
        "upernet" | "deeplab" => segmentation::check(g, &fixture, &mut report),
        "simple_feature_pyramid" => detection::simple_pyramid(g, &fixture, &mut report),
        "feature_pyramid" => detection::feature_pyramid(g, &fixture, &mut report),
        "rpn" => detection::region_proposals(g, &fixture, &mut report),
        "cascade_heads" => detection::cascade(g, &fixture, &mut report),
        "mask_head" => detection::masks(g, &fixture, &mut report),
        "dense_schedule" => dense_recipes::check(&fixture, &mut report),
        kind => Err(Error::file(path, format!("kind `{kind}` is not one of {}", KINDS.join(", ")))),
    }
    .map_err(|e| match e {
        Error::Argument { .. } => Error::file(path, e), // the arguments came from the file
        other => other,
    })?;
    Ok(report)
}

/// A classifier with batch norms, or one of true size without weights.
fn on_maps(g: &Gpu, f: &Fixture, report: &mut FixtureReport, config: &Config) -> Result<()> {
    if fill::is_filled(f) { fill::check(g, f, report, config) } else { hierarchy::check(g, f, report, config) }
}

/// A classifier without batch norms, or one of true size without weights.
fn plain(g: &Gpu, f: &Fixture, report: &mut FixtureReport, config: &Config) -> Result<()> {
    if fill::is_filled(f) { fill::check(g, f, report, config) } else { classify::check(g, f, report, config) }
}
