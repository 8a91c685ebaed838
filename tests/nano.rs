//! Models and settings small enough for thousands of training steps on a CPU adapter.

use rowscan::models::{Config, DecoderKind, Directions, Family, Method, Objective, Order, Pool};
use rowscan::train::pretrain::settings::PretrainSettings;
use rowscan::train::settings::RunSettings;

/// A HybridNet with every kind of layer, for images of 16×16 pixels in patches of 4×4.
pub fn nano() -> Config {
    let mut config =
        Config { image_size: 16, patch_size: 4, width: 16, pattern: "MMT".into(), ..Config::preset("micro").unwrap() };
    config.name = "nano".into();
    config.heads = 2;
    config.registers = 1;
    config.classes = 2;
    config.states = 4;
    config.decoder.width = 16;
    config.decoder.depth = 1;
    config.decoder.heads = 2;
    config
}

/// [`nano`] as a ViT of two blocks with a class token.
pub fn vit(decoder: DecoderKind) -> Config {
    let mut config = Config { family: Family::VIT, pattern: "TT".into(), pool: Pool::Token, ..nano() };
    config.decoder.kind = decoder;
    config
}

/// [`nano`] as a Vim of two blocks that scans columns.
pub fn vim_columns() -> Config {
    Config { family: Family::VIM, pattern: "MM".into(), order: Order::Columns, pool: Pool::Token, ..nano() }
}

/// A model that reads its tokens one way.
pub fn one_way(config: Config) -> Config {
    Config { directions: Directions::One, ..config }
}

/// An ARM of two blocks, for images of 16×16 pixels in four clusters of 4×4 patches.
pub fn arm() -> Config {
    let mut config = Config {
        family: Family::ARM,
        patch_size: 2,
        pattern: "MM".into(),
        pool: Pool::Average,
        expand: 1,
        mlp_ratio: Family::ARM.mlp_ratio,
        ..nano()
    };
    config.decoder.depth = 2;
    config
}

/// The default options of a pretraining method, but a small denoiser and a short queue of keys.
pub fn objective(method: Method) -> Objective {
    Objective { diffusion_width: 32, diffusion_depth: 1, diffusion_repeats: 2, queue: 16, ..Objective::of(method) }
}

/// The default settings of a pretraining method at batch 4, with [`objective`].
pub fn settings(method: Method) -> PretrainSettings {
    let run = RunSettings { batch_size: 4, ..RunSettings::default() };
    PretrainSettings { run, objective: objective(method), ..PretrainSettings::of(method) }
}
