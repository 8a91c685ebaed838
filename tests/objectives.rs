//! Options of the pretraining methods, without a GPU: plans, tensor names, masks, files, errors.

use std::collections::BTreeSet;

use rowscan::gpu::{Caps, Gpu};
use rowscan::models::{Config, DecoderKind, DecoderMask, Method, Objective, Order, Target, pretext_model};
use rowscan::nn::Params;
use rowscan::train::checkpoint::State;
use rowscan::train::pretrain::settings::PretrainSettings;
use rowscan::train::pretrain::step::Pretrainer;

use crate::nano::{arm, nano, objective, one_way, settings, vim_columns, vit};

#[test]
fn every_method_can_be_planned_for_every_family() {
    for method in Method::all() {
        let families = [nano(), vim_columns(), vit(DecoderKind::Map), arm()];
        for config in families.into_iter().filter(|config| (method.encodes)(&config.family)) {
            let g = Gpu::dry(Caps::portable());
            let (settings, config) = (settings(method), config.pretrained_by(method));
            settings.check(&config).unwrap();
            let visible = *settings.masker(&config).unwrap().all_visible_lengths().end();
            let hyper = settings.run.hyper().unwrap();
            let mut trainer = Pretrainer::new(&g, &config, &settings.objective, 4, hyper, 0).unwrap();
            assert!(trainer.plan(visible).unwrap().launches > 50, "{method}");
        }
    }
}

/// The diffusion method replaces MAP's last layer, `ar_pred`, by a denoiser whose tensors are named as in MAR's
/// repository, where the denoiser is the attribute `diffloss`.
#[test]
fn the_denoiser_has_the_names_of_mar() {
    let names = |method: Method| -> BTreeSet<String> {
        let mut params = Params::new(&Gpu::dry(Caps::portable()));
        pretext_model(&Gpu::dry(Caps::portable()), &mut params, &nano(), &objective(method)).unwrap();
        params.entries().iter().map(|e| e.name.clone()).collect()
    };
    let (map, diffusion) = (names(Method::MAP), names(Method::DIFFUSION));
    assert_eq!(map.difference(&diffusion).collect::<Vec<_>>(), ["ar_pred.bias", "ar_pred.weight"]);
    let layers = [
        "cond_embed",
        "final_layer.adaLN_modulation.1",
        "final_layer.linear",
        "input_proj",
        "res_blocks.0.adaLN_modulation.1",
        "res_blocks.0.in_ln",
        "res_blocks.0.mlp.0",
        "res_blocks.0.mlp.2",
        "time_embed.mlp.0",
        "time_embed.mlp.2",
    ];
    let mar = layers.iter().flat_map(|l| ["bias", "weight"].map(|kind| format!("diffloss.net.{l}.{kind}")));
    assert_eq!(diffusion.difference(&map).cloned().collect::<Vec<_>>(), mar.collect::<Vec<_>>());
}

#[test]
fn methods_hide_what_the_paper_hides() {
    let config = Config::preset("tiny").unwrap();
    let hidden = |settings: &PretrainSettings| 196 - *settings.masker(&config).unwrap().all_visible_lengths().end();
    for (method, count) in
        [(Method::MAP, 98), (Method::MAE, 147), (Method::AR, 40), (Method::LOCAL_MAE, 98), (Method::CONTRASTIVE, 0)]
    {
        assert_eq!(hidden(&PretrainSettings::of(method)), count, "{method}");
        let n = PretrainSettings { mask_tokens: Some(60), ..PretrainSettings::of(method) };
        assert_eq!(hidden(&n), if method == Method::CONTRASTIVE { 0 } else { 60 });
        assert_eq!(method.name.parse::<Method>().unwrap(), method);
    }
}

