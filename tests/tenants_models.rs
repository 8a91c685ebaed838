//! Networks and programs that a user of the library defines: a backbone with a pyramid of feature maps and the buffers
//! of a batch norm, as for detection and segmentation, and a step in which the host computes between forward and
//! backward.

use rowscan::Result;
use rowscan::gpu::{Gpu, Program};
use rowscan::models::{Config, Encoder, MaskedBatch, Purpose, backbone};
use rowscan::nn::{Init, Linear, Params};
use rowscan::ops;
use rowscan::ops::cross_entropy::cross_entropy;
use rowscan::ops::ema::{ema, momentum};
use rowscan::ops::reduce;
use rowscan::ops::reshape::reshape;
use rowscan::tape::{Recorder, Var};
use rowscan::tensor::Tensor;
use rowscan::train::checkpoint;
use rowscan::train::optimizer::Group;
use rowscan::train::update::Update;
use rowscan::train::weights_file;

use crate::common::{Random, gpu, values};

/// Images in a batch.
const BATCH: usize = 2;
/// Patches along a side of an image.
const SIDE: usize = 8;
/// Values of a patch.
const PATCH: usize = 48;
/// Channels of the finest map.
const WIDTH: usize = 16;
/// Maps of the pyramid.
const SCALES: usize = 4;
/// The share of a running statistic that stays in a step: 0.9 is `momentum=0.1` in PyTorch.
const KEEP: f64 = 0.9;

/// Stages as in a ConvNet. Each stage after the first keeps every other row and column and doubles the width.
#[derive(Debug)]
struct Pyramid {
    stages: Vec<Stage>,
}

#[derive(Debug)]
struct Stage {
    linear: Linear,
    side: usize,
    /// A buffer (1, D): saved with the weights, but not trained.
    running_mean: Tensor,
    /// Factors of the moving average of `running_mean`.
    factors: Tensor,
    /// The tokens that this stage keeps of the stage before, and the inverse table. `None` in the first stage.
    taken: Option<(Tensor, Tensor)>,
}

impl Pyramid {
    fn new(g: &Gpu, params: &mut Params) -> Result<Self> {
        let stage = |i: usize| {
            params.scope(&format!("stages.{i}"), |p| {
                let (side, width) = (SIDE >> i, WIDTH << i);
                let inputs = if i == 0 { PATCH } else { width / 2 };
                let taken = |before: usize| -> Result<_> {
                    let ids: Vec<u32> =
                        (0..side * side).map(|t| (t / side * 2 * before + t % side * 2) as u32).collect();
                    let mut inverse = vec![u32::MAX; before * before];
                    ids.iter().enumerate().for_each(|(at, id)| inverse[*id as usize] = at as u32);
                    let table = |values: &[u32]| Tensor::from_indices(g, &[values.len()], values);
                    Ok((table(&ids)?, table(&inverse)?))
                };
                let running_mean = p.buffer("norm.running_mean", &[1, width], Init::Zeros)?;
                p.buffer("norm.running_var", &[1, width], Init::Ones)?; // saved and loaded, but read by no operator
                Ok(Stage {
                    linear: Linear::new(p, "linear", inputs, width, Init::FanIn(1.0))?,
                    side,
                    running_mean,
                    factors: Tensor::from_slice(g, &[2], &momentum(KEEP))?,
                    taken: (i > 0).then(|| taken(SIDE >> (i - 1))).transpose()?,
                })
            })
        };
        Ok(Self { stages: (0..SCALES).map(stage).collect::<Result<_>>()? })
    }
}

