//! Weights of one model in another: a pretrained checkpoint becomes a classifier, and `import` reads files of other
//! libraries.

use rowscan::Result;
use rowscan::gpu::{Caps, Gpu};
use rowscan::models::{Adapted, ArShift, Classifier, Config, Contents, Decoder, Mae, Map, Method, Objective, Pool};
use rowscan::models::{Positions, adapt, adapt_to_pretrain, contents, pretext_model, resize_positions};
use rowscan::nn::{Params, Weights};
use rowscan::run::import::import;
use rowscan::train::weights_file::to_bytes;

fn params(build: impl Fn(&Gpu, &mut Params) -> Result<()>) -> Params {
    let g = Gpu::dry(Caps { max_binding: 2 << 30, max_buffer: 2 << 30, ..Caps::portable() });
    let mut params = Params::new(&g);
    build(&g, &mut params).unwrap();
    params
}

/// The initial values of a model, as a checkpoint would hold them.
fn weights(seed: u64, build: impl Fn(&Gpu, &mut Params) -> Result<()>) -> Weights {
    let each = |e: &rowscan::nn::Entry| (e.name.clone(), (e.shape.clone(), e.init.values(&e.name, &e.shape, seed)));
    params(build).tensors().map(each).collect()
}

fn pretrained(config: &Config) -> Weights {
    weights(1, |g, p| Map::new(g, p, config).map(drop))
}

fn classifier(config: &Config) -> Weights {
    weights(1, |g, p| Classifier::new(g, p, config).map(drop))
}

fn adapted(found: Weights, config: &Config) -> Result<Adapted> {
    adapt(found, config, &params(|g, p| Classifier::new(g, p, config).map(drop)), 2)
}

fn micro(name: &str) -> Config {
    Config::preset(&format!("{name}_micro_patch4_32")).unwrap()
}

#[test]
fn a_model_is_pretrained_from_another_one() {
    let config = micro("map");
    let onto = |found: Weights, config: &Config| {
        adapt_to_pretrain(found, config, &params(|g, p| Map::new(g, p, config).map(drop)), 2)
    };
    let found = pretrained(&config);
    let same = onto(found.clone(), &config).unwrap();
    assert_eq!((same.taken.len(), same.weights.len()), (found.len(), found.len()), "{same}");
    assert!(same.weights == found);
    // a classifier has no decoder, a larger picture has other places: sines and cosines again, as initial values are
    let classified = onto(classifier(&config), &config).unwrap();
    assert!(classified.fresh.iter().any(|name| name == "mask_token"), "{classified}");
    assert_eq!(classified.weights["decoder_pos_embed_learned"], found["decoder_pos_embed_learned"]);
    let larger = onto(found.clone(), &Config { image_size: 48, ..config.clone() }).unwrap();
    assert_eq!(
        (&larger.resized[..], &larger.fresh[..]),
        (&["pos_embed".into()][..], &["decoder_pos_embed_learned".into()][..])
    );
    assert_eq!(larger.weights["decoder_pos_embed_learned"].0, [1, 144, 64]);
    // of point clouds the encoder has another name there
    let cloud = Config::preset("map3d_micro").unwrap();
    let build = |g: &Gpu, p: &mut Params| pretext_model(g, p, &cloud, &Objective::of(Method::MAP)).map(drop);
    let (solids, fresh) = (weights(1, build), params(build));
    let same = adapt_to_pretrain(solids.clone(), &cloud, &fresh, 2).unwrap();
    assert!(same.taken.len() == solids.len() && same.weights == solids, "{same}");
    let onward = adapted(solids, &cloud).unwrap();
    assert!(onward.copied.is_empty() && onward.ignored.iter().any(|name| name == "mask_token"), "{onward}");

    let deeper = Config { pattern: "MMMT".repeat(3), ..config };
    assert!(onto(found, &deeper).unwrap_err().to_string().contains("missing (layers.6."));
}

