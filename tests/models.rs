//! Parameter counts, names and shapes of the presets (spec 2.3, 8), without an adapter.

use std::collections::BTreeMap;

use rowscan::gpu::{Caps, Gpu};
use rowscan::models::{Config, Map};
use rowscan::nn::Params;

fn shapes(config: &Config) -> BTreeMap<String, Vec<usize>> {
    let g = Gpu::dry(Caps { max_binding: 2 << 30, max_buffer: 2 << 30, ..Caps::portable() });
    let mut params = Params::new(&g);
    Map::new(&g, &mut params, config).unwrap();
    let named: BTreeMap<_, _> = params.entries().iter().map(|e| (e.name.clone(), e.shape.clone())).collect();
    assert_eq!(named.len(), params.entries().len(), "a name is used twice");
    named
}

fn count<'a>(shapes: impl Iterator<Item = (&'a String, &'a Vec<usize>)>) -> usize {
    shapes.map(|(_, shape)| shape.iter().product::<usize>()).sum()
}

/// Parameters that only pretraining has.
fn is_decoder(name: &str) -> bool {
    ["mask_token", "decoder_", "ar_pred"].iter().any(|prefix| name.starts_with(prefix))
}

#[test]
fn presets_have_the_published_sizes() {
    // spec 2.3: classifier total, decoder, tensors
    let table = [
        ("tiny", 11_640_424, 2_004_480, 584),
        ("small", 37_272_040, 2_041_344, 586),
        ("base", 137_117_416, 2_115_072, 586),
        ("large", 475_620_328, 2_164_224, 1090),
        ("huge", 795_894_760, 2_262_528, 838),
    ];
    for (name, classifier, decoder, tensors) in table {
        let shapes = shapes(&Config::preset(name).unwrap());
        assert_eq!(count(shapes.iter().filter(|(n, _)| !is_decoder(n))), classifier, "{name}: classifier");
        assert_eq!(count(shapes.iter().filter(|(n, _)| is_decoder(n))), decoder, "{name}: decoder");
        assert_eq!(shapes.len(), tensors, "{name}: tensors");
    }
}

#[test]
fn tiny_has_the_official_names_and_shapes() {
    let found = shapes(&Config::preset("tiny").unwrap());
    let mut expected: Vec<(String, Vec<usize>)> = [
        ("cls_token", vec![1, 12, 192]),
        ("pos_embed_cls", vec![1, 12, 192]),
        ("pos_embed", vec![1, 196, 192]),
        ("mask_token", vec![1, 1, 192]),
        ("decoder_pos_embed_learned", vec![1, 196, 192]),
        ("patch_embed.proj.weight", vec![192, 3, 16, 16]),
        ("patch_embed.proj.bias", vec![192]),
        ("head.weight", vec![1000, 2304]),
        ("head.bias", vec![1000]),
        ("norm_f.weight", vec![192]),
        ("decoder_embed.weight", vec![192, 192]),
        ("decoder_embed.bias", vec![192]),
        ("decoder_norm.weight", vec![192]),
        ("decoder_norm.bias", vec![192]),
        ("ar_pred.weight", vec![768, 192]),
        ("ar_pred.bias", vec![768]),
    ]
    .map(|(name, shape)| (name.to_string(), shape))
    .to_vec();
    let mut push = |name: String, shape: &[usize]| expected.push((name, shape.to_vec()));
    for i in 0..24 {
        push(format!("layers.{i}.norm.weight"), &[192]);
        push(format!("layers.{i}.mixer.in_proj.weight"), &[768, 192]);
        push(format!("layers.{i}.mixer.out_proj.weight"), &[192, 384]);
        for b in ["", "_b"] {
            push(format!("layers.{i}.mixer.A{b}_log"), &[384, 16]);
            push(format!("layers.{i}.mixer.D{b}"), &[384]);
            push(format!("layers.{i}.mixer.conv1d{b}.weight"), &[384, 1, 4]);
            push(format!("layers.{i}.mixer.conv1d{b}.bias"), &[384]);
            push(format!("layers.{i}.mixer.x_proj{b}.weight"), &[44, 384]);
            push(format!("layers.{i}.mixer.dt_proj{b}.weight"), &[384, 12]);
            push(format!("layers.{i}.mixer.dt_proj{b}.bias"), &[384]);
        }
    }
    for k in 0..8 {
        for (leaf, rows, cols) in
            [("attn.qkv", 576, 192), ("attn.proj", 192, 192), ("mlp.fc1", 384, 192), ("mlp.fc2", 192, 384)]
        {
            push(format!("blocks.{k}.{leaf}.weight"), &[rows, cols]);
            push(format!("blocks.{k}.{leaf}.bias"), &[rows]);
        }
    }
    for j in 0..4 {
        for (leaf, rows, cols) in [
            ("attn2.q", 192, 192),
            ("attn2.kv", 384, 192),
            ("attn2.proj", 192, 192),
            ("mlp.fc1", 768, 192),
            ("mlp.fc2", 192, 768),
        ] {
            push(format!("decoder_blocks.{j}.{leaf}.weight"), &[rows, cols]);
            push(format!("decoder_blocks.{j}.{leaf}.bias"), &[rows]);
        }
    }
    for norm in (0..8).flat_map(|k| ["norm1", "norm2"].map(|n| format!("blocks.{k}.{n}"))) {
        push(format!("{norm}.weight"), &[192]);
        push(format!("{norm}.bias"), &[192]);
    }
    for norm in (0..4).flat_map(|j| ["norm2_1", "norm2_2", "norm2"].map(|n| format!("decoder_blocks.{j}.{n}"))) {
        push(format!("{norm}.weight"), &[192]);
        push(format!("{norm}.bias"), &[192]);
    }
    assert_eq!(found, expected.into_iter().collect());
}

#[test]
fn any_pattern_builds_and_bad_ones_say_why() {
    for pattern in ["M", "TTMM", "MMMMTT", "TMMMTMMM"] {
        let config = Config { pattern: pattern.into(), extra_residual: false, ..Config::preset("micro").unwrap() };
        let mambas = pattern.matches('M').count();
        assert_eq!(shapes(&config).keys().filter(|n| n.ends_with("mixer.D")).count(), mambas, "{pattern}");
    }
    let wrong = |change: &dyn Fn(&mut Config), says: &str| {
        let mut config = Config::preset("micro").unwrap();
        change(&mut config);
        let error = config.validate().unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    };
    wrong(&|c| c.pattern = "MXM".into(), "a string of M and T");
    wrong(&|c| c.image_size = 65, "a multiple of the patch size");
    wrong(&|c| c.heads = 5, "a divisor of the width");
    wrong(&|c| c.drop_path = 1.0, "0 to below 1");
    assert!(Config::preset("mini").unwrap_err().to_string().contains("micro, tiny, small, base, large, huge"));
}
