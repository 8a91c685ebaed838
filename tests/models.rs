//! Numbers of parameters, tensor names and shapes of the models, without an adapter (src/models/README.md, "Backbones"
//! and "Tensor names").

use std::collections::{BTreeMap, BTreeSet};

use rowscan::Result;
use rowscan::gpu::{Caps, Gpu};
use rowscan::models::{
    Classifier, Config, Decoder, DecoderKind, Family, InitPositions, Map, Method, Objective, Pool, Positions, layer_of,
    models, pretext_model,
};
use rowscan::nn::{Init, Params};
use rowscan::train::pretrain::step::Pretrainer;
use rowscan::train::settings::RunSettings;

/// Names and shapes of the parameters of MAP pretraining.
fn shapes(config: &Config) -> BTreeMap<String, Vec<usize>> {
    of(|g, params| Map::new(g, params, config).map(drop))
}

/// Names and shapes of the parameters of a classifier.
fn classifier(name: &str) -> BTreeMap<String, Vec<usize>> {
    let config = Config::preset(name).unwrap();
    of(|g, params| Classifier::new(g, params, &config).map(drop))
}

fn of(build: impl Fn(&Gpu, &mut Params) -> Result<()>) -> BTreeMap<String, Vec<usize>> {
    let g = Gpu::dry(Caps { max_binding: 2 << 30, max_buffer: 2 << 30, ..Caps::portable() });
    let mut params = Params::new(&g);
    build(&g, &mut params).unwrap();
    let named: BTreeMap<_, _> = params.entries().iter().map(|e| (e.name.clone(), e.shape.clone())).collect();
    assert_eq!(named.len(), params.entries().len(), "a name is used twice");
    named
}

fn count<'a>(shapes: impl Iterator<Item = (&'a String, &'a Vec<usize>)>) -> usize {
    shapes.map(|(_, shape)| shape.iter().product::<usize>()).sum()
}

/// Whether a parameter belongs to the decoder, which a classifier lacks.
fn is_decoder(name: &str) -> bool {
    ["mask_token", "decoder_", "ar_pred"].iter().any(|prefix| name.starts_with(prefix))
}