#[test]
fn a_map_checkpoint_becomes_a_classifier() {
    let config = micro("map");
    let found = pretrained(&config);
    let same = adapted(found.clone(), &config).unwrap();
    assert_eq!((same.fresh.len(), same.resized.len()), (0, 0), "{same}");
    assert!(same.ignored.iter().all(|n| n.starts_with("decoder_") || n == "mask_token" || n.starts_with("ar_pred")));
    assert!(same.taken.iter().all(|n| same.weights[n] == found[n]));

    // another number of classes and another grid: only the embeddings of patches are resized, not those of registers
    let other = Config { classes: 3, image_size: 48, ..config.clone() };
    let moved = adapted(found.clone(), &other).unwrap();
    assert_eq!(moved.resized, ["pos_embed"]);
    assert_eq!(moved.fresh, ["head.bias", "head.weight"], "{moved}");
    assert_eq!(moved.weights["pos_embed"].0, [1, 144, 64]);
    assert_eq!(moved.weights["pos_embed"].1, resize_positions(&found["pos_embed"].1, 64, 12).unwrap());
    assert_eq!(moved.weights["cls_token"], found["cls_token"]);
    let text = moved.to_string();
    assert!(
        text.contains("1 resized (pos_embed); 2 fresh (head.bias, head.weight); ") && text.contains(" ignored ("),
        "{text}"
    );

    // the classifier has a neck, which the pretrained model lacks
    let neck = adapted(found.clone(), &Config { cls_reduce: 2, ..config.clone() }).unwrap();
    assert_eq!(neck.fresh, ["neck.weight", "norm_neck.weight", "head.bias", "head.weight"]);

    let deeper = Config { pattern: "MMMT".repeat(3), ..config.clone() };
    let error = adapted(found.clone(), &deeper).unwrap_err().to_string();
    assert!(error.contains("missing (layers.6.") && error.contains("exactly those of the model"), "{error}");
    let shallower = Config { pattern: "MMMT".into(), ..config.clone() };
    let error = adapted(found.clone(), &shallower).unwrap_err().to_string();
    assert!(error.contains("unknown (blocks.1."), "{error}");
    let error = adapted(found, &Config { mlp_ratio: 4.0, ..config }).unwrap_err().to_string();
    assert!(error.contains("blocks.0.mlp.fc1.weight is [128, 64], expected [256, 64]"), "{error}");
}

#[test]
fn class_tokens_keep_their_row_of_positions() {
    let d = 64;
    for (name, row, new_row) in [("vit", 0, 0), ("vim", 32, 72)] {
        let config = micro(name);
        let found = classifier(&config);
        let moved = adapted(found.clone(), &Config { image_size: 48, ..config }).unwrap();
        assert_eq!(moved.resized, ["pos_embed"], "{name}");
        let (old, new) = (&found["pos_embed"].1, &moved.weights["pos_embed"].1);
        assert_eq!(new.len(), 145 * d);
        assert_eq!(old[row * d..][..d], new[new_row * d..][..d], "{name}");
        let without = |all: &[f32], row: usize| [&all[..row * d], &all[(row + 1) * d..]].concat();
        assert_eq!(without(new, new_row), resize_positions(&without(old, row), d, 12).unwrap(), "{name}");
    }
}

/// Fine-tuning after MAE: `fc_norm` after the mean over patches replaces `norm` after the blocks, and the fixed
/// position embeddings become trainable.
#[test]
fn a_mae_checkpoint_becomes_a_classifier() {
    let decoder = Decoder { width: 32, depth: 1, heads: 2, ..Decoder::mae() };
    let config = Config { positions: Positions::SinCos, decoder, ..micro("vit") };
    let found = weights(1, |g, p| Mae::new(g, p, &config).map(drop));
    let to = Config { positions: Positions::Learned, pool: Pool::Average, ..config };
    let got = adapted(found.clone(), &to).unwrap();
    assert_eq!(got.fresh, ["fc_norm.weight", "fc_norm.bias", "head.bias", "head.weight"]);
    assert!(got.ignored.contains(&"norm.weight".to_string()) && got.ignored.contains(&"decoder_pos_embed".to_string()));
    assert_eq!(got.weights["pos_embed"], found["pos_embed"]);
    assert!(got.weights["head.weight"].1.iter().all(|w| w.abs() < 2e-4), "scores start next to zero");
}

/// An encoder that was pretrained one way is fine-tuned both ways: the second direction of each mixer starts as the
/// first. A checkpoint with two directions may lack nothing of the second.
#[test]
fn weights_of_one_direction_start_both() {
    for name in ["map", "vim"] {
        let config = micro(name).pretrained_by(Method::AR_SHIFT);
        assert_eq!(config.clone().both_ways(), micro(name));
        let objective = Objective::of(Method::AR_SHIFT);
        let found = weights(1, |g, p| ArShift::new(g, p, &config, &objective).map(drop));
        let got = adapted(found.clone(), &config.clone().both_ways()).unwrap();
        let mixer = |leaf: &str| got.weights[&format!("layers.2.mixer.{leaf}")].clone();
        for (first, second) in [
            ("A_log", "A_b_log"),
            ("D", "D_b"),
            ("conv1d.weight", "conv1d_b.weight"),
            ("conv1d.bias", "conv1d_b.bias"),
            ("x_proj.weight", "x_proj_b.weight"),
            ("dt_proj.weight", "dt_proj_b.weight"),
            ("dt_proj.bias", "dt_proj_b.bias"),
        ] {
            assert_eq!(mixer(first), mixer(second), "{name}: {second}");
            assert_eq!(mixer(first), found[&format!("layers.2.mixer.{first}")]);
        }
        assert!(!got.fresh.iter().any(|name| name.starts_with("layers.")), "{got}");
        assert!(got.copied.len() == 7 * config.depth() && got.taken.iter().all(|name| found.contains_key(name)));
        assert!(got.to_string().contains(&format!("; {} copied (layers.0.mixer.", got.copied.len())), "{got}");

        let mut torn = classifier(&micro(name));
        torn.remove("layers.2.mixer.D_b");
        let error = adapted(torn, &micro(name)).unwrap_err().to_string();
        assert!(error.contains("missing (layers.2.mixer.D_b)"), "{error}");
    }
}

