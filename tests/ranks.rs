//! Training that several processes share: the same bits as in one, whatever their number. The processes are threads
//! here; `cargo xtask mpi-test` does the same with MPI.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rowscan::data::{Dataset, Split, Transform};
use rowscan::error::{Error, Result};
use rowscan::gpu::{Caps, Gpu, Options, Precision};
use rowscan::infer::scores::scores_of;
use rowscan::models::dense::{Dense, Detection, Segmentation};
use rowscan::models::{Classifier, Config, DecoderKind, Method, TestView};
use rowscan::nn::Params;
use rowscan::run::detect::Detecting;
use rowscan::run::finetune::{Finetuning, evaluate};
use rowscan::run::pretrain::Pretraining;
use rowscan::run::probe::features as features_of;
use rowscan::run::record::{read_log, read_tests};
use rowscan::run::segment::Segmenting;
use rowscan::run::world::{Threads, Transport, World};
use rowscan::run::{Ended, Observer, Outputs, RecordSettings, Run, Silent, Task, open_data};
use rowscan::train::cuts::Cuts;
use rowscan::train::detect::settings::DetectSettings;
use rowscan::train::finetune::mixup::Mix;
use rowscan::train::finetune::recipes::recipe;
use rowscan::train::finetune::settings::FinetuneSettings;
use rowscan::train::pretrain::settings::PretrainSettings;
use rowscan::train::pretrain::step::Pretrainer;
use rowscan::train::segment::settings::SegmentSettings;
use rowscan::train::settings::RunSettings;
use rowscan::train::update::Hyper;

use crate::common::{Random, adapter, gpu, one_in, some};
use crate::nano::{arm, nano, one_way, settings, vit};

/// Waiting for threads that have the machine's cores to themselves takes less.
const LIMIT: Duration = Duration::from_secs(120);

/// What each of `ranks` processes makes of `body`, by rank. One that fails ends the others.
fn among<T: Send>(ranks: usize, limit: Duration, body: impl Fn(&World) -> Result<T> + Sync) -> Vec<Result<T>> {
    let one = |thread: Threads| {
        let world = World::start(limit, move || Ok(Box::new(thread) as Box<dyn Transport>))?;
        let done = body(&world);
        if done.is_err() {
            world.abort(1);
        }
        done
    };
    std::thread::scope(|scope| {
        let started: Vec<_> = Threads::group(ranks).into_iter().map(|thread| scope.spawn(|| one(thread))).collect();
        started.into_iter().map(|thread| thread.join().expect("no process panics")).collect()
    })
}

/// A run of `T` into `dir` that `ranks` processes share, from the checkpoint `resume` on.
fn run<T: Task<Settings: Sync>>(
    g: &Gpu, ranks: usize, dir: &Path, config: &Config, settings: &T::Settings, resume: Option<&Path>,
) {
    let record = RecordSettings { log_every: 1, threads: 1, grid_every: 0, ..RecordSettings::default() };
    let outputs = Outputs { dir: dir.into(), options: String::new(), record };
    let body = |world: &World| {
        let data = open_data(settings.as_ref())?;
        let mut run = Run::<T>::among(world, g, config, settings, &outputs, resume, data)?;
        run.train(&AtomicBool::new(false), &mut Silent)
    };
    for ended in among(ranks, LIMIT, body) {
        assert!(matches!(ended.unwrap(), Ended::Finished(Some(_))));
    }
}

/// Every file of weights in a checkpoint, and the logged losses and tests of its run, to the bit.
fn results(dir: &Path, checkpoint: &str) -> Vec<(String, Vec<u8>)> {
    let mut found: Vec<(String, Vec<u8>)> = std::fs::read_dir(dir.join(checkpoint))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"))
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read(path).unwrap()))
        .collect();
    found.sort();
    let losses = read_log(&dir.join("log.jsonl")).unwrap().into_iter().flat_map(|line| line.loss.to_le_bytes());
    found.push(("losses".into(), losses.collect()));
    let tests = read_tests(&dir.join("log.jsonl")).unwrap();
    let numbers = tests.into_iter().flat_map(|test| [test.test_loss, test.top1, test.ema_top1.unwrap_or(0.0)]);
    found.push(("tests".into(), numbers.flat_map(f64::to_le_bytes).collect()));
    let log = std::fs::read_to_string(dir.join("log.jsonl")).unwrap();
    let dense = log.lines().filter(|line| line.contains("\"miou\"") || line.contains("\"ap\""));
    found.push(("tests of dense tasks".into(), dense.collect::<Vec<_>>().join("\n").into()));
    found
}