#[test]
fn presets_have_the_published_sizes() {
    // the table in src/models/README.md, "HybridNet": parameters of the classifier and of the decoder, number of
    // tensors
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
fn models_have_the_published_sizes() {
    // the tables in src/models/README.md, "HybridNet", "ViT and DeiT" and "Mamba-R and Vim"
    for (name, parameters) in [
        ("map_tiny_patch16_224", 11_640_424),
        ("map_small_patch16_224", 37_272_040),
        ("map_base_patch16_224", 137_117_416),
        ("map_large_patch16_224", 475_620_328),
        ("map_huge_patch16_224", 795_894_760),
        ("mambar_tiny_patch16_224", 9_264_232),
        ("mambar_small_patch16_224", 27_801_064),
        ("mambar_base_patch16_224", 99_301_096),
        ("mambar_large_patch16_224", 341_222_376),
        ("vim_tiny_patch16_224", 7_148_008),
        ("vim_small_patch16_224", 25_796_584),
        ("vim_base_patch16_224", 97_598_440),
        ("vim_tiny_patch16_224_columns", 7_148_008),
        ("deit_tiny_patch16_224", 5_717_416),
        ("deit_small_patch16_224", 22_050_664),
        ("deit_base_patch16_224", 86_567_656),
        ("vit_base_patch16_224", 86_567_656),
        ("vit_large_patch16_224", 304_326_632),
    ] {
        assert_eq!(count(classifier(name).iter()), parameters, "{name}");
    }
    // the table in src/models/README.md, "Layer patterns", which gives millions with one decimal
    for (ordering, parameters) in
        [("mmmmmmmm", 1313), ("tttttttt", 1545), ("mmmmmmtt", 1371), ("ttmmmmmm", 1371), ("tmmmtmmm", 1371)]
    {
        let name = format!("hybrid_base_{ordering}_patch16_224");
        assert_eq!((count(classifier(&name).iter()) + 50_000) / 100_000, parameters, "{name}");
    }
    assert_eq!(count(classifier("hybrid_base_mmmtmmmt_patch16_224").iter()), 137_117_416);
}

#[test]
fn orderings_are_those_of_table_4() {
    let pattern = |o: &str| Config::preset(&format!("hybrid_base_{o}_patch16_224")).unwrap().pattern;
    assert_eq!(pattern("mmmmmmtt"), "M".repeat(24) + &"T".repeat(8));
    assert_eq!(pattern("ttmmmmmm"), "T".repeat(8) + &"M".repeat(24));
    assert_eq!(pattern("tmmmtmmm"), "TMMM".repeat(8));
    assert_eq!(pattern("mmmtmmmt"), "MMMT".repeat(8));
    assert!(!Config::preset("hybrid_base_mmmtmmmt_patch16_224").unwrap().extra_residual);
    assert_eq!(Config::preset("hybrid_micro_ttmmmmmm_patch4_32").unwrap().pattern, "TTMMMMMM");
}

#[test]
fn every_model_builds_under_its_name() {
    let names = models();
    assert!(names.len() > 35, "{names:?}");
    for name in &names {
        let config = Config::preset(name).unwrap_or_else(|e| panic!("{e}"));
        config.validate().unwrap_or_else(|e| panic!("{name}: {e}"));
        assert_eq!(&config.name, name);
        assert!(config.family.clouds || name.contains("patch4_32") == (config.tokens() == 64), "{name}");
        let rates: Vec<f64> = config.drop_path_places().into_iter().map(|(_, rate)| rate).collect();
        // in a hybrid only Mamba layers have DropPath
        let drops =
            config.hierarchy.is_some() || config.family.clouds || config.family == Family::VIT || config.depth() > 0;
        // ARM's list is one longer than its layers, and EfficientNet's rates are index over count, so that the last
        // layer does not reach the end of either
        let all = (config.depth().max(2) - 1) as f64;
        let share = match config.family {
            family if family == Family::ARM => (all - 1.0) / all,
            family if family == Family::EFFICIENTNET => 25.0 / 26.0, // of 26 blocks
            _ => f64::from(u8::from(drops)),
        };
        // in a hybrid on clouds the last block has the rate of an earlier layer
        let last =
            if config.family.clouds { rates.iter().copied().fold(0.0, f64::max) } else { *rates.last().unwrap() };
        assert!(rates[0] == 0.0 && (last - config.drop_path * share).abs() < 1e-12, "{name}: {rates:?}");
    }
    for name in names.iter().filter(|name| name.contains("micro")) {
        let parameters = count(classifier(name).iter());
        assert!((230_000..600_000).contains(&parameters), "{name}: {parameters}");
    }
}

/// Parameters of the published networks on maps, for 1000 classes.
#[test]
fn networks_on_maps_have_the_parameters_of_their_papers() {
    for (name, parameters) in [
        ("resnet50", 25_557_032),
        ("resnet152", 60_192_808),
        ("efficientnet_b3", 12_233_232),
        ("tf_efficientnet_b3", 12_233_232),
        ("mambavision_tiny_1k", 31_794_248),
        ("mambavision_tiny2_1k", 35_104_008),
        ("mambavision_small_1k", 50_140_584),
        ("mambavision_base_1k", 97_685_288),
        ("mambavision_large_1k", 227_961_048),
        ("mambavision_large2_1k", 241_554_824),
        ("convnext_tiny", 28_589_128),
        ("convnext_small", 50_223_688),
        ("convnext_base", 88_591_464),
        ("vmamba_tiny", 30_705_832),
        ("vmamba_small", 50_147_752),
        ("vmamba_base", 88_557_800),
        ("vmamba_tiny_s2l5", 30_705_832),
        ("vmamba_small_s2l15", 50_147_752),
        ("vmamba_base_s2l15", 88_557_800),
        ("vmamba_tiny_s1l8", 30_249_064),
        ("vmamba_small_s1l20", 49_012_840),
        ("vmamba_base_s1l20", 86_614_504),
    ] {
        assert_eq!(count(classifier(name).iter()), parameters, "{name}");
    }
    for (name, parameters) in
        [("mamba3d_base", 16_934_184), ("map3d_base", 25_227_048), ("map3d_attention_base", 19_298_088)]
    {
        assert_eq!(count(classifier(name).iter()), parameters, "{name}");
    }
    let other = Config::preset("resnet50_288").unwrap();
    assert_eq!((other.image_size, other.name.as_str()), (288, "resnet50_288"));
}

/// Parameters of ARM's networks, for 224 pixels and 1000 classes, and some names and shapes of its repository.
#[test]
fn arm_has_the_parameters_of_its_paper() {
    for (name, parameters) in [
        ("arm_base_patch16_224", 85_031_656),
        ("arm_large_patch16_224", 297_035_720),
        ("arm_huge_patch16_224", 662_682_088),
    ] {
        assert_eq!(count(classifier(name).iter()), parameters, "{name}");
    }
    // pretraining at 192 pixels: all, and all but both tables of positions, which are fixed
    for (name, all, trained) in [
        ("arm_base_patch16_192", 99_427_328, 99_243_008),
        ("arm_large_patch16_192", 303_942_880, 303_721_696),
        ("arm_huge_patch16_192", 659_422_976, 659_128_064),
    ] {
        let config = Config::preset(name).unwrap();
        let found = of(|g, p| pretext_model(g, p, &config, &Objective::of(Method::ARM)).map(drop));
        let positions = ["pos_embed", "dec_pos_embed"].map(|name| found[name].iter().product::<usize>());
        assert_eq!((count(found.iter()), count(found.iter()) - positions[0] - positions[1]), (all, trained), "{name}");
    }
    let found = classifier("arm_large_patch16_224");
    for (name, shape) in [
        ("pos_embed", &[1, 197, 1024][..]),
        ("layers.23.mixer.A_c_b_log", &[1024, 16]),
        ("layers.0.mixer.conv1d_c.weight", &[1024, 1, 4]),
        ("layers.0.mixer.dt_proj_b.weight", &[1024, 64]),
        ("layers.0.mixer.x_proj_c_b.weight", &[96, 1024]),
        ("layers.0.mlp.w2.weight", &[2730, 1024]),
        ("norm_f.bias", &[1024]),
    ] {
        assert_eq!(found.get(name).map(Vec::as_slice), Some(shape), "{name}");
    }
}

#[test]
fn vmamba_has_the_official_names_and_shapes() {
    let found = classifier("vmamba_tiny");
    for (name, shape) in [
        ("patch_embed.0.weight", &[48, 3, 3, 3][..]),
        ("patch_embed.7.bias", &[96]),
        ("layers.0.downsample.1.weight", &[192, 96, 3, 3]),
        ("layers.2.downsample.3.weight", &[768]),
        ("layers.2.blocks.4.op.x_proj_weight", &[4, 26, 768]),
        ("layers.0.blocks.0.op.dt_projs_weight", &[4, 192, 6]),
        ("layers.0.blocks.0.op.A_logs", &[768, 1]),
        ("layers.0.blocks.0.op.Ds", &[768]),
        ("layers.0.blocks.0.op.dt_projs_bias", &[4, 192]),
        ("layers.3.blocks.1.op.conv2d.weight", &[1536, 1, 3, 3]),
        ("layers.3.blocks.1.mlp.fc1.weight", &[3072, 768]),
        ("classifier.norm.weight", &[768]),
        ("classifier.head.weight", &[1000, 768]),
    ] {
        assert_eq!(found.get(name).map(Vec::as_slice), Some(shape), "{name}");
    }
    assert!(!found.contains_key("layers.3.downsample.1.weight") && !found.contains_key("head.weight"));
}

/// A configuration that the official code would misread or that has no meaning says what is wrong.
#[test]
fn arm_and_vmamba_refuse_what_they_cannot_be() {
    let says = |config: Config| config.validate().unwrap_err().to_string();
    let arm = || Config::preset("arm_base_patch16_224").unwrap();
    let odd = says(Config { image_size: 208, ..arm() });
    assert!(odd.contains("grid of an ARM: got 13 x 13 patches, expected an even number of patches"), "{odd}");
    let order = says(Config { order: rowscan::models::Order::Columns, ..arm() });
    assert!(order.contains("order of an ARM: got Columns and Mean"), "{order}");
    let vmamba = |change: fn(&mut rowscan::models::Hierarchy)| {
        let mut config = Config::preset("vmamba_micro").unwrap();
        config.hierarchy.iter_mut().for_each(change);
        says(config)
    };
    let odd = vmamba(|net| net.stages[0].width = 15);
    assert!(odd.contains("first stage: got 15, expected an even number"), "{odd}");
    let thin = vmamba(|net| net.ssm_ratio = 0.01);
    assert!(thin.contains("hierarchy.ssm_ratio: got 0.01 at width 16"), "{thin}");
}

#[test]
fn unknown_models_say_which_are_near() {
    let says = |name: &str| Config::preset(name).unwrap_err().to_string();
    assert!(says("map_tny_patch16_224").contains("near it: map_tiny_patch16_224"), "{}", says("map_tny_patch16_224"));
    assert!(says("vit_bas").contains("vit_base_patch16_224"), "{}", says("vit_bas"));
    assert!(says("tinny").contains("near it: tiny"), "{}", says("tinny"));
    for bad in ["", "map_tiny_patch0x_224", "map_tiny_patch16_", "hybrid_base_mtmtmtmt_patch16_224", "_patch16_224"] {
        assert!(says(bad).starts_with(&format!("model: got `{bad}`")), "{}", says(bad));
    }
    // patches of 16 do not divide a side of 225
    let odd = Config::preset("map_tiny_patch16_225").unwrap();
    assert!(odd.validate().unwrap_err().to_string().contains("a multiple of the patch size"));
}

/// Layer groups for layer-wise learning rate decay, as in MAE: 0 for embeddings, then the layers in the order in which
/// they run, the last for the final norm and the head.
#[test]
fn layers_are_numbered_as_they_run() {
    let check = |model: &str, cases: &[(&str, usize)], last: usize| {
        let config = Config::preset(model).unwrap();
        for (name, id) in cases {
            assert_eq!(layer_of(&config, name), (*id, last), "{model}: {name}");
        }
    };
    let vit = [("cls_token", 0), ("pos_embed", 0), ("patch_embed.proj.bias", 0), ("blocks.0.norm1.weight", 1)];
    check("vit_base_patch16_224", &vit, 13);
    check("vit_base_patch16_224", &[("blocks.11.mlp.fc2.bias", 12), ("norm.weight", 13), ("head.bias", 13)], 13);
    let hybrid = [
        ("pos_embed_cls", 0),
        ("layers.0.mixer.D", 1),
        ("layers.2.norm.weight", 3),
        ("blocks.0.attn.qkv.weight", 4),
        ("layers.3.mixer.D", 5),
        ("blocks.7.norm2.bias", 32),
        ("norm_f.weight", 33),
        ("neck.weight", 33),
        ("norm_neck.weight", 33),
        ("head.weight", 33),
    ];
    check("map_base_patch16_224", &hybrid, 33);
    // what joins two stages goes with the block in front of it
    let vmamba = [
        ("patch_embed.7.bias", 0),
        ("layers.0.blocks.1.op.A_logs", 2),
        ("layers.0.downsample.1.weight", 2),
        ("layers.2.blocks.0.norm.weight", 5),
        ("layers.3.blocks.1.mlp.fc2.bias", 11),
        ("classifier.norm.weight", 12),
        ("classifier.head.weight", 12),
    ];
    check("vmamba_tiny", &vmamba, 12);
    let arm = [("cls_token", 0), ("pos_embed", 0), ("layers.0.mixer.A_c_log", 1), ("layers.11.mlp.w3.bias", 12)];
    check("arm_base_patch16_224", &arm, 13);
    check("arm_base_patch16_224", &[("norm_f.weight", 13), ("head.weight", 13)], 13);
}

#[test]
fn drop_path_rises_along_the_depth() {
    let rates = |name: &str, depth: usize, p: f64| {
        let config = Config::preset(name).unwrap();
        Config { pattern: config.pattern[..depth].into(), drop_path: p, ..config }.drop_path_rates()
    };
    let close = |got: Vec<f64>, want: &[f64]| {
        assert!(got.len() == want.len() && got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-12), "{got:?}");
    };
    // layers 0 and 1 drop nothing, the final addition drops most (src/models/README.md, "DropPath")
    close(rates("mambar_tiny_patch16_224", 3, 0.4), &[0.0, 0.0, 0.2, 0.4]);
    close(rates("mambar_tiny_patch16_224", 1, 0.4), &[0.0, 0.0]);
    close(rates("map_tiny_patch16_224", 4, 0.4), &[0.0, 0.0, 0.2, 0.4]);
    // as in timm, both branches of a block have the same rate
    close(rates("vit_base_patch16_224", 3, 0.2), &[0.0, 0.0, 0.1, 0.1, 0.2, 0.2]);
    // ARM: the list of a Mamba network, of which block i takes entry i for both branches
    close(rates("arm_base_patch16_224", 3, 0.2), &[0.0, 0.0, 0.0, 0.0, 0.1, 0.1]);
    let vmamba = Config { drop_path: 0.4, ..Config::preset("vmamba_micro").unwrap() };
    close(vmamba.drop_path_rates(), &[0.0, 0.0, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4]);
    assert_eq!(vmamba.drop_path_places()[5].0, "layers.2.blocks.0.mlp");
    let rate = |name: &str| Config::preset(name).unwrap().drop_path;
    assert_eq!([rate("vmamba_tiny"), rate("vmamba_small"), rate("vmamba_base")], [0.2, 0.3, 0.6]);
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
    let bare = Config { registers: 0, ..Config::preset("micro").unwrap() };
    let dry = Gpu::dry(Caps::portable());
    let error = Classifier::new(&dry, &mut Params::new(&dry), &bare).map(drop).unwrap_err().to_string();
    assert!(error.contains("registers: got 0"), "{error}");
    wrong(&|c| c.pool = Pool::Token, "pool of a Hybrid");
    wrong(&|c| c.family = Family::VIM, "the letter M for each layer");
    wrong(&|c| c.decoder.kind = DecoderKind::Mae, "a Vit with a class token");
    wrong(&|c| (c.positions, c.width) = (Positions::SinCos, 66), "a multiple of 4");
}

