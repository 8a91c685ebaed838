//! A model of your own, of the layers that are there: one Mamba mixer between a patch embedding and a head, trained to
//! tell generated shapes apart. Forward pass, gradients and AdamW are one recording, which is replayed.
//!
//! ```text
//! cargo run --release --example 07_own_model
//! ```

use std::sync::Arc;

use rowscan::data::imagenet::{MEAN, STD};
use rowscan::nn::{Directions, Init, InitScheme, LayerNorm, Linear, MambaConfig, MambaMixer};
use rowscan::ops::cross_entropy::cross_entropy;
use rowscan::ops::{add::add, patchify, reduce, tokens};
use rowscan::prelude::*;
use rowscan::train::optimizer::Group;
use rowscan::train::update::Update;

const SIDE: usize = 32;
const PATCH: usize = 8;
const WIDTH: usize = 32;
const CLASSES: usize = 10;

/// Patch embedding, positions, x + Mamba(LN x), mean over tokens, head.
struct Small {
    embed: Linear,
    pos: Var,
    norm: LayerNorm,
    mixer: MambaMixer,
    head: Linear,
}

impl Small {
    /// Parameters get names, as in a `state_dict`.
    fn new(params: &mut Params) -> rowscan::Result<Self> {
        let tokens = (SIDE / PATCH).pow(2);
        let mamba = MambaConfig {
            width: WIDTH,
            states: 8,
            conv: 4,
            expand: 2,
            directions: Directions::Mean,
            init: InitScheme::Mamba,
            out_scale: 1.0,
        };
        let small = Init::TruncNormal(0.02);
        Ok(Self {
            embed: Linear::new(params, "embed", 3 * PATCH * PATCH, WIDTH, small)?,
            pos: params.add("pos", &[1, tokens, WIDTH], &[1, tokens, WIDTH], small)?,
            norm: LayerNorm::new(params, "norm", WIDTH, 1e-6)?,
            mixer: MambaMixer::new(params, "mixer", &mamba)?,
            head: Linear::new(params, "head", WIDTH, CLASSES, Init::Zeros)?,
        })
    }

    /// Patches (B, L, P·P·3) → scores (B, classes)
    fn forward(&self, r: &mut Recorder, patches: &Var) -> rowscan::Result<Var> {
        let x = self.embed.forward(r, patches)?; // (B, L, D)
        let x = tokens::add_positions(r, &x, &self.pos)?;
        let y = self.norm.forward(r, &x)?;
        let y = self.mixer.forward(r, &y)?;
        let x = add(r, &x, &y)?;
        let mean = reduce::mean_tokens(r, &x)?; // (B, D)
        self.head.forward(r, &mean)
    }
}

/// Trains for some steps. Returns the mean loss of the first and of the last five.
pub fn run(steps: usize) -> rowscan::Result<(f32, f32)> {
    let g = Gpu::open_blocking(&Options::default())?;
    let batch = 16;
    let hyper = RunSettings::default().hyper()?;
    let mut params = Params::new(&g);
    let model = Small::new(&mut params)?;
    let mut update = Update::new(&g, &params, hyper)?;
    params.init(&g, 0)?;
    println!("{} parameters on {}", params.count(), g.caps());

    // recorded once: the inputs are tensors that the host overwrites
    let images = Tensor::indices("images", &[batch * SIDE * SIDE * 3 / 4]); // four bytes a number
    let targets = Tensor::input("targets", &[batch, CLASSES]);
    let (recording, loss) = hyper.recorder(&g).record(|r| {
        let patches = Var::constant(patchify::from_u8(r, &images, [batch, SIDE, SIDE], PATCH, MEAN, STD)?);
        let scores = model.forward(r, &patches)?;
        let rows = cross_entropy(r, &scores, &targets)?;
        let loss = reduce::sum(r, &rows)?; // the rows are parts of the mean
        update.launch(r, &loss, &params, |entry| Group { lr_scale: 1.0, weight_decay: hyper.decay_of(entry) })
    })?;
    let program = Program::new(recording)?;

    let data = Arc::new(Dataset::open("synthetic:64", Split::Train)?);
    let options = LoaderOptions::new(batch, Transform::eval(SIDE as u32));
    let mut losses = Vec::new();
    for (step, found) in Loader::train(data, &options, Cursor::default())?.take(steps).enumerate() {
        let found = found?;
        let one_hot =
            found.labels.iter().flat_map(|&label| (0..CLASSES as u32).map(move |k| f32::from(u8::from(k == label))));
        images.write(&g, &found.images)?;
        targets.write(&g, &one_hot.collect::<Vec<_>>())?;
        update.begin(step as u64, 0, 5e-3)?;
        program.run()?;
        losses.push(loss.to_vec(&g)?[0]);
        if step % 20 == 0 {
            println!("step {step:>3}  loss {:.4}", losses[step]);
        }
    }
    let mean = |some: &[f32]| some.iter().sum::<f32>() / some.len().max(1) as f32;
    let few = losses.len().min(5);
    Ok((mean(&losses[..few]), mean(&losses[losses.len() - few..])))
}

fn main() -> rowscan::Result<()> {
    run(200).map(|_| ())
}