fn expect_same(what: &str, one: &[(String, Vec<u8>)], many: &[(String, Vec<u8>)]) {
    assert!(one.len() > 3, "{what}");
    let names = |files: &[(String, Vec<u8>)]| files.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
    assert_eq!(names(one), names(many), "{what}");
    for ((name, a), (_, b)) in one.iter().zip(many) {
        assert!(a == b, "{what}: {name} differs");
    }
}

/// Two epochs of two steps of four micro-batches of two.
fn shared_run(run: RunSettings) -> RunSettings {
    RunSettings {
        data: "synthetic:16".into(),
        batch_size: 2,
        accum_iter: 4,
        epochs: 2,
        blr: 0.1,
        warmup_epochs: Some(0.0),
        seed: 3,
        ..run
    }
}

fn clouds() -> Config {
    let mut config = Config { width: 16, heads: 2, classes: 2, ..Config::preset("mamba3d_micro").unwrap() };
    let points = config.points.as_mut().unwrap();
    (points.count, points.groups, points.group_size, points.depth) = (32, 9, 6, 2);
    (points.neighbors, points.encoder_hidden, points.pos_hidden, points.head_hidden) = (3, [8, 12, 16], 8, 8);
    config.decoder.depth = 1;
    config
}

/// A network with batch norms.
fn maps(image_size: usize, preset: &str) -> Config {
    Config { image_size, classes: 2, ..Config::preset(preset).unwrap() }
}

/// Weights, moments, queues of keys, running statistics and losses are the same for one, two and four processes, by
/// every method.
#[test]
fn every_method_pretrains_with_the_same_bits() {
    let Some(g) = gpu() else { return };
    for (method, mut config, precision) in one_in(
        3,
        [
            (Method::MAP, nano(), Precision::F32),
            (Method::MAP, Config { width: 96, ..nano() }, Precision::Mixed), // its gradients travel in several segments
            (Method::MAE, vit(DecoderKind::Mae), Precision::Mixed),
            (Method::AR_SHIFT, one_way(nano()), Precision::F32),
            (Method::DIFFUSION, nano(), Precision::F32),
            (Method::ARM, arm(), Precision::F32),
            (Method::CONTRASTIVE, nano(), Precision::F32),
            (Method::MAP, maps(64, "mambavision_micro"), Precision::F32),
            (Method::MAP, clouds(), Precision::F32),
        ],
    ) {
        config.drop_path = if config.points.is_some() { 0.0 } else { 0.2 };
        let mut settings = settings(method);
        settings.run = RunSettings { precision, clip_grad: 0.5, ..shared_run(settings.run) };
        if config.points.is_some() {
            settings.run.data = "synthetic-clouds:16".into();
        }
        let one = tempfile::tempdir().unwrap();
        run::<Pretraining>(g, 1, one.path(), &config, &settings, None);
        let one = results(one.path(), "checkpoint-2");
        for ranks in [2, 4] {
            let many = tempfile::tempdir().unwrap();
            run::<Pretraining>(g, ranks, many.path(), &config, &settings, None);
            let what = format!("{method} of {} in {precision} on {ranks}", config.name);
            expect_same(&what, &one, &results(many.path(), "checkpoint-2"));
        }
    }
}

/// A recipe with all that is drawn at random, mixed images, a moving average and layer decay.
fn finetuning(precision: Precision) -> FinetuneSettings {
    let settings = recipe("vim_small").unwrap().settings;
    FinetuneSettings {
        run: RunSettings { precision, clip_grad: 1.0, ..shared_run(settings.run) },
        layer_decay: 0.8,
        model_ema: Some(0.9),
        ..settings
    }
}