impl Stage {
    /// x (B, l, inputs) → (B, side², D). Not a real batch norm: the running mean is added to the result, so that the
    /// buffer is read, and in training the buffer follows the mean of the batch.
    fn forward(&self, r: &mut Recorder, x: &Var) -> Result<Var> {
        r.scope(&self.linear.name, |r| {
            let x = match &self.taken {
                Some((ids, inverse)) => ops::tokens::gather(r, x, ids, inverse)?,
                None => x.clone(),
            };
            let x = self.linear.forward(r, &x)?;
            let (l, d) = (self.side * self.side, self.running_mean.len());
            let shift = Tensor::scratch("shift", &[1, d]);
            shift.copy_from(r, &self.running_mean)?;
            if r.keeps_rules() {
                let all = Var::constant(x.data.reshape(&[1, BATCH * l, d])?);
                let mean = reduce::mean_tokens(r, &all)?; // (1, D)
                ema(r, &self.running_mean, &mean.data, &self.factors)?;
            }
            let x = reshape(r, &x, &[BATCH * l, 1, d])?;
            let x = ops::tokens::add_positions(r, &x, &Var::constant(shift))?;
            reshape(r, &x, &[BATCH, l, d])
        })
    }
}

impl Encoder for Pyramid {
    fn sequence(&self, r: &mut Recorder, patches: &Var, drop_path: Option<&Tensor>) -> Result<Var> {
        let maps = self.pyramid(r, patches, drop_path)?;
        let last = &maps[SCALES - 1];
        let [b, h, w, d] = last.data.dims("last map")?;
        reshape(r, last, &[b, h * w, d])
    }

    fn pool(&self, r: &mut Recorder, sequence: &Var) -> Result<Var> {
        reduce::mean_tokens(r, sequence)
    }

    fn pyramid(&self, r: &mut Recorder, patches: &Var, _drop_path: Option<&Tensor>) -> Result<Vec<Var>> {
        let mut x = patches.clone();
        let mut maps = Vec::new();
        for stage in &self.stages {
            x = stage.forward(r, &x)?;
            let [b, _, d] = x.data.dims("map")?;
            maps.push(reshape(r, &x, &[b, stage.side, stage.side, d])?);
        }
        Ok(maps)
    }
}

fn patches(g: &Gpu) -> Result<Tensor> {
    let shape = [BATCH, SIDE * SIDE, PATCH];
    Tensor::from_slice(g, &shape, &Random::new(4).normal(shape.iter().product()))
}

