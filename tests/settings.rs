//! Settings of training, without a GPU: learning rates, weight decay, the batch that fits in memory, file formats.

use std::f64::consts::PI;

use rowscan::gpu::{Caps, Gpu};
use rowscan::models::{Classifier, Config, Map, Objective, Target};
use rowscan::nn::Params;
use rowscan::train::checkpoint::{config_from_bytes, config_to_bytes};
use rowscan::train::optimizer::DecayRule;
use rowscan::train::pretrain::settings::{PretrainArgs, PretrainSettings};
use rowscan::train::pretrain::step::{Pretrainer, expect_fit};
use rowscan::train::settings::{RunArgs, RunSettings, ScheduleKind};
use rowscan::train::update::Hyper;

#[test]
fn the_recommended_recipe_warms_up_per_step() {
    let settings =
        RunSettings { batch_size: 512, epochs: 10, warmup_epochs: Some(0.5), min_lr: 1e-6, ..RunSettings::default() };
    let schedule = settings.schedule(100).unwrap();
    let peak = 1.5e-4 * 512.0 / 256.0;
    assert_eq!(schedule.lr(0), 0.0);
    assert!((schedule.lr(25) - peak / 2.0).abs() < 1e-12);
    assert!((schedule.lr(50) - peak).abs() < 1e-12);
    assert!((schedule.lr(1000) - 1e-6).abs() < 1e-15);
}

#[test]
fn the_map_repository_steps_per_epoch() {
    let settings =
        RunSettings { batch_size: 1024, epochs: 100, schedule: ScheduleKind::MapRepo, ..RunSettings::default() };
    let schedule = settings.schedule(10).unwrap();
    // the peak is 5e-4 · 1024 / 512, whatever `blr` is; the first two epochs are at 1e-6
    assert_eq!((schedule.lr(0), schedule.lr(9), schedule.lr(10), schedule.lr(19)), (1e-6, 1e-6, 1e-6, 1e-6));
    let fifth = 1e-6 + (1e-3 - 1e-6) / 5.0;
    assert!((schedule.lr(20) - fifth).abs() < 1e-12, "{}", schedule.lr(20));
    assert!(schedule.lr(60) > 9.9e-4 && schedule.lr(69) == schedule.lr(60));
    let other = RunSettings { blr: 1.0, warmup_epochs: Some(50.0), ..settings };
    assert_eq!(other.schedule(10).unwrap().lr(65), schedule.lr(65));
}

#[test]
fn timm_steps_per_epoch_too() {
    let settings = RunSettings {
        batch_size: 128,
        accum_iter: 4,
        epochs: 50,
        blr: 2.5e-4,
        min_lr: 1e-5,
        warmup_epochs: Some(5.0),
        schedule: ScheduleKind::Epoch,
        ..RunSettings::default()
    };
    let schedule = settings.schedule(10).unwrap();
    // a step of 4 · 128 = 512 images has twice the rate of 2.5e-4 per 256 images
    let warm = |epoch: f64| 1e-6 + (5e-4 - 1e-6) / 5.0 * epoch;
    assert_eq!((schedule.lr(0), schedule.lr(19)), (1e-6, 1e-6));
    assert!((schedule.lr(20) - warm(1.0)).abs() < 1e-12 && (schedule.lr(59) - warm(4.0)).abs() < 1e-12);
    assert!((schedule.lr(100) - (1e-5 + 0.5 * (5e-4 - 1e-5) * (1.0 + (9.0f64 / 50.0 * PI).cos()))).abs() < 1e-12);
    // `lr` is not scaled by the batch, and may be as low as `min_lr`
    let fixed = RunSettings { lr: Some(1e-5), min_lr: 1e-5, warmup_epochs: Some(0.0), ..settings };
    assert!((0..500).all(|step| (fixed.schedule(10).unwrap().lr(step) - 1e-5).abs() < 1e-18));
}

