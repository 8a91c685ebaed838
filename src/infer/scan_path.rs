//! The state of a Mamba layer along the path of its scan: how large it is after each patch, and how long it remembers
//! one. The kernels keep no states, so the recurrence runs again on the host, over what the device computed for it.

use crate::error::{Error, Result};
use crate::gpu::{Gpu, Program};
use crate::models::{Config, Encoder};
use crate::nn::{Directions, Weights};
use crate::ops::conv1d::conv1d;
use crate::ops::matmul::{MatmulOptions, matmul};
use crate::ops::norm::{NormOptions, layer_norm, rms_norm};
use crate::tape::{Recorder, Var};
use crate::tensor::Tensor;
use crate::train::image_input::Images;

/// A forward program from one image to what the scan of a layer reads.
#[derive(Debug)]
pub struct ScanPath {
    g: Gpu,
    images: Images,
    program: Program,
    /// (S, 1, L, E) and (S, 1, L, R+2N), with columns dt | B | C.
    read: [Tensor; 2],
    /// dt_proj (S, E, R), its bias (S, E), A (S, E, N).
    steps: [Vec<f64>; 3],
    /// The raster numbers of the patches in the order of the scan.
    raster: Vec<usize>,
    directions: usize,
}

/// Sizes of states along the path, patches in raster order. S counts the directions of the scan, 1 or 2.
#[derive(Debug, Clone, PartialEq)]
pub struct PathStates {
    /// Directions S.
    pub directions: usize,
    /// (S, L): the norm of the state after each patch.
    pub size: Vec<f32>,
    /// (S, L, L): the norm of what the patch of the row wrote into the state, as it is left after the patch of the
    /// column; 0 where the scan reads the column first.
    pub left: Vec<f32>,
}

/// The parameters of one layer.
struct Layer<'a>(usize, &'a Weights);

impl Layer<'_> {
    /// The tensor of a name in this layer.
    fn get(&self, name: &str) -> Result<&(Vec<usize>, Vec<f32>)> {
        let name = format!("layers.{}.{name}", self.0);
        self.1.get(&name).ok_or_else(|| Error::argument("the layer", format!("one without {name}"), "a Mamba layer"))
    }

    fn on(&self, g: &Gpu, name: &str) -> Result<Var> {
        let (shape, values) = self.get(name)?;
        Ok(Var::constant(Tensor::from_slice(g, shape, values)?))
    }

    /// The tensors of all directions one after the other; `name` gets the suffix of a direction.
    fn each(&self, suffixes: &[&str], name: fn(&str) -> String) -> Result<Vec<f32>> {
        let tensors = suffixes.iter().map(|suffix| Ok(self.get(&name(suffix))?.1.clone()));
        Ok(tensors.collect::<Result<Vec<_>>>()?.concat())
    }
}

impl ScanPath {
    /// Records the encoder up to Mamba layer number `layer`, whose parameters are among `weights`.
    ///
    /// # Errors
    /// A backbone without layers on a sequence of patches, a layer that is not there or has no scan of this kind.
    pub fn new(g: &Gpu, encoder: &dyn Encoder, config: &Config, weights: &Weights, layer: usize) -> Result<Self> {
        let suffixes: &[&str] = match config.directions {
            Directions::One => &[""],
            Directions::Sum | Directions::Mean => &["", "_b"],
            Directions::Channels => {
                return Err(Error::argument("the directions of the scan", "Channels", "directions over patches"));
            }
        };
        let (of, s) = (Layer(layer, weights), suffixes.len());
        let conv_b = of.each(suffixes, |s| format!("mixer.conv1d{s}.bias"))?;
        let conv_w = of.each(suffixes, |s| format!("mixer.conv1d{s}.weight"))?;
        let x_proj = of.each(suffixes, |s| format!("mixer.x_proj{s}.weight"))?;
        let e = conv_b.len() / s;
        let tensor = |shape: &[usize], values: &[f32]| Tensor::from_slice(g, shape, values).map(Var::constant);
        let conv = [tensor(&[s, e, conv_w.len() / s / e], &conv_w)?, tensor(&[s, e], &conv_b)?];
        let x_proj = tensor(&[s, x_proj.len() / s / e, e], &x_proj)?;
        let (norm, in_proj) = (of.on(g, "norm.weight")?, of.on(g, "mixer.in_proj.weight")?);
        let bias = if config.rms_norm { None } else { Some(of.on(g, "norm.bias")?) };
        let images = Images::new(config, 1)?;
        let (recording, read) = Recorder::inference(g).record(|r| {
            let patches = Var::constant(images.patches(r, config.input_patch())?);
            let entering = encoder.entering(r, &patches)?;
            let Some(x) = entering.get(layer) else {
                return Err(Error::argument("the layer", layer, format!("below {}", entering.len())));
            };
            if x.data.shape() != [1, config.tokens(), config.width] {
                return Err(Error::argument("the sequence of the encoder", "one with prefix tokens", "patches alone"));
            }
            let eps = NormOptions::eps(config.eps());
            let (x, _) = match &bias {
                None => rms_norm(r, x, &norm, eps)?,
                Some(bias) => layer_norm(r, x, &norm, bias, eps)?,
            };
            let xz = matmul(r, &x, &in_proj, MatmulOptions::default())?;
            let u = conv1d(r, &xz, &conv[0], &conv[1], s)?; // (S, 1, L, E)
            let xdbl = matmul(r, &u, &x_proj, MatmulOptions::default())?;
            Ok([u.data, xdbl.data])
        })?;
        let wide = |values: Vec<f32>| values.into_iter().map(f64::from).collect::<Vec<_>>();
        let dt_proj = wide(of.each(suffixes, |s| format!("mixer.dt_proj{s}.weight"))?);
        let dt_bias = wide(of.each(suffixes, |s| format!("mixer.dt_proj{s}.bias"))?);
        let a = wide(of.each(suffixes, |s| format!("mixer.A{s}_log"))?).into_iter().map(|a| -a.exp()).collect();
        Ok(Self {
            g: g.clone(),
            images,
            program: Program::new(recording)?,
            read,
            steps: [dt_proj, dt_bias, a],
            raster: config.scan().into_iter().map(|t| t as usize).collect(),
            directions: s,
        })
    }