/// A profile names modules as a checkpoint does: the scope of every launch is the path of a module that has parameters.
#[test]
fn launches_are_named_like_parameters() {
    let micro = |name: &str| Config::preset(&format!("{name}_micro_patch4_32")).unwrap();
    let mae = Config { decoder: Decoder { width: 32, depth: 2, heads: 2, ..Decoder::mae() }, ..micro("vit") };
    for (config, method) in [
        (micro("map"), Method::MAP),
        (micro("vim"), Method::MAP),
        (micro("vit"), Method::AR),
        (micro("map").pretrained_by(Method::AR_SHIFT), Method::AR_SHIFT),
        (mae, Method::MAE),
        (micro("map"), Method::DIFFUSION),
        (Config { cls_reduce: 2, ..micro("map") }, Method::CONTRASTIVE),
    ] {
        let g = Gpu::dry(Caps::portable());
        let hyper = RunSettings::default().hyper().unwrap();
        let objective = Objective { queue: 16, ..Objective::of(method) };
        let mut trainer = Pretrainer::new(&g, &config, &objective, 2, hyper, 0).unwrap();
        let (recording, _) = trainer.record(32).unwrap();
        let scopes: BTreeSet<&str> = recording.launches().iter().map(|l| &*l.scope).collect();
        let names: Vec<&str> = trainer.params.entries().iter().map(|e| e.name.as_str()).collect();
        let inside = |name: &str, scope: &str| {
            name.strip_prefix(scope).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        for scope in &scopes {
            let module = scope.strip_prefix("key.").unwrap_or(scope); // the key encoder of contrastive pretraining
            let known =
                ["", "loss", "adamw", "ema", "key"].contains(&module) || names.iter().any(|name| inside(name, module));
            assert!(known, "{method}: `{scope}` is no module of {names:?}");
        }
        let decoder = ["patch_embed", "decoder_embed", "decoder_blocks.0", "decoder_blocks.1", "decoder_norm"];
        let own: &[&str] = match method.name {
            "map" | "ar-shift" => &["ar_pred"],
            "mae" => &["blocks.5", "norm", "decoder_pred"],
            "contrastive" => &["neck", "projector", "key.layers.0"],
            "diffusion" => &["diffloss.net"],
            _ => &[],
        };
        for scope in decoder.iter().filter(|_| method != Method::CONTRASTIVE).chain(own) {
            assert!(scopes.contains(scope), "{method}: no launch in `{scope}`: {scopes:?}");
        }
    }
}

/// Learned positions start at sines and cosines in micro models, in encoder and decoder, and at noise in the paper's;
/// the mask token starts at noise.
#[test]
fn positions_start_where_the_model_says() {
    let starts = |config: &Config| {
        let g = Gpu::dry(Caps::portable());
        let mut params = Params::new(&g);
        Map::new(&g, &mut params, config).unwrap();
        let of = |name: &str| params.entries().iter().find(|e| e.name == name).unwrap().init;
        [of("pos_embed"), of("decoder_pos_embed_learned"), of("mask_token")]
    };
    let token = Init::Normal(0.02);
    let micro = Config::preset("micro").unwrap();
    let waves = |scale| Init::SinCos { columns: 8, class: None, scale };
    assert_eq!(starts(&micro), [waves(1.0), waves(1.0), token]);
    assert_eq!(starts(&Config { position_scale: 2.0, ..micro.clone() }), [waves(2.0), waves(2.0), token]);
    let louder = Config { mask_token_std: 0.5, ..micro.clone() };
    assert_eq!(starts(&louder), [waves(1.0), waves(1.0), Init::Normal(0.5)]);
    let noise = [Init::TruncNormal(0.02), Init::Normal(0.02), token];
    assert_eq!(starts(&Config { init_positions: InitPositions::Normal, ..micro }), noise);
    assert_eq!(starts(&Config::preset("tiny").unwrap()), noise);
}

/// A `config.json` of the first version, without the keys for family, pool and scan order, still opens.
#[test]
fn old_configurations_load() {
    let old = r#"{"name":"micro","image_size":64,"patch_size":8,"width":64,"pattern":"MMMTMMMT",
        "heads":4,"mlp_ratio":2.0,
        "extra_residual":true,"registers":4,"cls_reduce":1,"classes":10,"states":16,"conv":4,"expand":2,"drop_path":0.0,
        "init":"mamba","decoder":{"width":64,"depth":2,"heads":4,"mlp_ratio":4.0}}"#;
    let config: Config = serde_json::from_str(old).unwrap();
    assert_eq!(config.init_positions, InitPositions::Normal, "all positions started so when it was written");
    assert_eq!(config, Config { init_positions: InitPositions::Normal, ..Config::preset("micro").unwrap() });
    assert_eq!((config.eps(), Config::preset("vit_base_patch16_224").unwrap().eps()), (1e-5, 1e-6));
    let one = Config::preset("micro").unwrap().pretrained_by(Method::AR_SHIFT);
    assert!(serde_json::to_string(&one).unwrap().contains(r#""divide_out":"one_way""#));
    let presets = models().into_iter().map(|name| Config::preset(&name).unwrap());
    for config in presets.chain([one]) {
        let name = &config.name;
        let text = serde_json::to_string(&config).unwrap();
        assert_eq!(serde_json::from_str::<Config>(&text).unwrap(), config, "{name}");
    }
}