#[test]
fn clipping_is_off_at_zero() {
    assert_eq!(RunSettings::default().hyper().unwrap().clip, None);
    assert_eq!(RunSettings { clip_grad: 3.0, ..RunSettings::default() }.hyper().unwrap().clip, Some(3.0));
}

#[test]
fn settings_come_back_from_json_to_the_bit() {
    for (blr, min_lr) in [(1.5e-4, 1.0 / 3.0 * 1e-5), (0.1 + 0.2, 5e-324), (1e-4 * 7.0, 2.2250738585072014e-308)] {
        let run = RunSettings { blr, min_lr, ..RunSettings::default() };
        let settings = PretrainSettings { run, mask_ratio: Some(1.0 / 3.0), ..PretrainSettings::default() };
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(serde_json::from_str::<PretrainSettings>(&text).unwrap(), settings);
    }
}

#[test]
fn the_decay_rules_differ_where_the_spec_says() {
    let dry = Gpu::dry(Caps::portable());
    let mut params = Params::new(&dry);
    Map::new(&dry, &mut params, &Config::preset("micro").unwrap()).unwrap();
    let decays = |name: &str| {
        let entry = params.entries().iter().find(|e| e.name == name).unwrap_or_else(|| panic!("no `{name}`"));
        (DecayRule::Recommended.decays(entry), DecayRule::MapRepo.decays(entry))
    };
    for name in
        ["patch_embed.proj.weight", "layers.0.mixer.in_proj.weight", "blocks.0.attn.qkv.weight", "ar_pred.weight"]
    {
        assert_eq!(decays(name), (true, true), "{name}");
    }
    for name in ["pos_embed", "cls_token", "pos_embed_cls", "norm_f.weight", "ar_pred.bias", "layers.0.mixer.D"] {
        assert_eq!(decays(name), (false, false), "{name}");
    }
    // two or more dimensions, but no weight of a linear layer: only the published code decays them
    for name in ["mask_token", "decoder_pos_embed_learned", "layers.0.mixer.A_log", "layers.0.mixer.A_b_log"] {
        assert_eq!(decays(name), (false, true), "{name}");
    }
    // VMamba keeps its projections and biases of four directions in tensors of more dimensions
    let mut vmamba = Params::new(&dry);
    Classifier::new(&dry, &mut vmamba, &Config::preset("vmamba_micro").unwrap()).unwrap();
    for (leaf, want) in [
        ("x_proj_weight", (true, true)),
        ("dt_projs_weight", (true, true)),
        ("conv2d.weight", (true, true)),
        ("A_logs", (false, true)),
        ("dt_projs_bias", (false, true)),
        ("Ds", (false, false)),
    ] {
        let name = format!("layers.2.blocks.1.op.{leaf}");
        let entry = vmamba.entries().iter().find(|e| e.name == name).unwrap_or_else(|| panic!("no `{name}`"));
        assert_eq!((DecayRule::Recommended.decays(entry), DecayRule::MapRepo.decays(entry)), want, "{name}");
    }
    // neither rule decays a tensor of one dimension
    for entry in params.entries().iter().filter(|e| e.shape.len() == 1) {
        assert!(!DecayRule::Recommended.decays(entry) && !DecayRule::MapRepo.decays(entry), "{}", entry.name);
    }
}