/// ARM pretrains in one direction without a class token; its classifier scans in four with one.
#[test]
fn weights_of_arms_pretraining_become_a_classifier() {
    let config = micro("arm");
    let whole = classifier(&config);
    let of_others = |name: &str| name.contains("_b.") || name.contains("_c.") || name.contains("_b_log");
    let lacks =
        |name: &str| of_others(name) || name.contains("_c_log") || ["D_b", "D_c"].iter().any(|d| name.contains(d));
    let mut found = whole.clone();
    found.retain(|name, _| !lacks(name) && !["norm_f", "head", "cls_token"].iter().any(|p| name.starts_with(p)));
    let positions: Vec<f32> = (0..64 * 64).map(|i| i as f32).collect();
    found.insert("pos_embed".into(), (vec![1, 64, 64], positions.clone()));
    found.insert("enc2dec.weight".into(), (vec![1], vec![0.0]));
    let got = adapted(found.clone(), &config).unwrap();
    assert_eq!(got.ignored, ["enc2dec.weight"], "{got}");
    assert_eq!(got.fresh, ["cls_token", "norm_f.weight", "norm_f.bias", "head.bias", "head.weight"]);
    assert!(got.weights["head.weight"].1.iter().all(|w| w.abs() < 2e-4), "scores start next to zero");
    for (ours, theirs) in [
        ("mixer.A_c_b_log", "mixer.A_log"),
        ("mixer.D_b", "mixer.D"),
        ("mixer.conv1d_c.weight", "mixer.conv1d.weight"),
        ("mixer.dt_proj_c_b.bias", "mixer.dt_proj.bias"),
        ("mixer.x_proj_b.weight", "mixer.x_proj.weight"),
    ] {
        assert_eq!(got.weights[&format!("layers.6.{ours}")], found[&format!("layers.6.{theirs}")], "{ours}");
    }
    // a row of zeros for the class token in the middle, the others as they were
    let rows: Vec<f32> = got.weights["pos_embed"].1.clone();
    let zeros = vec![0.0; 64];
    assert!(
        rows[..32 * 64] == positions[..32 * 64]
            && rows[32 * 64..33 * 64] == zeros
            && rows[33 * 64..] == positions[32 * 64..]
    );
    // and for another grid
    let moved = adapted(found, &Config { image_size: 48, ..config }).unwrap();
    let rows = &moved.weights["pos_embed"].1;
    let resized = resize_positions(&positions, 64, 12).unwrap();
    assert!(
        rows[..72 * 64] == resized[..72 * 64]
            && rows[72 * 64..73 * 64] == zeros
            && rows[73 * 64..] == resized[72 * 64..]
    );
}

/// VMamba's older names, and its `Linear2d` as a 1×1 convolution.
#[test]
fn older_names_of_vmamba_are_understood() {
    let config = Config::preset("vmamba_micro").unwrap();
    let ours = classifier(&config);
    let old = |name: &str| {
        name.replace("classifier.", "")
            .replace(".op.", ".self_attention.")
            .replace(".norm.", ".ln_1.")
            .replace(".norm2.", ".ln_2.")
    };
    let linear = |name: &str| {
        ["in_proj.weight", "out_proj.weight", "fc1.weight", "fc2.weight"].iter().any(|e| name.ends_with(e))
    };
    let theirs: Weights = ours
        .iter()
        .map(|(name, (shape, values))| {
            let shape = if linear(name) { [&shape[..], &[1, 1]].concat() } else { shape.clone() };
            (old(name), (shape, values.clone()))
        })
        .collect();
    assert!(theirs.contains_key("layers.0.blocks.0.self_attention.A_logs") && theirs.contains_key("head.weight"));
    let (got, weights) = imported(&theirs, config.clone()).unwrap();
    assert_eq!((got, weights), (config.clone(), ours.clone()));
    // a head of another size is drawn anew; the norm in front of it is kept
    let other = adapted(theirs, &Config { classes: 3, ..config }).unwrap();
    assert_eq!(other.fresh, ["classifier.head.bias", "classifier.head.weight"]);
    assert_eq!(other.weights["classifier.norm.weight"], ours["classifier.norm.weight"]);
}