#[test]
fn fine_tuning_has_the_same_bits() {
    let Some(g) = gpu() else { return };
    for (mut config, precision) in some([
        (Config { drop_path: 0.2, ..nano() }, Precision::F32),
        (nano(), Precision::Mixed),
        (maps(32, "resnet_micro"), Precision::F32),
        (clouds(), Precision::F32),
    ]) {
        let mut settings = finetuning(precision);
        config.classes = 2;
        if config.points.is_some() {
            settings = FinetuneSettings { mix: Mix::NONE, ..settings };
            settings.run.data = "synthetic-clouds:16".into();
        }
        config.classes = open_data(&settings.run).unwrap().classes().len();
        let one = tempfile::tempdir().unwrap();
        run::<Finetuning>(g, 1, one.path(), &config, &settings, None);
        let one = results(one.path(), "checkpoint-2");
        assert!(one.iter().any(|(name, _)| name == "ema.safetensors"));
        for ranks in [2, 4] {
            let many = tempfile::tempdir().unwrap();
            run::<Finetuning>(g, ranks, many.path(), &config, &settings, None);
            expect_same(&format!("{} on {ranks}", config.name), &one, &results(many.path(), "checkpoint-2"));
        }
    }
}

#[test]
fn segmentation_has_the_same_bits() {
    let Some(g) = gpu() else { return };
    for precision in some([Precision::F32, Precision::Mixed]) {
        let mut settings = SegmentSettings { layer_decay: 0.9, model_ema: Some(0.9), ..SegmentSettings::default() };
        settings.run = RunSettings { precision, clip_grad: 1.0, ..shared_run(settings.run) };
        settings.run.data = "synthetic-scenes:16".into();
        let heads = Segmentation { channels: 12, auxiliary: 8, ..Segmentation::default() };
        let classes = open_data(&settings.run).unwrap().classes().len();
        let backbone = Config { pattern: "MMMMT".into(), drop_path: 0.2, ..nano() };
        let config = backbone.for_dense(Dense::Segmentation(heads), classes);
        let one = tempfile::tempdir().unwrap();
        run::<Segmenting>(g, 1, one.path(), &config, &settings, None);
        let one = results(one.path(), "checkpoint-2");
        assert!(one.iter().any(|(name, _)| name == "ema.safetensors"));
        for ranks in [2, 4] {
            let many = tempfile::tempdir().unwrap();
            run::<Segmenting>(g, ranks, many.path(), &config, &settings, None);
            expect_same(&format!("{precision} on {ranks}"), &one, &results(many.path(), "checkpoint-2"));
        }
    }
}

/// The boxes that the host samples in the middle of a step too.
#[test]
fn detection_has_the_same_bits() {
    let Some(g) = gpu() else { return };
    for precision in some([Precision::F32, Precision::Mixed]) {
        let mut settings = DetectSettings { layer_decay: 0.9, model_ema: Some(0.9), ..DetectSettings::default() };
        settings.run = RunSettings { precision, clip_grad: 1.0, ..shared_run(settings.run) };
        settings.run.data = "synthetic-objects:16".into();
        let small = Detection {
            channels: 8,
            features: 16,
            anchors: 16,
            boxes: 8,
            objects: 2,
            proposals: 20,
            ..Detection::micro()
        };
        let classes = open_data(&settings.run).unwrap().classes().len();
        let backbone = Config { pattern: "MMT".into(), image_size: 64, patch_size: 16, drop_path: 0.2, ..nano() };
        let config = backbone.for_dense(Dense::Detection(small), classes);
        let one = tempfile::tempdir().unwrap();
        run::<Detecting>(g, 1, one.path(), &config, &settings, None);
        let one = results(one.path(), "checkpoint-2");
        assert!(one.iter().any(|(name, _)| name == "ema.safetensors"));
        assert!(one.iter().any(|(name, tests)| name.ends_with("dense tasks") && !tests.is_empty()));
        for ranks in [2, 4] {
            let many = tempfile::tempdir().unwrap();
            run::<Detecting>(g, ranks, many.path(), &config, &settings, None);
            expect_same(&format!("{precision} on {ranks}"), &one, &results(many.path(), "checkpoint-2"));
        }
    }
}