#[test]
fn a_pyramid_with_buffers_is_trained_saved_loaded_and_averaged() -> Result<()> {
    let Some(g) = gpu() else { return Ok(()) };
    let (mut params, mut average) = (Params::new(g), Params::new(g));
    let (net, _follower) = (Pyramid::new(g, &mut params)?, Pyramid::new(g, &mut average)?);
    assert_eq!(params.buffers()[0].name, "stages.0.norm.running_mean");
    assert_eq!((params.entries().len(), params.buffers().len()), (2 * SCALES, 2 * SCALES));
    assert_eq!(params.count(), params.entries().iter().map(|e| e.len()).sum::<usize>(), "buffers are no weights");
    params.init(g, 1)?;
    average.init(g, 1)?;

    // four maps, each with half the side and twice the width of the one before
    let patches = patches(g)?;
    let x = Var::constant(patches.clone());
    let (recording, maps) = Recorder::inference(g).record(|r| net.pyramid(r, &x, None))?;
    Program::new(recording)?.run()?;
    let shapes: Vec<&[usize]> = maps.iter().map(|map| map.data.shape()).collect();
    assert_eq!(shapes, [[2, 8, 8, 16], [2, 4, 4, 32], [2, 2, 2, 64], [2, 1, 1, 128]]);
    let before = pollster::block_on(params.weights(g))?;
    let (mean, var) = ("stages.0.norm.running_mean", "stages.0.norm.running_var");
    assert_eq!(before[mean], (vec![1, 16], vec![0.0; 16]), "inference leaves the buffers as they are");
    assert_eq!(before[var].1, vec![1.0; 16]);
    let first = maps[0].data.to_vec(g)?; // the running mean is still 0, so this is the output of the linear layer

    // a training step: the optimizer updates the weights, the model its buffers, and the EMA `average` follows both
    let hyper = rowscan::train::settings::RunSettings::default().hyper()?;
    let mut update = Update::new(g, &params, hyper)?;
    update.follow(&average, 0.5)?;
    let (recording, loss) = Recorder::new(g).record(|r| {
        let mut loss = Var::constant(Tensor::from_slice(g, &[1], &[0.0])?);
        for map in net.pyramid(r, &x, None)? {
            let mean = reduce::mean(r, &map)?;
            loss = ops::add::add(r, &loss, &mean)?;
        }
        update.launch(r, &loss, &params, |_| Group { lr_scale: 1.0, weight_decay: 0.05 })
    })?;
    let program = Program::new(recording)?;
    update.begin(0, 0, 0.1)?;
    program.run()?;
    assert!(loss.to_vec(g)?[0].is_finite());
    let after = pollster::block_on(params.weights(g))?;
    for (name, (_, values)) in &before {
        // no gradient of a weight or bias is 0, so all of them move; of the buffers only the running means do
        let moved = after[name].1.iter().zip(values).all(|(now, was)| now != was);
        assert_eq!(moved, name.ends_with("mean") || !name.contains("running"), "{name}");
    }
    for (d, value) in after[mean].1.iter().enumerate() {
        let rows = first.iter().skip(d).step_by(WIDTH);
        let batch = rows.map(|v| f64::from(*v)).sum::<f64>() / (BATCH * SIDE * SIDE) as f64;
        // from 0, the running mean became 0.1 times the batch's mean: no weight decay, no step of the optimizer
        assert!((f64::from(*value) - (1.0 - KEEP) * batch).abs() < 1e-6, "{d}: {value}, batch {batch}");
    }
    assert_eq!(after[var].1, vec![1.0; 16], "no launch writes it");
    let followed = pollster::block_on(average.weights(g))?;
    for (name, (_, values)) in &followed {
        for ((got, was), now) in values.iter().zip(&before[name].1).zip(&after[name].1) {
            assert!((got - (was + now) / 2.0).abs() < 1e-6, "{name}");
        }
    }

    // the file of weights holds the buffers, the file of moments does not
    let path = std::path::Path::new(checkpoint::MODEL);
    let bytes = pollster::block_on(checkpoint::weights_to_bytes(g, &params))?;
    let mut read = weights_file::from_bytes(path, &bytes)?;
    assert_eq!(read, after);
    let moments = pollster::block_on(checkpoint::moments_to_bytes(g, &params))?;
    let moments = weights_file::from_bytes(path, &moments)?;
    assert_eq!(moments.len(), 2 * params.entries().len());
    assert!(moments.keys().all(|name| !name.contains("running")));
    average.load(g, &read)?;
    assert_eq!(pollster::block_on(average.weights(g))?, after);
    read.remove(var);
    let error = average.load(g, &read).unwrap_err().to_string();
    assert!(error.contains("1 missing (stages.0.norm.running_var)"), "{error}");

    // it cannot leave patches out, and says so
    let one = Tensor::from_indices(g, &[BATCH, 1], &[0; BATCH])?;
    let batch = MaskedBatch {
        patches,
        visible: one.clone(),
        inverse: one.clone(),
        mask: one,
        scale: 1.0,
        counted: None,
        second: None,
    };
    let error = net.encode_visible(&mut Recorder::inference(g), &batch, None).unwrap_err().to_string();
    assert!(error.contains("leave patches out"), "{error}");
    assert_eq!(net.features(&mut Recorder::inference(g), &x, None)?.data.shape(), [2, 128]);
    Ok(())
}

#[test]
fn a_sequence_of_tokens_is_a_pyramid_of_one_map() -> Result<()> {
    let Some(g) = gpu() else { return Ok(()) };
    let config = Config { image_size: 16, ..Config::preset("vim_micro_patch4_32_columns")? };
    let mut params = Params::new(g);
    let net = backbone(g, &mut params, &config, Purpose::Pretraining)?;
    params.init(g, 3)?;
    let shape = [2, config.tokens(), config.patch_len()];
    let x = Var::constant(Tensor::from_slice(g, &shape, &Random::new(5).normal(shape.iter().product()))?);
    let (recording, maps) = Recorder::inference(g).record(|r| net.pyramid(r, &x, None))?;
    Program::new(recording)?.run()?;
    assert_eq!((maps.len(), maps[0].data.shape()), (1, &[2, 4, 4, 64][..]));
    assert_eq!(maps[0].data.to_vec(g)?, values(g, |r| Ok(net.tokens(r, &x, None)?.data)));
    Ok(())
}