/// Writes `weights` to a file and imports it for the model `config`.
fn imported(weights: &Weights, config: Config) -> Result<(Config, Weights)> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("weights.safetensors");
    std::fs::write(&path, to_bytes(weights, Default::default()).unwrap()).unwrap();
    import(&path, config)
}

#[test]
fn what_no_preset_fixes_is_taken_from_the_file() {
    for name in ["map", "mambar", "vim", "vit"] {
        let base = micro(name);
        let made = Config { classes: 7, image_size: 48, ..base.clone() };
        let made = if name == "map" { Config { mlp_ratio: 1.0, ..made } } else { made };
        for (found, kind) in [(classifier(&made), Contents::Classifier), (pretrained(&made), Contents::Map)] {
            assert_eq!(contents(&found), kind);
            let (config, weights) = imported(&found, base.clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
            let headless = kind == Contents::Map && ["vim", "vit"].contains(&name);
            assert_eq!(config, Config { classes: if headless { 0 } else { 7 }, ..made.clone() }, "{name}");
            assert_eq!(weights, found);
        }
    }
    // an encoder without head, as MAE publishes; without biases of q, k, v; with average pooling; without class token
    let vit = micro("vit");
    let variants = [
        Config { classes: 0, ..vit.clone() },
        Config { qkv_bias: false, ..vit.clone() },
        Config { pool: Pool::Average, ..vit.clone() },
        Config { pool: Pool::Average, registers: 0, ..vit.clone() },
    ];
    for made in variants {
        assert_eq!(imported(&classifier(&made), vit.clone()).unwrap().0, made);
    }
    let decoder = Decoder { width: 48, depth: 3, mlp_ratio: 2.0, ..Decoder::mae() };
    let made = Config { classes: 0, positions: Positions::SinCos, decoder, ..vit.clone() };
    let found = weights(1, |g, p| Mae::new(g, p, &made).map(drop));
    assert_eq!(imported(&found, vit).unwrap(), (made, found));
}

#[test]
fn names_of_the_transformers_library_are_understood() {
    let config = Config { classes: 0, ..micro("vit") };
    let ours = classifier(&config);
    let mut theirs = Weights::new();
    for (name, (shape, values)) in &ours {
        let name = name.replace("patch_embed.proj", "embeddings.patch_embeddings.projection");
        let name = name.replace("pos_embed", "embeddings.position_embeddings");
        let name = name.replace("cls_token", "embeddings.cls_token").replace("blocks.", "encoder.layer.");
        let name = name.replace("norm1", "layernorm_before").replace("norm2", "layernorm_after");
        let name = name.replace("mlp.fc1", "intermediate.dense").replace("mlp.fc2", "output.dense");
        let name = name.replace("attn.proj", "attention.output.dense");
        let name = if name.starts_with("norm.") { format!("layer{name}") } else { name };
        if !name.contains("attn.qkv") {
            theirs.insert(format!("vit.{name}"), (shape.clone(), values.clone()));
            continue;
        }
        for (part, values) in ["query", "key", "value"].into_iter().zip(values.chunks(values.len() / 3)) {
            let shape = [&[shape[0] / 3], &shape[1..]].concat();
            let name = name.replace("attn.qkv", &format!("attention.attention.{part}"));
            theirs.insert(format!("vit.{name}"), (shape, values.to_vec()));
        }
    }
    assert_eq!(imported(&theirs, micro("vit")).unwrap(), (config, ours));
}

#[test]
fn a_file_of_another_model_says_which_tensors_differ() {
    let error = imported(&classifier(&micro("vim")), micro("mambar")).unwrap_err().to_string();
    assert!(error.contains("does not fit mambar_micro_patch4_32"), "{error}");
    assert!(error.contains("1 missing (pos_embed_cls)"), "{error}");
    let error = imported(&classifier(&micro("vit")), micro("map")).unwrap_err().to_string();
    assert!(
        error.contains("missing (") && error.contains("unknown (") && error.contains("of another shape"),
        "{error}"
    );
    let mut distilled = classifier(&micro("vit"));
    distilled.insert("dist_token".into(), (vec![1, 1, 64], vec![0.0; 64]));
    let error = imported(&distilled, micro("vit")).unwrap_err().to_string();
    assert!(error.contains("1 unknown (dist_token)"), "{error}");
}