/// A run goes on with another number of processes, and makes the bits of one that was never interrupted.
#[test]
fn a_run_goes_on_with_another_number_of_processes() {
    let Some(g) = gpu() else { return };
    let mut settings = settings(Method::CONTRASTIVE);
    settings.run = RunSettings { precision: Precision::Mixed, ..shared_run(settings.run) };
    let whole = tempfile::tempdir().unwrap();
    run::<Pretraining>(g, 2, whole.path(), &nano(), &settings, None);
    let files = |dir: &Path| {
        let mut files = results(dir, "checkpoint-2");
        files.retain(|(name, _)| name.ends_with("safetensors"));
        files
    };
    for ranks in [1, 4] {
        let again = tempfile::tempdir().unwrap();
        run::<Pretraining>(g, ranks, again.path(), &nano(), &settings, Some(&whole.path().join("checkpoint-1")));
        expect_same(&format!("{ranks}"), &files(whole.path()), &files(again.path()));
    }
}

/// Gradients that overflow in one process let all of them skip the step and halve the scale.
#[test]
fn a_step_that_overflows_is_skipped_by_all() {
    let Some(g) = gpu() else { return };
    let run = RunSettings { batch_size: 2, accum_iter: 4, precision: Precision::Mixed, ..RunSettings::default() };
    let settings = PretrainSettings { run, ..PretrainSettings::default() };
    // bright pictures for the last process alone
    let images: Vec<u8> =
        [vec![90u8; 6 * 16 * 16 * 3], Random::new(3).below(2 * 16 * 16 * 3, 256).iter().map(|&v| v as u8).collect()]
            .concat();
    let train = |world: &World| -> Result<(Vec<u32>, Vec<f32>)> {
        let hyper = Hyper { place: world.place(), ..settings.run.hyper()? };
        let mut trainer = Pretrainer::new(g, &nano(), &settings.objective, 2, hyper, 7)?;
        trainer.join(world.exchange(g)?);
        let state = trainer.scaler().unwrap().state().clone();
        state.write(g, &[8.0f32, 0.0, 0.0, 0.0, 0.0])?; // a scale of 2^24
        let masker = settings.masker(&nano())?;
        let rows = world.place().range(8);
        for step in 0..16 {
            let mine = &images[rows.start * 768..rows.end * 768];
            trainer.step(mine, &masker.draw_rows(step, rows.clone()), step, 1e-3)?;
        }
        let weights = pollster::block_on(trainer.params.weights(g))?;
        Ok((weights.values().flat_map(|v| &v.1).map(|v| v.to_bits()).collect(), state.to_vec(g)?))
    };
    let one = train(&World::alone()).unwrap();
    assert!(one.1[2] > 0.0 && one.1[1] > 0.0, "some steps are skipped and some are taken: {:?}", one.1);
    for ranks in [2, 4] {
        for many in among(ranks, LIMIT, train) {
            assert!(many.unwrap() == one, "{ranks} processes");
        }
    }
}

/// Evaluations go round in whole batches; every process has the results, in order.
#[test]
fn evaluations_are_shared_out() {
    let Some(g) = gpu() else { return };
    let (config, data) = (nano(), Arc::new(Dataset::open("synthetic:21", Split::Train).unwrap()));
    let config = Config { classes: data.classes().len(), ..config };
    let transform = Transform::testing(&config, TestView::default());
    let measure = |world: &World| -> Result<(u64, [u64; 2], String)> {
        let mut params = Params::new(g);
        let model = Classifier::new(g, &mut params, &config)?;
        params.init(g, 3)?;
        let forward = scores_of(g, &model, &config, 4)?; // six batches, the last of one image
        let tally = evaluate(world, &forward, &data, transform, 1)?;
        let scores = tally.scores();
        let features = features_of(world, &forward, &data, transform, 1)?;
        Ok((tally.images(), [scores.loss.to_bits(), scores.top1.to_bits()], format!("{features:?}")))
    };
    let one = measure(&World::alone()).unwrap();
    assert_eq!(one.0, 21);
    for ranks in [2, 3, 7] {
        for many in among(ranks, LIMIT, measure) {
            assert!(many.unwrap() == one, "{ranks} processes");
        }
    }
}

