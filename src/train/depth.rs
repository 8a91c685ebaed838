//! How deep a parameter of the backbone of a dense task lies, for layer-wise learning rates.

use crate::models::{Config, layer_of};

/// How far a parameter of the backbone is from the heads: 0 behind the last layer.
pub fn below_top(config: &Config, name: &str) -> usize {
    let (depth, last) = depth_of(config, name);
    last - depth
}

/// Layers of the backbone as depths count them: Mamba layers, or the blocks of a ViT or of a backbone on maps.
pub fn depth_layers(config: &Config) -> u32 {
    if let Some(net) = &config.hierarchy {
        return net.depth() as u32;
    }
    let mambas = config.pattern.chars().filter(|letter| *letter == 'M').count();
    (if mambas > 0 { mambas } else { config.pattern.len() }) as u32
}

/// (depth of a parameter of the backbone, the last depth). A transformer block behind Mamba layers has the depth of the
/// layer before it (src/models/README.md, D-24).
fn depth_of(config: &Config, name: &str) -> (usize, usize) {
    let mambas = config.pattern.contains('M');
    let counts = |letters: &str| letters.chars().filter(|letter| !mambas || *letter == 'M').count();
    let last = depth_layers(config) as usize + 1;
    match layer_of(config, name) {
        (0, _) => (0, last),
        (layer, end) if layer == end => (last, last),
        (layer, _) if config.hierarchy.is_some() => (layer, last),
        (layer, _) => (counts(&config.pattern[..layer]).max(1), last),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_have_the_depth_of_the_layer_before_them() {
        let config = Config::preset("map_small_patch16_224").unwrap();
        let depth = |name: &str| depth_of(&config, name);
        assert_eq!(depth("pos_embed"), (0, 25));
        assert_eq!(depth("patch_embed.proj.weight"), (0, 25));
        assert_eq!(depth("layers.0.mixer.A_log"), (1, 25));
        assert_eq!(depth("layers.2.norm.weight"), (3, 25));
        assert_eq!(depth("blocks.0.attn.qkv.weight"), (3, 25));
        assert_eq!(depth("layers.23.norm.weight"), (24, 25));
        assert_eq!(depth("blocks.7.mlp.fc1.weight"), (24, 25));
        assert_eq!(depth("fpn1.0.weight"), (25, 25));
        let vit = Config::preset("deit_tiny_patch16_224").unwrap();
        assert_eq!(depth_of(&vit, "blocks.3.norm1.weight"), (4, 13));
        let resnet = Config::preset("resnet50").unwrap();
        assert_eq!(depth_of(&resnet, "layer2.0.conv1.weight"), (4, 17));
        assert_eq!(depth_of(&resnet, "conv1.weight"), (0, 17));
        let convnext = Config::preset("convnext_tiny").unwrap();
        assert_eq!(depth_of(&convnext, "stem.0.weight"), (0, 19));
        assert_eq!(depth_of(&convnext, "norm0.weight"), (19, 19));
    }
}