/// A `state.json` of an old version names no method: it is read as MAP with default options.
#[test]
fn a_state_without_a_method_is_map() {
    let text = r#"{"version":1,"step":7,"epoch":1,"batch":1,"images":24,
        "settings":{"data":"synthetic:24","batch_size":4,
        "epochs":15,"blr":0.02,"min_lr":0.0,"warmup_epochs":1.0,"schedule":"cosine","weight_decay":0.05,
        "decay_rule":"recommended","betas":[0.9,0.95],"eps":1e-8,"clip_grad":0.0,
        "mask":"random","mask_ratio":null,"seed":5}}"#;
    let state: State = serde_json::from_str(text).unwrap();
    assert_eq!(state.settings.objective, Objective::default());
    assert_eq!((state.settings.mask_ratio, state.settings.mask_tokens), (None, None));
    let again: State = serde_json::from_str(&serde_json::to_string(&state).unwrap()).unwrap();
    assert_eq!(again, state);
}

#[test]
fn objectives_that_cannot_work_are_named() {
    let check = |config: &Config, objective: Objective| {
        let settings = PretrainSettings { objective, ..settings(Method::MAP) };
        settings.check(config).unwrap_err().to_string()
    };
    let error = check(&nano(), Objective { queue: 18, ..objective(Method::CONTRASTIVE) });
    assert!(error.contains("queue") && error.contains("a multiple of `batch_size` 4"), "{error}");
    let bare = Config { registers: 0, ..nano() };
    assert!(check(&bare, objective(Method::CONTRASTIVE)).contains("pooled features"));
    assert!(check(&vit(DecoderKind::Mae), objective(Method::AR)).contains("decoder"));
    assert!(check(&vit(DecoderKind::Mae), objective(Method::DIFFUSION)).contains("decoder"));
    assert!(check(&nano(), Objective { temperature: 0.0, ..Objective::default() }).contains("temperature"));
    assert!(check(&nano(), Objective { diffusion_repeats: 0, ..Objective::default() }).contains("diffusion_repeats"));
    let shifted = |shift| Objective { shift, ..objective(Method::AR_SHIFT) };
    let error = check(&nano(), shifted(1));
    assert!(error.contains("directions: got Mean, expected One: the method ar-shift"), "{error}");
    let error = check(&one_way(nano()), shifted(16));
    assert!(error.contains("shift of the method ar-shift: got 16, expected 1 to 15"), "{error}");
    assert!(check(&one_way(nano()), shifted(0)).contains("got 0, expected 1 to 15"));
    let other = Objective { decode_order: Some(Order::Columns), ..shifted(1) };
    assert!(check(&one_way(nano()), other).contains("decode_order of the method ar-shift: got Columns"));
    let other = Objective { decoder_mask: Some(DecoderMask::Mae), ..shifted(1) };
    assert!(check(&one_way(nano()), other).contains("decoder_mask of the method ar-shift: got Mae, expected Ar"));
    assert!(check(&one_way(vit(DecoderKind::Mae)), shifted(1)).contains("decoder"));
    for config in [arm(), Config::preset("mambavision_micro").unwrap(), Config::preset("resnet_micro").unwrap()] {
        let error = check(&config, shifted(1));
        let expected = "family to pretrain: got ";
        assert!(error.contains(expected) && error.contains("for the method ar-shift: hybrid, vim, vit"), "{error}");
    }
    let error = one_way(Config::preset("mambavision_micro").unwrap()).validate().unwrap_err().to_string();
    assert!(error.contains("directions: got One, expected Mean or Sum"), "{error}");
    let raw = Objective { target: Target::Raw, ..objective(Method::ARM) };
    assert!(check(&arm(), raw).contains("target: got Raw, expected Normalized for the method arm"));
    let error = check(&nano(), objective(Method::ARM));
    assert!(error.contains("family to pretrain: got hybrid, expected for the method arm: arm"), "{error}");
    assert!(check(&arm(), objective(Method::MAP)).contains("got arm, expected for the method map: hybrid"));
    let error = check(&Config { patch_size: 4, ..arm() }, objective(Method::ARM));
    assert!(error.contains("grid of method arm: got 4 x 4 patches"), "{error}");
    let mut deep = arm();
    deep.decoder.depth = 3;
    assert!(check(&deep, objective(Method::ARM)).contains("decoder.depth of method arm: got 3, expected 1 to 2"));
    let error = "difusion".parse::<Method>().unwrap_err().to_string();
    assert!(error.contains("method") && error.contains("near it: diffusion"), "{error}");
}