#[test]
fn a_batch_that_does_not_fit_says_which_does() {
    let (config, settings) = (Config::preset("tiny").unwrap(), RunSettings::default());
    let hyper = settings.hyper().unwrap();
    let caps = |gigabytes: u64| Caps {
        name: "small card".into(),
        max_binding: 2 << 30,
        max_buffer: 4 << 30,
        memory: Some(gigabytes << 30),
        ..Caps::portable()
    };
    assert!(expect_fit(&caps(8), &config, &Objective::default(), hyper, 98, 8).is_ok());
    let error = expect_fit(&caps(4), &config, &Objective::default(), hyper, 98, 512).unwrap_err().to_string();
    for words in ["not enough GPU memory: `batch_size` 512", "the plan needs", "small card has 4.29 GB", "activations"]
    {
        assert!(error.contains(words), "{error}");
    }
    let fitting: usize = error.rsplit("`batch_size` that fits is ").next().unwrap().parse().unwrap();
    assert!((8..512).contains(&fitting), "{error}");
    assert!(expect_fit(&caps(4), &config, &Objective::default(), hyper, 98, fitting).is_ok());
    assert!(expect_fit(&caps(4), &config, &Objective::default(), hyper, 98, fitting + 1).is_err());
    // the error also names the batch that fits with `checkpoint_blocks`
    let after = error.split("add `checkpoint_blocks` (then `batch_size` ").nth(1).unwrap();
    let more: usize = after.split(' ').next().unwrap().parse().unwrap();
    let blocks = Hyper { checkpoint_blocks: true, ..hyper };
    assert!(more > 2 * fitting, "{error}");
    assert!(expect_fit(&caps(4), &config, &Objective::default(), blocks, 98, more).is_ok());
    let error = expect_fit(&caps(4), &config, &Objective::default(), blocks, 98, more + 1).unwrap_err().to_string();
    assert!(error.ends_with(&format!("the largest `batch_size` that fits is {more}")), "{error}");
    assert!(!error.contains("checkpoint_blocks"), "{error}");
    // the size of a binding is the limit here, not memory
    let narrow = Caps { max_binding: 128 << 20, max_buffer: 256 << 20, ..caps(64) };
    let error = expect_fit(&narrow, &config, &Objective::default(), hyper, 98, 4096).unwrap_err().to_string();
    assert!(error.contains("134217728") && error.contains("the largest `batch_size` that fits is"), "{error}");
    let tiny = Caps { memory: Some(1 << 20), ..caps(1) };
    let error = expect_fit(&tiny, &config, &Objective::default(), hyper, 98, 4).unwrap_err().to_string();
    assert!(error.contains("not even one image") && !error.contains("checkpoint_blocks"), "{error}");
    let trainer = |hyper| Pretrainer::new(&Gpu::dry(caps(1)), &config, &Objective::default(), 1, hyper, 0).unwrap();
    let one = Caps { memory: Some(trainer(blocks).plan(98).unwrap().total()), ..caps(1) };
    let error = expect_fit(&one, &config, &Objective::default(), hyper, 98, 4).unwrap_err().to_string();
    let ending = "\nadd `checkpoint_blocks` (then `batch_size` 1 fits)";
    assert!(error.contains("not even one image") && error.ends_with(ending), "{error}");
}

#[test]
fn settings_of_the_first_version_can_be_read() {
    let old = r#"{"data":"synthetic","batch_size":8,"epochs":3,"blr":0.1,"min_lr":0.0,"warmup_epochs":1.0,
        "schedule":"map_repo","weight_decay":0.05,"decay_rule":"recommended","betas":[0.9,0.95],"eps":1e-8,
        "clip_grad":0.0,"mask":"diagonal","mask_ratio":null,"seed":9}"#;
    let settings: PretrainSettings = serde_json::from_str(old).unwrap();
    assert_eq!((settings.run.batch_size, settings.run.seed, settings.mask_ratio), (8, 9, None));
    // `target` in its old and its new spelling
    let target = |word: &str| old.replace("\"seed\"", &format!("\"target\":\"{word}\",\"seed\""));
    for (word, expected) in
        [("normalised", Target::Normalized), ("normalized", Target::Normalized), ("raw", Target::Raw)]
    {
        let settings: PretrainSettings = serde_json::from_str(&target(word)).unwrap();
        assert_eq!(settings.objective.target, expected);
    }
    assert!(serde_json::to_string(&settings).unwrap().contains("\"target\":\"normalized\""));
    assert!(serde_json::from_str::<PretrainSettings>(&old.replace("\"seed\"", "\"sead\"")).is_err());
    assert!(serde_json::from_str::<PretrainSettings>(&old.replace("\"mask\":", "\"musk\":")).is_err());
    let spare = old.replace("\"seed\"", "\"seedling\":1,\"seed\"");
    assert!(serde_json::from_str::<PretrainSettings>(&spare).unwrap_err().to_string().contains("seedling"));
}