/// One process is asked to stop: all finish the step, the first saves it, and the run goes on from there.
#[test]
fn a_wish_to_stop_reaches_all() {
    let Some(g) = gpu() else { return };
    let mut settings = settings(Method::MAP);
    settings.run = shared_run(settings.run);
    let dir = tempfile::tempdir().unwrap();
    let outputs = Outputs { dir: dir.path().into(), options: String::new(), record: RecordSettings::default() };
    let body = |world: &World| {
        let data = open_data(&settings.run)?;
        let mut run = Run::<Pretraining>::among(world, g, &nano(), &settings, &outputs, None, data)?;
        run.train(&AtomicBool::new(world.rank() == 1), &mut Silent)
    };
    for ended in among(2, LIMIT, body) {
        assert_eq!(ended.unwrap(), Ended::Interrupted(dir.path().join("checkpoint-step-1")));
    }
    let (on, whole) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    run::<Pretraining>(g, 1, on.path(), &nano(), &settings, Some(&dir.path().join("checkpoint-step-1")));
    run::<Pretraining>(g, 1, whole.path(), &nano(), &settings, None);
    let weights = |dir: &Path| results(dir, "checkpoint-2")[..2].to_vec();
    assert!(weights(on.path()) == weights(whole.path()));
}

/// Takes the adapter away once so many steps are done.
struct Unplug<'a>(&'a Gpu, u64);

impl Observer for Unplug<'_> {
    fn step(&mut self, done: u64, _total: u64, _text: &str) {
        if done == self.1 {
            self.0.destroy().unwrap();
        }
    }
}

/// One process loses its adapter in the middle of an epoch: it says so, all end, and the run goes on from the
/// checkpoint before it as if nothing had happened.
#[test]
fn a_lost_adapter_ends_all() {
    let Some(g) = gpu() else { return };
    let fragile = Gpu::open_blocking(&Options { adapter: adapter(), ..Options::default() }).unwrap();
    let mut settings = settings(Method::MAP);
    settings.run = RunSettings { epochs: 3, ..shared_run(settings.run) };
    let dir = tempfile::tempdir().unwrap();
    let outputs = Outputs { dir: dir.path().into(), options: String::new(), record: RecordSettings::default() };
    let body = |world: &World| {
        let (g, at) = if world.rank() == 1 { (&fragile, 3) } else { (g, u64::MAX) };
        let data = open_data(&settings.run)?;
        let mut run = Run::<Pretraining>::among(world, g, &nano(), &settings, &outputs, None, data)?;
        run.train(&AtomicBool::new(false), &mut Unplug(g, at))
    };
    let ended = among(2, LIMIT, body);
    let told = |rank: usize| ended[rank].as_ref().unwrap_err().to_string();
    assert!(matches!(ended[1], Err(Error::DeviceLost(_))), "{}", told(1));
    assert!(told(0).contains("another thread gave up"), "{}", told(0));
    let whole = tempfile::tempdir().unwrap();
    run::<Pretraining>(g, 1, whole.path(), &nano(), &settings, None);
    run::<Pretraining>(g, 2, dir.path(), &nano(), &settings, Some(&dir.path().join("checkpoint-1")));
    let weights = |dir: &Path| results(dir, "checkpoint-3")[..2].to_vec();
    assert!(weights(dir.path()) == weights(whole.path()));
}

fn refused(ranks: usize, limit: Duration, body: impl Fn(&World) -> Result<()> + Sync, hints: &[&str]) {
    for (rank, done) in among(ranks, limit, body).into_iter().enumerate() {
        let error = done.expect_err("all processes have an error").to_string();
        assert!(hints.iter().all(|hint| error.contains(hint)), "rank {rank}: {error}");
    }
}

#[test]
fn processes_that_differ_are_told_so() {
    let Some(g) = gpu() else { return };
    let dir = tempfile::tempdir().unwrap();
    let outputs =
        |name: &str| Outputs { dir: dir.path().join(name), options: String::new(), record: RecordSettings::default() };
    let begin = |world: &World, run: RunSettings, config: Config| {
        let settings = PretrainSettings { run: shared_run(run), ..settings(Method::MAP) };
        let data = open_data(&settings.run)?;
        Run::<Pretraining>::among(world, g, &config, &settings, &outputs("out"), None, data).map(drop)
    };
    let default = RunSettings::default;
    let decay = |world: &World| RunSettings { weight_decay: 0.05 + world.rank() as f64 / 64.0, ..default() };
    let hints = ["the ranks differ in settings.weight_decay: 0.05 on rank 0 (thread), 0.065625 on rank 1 (thread)"];
    refused(2, LIMIT, |world| begin(world, decay(world), nano()), &hints);
    let wider = |world: &World| Config { registers: 1 + world.rank(), ..nano() };
    refused(2, LIMIT, |world| begin(world, default(), wider(world)), &["differ in model.registers", "rank 1"]);
    let hints = ["accum_iter: got 4, expected a multiple of the 3 ranks"];
    refused(3, LIMIT, |world| begin(world, default(), nano()), &hints);
    assert!(!dir.path().join("out").exists(), "a run that cannot start leaves nothing");
}