/// A step in which the host chooses the targets, as DETR's matching does: forward, read the scores, choose, backward.
struct HostStep {
    x: Tensor,
    params: Params,
    targets: Tensor,
    /// Two programs, forward and backward, or one that is both.
    programs: Vec<Program>,
    scores: Tensor,
}

const CLASSES: usize = 4;

impl HostStep {
    fn new(g: &Gpu, cut: bool) -> Result<Self> {
        let mut params = Params::new(g);
        let fc1 = Linear::new(&mut params, "fc1", 8, 16, Init::FanIn(1.0))?;
        let fc2 = Linear::new(&mut params, "fc2", 16, CLASSES, Init::FanIn(1.0))?;
        params.init(g, 2)?;
        let (x, targets) = (Tensor::input("x", &[3, 8]), Tensor::input("targets", &[3, CLASSES]));
        let (recording, scores) = Recorder::new(g).record(|r| {
            let hidden = fc1.forward(r, &Var::constant(x.clone()))?;
            // the backward pass reads the result of gelu, so it has to outlive the first program
            let hidden = ops::activation::gelu(r, &hidden)?;
            let scores = fc2.forward(r, &hidden)?;
            if cut {
                r.mark();
            }
            let rows = cross_entropy(r, &scores, &targets)?;
            let loss = reduce::sum(r, &rows)?;
            r.backward(&loss, params.grads())?;
            Ok(scores.data)
        })?;
        let all = recording.launches().len();
        let parts = recording.split_at_marks();
        assert_eq!(parts.len(), if cut { 2 } else { 1 });
        assert_eq!(parts.iter().map(|part| part.launches().len()).sum::<usize>(), all);
        let programs = parts.into_iter().map(Program::new).collect::<Result<_>>()?;
        Ok(Self { x, params, targets, programs, scores })
    }

    /// The scores and the gradients for a random input. The target of each row is the class with its lowest score.
    fn step(&self, g: &Gpu, seed: u64) -> Result<(Vec<f32>, rowscan::nn::Weights)> {
        self.x.write(g, &Random::new(seed).normal(self.x.len()))?;
        self.programs[0].run()?;
        let scores = self.scores.to_vec(g)?;
        self.targets.write(g, &chosen(&scores))?;
        self.programs[self.programs.len() - 1].run()?;
        Ok((scores, pollster::block_on(self.params.gradients(g))?))
    }
}

fn chosen(scores: &[f32]) -> Vec<f32> {
    let row = |row: &[f32]| {
        let lowest = (0..CLASSES).min_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap_or_default();
        (0..CLASSES).map(|c| if c == lowest { 1.0 } else { 0.0 }).collect::<Vec<f32>>()
    };
    scores.chunks_exact(CLASSES).flat_map(row).collect()
}

#[test]
fn the_host_may_work_between_the_halves_of_a_program() -> Result<()> {
    let Some(g) = gpu() else { return Ok(()) };
    let (cut, whole) = (HostStep::new(g, true)?, HostStep::new(g, false)?);
    let first = cut.step(g, 1)?;
    let other = cut.step(g, 2)?;
    assert_ne!(first.1["fc1.weight"], other.1["fc1.weight"], "another input has other gradients");
    assert_eq!(cut.step(g, 1)?, first, "replayed to the same bits");
    // as one program the step runs twice: first for the scores, then with the targets
    assert_eq!(whole.step(g, 1)?, first);
    assert!(first.1.values().flat_map(|(_, values)| values).all(|v| v.is_finite()));
    assert!(first.1["fc1.weight"].1.iter().any(|v| *v != 0.0));
    Ok(())
}