/// `before_format/config.json` is of the first models, which had no key `format`.
#[test]
fn configurations_open_by_their_format() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/data/before_format/config.json");
    let old = std::fs::read_to_string(&path).unwrap();
    assert!(!old.contains("\"format\""));
    let open = |text: &str| config_from_bytes(&path, text.as_bytes());
    let config = open(&old).unwrap();
    assert_eq!((config.name.as_str(), config.width, config.decoder.depth), ("micro", 64, 2));
    let new = String::from_utf8(config_to_bytes(&config).unwrap()).unwrap();
    assert!(new.starts_with("{\n  \"format\": 1,"), "{new}");
    assert_eq!(open(&new).unwrap(), config);
    // a newer format is refused, with advice, before its keys are read
    let newer = new.replace("\"format\": 1", "\"format\": 2").replace("\"width\"", "\"widths\"");
    let error = open(&newer).unwrap_err().to_string();
    for words in ["config.json", "format 2", "reads up to 1", "newer rowscan"] {
        assert!(error.contains(words), "{error}");
    }
    for (from, to, words) in [
        ("\"format\": 1", "\"format\": \"one\"", "u32"),
        ("\"width\": 64,\n  \"pattern\"", "\"widht\": 64,\n  \"pattern\"", "widht"),
        ("\"heads\": 4,\n  \"mlp", "\"mlp", "heads"),
        ("\"width\": 64,\n  \"pattern\"", "\"width\": \"64\",\n  \"pattern\"", "line 7"),
    ] {
        assert!(new.contains(from), "{from}");
        let error = open(&new.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains("not what a checkpoint holds") && error.contains(words), "{error}");
    }
}

#[test]
fn networks_narrower_than_the_papers_learn_at_a_rate_of_their_own() {
    let of = |name: &str| PretrainSettings::of_model(&Config::preset(name).unwrap()).run;
    assert_eq!((of("micro").peak_lr(), of("map_micro_patch8_64").peak_lr()), (4e-3, 4e-3));
    assert_eq!((of("map3d_micro").peak_lr(), of("mambavision_micro").peak_lr()), (1e-3, 4e-3));
    let wide = Config { width: 128, ..Config::preset("micro").unwrap() };
    assert_eq!(PretrainSettings::of_model(&wide).run.peak_lr(), 2e-3);
    // MAE's rule, 1.5e-4 per 256 images of a step
    assert_eq!((of("tiny").peak_lr(), of("base").peak_lr()), (1.5e-4 / 4.0, 1.5e-4 / 4.0));
    // --blr takes its place
    let given = PretrainArgs { run: RunArgs { blr: Some(1e-3), ..RunArgs::default() }, ..PretrainArgs::default() };
    let settings = PretrainSettings::of_model(&Config::preset("micro").unwrap()).under(&[&given], None);
    assert_eq!(settings.run.peak_lr(), 1e-3 * 8.0 / 256.0);
}

#[test]
fn a_twentieth_of_a_run_is_warm_up() {
    let run = |epochs| RunSettings { epochs, lr: Some(1.0), ..RunSettings::default() };
    let before_and_at = |epochs, steps, at| {
        let schedule = run(epochs).schedule(steps).unwrap();
        (schedule.lr(at - 1) < 1.0, schedule.lr(at))
    };
    assert_eq!(before_and_at(20, 100, 100), (true, 1.0));
    assert_eq!(before_and_at(1, 100, 5), (true, 1.0));
    assert_eq!(before_and_at(800, 10, 400), (true, 1.0));
    assert_eq!(RunSettings { warmup_epochs: Some(0.0), ..run(20) }.schedule(100).unwrap().lr(0), 1.0);
}