#[test]
fn whoever_fails_or_hangs_ends_all() {
    let body = |world: &World| match world.rank() {
        1 => Err(Error::Ranks("the second one: a cable was pulled".into())),
        _ => world.any(false).map(drop),
    };
    let found = among(3, LIMIT, body);
    let told = |rank: usize| found[rank].as_ref().unwrap_err().to_string();
    assert!(told(1).contains("a cable") && told(0).contains("another thread gave up"), "{}", told(0));
    let late = AtomicBool::new(false);
    let body = |world: &World| {
        world.doing("step 1234");
        if world.rank() == 1 {
            while !late.load(Ordering::Relaxed) {
                std::thread::sleep(Duration::from_millis(5));
            }
            return Ok(());
        }
        let waited = world.any(false);
        late.store(true, Ordering::Relaxed);
        waited.map(drop)
    };
    let found = among(2, Duration::from_millis(300), body);
    let error = found[0].as_ref().unwrap_err().to_string();
    let hint = "rank 0 (thread): no answer for 0 s from the other processes in the exchange of step 1234";
    assert!(error.contains(hint) && found[1].is_ok(), "{error}");
}

/// What the first process finds, or why it finds nothing, is known to all.
#[test]
fn the_first_process_tells_the_others() {
    let found = among(3, LIMIT, |world| world.from_first(|| Ok(vec![world.rank() as u64 + 5, u64::MAX])));
    assert!(found.into_iter().all(|found| found.unwrap() == [5, u64::MAX]));
    let missing = |_: &World| Err::<(), _>(Error::argument("--resume", "nothing", "a checkpoint"));
    refused(3, LIMIT, |world| world.from_first(|| missing(world)), &["--resume", "a checkpoint"]);
    let totals = among(3, LIMIT, |world| world.total(world.rank() + 1));
    assert!(totals.into_iter().all(|total| total.unwrap() == 6));
    let lists = among(3, LIMIT, |world| world.gather(vec![world.rank() as u8; world.rank()]));
    assert!(lists.into_iter().all(|list| list.unwrap() == [vec![], vec![1], vec![2, 2]]));
}

/// Gradients travel while the backward pass goes on: every one in one segment, none before its last launch has run, and
/// most of them long before the end.
#[test]
fn gradients_travel_as_soon_as_they_are_final() {
    let g = Gpu::dry(Caps { max_binding: 2 << 30, max_buffer: 2 << 30, ..Caps::portable() });
    let run = RunSettings { accum_iter: 2, ..RunSettings::default() };
    let hyper = run.hyper().unwrap();
    let mut trainer = Pretrainer::new(&g, &Config::preset("tiny").unwrap(), &Default::default(), 16, hyper, 0).unwrap();
    let (mut recording, _kept) = trainer.record(98).unwrap();
    let gradients = trainer.params.flat_gradients();
    let cuts = Cuts::mark(&mut recording, &gradients).unwrap();
    let (mut covered, mut early, mut count) = (0, 0, 0);
    let launches = recording.launches().len();
    let parts = recording.split_at_marks();
    let mut before = 0;
    for (part, launched) in parts.iter().enumerate() {
        before += launched.launches().len();
        for segment in cuts.after(part as u32) {
            let view = segment.memory();
            let overlaps = |other: &rowscan::gpu::View| {
                other.same_buffer(view)
                    && other.offset() < view.offset() + view.bytes()
                    && view.offset() < other.offset() + other.bytes()
            };
            let later = parts[part + 1..].iter().flat_map(|p| p.launches());
            assert!(!later.into_iter().any(|launch| launch.written().any(overlaps)), "written after it was sent");
            covered += segment.len();
            count += 1;
            early += usize::from(before < launches * 85 / 100);
        }
    }
    assert_eq!(covered, gradients.iter().map(|t| t.len()).sum::<usize>());
    assert!(count >= 10 && early * 2 > count, "{early} of {count} segments are final before 85 % of {launches}");
}