    /// An image (S, S, 3) → the states along the path.
    pub async fn run(&self, image: &[u8]) -> Result<PathStates> {
        self.images.write(&self.g, image, (0, 1))?;
        self.program.run()?;
        let (u, xdbl) = (self.read[0].to_vec_async(&self.g).await?, self.read[1].to_vec_async(&self.g).await?);
        let (s, l) = (self.directions, self.raster.len());
        let mut states = PathStates { directions: s, size: vec![0.0; s * l], left: vec![0.0; s * l * l] };
        for direction in 0..s {
            let part =
                |values: &[f32]| values[direction * values.len() / s..(direction + 1) * values.len() / s].to_vec();
            let (size, left) = self.path(direction, &part(&u), &part(&xdbl));
            for (from, row) in left.chunks_exact(l).enumerate() {
                let place = direction * l + self.raster[from];
                states.size[place] = size[from].sqrt() as f32;
                for (t, square) in row.iter().enumerate() {
                    states.left[place * l + self.raster[t]] = square.sqrt() as f32;
                }
            }
        }
        Ok(states)
    }

    /// The squares of the norms (L) and (L, L) in one direction, patches in the order of the scan. The state h is a sum
    /// over the patches so far: patch s adds δ·B·u, and each patch t after it multiplies that by exp(δ·A).
    fn path(&self, direction: usize, u: &[f32], xdbl: &[f32]) -> (Vec<f64>, Vec<f64>) {
        let (l, columns) = (self.raster.len(), xdbl.len() / self.raster.len());
        let e = u.len() / l;
        let [dt_proj, dt_bias, a] = &self.steps;
        let (rank, n) = (dt_proj.len() / dt_bias.len(), a.len() / dt_bias.len());
        let mut order: Vec<usize> = (0..l).collect();
        if direction == 1 {
            order.reverse();
        }
        let (mut size, mut left) = (vec![0.0; l], vec![0.0; l * l]);
        for channel in 0..e {
            let se = direction * e + channel;
            let (proj, a) = (&dt_proj[se * rank..][..rank], &a[se * n..][..n]);
            let delta: Vec<f64> = xdbl
                .chunks_exact(columns)
                .map(|row| row.iter().zip(proj).map(|(dt, w)| f64::from(*dt) * w).sum::<f64>() + dt_bias[se])
                .map(|v| if v > 20.0 { v } else { v.exp().ln_1p() })
                .collect();
            for (state, a) in a.iter().enumerate() {
                let mut h = 0.0;
                for (i, &from) in order.iter().enumerate() {
                    let b = f64::from(xdbl[from * columns + rank + state]);
                    let mut wrote = delta[from] * b * f64::from(u[from * e + channel]);
                    h = (delta[from] * a).exp() * h + wrote;
                    size[from] += h * h;
                    left[from * l + from] += wrote * wrote;
                    for &t in &order[i + 1..] {
                        wrote *= (delta[t] * a).exp();
                        left[from * l + t] += wrote * wrote;
                    }
                }
            }
        }
        (size, left)
    }
}
